/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a device cannot do, the driver does: completes transport checksums and cuts large TCP
 * segments to the size of the wire. Pure functions over a checked packet.
 */
#ifndef EFT_DRIVERS_SEGMENT_H
#define EFT_DRIVERS_SEGMENT_H

#include "driver.h"
#include <sys/uio.h>

/* One frame for the wire: headers of its own, payload in place. */
struct segment {
    uint8_t hdr[PACKET_HEADERS];
    uint32_t hdr_len; /* bytes */
    uint32_t payload; /* bytes, the sum of iov */
    unsigned niov;
    struct iovec iov[DRIVER_PIECE_MAX];
};

/* Where the checksum field lies behind the transport header's start, or -1: no such protocol. */
int segment_csum_offset(uint8_t protocol);
/* Number of frames that the packet becomes; -EINVAL: its headers contradict its requests. */
int segment_count(const struct driver_tx *tx);
/* Makes frame `i` of segment_count(), with all checksums complete. */
void segment_make(const struct driver_tx *tx, unsigned i, struct segment *s);

#endif
