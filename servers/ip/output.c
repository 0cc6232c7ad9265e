/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Packets that tcp and udp want to send: check, route, IP header, question. Every packet ends in a
 * question, or its chain is marked as done and the drop counted.
 */
#include "internal.h"
#include "servers/wire/checksum.h"
#include "servers/wire/icmp.h"
#include "servers/wire/udp.h"

#include <errno.h>

static uint32_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return (uint32_t)(x >> 32);
}

/* Identifications are drawn from many counters chosen by a keyed hash, so that one peer cannot
 * count what goes to another (RFC 7739 section 5.2 for the idea), and no two datagrams under way
 * between the same addresses share one (RFC 6864). */
static uint16_t next_id(struct ip *ip, uint32_t src, uint32_t dst, uint8_t protocol)
{
    const uint64_t key = ip->shm->id_seed + protocol;
    uint16_t *id = &ip->shm->id[mix(mix(key ^ src) ^ key ^ (uint64_t)dst << 32) % IP_IDS];

    shm_store(id, (uint16_t)(*id + 1));
    return *id;
}

void packet_to_send(struct ip *ip, struct packet *p, const struct route *r, uint32_t src,
                    uint32_t dst, uint8_t l4_len, bool df)
{
    p->l3 = QUESTION_HDR;
    p->l4 = QUESTION_HDR + IPV4_LEN;
    p->hdr_len = (uint16_t)(p->l4 + l4_len);
    p->direction = RULE_OUT;
    p->interface = r->interface;
    p->src = ip_addr_v4(src);
    p->dst = ip_addr_v4(dst);
    if (p->ttl == 0)
        p->ttl = DEFAULT_TTL;
    const struct ipv4 h = {
        .tos = p->tos,
        .ttl = p->ttl,
        .protocol = p->protocol,
        .total_len = (uint16_t)(IPV4_LEN + l4_len + p->payload_len),
        /* An atomic datagram needs no identification (RFC 6864 section 4.1). */
        .id = df ? 0 : next_id(ip, src, dst, p->protocol),
        .df = df,
        .src = src,
        .dst = dst,
    };
    memset(p->hdr, 0, QUESTION_HDR);
    ipv4_emit(p->hdr + QUESTION_HDR, &h);
}

void ip_report(struct ip *ip, const struct packet *p, uint8_t type, uint8_t code, uint16_t mtu)
{
    const bool tcp = SERVER_ID_KIND(p->origin) == SERVER_TCP;
    struct chan_tx *tx = tcp ? &ip->to_tcp : &ip->to_udp;
    void *slot;

    if (!tcp && SERVER_ID_KIND(p->origin) != SERVER_UDP)
        return;
    /* A report is a hint: when there is no room for it, the sender's own timer finds out. */
    if (chan_tx_reserve(tx, 0, ip->own_index++ | OWN_INDEX, 0, &slot) != CHAN_OK)
        return;
    struct packet r = {
        .hdr_len = (uint16_t)(p->hdr_len - p->l3),
        .l4 = (uint8_t)(p->l4 - p->l3),
        .protocol = p->protocol,
        .direction = RULE_IN,
        .interface = p->interface,
        .origin = ip->c->id,
        .chain = NO_CHAIN,
        .mss = mtu,
        .icmp_type = type,
        .icmp_code = code,
        .src = p->src,
        .dst = p->dst,
    };
    memcpy(r.hdr, p->hdr + p->l3, r.hdr_len);
    packet_put(slot, &r);
    chan_tx_commit(tx);
}

/* tcp may name only what applications wrote, udp only its own pool: a broken server must not make a
 * driver send somebody else's memory. */
static bool pieces_sane(const struct packet *p, enum server_kind from)
{
    for (unsigned i = 0; i < p->pieces; i++) {
        const region_id r = p->piece[i].region;

        if (from == SERVER_TCP
                ? r < REGION_APP_FIRST || r >= REGION_IDS || REGION_APP_KIND(r) != APP_UP
                : r != REGION_OF_SERVER(SERVER_ID(SERVER_UDP, 0)))
            return false;
    }
    return true;
}

