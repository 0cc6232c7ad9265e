/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ICMP for IPv4, RFC 792. Pure.
 */
#ifndef EFT_WIRE_ICMP_H
#define EFT_WIRE_ICMP_H

#include "bytes.h"
#include <stdbool.h>
#include <stddef.h>

enum {
    ICMP_LEN = 8,
    ICMP_ECHO_REPLY = 0,
    ICMP_UNREACHABLE = 3,
    ICMP_QUENCH = 4,
    ICMP_REDIRECT = 5,
    ICMP_ECHO = 8,
    ICMP_EXCEEDED = 11,
    ICMP_PARAMETER = 12,
    /* codes of ICMP_UNREACHABLE */
    ICMP_NET = 0,
    ICMP_HOST = 1,
    ICMP_PROTOCOL = 2,
    ICMP_PORT = 3,
    ICMP_TOO_BIG = 4,
    /* code of ICMP_EXCEEDED */
    ICMP_REASSEMBLY = 1,
};

struct icmp {
    uint8_t type, code;
    uint16_t id, seq; /* of an echo; host order */
    uint16_t mtu;     /* next-hop MTU, RFC 1191; 0: the router did not say */
};

/* The first 8 bytes. The checksum covers what follows too: the caller adds it up. */
static inline bool icmp_parse(struct icmp *i, const uint8_t *p, size_t len)
{
    if (len < ICMP_LEN)
        return false;
    *i = (struct icmp){.type = p[0], .code = p[1], .id = get16(p + 4), .seq = get16(p + 6)};
    if (i->type == ICMP_UNREACHABLE && i->code == ICMP_TOO_BIG)
        i->mtu = i->seq;
    return true;
}
/* Is this a report about another packet? No report may be made about it (RFC 1122 3.2.2), so
 * unknown types count as reports. */
static inline bool icmp_is_error(uint8_t type)
{
    switch (type) {
    case ICMP_ECHO:
    case ICMP_ECHO_REPLY:
    case 13: /* timestamp and its reply */
    case 14:
    case 17: /* address mask and its reply */
    case 18:
        return false;
    default:
        return true;
    }
}
/* Writes 8 bytes with a zero checksum. */
static inline void icmp_emit(uint8_t *p, const struct icmp *i)
{
    p[0] = i->type;
    p[1] = i->code;
    put16(p + 2, 0);
    put16(p + 4, i->id);
    put16(p + 6, i->type == ICMP_UNREACHABLE ? i->mtu : i->seq);
}

#endif
