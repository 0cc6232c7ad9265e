/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Longest-prefix routing. The table of the configuration has its longest prefixes first, so that
 * the first match is the longest. Keeps nothing.
 */
#include "route.h"
#include <errno.h>

/* Are the first `bits` bits of a and b the same? */
static bool prefix_equal(const struct ip_addr *a, const struct ip_addr *b, unsigned bits)
{
    if (a->family != b->family)
        return false;
    unsigned max = a->family == 6 ? 128 : 32;
    if (bits > max)
        bits = max;
    for (unsigned i = 0; bits > 0; i++) {
        unsigned n = bits < 32 ? bits : 32;
        uint32_t mask = __builtin_bswap32(n == 32 ? 0xffffffffu : ~(0xffffffffu >> n));
        if ((a->word[i] ^ b->word[i]) & mask)
            return false;
        bits -= n;
    }
    return true;
}

int route_lookup(const struct stack_config *cfg, const struct ip_addr *dst, struct route *r)
{
    uint32_t n = cfg->routes < CONFIG_ROUTES ? cfg->routes : CONFIG_ROUTES;
    for (uint32_t i = 0; i < n; i++) {
        const struct config_route *e = &cfg->route[i];
        if (!prefix_equal(&e->dst, dst, e->prefix))
            continue;
        if (e->interface >= cfg->interfaces || e->interface >= CONFIG_INTERFACES)
            continue;
        const struct config_interface *ifc = &cfg->interface[e->interface];
        *r = (struct route){
            .interface = e->interface,
            .source = ifc->addr,
            .next_hop = e->gateway.family != 0 ? e->gateway : *dst,
            .mtu = ifc->mtu,
        };
        return 0;
    }
    return -ENETUNREACH;
}

int route_local(const struct stack_config *cfg, const struct ip_addr *a)
{
    unsigned n = cfg->interfaces < CONFIG_INTERFACES ? cfg->interfaces : CONFIG_INTERFACES;
    for (unsigned i = 0; i < n; i++)
        if (ip_addr_equal(&cfg->interface[i].addr, a))
            return (int)i;
    return -1;
}
