/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Longest-prefix routing over the configuration. Pure. Used by ip for each packet without a cached
 * route, and by tcp and udp to choose a source address.
 */
#ifndef EFT_WIRE_ROUTE_H
#define EFT_WIRE_ROUTE_H

#include "libchan/config.h"

struct route {
    uint8_t interface;       /* driver instance */
    struct ip_addr source;   /* our address there */
    struct ip_addr next_hop; /* whom to resolve: gateway, or the destination itself */
    uint32_t mtu;            /* of the interface; bytes */
};

/* 0, or -ENETUNREACH. */
int route_lookup(const struct stack_config *cfg, const struct ip_addr *dst, struct route *r);
/* Is this an address of the stack? The interface's number, or -1. */
int route_local(const struct stack_config *cfg, const struct ip_addr *a);

#endif
