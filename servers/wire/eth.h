/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Ethernet II. Pure.
 */
#ifndef EFT_WIRE_ETH_H
#define EFT_WIRE_ETH_H

#include "bytes.h"
#include <stdbool.h>
#include <stddef.h>

enum { ETH_LEN = 14, ETH_IPV4 = 0x0800, ETH_ARP = 0x0806, ETH_VLAN = 0x8100, ETH_IPV6 = 0x86dd };

struct eth {
    uint8_t dst[6], src[6];
    uint16_t type; /* host order */
};

static inline bool eth_parse(struct eth *e, const uint8_t *p, size_t len)
{
    if (len < ETH_LEN)
        return false;
    memcpy(e->dst, p, 6);
    memcpy(e->src, p + 6, 6);
    e->type = get16(p + 12);
    return true;
}
static inline void eth_emit(uint8_t *p, const uint8_t dst[6], const uint8_t src[6], uint16_t type)
{
    memcpy(p, dst, 6);
    memcpy(p + 6, src, 6);
    put16(p + 12, type);
}
/* Broadcast is a group address too. */
static inline bool mac_group(const uint8_t mac[6])
{
    return (mac[0] & 1) != 0;
}
static inline bool mac_broadcast(const uint8_t mac[6])
{
    return (mac[0] & mac[1] & mac[2] & mac[3] & mac[4] & mac[5]) == 0xff;
}
static inline bool mac_zero(const uint8_t mac[6])
{
    return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) == 0;
}

#endif
