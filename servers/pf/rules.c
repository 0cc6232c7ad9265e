/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The rules of the packet filter. Keeps nothing.
 */
#include "rules.h"
#include "servers/wire/ipv4.h"

bool rules_subject(struct rule_subject *s, const struct packet *p)
{
    struct ipv4 h;

    /* What is sent or delivered is hdr, so hdr is what is judged, not the fields beside it. */
    if ((p->direction != RULE_IN && p->direction != RULE_OUT) || p->l3 > p->hdr_len ||
        !ipv4_parse_quoted(&h, p->hdr + p->l3, p->hdr_len - p->l3) || h.mf || h.offset != 0 ||
        p->l4 != p->l3 + h.hdr_len || p->protocol != h.protocol)
        return false;
    *s = (struct rule_subject){
        .direction = p->direction,
        .interface = p->interface,
        .protocol = h.protocol,
        .src = ip_addr_v4(h.src),
        .dst = ip_addr_v4(h.dst),
    };
    if (h.protocol == PROTO_TCP || h.protocol == PROTO_UDP) {
        if (p->hdr_len - p->l4 < 8)
            return false;
        s->ports = true;
        s->src_port = get16(p->hdr + p->l4);
        s->dst_port = get16(p->hdr + p->l4 + 2);
    }
    return true;
}

/* Does `a` lie in the network? Family 0 or prefix 0 of the same family: everything does. */
static bool addr_in(const struct ip_addr *net, unsigned prefix, const struct ip_addr *a)
{
    if (net->family == 0)
        return true;
    if (net->family != a->family)
        return false;
    unsigned max = net->family == 6 ? 128 : 32;
    if (prefix > max)
        prefix = max;
    const uint8_t *x = (const uint8_t *)net->word, *y = (const uint8_t *)a->word;
    if (memcmp(x, y, prefix / 8) != 0)
        return false;
    unsigned rest = prefix % 8;
    return rest == 0 || ((x[prefix / 8] ^ y[prefix / 8]) & (0xff << (8 - rest)) & 0xff) == 0;
}

/* A rule about some ports says nothing about a packet that has none. */
static bool port_in(uint16_t lo, uint16_t hi, bool has, uint16_t port)
{
    if (lo == 0 && (hi == 0 || hi == 65535))
        return true;
    return has && port >= lo && port <= hi;
}

static bool matches(const struct config_rule *r, const struct rule_subject *s)
{
    return (r->direction == RULE_BOTH || r->direction == s->direction) &&
           (r->interface == 255 || r->interface == s->interface) &&
           (r->protocol == 0 || r->protocol == s->protocol) &&
           addr_in(&r->src, r->src_prefix, &s->src) && addr_in(&r->dst, r->dst_prefix, &s->dst) &&
           port_in(r->src_port_lo, r->src_port_hi, s->ports, s->src_port) &&
           port_in(r->dst_port_lo, r->dst_port_hi, s->ports, s->dst_port);
}

enum rule_action rules_match(const struct stack_config *cfg, const struct rule_subject *s,
                             uint16_t *rule)
{
    uint32_t n = cfg->rules < CONFIG_RULES ? cfg->rules : CONFIG_RULES;

    for (uint32_t i = 0; i < n; i++) {
        if (!matches(&cfg->rule[i], s))
            continue;
        *rule = (uint16_t)i;
        /* Anything but an explicit pass blocks. */
        return cfg->rule[i].action == RULE_PASS ? RULE_PASS : RULE_BLOCK;
    }
    *rule = RULE_NONE;
    return RULE_PASS;
}
