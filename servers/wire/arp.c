/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ARP for IPv4 over Ethernet, RFC 826. Keeps nothing.
 */
#include "arp.h"
#include "eth.h"

bool arp_parse(struct arp *a, const uint8_t *p, size_t len)
{
    if (len < ARP_LEN || get16(p) != 1 || get16(p + 2) != ETH_IPV4 || p[4] != 6 || p[5] != 4)
        return false;
    a->op = get16(p + 6);
    memcpy(a->sender_mac, p + 8, 6);
    a->sender = get_be32(p + 14);
    memcpy(a->target_mac, p + 18, 6);
    a->target = get_be32(p + 24);
    return (a->op == ARP_REQUEST || a->op == ARP_REPLY) && !mac_group(a->sender_mac) &&
           !mac_zero(a->sender_mac);
}

void arp_emit(uint8_t *p, const struct arp *a)
{
    put16(p, 1); /* Ethernet */
    put16(p + 2, ETH_IPV4);
    p[4] = 6;
    p[5] = 4;
    put16(p + 6, a->op);
    memcpy(p + 8, a->sender_mac, 6);
    put_be32(p + 14, a->sender);
    memcpy(p + 18, a->target_mac, 6);
    put_be32(p + 24, a->target);
}
