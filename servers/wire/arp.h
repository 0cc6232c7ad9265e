/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ARP for IPv4 over Ethernet, RFC 826. Pure.
 */
#ifndef EFT_WIRE_ARP_H
#define EFT_WIRE_ARP_H

#include "bytes.h"
#include <stdbool.h>
#include <stddef.h>

enum { ARP_LEN = 28, ARP_REQUEST = 1, ARP_REPLY = 2 };

struct arp {
    uint16_t op; /* ARP_REQUEST or ARP_REPLY */
    uint8_t sender_mac[6], target_mac[6];
    uint32_t sender, target; /* network order */
};

/* False: not Ethernet and IPv4, another operation, a sender that no station can be. */
bool arp_parse(struct arp *a, const uint8_t *p, size_t len);
/* Writes ARP_LEN bytes. */
void arp_emit(uint8_t *p, const struct arp *a);

#endif