static bool sane(const struct ip *ip, const struct packet *p, enum server_kind from)
{
    const bool tcp = from == SERVER_TCP;

    if (p->l4 != 0 || p->dst.family != 4 || (p->src.family != 4 && !ip_addr_any(&p->src)))
        return false;
    if (tcp ? p->hdr_len < 20 || p->hdr_len > 60 || p->protocol != PROTO_TCP
            : p->hdr_len != UDP_LEN || p->protocol != PROTO_UDP)
        return false;
    if ((uint64_t)p->payload_len + p->hdr_len > IPV4_MAX - IPV4_LEN || !pieces_sane(p, from))
        return false;
    return p->chain == NO_CHAIN ? p->payload_len == 0 || p->pieces == 0
                                : p->chain < (tcp ? ip->tcp_chains : ip->udp_buffers);
}

/* Completes the checksum of a datagram that will be sent in fragments: no device can. */
static bool complete_checksum(const struct ip *ip, struct packet *p)
{
    uint8_t *l4 = p->hdr + p->l4;
    size_t off = UDP_LEN;

    put16(l4 + UDP_CSUM_OFF, 0);
    uint32_t sum = csum_pseudo(&p->src, &p->dst, PROTO_UDP, UDP_LEN + p->payload_len);
    sum = csum_partial(l4, UDP_LEN, sum);
    for (unsigned i = 0; i < p->pieces; i++) {
        const uint8_t *at = region_resolve(ip->c->map, &p->piece[i]);

        if (at == NULL)
            return false;
        sum = csum_add_at(sum, csum_partial(at, p->piece[i].len, 0), off);
        off += p->piece[i].len;
    }
    const uint16_t csum = csum_fold(sum);
    put_csum(l4 + UDP_CSUM_OFF, csum != 0 ? csum : 0xffff); /* RFC 768: zero means none */
    p->csum = CSUM_NONE;
    return true;
}

/* Counts a packet that will not be sent. */
static bool refuse(struct ip *ip, enum ip_counter why)
{
    count(ip, why);
    return false;
}

/* Builds the question about `in`. False: counted, not to be sent. */
static bool build(struct ip *ip, const struct packet *in, struct packet *q, enum server_kind from)
{
    struct route r;
    const uint32_t dst = in->dst.word[0];
    const bool tcp = from == SERVER_TCP;
    const bool no_source = ip_addr_any(&in->src);

    *q = (struct packet){
        .protocol = in->protocol,
        .csum = in->csum,
        .gso_size = in->gso_size,
        .pieces = in->pieces,
        .origin = SERVER_ID(from, 0),
        .payload_len = in->payload_len,
        .chain = in->chain,
        .chain_generation = in->chain_generation,
        .tos = in->tos,
        .ttl = in->ttl,
    };
    memcpy(q->piece, in->piece, sizeof q->piece);
    /* Our own addresses are not on any wire. */
    const bool routed = route_lookup(ip->cfg, &in->dst, &r) == 0 && r.interface < ip->ports;
    if (!routed || r.source.family != 4 || r.next_hop.family != 4 || ipv4_loopback(dst) ||
        ipv4_zero_net(dst) || route_local(ip->cfg, &in->dst) >= 0) {
        /* The report needs the headers of what could not be sent. */
        r = (struct route){.interface = 0};
        packet_to_send(ip, q, &r, in->src.word[0], dst, (uint8_t)in->hdr_len, true);
        memcpy(q->hdr + q->l4, in->hdr, in->hdr_len);
        ip_report(ip, q, ICMP_UNREACHABLE, ICMP_NET, 0);
        return refuse(ip, IP_C_DROP_NO_ROUTE);
    }
    if (!no_source && route_local(ip->cfg, &in->src) < 0)
        return refuse(ip, IP_C_DROP_SEND_SOURCE);
    const struct config_interface *ifc = &ip->cfg->interface[r.interface];
    const bool group = ipv4_multicast(dst) || ipv4_reserved(dst) ||
                       ipv4_net_broadcast(dst, ifc->addr.word[0], ifc->prefix);
    if (tcp && group)
        return refuse(ip, IP_C_DROP_NO_ROUTE);

    const uint32_t src = no_source ? r.source.word[0] : in->src.word[0];
    const uint32_t total = IPV4_LEN + in->hdr_len + in->payload_len;
    const bool df = tcp || (in->flags & PACKET_DONT_FRAGMENT) != 0;
    packet_to_send(ip, q, &r, src, dst, (uint8_t)in->hdr_len, df);
    memcpy(q->hdr + q->l4, in->hdr, in->hdr_len);
    if (no_source && !tcp && in->csum == CSUM_PARTIAL)
        put_csum(q->hdr + q->l4 + UDP_CSUM_OFF,
                 csum_fold_partial(
                     csum_pseudo(&q->src, &q->dst, PROTO_UDP, in->hdr_len + in->payload_len)));
    const uint32_t wire = in->gso_size != 0 && in->gso_size < in->payload_len
                              ? (uint32_t)IPV4_LEN + in->hdr_len + in->gso_size
                              : total;
    if (wire <= r.mtu)
        return true;
    if (df || in->gso_size != 0) {
        ip_report(ip, q, ICMP_UNREACHABLE, ICMP_TOO_BIG, (uint16_t)r.mtu);
        return refuse(ip, IP_C_DROP_TOO_BIG);
    }
    if (q->csum == CSUM_PARTIAL && !complete_checksum(ip, q))
        return refuse(ip, IP_C_DROP_SEND_GARBAGE);
    return true;
}

