/* SPDX-License-Identifier: BSD-2-Clause
 *
 * An IP address of either family, in a form fit for shared memory. 20 bytes, no padding, unused
 * bytes zero, so that two equal addresses compare equal with memcmp().
 */
#ifndef EFT_LIBCHAN_ADDR_H
#define EFT_LIBCHAN_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ip_addr {
    uint8_t family; /* 0 unspecified, 4, 6 */
    uint8_t reserved[3];
    union {
        uint32_t v4; /* network byte order; bytes 4..15 zero */
        uint8_t v6[16];
        uint32_t word[4];
    };
};
_Static_assert(sizeof(struct ip_addr) == 20, "ip_addr");

static inline struct ip_addr ip_addr_v4(uint32_t be)
{
    struct ip_addr a = {.family = 4};
    a.word[0] = be;
    return a;
}
static inline bool ip_addr_equal(const struct ip_addr *a, const struct ip_addr *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
/* 0.0.0.0, :: or no address at all */
static inline bool ip_addr_any(const struct ip_addr *a)
{
    return (a->word[0] | a->word[1] | a->word[2] | a->word[3]) == 0;
}

#endif
