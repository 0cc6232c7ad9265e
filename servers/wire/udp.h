/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The UDP header, RFC 768. Pure.
 */
#ifndef EFT_WIRE_UDP_H
#define EFT_WIRE_UDP_H

#include "bytes.h"
#include <stdbool.h>
#include <stddef.h>

enum { UDP_LEN = 8, UDP_CSUM_OFF = 6 };

struct udp {
    uint16_t src_port, dst_port; /* host order */
    uint16_t len;                /* header and payload; bytes */
    bool has_csum;               /* false: the sender made none, legal on IPv4 only */
};

/* `len`: what the IP packet holds. False: too short, or the length field lies. */
static inline bool udp_parse(struct udp *u, const uint8_t *p, size_t have, size_t len)
{
    if (have < UDP_LEN || len < UDP_LEN)
        return false;
    *u = (struct udp){.src_port = get16(p),
                      .dst_port = get16(p + 2),
                      .len = get16(p + 4),
                      .has_csum = (p[6] | p[7]) != 0};
    return u->len >= UDP_LEN && u->len <= len;
}
/* Writes 8 bytes with a zero checksum. */
static inline void udp_emit(uint8_t *p, const struct udp *u)
{
    put16(p, u->src_port);
    put16(p + 2, u->dst_port);
    put16(p + 4, u->len);
    put16(p + 6, 0);
}

#endif
