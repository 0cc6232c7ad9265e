/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Received frames. The headers are copied out of the driver's frame once; what is parsed, judged by
 * pf and used above is that copy. Every frame ends in exactly one of: a question that names it, or
 * the return queue.
 */
#include "internal.h"
#include "servers/wire/eth.h"
#include "servers/wire/icmp.h"
#include "servers/wire/udp.h"

/* How the handling of a frame ended. */
enum outcome { GIVE_BACK, ASKED };

static const enum ip_counter ipv4_drop[] = {
    [IPV4_SHORT] = IP_C_DROP_IP_SHORT,       [IPV4_VERSION] = IP_C_DROP_IP_VERSION,
    [IPV4_CHECKSUM] = IP_C_DROP_IP_CHECKSUM, [IPV4_TOTAL] = IP_C_DROP_IP_TOTAL,
    [IPV4_OPTIONS] = IP_C_DROP_IP_OPTIONS,
};

/* Bytes of the transport header that travel in the slot, of `have` at hand; 0: malformed. */
static size_t l4_header(const struct ipv4 *h, const uint8_t *l4, size_t have, uint32_t *len)
{
    struct udp u;
    size_t n;

    switch (h->protocol) {
    case PROTO_TCP:
        if (have < 20)
            return 0;
        n = (size_t)(l4[12] >> 4) * 4;
        return n >= 20 && n <= have ? n : 0;
    case PROTO_UDP:
        if (!udp_parse(&u, l4, have, *len))
            return 0;
        *len = u.len; /* what is behind the datagram is nobody's */
        return UDP_LEN;
    case PROTO_ICMP:
        if (have < ICMP_LEN)
            return 0;
        /* Of a report the whole quote, for pf and for the connection that it is about. */
        return icmp_is_error(l4[0]) ? have : ICMP_LEN;
    default:
        return have < 8 ? have : 8;
    }
}

bool packet_received(struct ip *ip, struct packet *p, const struct ipv4 *h, const uint8_t *b,
                     size_t have, const struct region *region, uint64_t l4_off)
{
    uint32_t len = h->total_len - h->hdr_len;
    size_t l4_have = have - h->hdr_len;

    if (l4_have > len)
        l4_have = len;
    if (l4_have > (size_t)PACKET_HEADERS - h->hdr_len)
        l4_have = (size_t)PACKET_HEADERS - h->hdr_len;
    size_t n = l4_header(h, b + h->hdr_len, l4_have, &len);
    if (n == 0 && (len > 0 || h->protocol == PROTO_TCP || h->protocol == PROTO_UDP ||
                   h->protocol == PROTO_ICMP)) {
        count(ip, IP_C_DROP_L4_HEADER);
        return false;
    }
    p->hdr_len = (uint16_t)(h->hdr_len + n);
    p->l3 = 0;
    p->l4 = h->hdr_len;
    p->protocol = h->protocol;
    p->direction = RULE_IN;
    p->tos = h->tos;
    p->ttl = h->ttl;
    p->src = ip_addr_v4(h->src);
    p->dst = ip_addr_v4(h->dst);
    memcpy(p->hdr, b, p->hdr_len);
    p->payload_len = len - (uint32_t)n;
    if (p->payload_len > 0) {
        p->pieces = 1;
        p->piece[0] = (struct rptr){
            .off = l4_off + n,
            .len = p->payload_len,
            .region = region->id,
            .generation = region->generation,
        };
    }
    return true;
}

/* Is the destination ours? Sets *broadcast. Counts when it is not. */
static bool for_us(struct ip *ip, const struct port *port, const struct ipv4 *h, bool l2_group,
                   bool *broadcast)
{
    const struct ip_addr dst = ip_addr_v4(h->dst);
    const uint32_t own = port->ifc->addr.word[0];

    *broadcast = h->dst == 0xffffffff || ipv4_net_broadcast(h->dst, own, port->ifc->prefix);
    if (!*broadcast && route_local(ip->cfg, &dst) < 0) {
        count(ip, IP_C_DROP_NOT_OURS); /* a host does not forward */
        return false;
    }
    /* RFC 1122 sections 3.3.6 and 4.2.3.10: a link broadcast must be an IP broadcast, and only UDP
     * has use for one. */
    if ((l2_group && !*broadcast) || (*broadcast && h->protocol != PROTO_UDP)) {
        count(ip, IP_C_DROP_BROADCAST);
        return false;
    }
    return true;
}

static bool martian(const struct ip *ip, const struct port *port, const struct ipv4 *h)
{
    const struct ip_addr src = ip_addr_v4(h->src);

    return ipv4_never_source(h->src) || route_local(ip->cfg, &src) >= 0 ||
           ipv4_net_broadcast(h->src, port->ifc->addr.word[0], port->ifc->prefix) ||
           ipv4_loopback(h->dst) || ipv4_zero_net(h->dst);
}

