/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The Internet checksum (RFC 1071). Partial sums are 32-bit, in memory order, and may be added;
 * csum_fold() ends the sum. Pure functions.
 */
#ifndef EFT_WIRE_CHECKSUM_H
#define EFT_WIRE_CHECKSUM_H

#include "libchan/addr.h"
#include <stddef.h>

/* Sum of `len` bytes added to `sum`. A block of odd length ends a sum: use csum_add_at() to go on.
 */
uint32_t csum_partial(const void *p, size_t len, uint32_t sum);
/* The same while copying to dst. Regions do not overlap. */
uint32_t csum_copy(void *dst, const void *src, size_t len, uint32_t sum);
/* Adds the sum of a block that begins at byte `off` of the whole: swaps when off is odd. */
uint32_t csum_add_at(uint32_t sum, uint32_t block_sum, size_t off);
/* Sum of the pseudo header: addresses, protocol, length of transport header plus payload. */
uint32_t csum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t protocol,
                     uint32_t len);
/* Ones' complement of the folded sum: what goes into a header, in memory order. */
uint16_t csum_fold(uint32_t sum);
/* Folded, not complemented: what a CSUM_PARTIAL field holds. */
uint16_t csum_fold_partial(uint32_t sum);

#endif