/* Which chain a slot names that says nothing sensible, tcp's table still says. */
static void garbage(struct ip *ip, enum server_kind from, uint64_t index)
{
    count(ip, IP_C_DROP_SEND_GARBAGE);
    if (from == SERVER_TCP)
        chains_abandon(ip, index, index + 1);
}

static void send_one(struct ip *ip, struct chan_rx *rx, const void *slot, enum server_kind from,
                     uint64_t now)
{
    struct packet in, q;
    const uint64_t index = chan_rx_index(rx);

    /* Asked, or dropped with its chain done. */
    if (passed(&ip->question, rx->number, index))
        return;
    if (!packet_copy(&in, slot)) {
        garbage(ip, from, index);
        return;
    }
    in.origin = SERVER_ID(from, 0);
    if (from == SERVER_UDP && (in.flags & PACKET_UNREACHABLE)) {
        icmp_error(ip, ICMP_UNREACHABLE, ICMP_PORT, in.hdr, in.hdr_len, rx->number, index, now);
        return;
    }
    const bool known = sane(ip, &in, from);
    if (!known && from == SERVER_UDP && in.chain != NO_CHAIN)
        chain_complete(ip, &in);
    if (!known) {
        garbage(ip, from, index);
        return;
    }
    /* Dropped by a predecessor, or the sender is confused: its payload may be anything by now. */
    if (chain_is_complete(ip, &in)) {
        count(ip, IP_C_DROP_SEND_STALE);
        if (from == SERVER_TCP)
            chains_abandon(ip, index, index + 1);
        return;
    }
    /* Another's chain must not be done before it is. */
    if (from == SERVER_TCP && in.chain != NO_CHAIN && !chain_is_of_slot(ip, &in, index)) {
        garbage(ip, from, index);
        return;
    }
    if (chan_rx_condemned(rx)) {
        count(ip, IP_C_DROP_QUARANTINE);
        chan_rx_keep(rx, now, region_resolve(ip->c->map, &in.piece[0]), in.piece[0].len);
    } else if (build(ip, &in, &q, from)) {
        ip_ask(ip, &q, rx->number, index);
        return;
    }
    chain_complete(ip, &in);
}

unsigned ip_output(struct ip *ip, struct chan_rx *rx, enum server_kind from, uint64_t now)
{
    unsigned n = 0;

    for (const void *slot; n < ip->quota; n++) {
        if (!ip_question_room(ip, 1, false) || (slot = chan_rx_peek(rx)) == NULL)
            break;
        send_one(ip, rx, slot, from, now);
        chan_rx_next(rx);
        ip->tcp_next += from == SERVER_TCP;
    }
    if (from == SERVER_TCP && rx->head != ip->tcp_next) { /* the queue was reset */
        chains_abandon(ip, ip->tcp_next, rx->head);
        ip->tcp_next = rx->head;
    }
    if (n > 0) {
        uint64_t *total =
            &ip->c->block->counter[from == SERVER_TCP ? IP_C_FROM_TCP : IP_C_FROM_UDP];

        ip_publish(ip);
        chan_rx_release(rx);
        shm_store(total, *total + n);
    }
    return n;
}