static enum outcome fragment(struct ip *ip, struct port *port, const struct ipv4 *h,
                             const uint8_t *b, const uint8_t *data, uint64_t index, uint64_t now)
{
    struct reasm_context *x;
    struct packet p;

    count(ip, IP_C_FRAG_IN);
    /* A predecessor took it in, or refused it; only the frame is still out. */
    if (passed(&ip->question, port->in.number, index))
        return GIVE_BACK;
    if (reasm_insert(ip, h, b, data, h->total_len - h->hdr_len, (unsigned)(port - ip->port), now,
                     &x) != REASM_COMPLETE)
        return GIVE_BACK;
    if (reasm_packet(ip, x, &p)) {
        ip_ask(ip, &p, port->in.number, index);
        /* Before the context ends: until then it is what names the buffer. */
        chan_tx_publish(&ip->question);
        reasm_end(ip, x);
    }
    return GIVE_BACK;
}

static enum outcome ipv4_input(struct ip *ip, struct port *port, const struct driver_rx *f,
                               const uint8_t *b, size_t have, uint64_t off, bool l2_group,
                               uint64_t index, uint64_t now)
{
    struct ipv4 h;
    bool broadcast;
    enum ipv4_error err = ipv4_parse(&h, b, have, f->len - ETH_LEN);

    if (err != IPV4_OK) {
        count(ip, ipv4_drop[err]);
        return GIVE_BACK;
    }
    if (martian(ip, port, &h)) {
        count(ip, IP_C_DROP_MARTIAN);
        return GIVE_BACK;
    }
    if (!for_us(ip, port, &h, l2_group, &broadcast))
        return GIVE_BACK;
    if (h.mf || h.offset != 0)
        return fragment(ip, port, &h, b, port->region->base + off + h.hdr_len, index, now);

    struct packet p = {
        .interface = (uint8_t)(port - ip->port),
        .csum = f->csum,
        .gso_size = f->gso_size,
        .origin = SERVER_ID(SERVER_DRIVER, port - ip->port),
        .chain = f->frame,
        .chain_generation = f->generation,
        .stamp_ns = f->stamp_ns,
        .flags = broadcast ? PACKET_BROADCAST : 0,
    };
    if (have > h.total_len)
        have = h.total_len;
    if (!packet_received(ip, &p, &h, b, have, port->region, off + h.hdr_len))
        return GIVE_BACK;
    /* Cannot be full: room was made sure of before the frame was looked at. */
    ip_ask(ip, &p, port->in.number, index);
    return ASKED;
}

static enum outcome frame_input(struct ip *ip, struct port *port, const struct driver_rx *f,
                                uint64_t index, uint64_t now)
{
    uint8_t b[PACKET_HEADERS + ETH_LEN];
    struct eth eth;
    const uint64_t off = port->pool_off + (uint64_t)f->frame * port->frame_size + f->off;
    const size_t have = f->len < sizeof b ? f->len : sizeof b;

    memcpy(b, port->region->base + off, have);
    if (!eth_parse(&eth, b, have)) {
        count(ip, IP_C_DROP_ETH_SHORT);
        return GIVE_BACK;
    }
    const bool group = mac_broadcast(eth.dst);
    if (!group && memcmp(eth.dst, port->ifc->mac, 6) != 0) {
        count(ip, IP_C_DROP_ETH_DST);
        return GIVE_BACK;
    }
    switch (eth.type) {
    case ETH_ARP:
        arp_input(ip, port, b + ETH_LEN, have - ETH_LEN, index, now);
        return GIVE_BACK;
    case ETH_IPV4:
        return ipv4_input(ip, port, f, b + ETH_LEN, have - ETH_LEN, off + ETH_LEN, group, index,
                          now);
    default:
        count(ip, IP_C_DROP_ETH_TYPE);
        return GIVE_BACK;
    }
}

/* The copy of a slot names bytes inside the pool. */
static bool frame_sane(const struct port *port, const struct driver_rx *f)
{
    return f->frame < port->frames && f->off <= port->frame_size &&
           f->len <= port->frame_size - f->off && f->csum <= CSUM_GOOD;
}

unsigned ip_input(struct ip *ip, struct port *port, uint64_t now)
{
    struct chan_rx *rx = &port->in;
    unsigned n = 0;

    for (const void *slot; n < ip->quota; n++) {
        struct driver_rx f;

        /* One question and one return at most. When there is no room the frame stays where it is.
         */
        if (!ip_question_room(ip, 1, false) || !chan_tx_room(&port->ret, 1) ||
            (slot = chan_rx_peek(rx)) == NULL)
            break;
        const uint64_t index = chan_rx_index(rx);
        memcpy(&f, slot, sizeof f);
        if (made(&port->ret, rx->number, index)) {
            chan_rx_next(rx);
            continue;
        }
        enum outcome outcome = GIVE_BACK;
        if (!frame_sane(port, &f))
            count(ip, IP_C_DROP_SLOT);
        else if (chan_rx_condemned(rx) && !passed(&ip->question, rx->number, index)) {
            count(ip, IP_C_DROP_QUARANTINE);
            chan_rx_keep(rx, now,
                         port->region->base + port->pool_off +
                             (uint64_t)f.frame * port->frame_size + f.off,
                         f.len);
        } else
            outcome = frame_input(ip, port, &f, index, now);
        /* The driver checks what comes back, so that garbage may go back too. */
        if (outcome == GIVE_BACK)
            frame_give_back(ip, port, f.frame, f.generation, rx->number, index);
        chan_rx_next(rx);
        ip->rx_frames++;
    }
    if (n > 0) {
        /* Questions and returns first, then the head; then nothing may be seen twice. */
        ip_publish(ip);
        chan_rx_release(rx);
    }
    return n;
}
