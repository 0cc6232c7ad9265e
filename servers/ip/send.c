/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Judged packets on their way to a driver: next hop, fragments, Ethernet header; and the list of
 * those that wait until the next hop's address is known.
 *
 * Keeps: TABLE_IP_PENDING. An entry is complete when its seq is stored; the same seq is the
 * provenance of its frame, so that a successor finds in the driver's queue what was sent already.
 */
#include "internal.h"
#include "servers/wire/eth.h"
#include "servers/wire/icmp.h"

/* Enough for the SYNs of a program that opens its connections all at once (Linux keeps 212,992
 * bytes, some hundred packets); four neighbours that do not answer fill the list. */
enum { PENDING_PER_NEIGHBOUR = 64 };

/* Part [from, from + len) of the pieces of p. */
static void slice(struct packet *to, const struct packet *p, uint32_t from, uint32_t len)
{
    to->pieces = 0;
    to->payload_len = len;
    for (unsigned i = 0; i < p->pieces && len > 0; i++) {
        const struct rptr *r = &p->piece[i];

        if (from >= r->len) {
            from -= r->len;
            continue;
        }
        struct rptr *out = &to->piece[to->pieces++];
        *out = *r;
        out->off += from;
        out->len = r->len - from < len ? r->len - from : len;
        len -= out->len;
        from = 0;
    }
}

static bool is_fragmented(const struct ip *ip, const struct packet *p)
{
    return p->gso_size == 0 &&
           (uint32_t)(p->hdr_len - p->l3) + p->payload_len > ip->cfg->interface[p->interface].mtu;
}

static uint32_t fragment_size(const struct ip *ip, const struct packet *p)
{
    return (ip->cfg->interface[p->interface].mtu - IPV4_LEN) & ~7u;
}

static unsigned frame_count(const struct ip *ip, const struct packet *p)
{
    if (!is_fragmented(ip, p))
        return 1;
    const uint32_t size = fragment_size(ip, p);
    return (uint32_t)(p->hdr_len - p->l4 + p->payload_len + size - 1) / size;
}

static void put_frame(struct ip *ip, struct port *port, const struct packet *p, uint16_t src,
                      uint64_t index, unsigned sub)
{
    void *slot;

    if (chan_tx_reserve(&port->out, src, index, (uint16_t)sub, &slot) != CHAN_OK)
        return; /* a predecessor did it; room was made sure of */
    packet_put(slot, p);
    chan_tx_commit(&port->out);
    if (SERVER_ID_KIND(p->origin) == SERVER_UDP && p->chain != NO_CHAIN)
        port->udp_sent = port->out.tail;
    ip->tx_frames++;
}

/* Room for all its frames is there. */
static void put_packet(struct ip *ip, struct port *port, const struct packet *q,
                       const uint8_t mac[6], uint16_t src, uint64_t index)
{
    struct packet p;

    memcpy(&p, q, packet_used(q));
    eth_emit(p.hdr, mac, port->ifc->mac, ETH_IPV4);
    if (!is_fragmented(ip, q)) {
        put_frame(ip, port, &p, src, index, 0);
        return;
    }
    /* RFC 791 section 3.2. Data is the transport header, which travels in the slot, and pieces. */
    const uint32_t l4_len = q->hdr_len - q->l4, total = l4_len + q->payload_len;
    const uint32_t size = fragment_size(ip, q);
    struct ipv4 h;

    if (!ipv4_parse_quoted(&h, q->hdr + q->l3, q->hdr_len - q->l3))
        return; /* our own header */
    for (uint32_t at = 0, sub = 0; at < total; at += size, sub++) {
        const uint32_t len = total - at < size ? total - at : size;
        const uint32_t inl = at == 0 ? l4_len : 0;

        h.offset = (uint16_t)at;
        h.mf = at + len < total;
        h.total_len = (uint16_t)(IPV4_LEN + len);
        p.hdr_len = (uint16_t)(p.l4 + inl);
        ipv4_emit(p.hdr + p.l3, &h);
        slice(&p, q, at == 0 ? 0 : at - l4_len, len - inl);
        /* The payload is free when the last fragment is sent, as they are sent in order. */
        p.chain = h.mf ? NO_CHAIN : q->chain;
        put_frame(ip, port, &p, src, index, sub);
        count(ip, IP_C_FRAGMENTS_OUT);
    }
}

/* The address of the next hop: broadcast and multicast map directly (RFC 1112 section 6.4). */
static enum arp_answer next_hop_mac(struct ip *ip, const struct packet *p, uint32_t *hop,
                                    uint8_t mac[6], uint64_t now)
{
    const struct config_interface *ifc = &ip->cfg->interface[p->interface];
    const uint32_t dst = p->dst.word[0];
    struct route r;

    *hop = dst;
    if (dst == 0xffffffff || ipv4_net_broadcast(dst, ifc->addr.word[0], ifc->prefix)) {
        memset(mac, 0xff, 6);
        return ARP_KNOWN;
    }
    if (ipv4_multicast(dst)) {
        const uint8_t *a = (const uint8_t *)&p->dst.word[0];
        const uint8_t m[6] = {0x01, 0x00, 0x5e, a[1] & 0x7f, a[2], a[3]};
        memcpy(mac, m, 6);
        return ARP_KNOWN;
    }
    if (route_lookup(ip->cfg, &p->dst, &r) != 0 || r.interface != p->interface)
        return ARP_NO;
    *hop = r.next_hop.word[0];
    return arp_resolve(ip, p->interface, *hop, mac, now);
}

static void pending_free(struct ip *ip, struct ip_pending *e)
{
    shm_store(&e->seq, 0ull);
    ip->pending_used--;
    while (ip->pending_end > 0 && ip->pending[ip->pending_end - 1].seq == 0)
        ip->pending_end--;
}

/* Gives an entry up. The chain first: were the entry gone first, a crash would leave the chain open
 * for ever; done twice it is harmless, and nobody sends an entry whose chain is done. */
static void pending_drop(struct ip *ip, struct ip_pending *e, enum ip_counter why)
{
    count(ip, why);
    chain_complete(ip, &e->packet);
    pending_free(ip, e);
}

static bool pending_has(const struct ip *ip, uint64_t question)
{
    for (uint32_t i = 0; i < ip->pending_end; i++)
        if (ip->pending[i].seq != 0 && ip->pending[i].question == question)
            return true;
    return false;
}

static void pending_add(struct ip *ip, const struct packet *p, uint64_t question, uint32_t hop)
{
    struct ip_pending *free_slot = NULL, *oldest = NULL, *oldest_of_all = NULL;
    unsigned same = 0;

    for (uint32_t i = 0; i < ip->pending_end; i++) {
        struct ip_pending *e = &ip->pending[i];

        if (e->seq == 0) {
            if (free_slot == NULL)
                free_slot = e;
            continue;
        }
        if (oldest_of_all == NULL || e->seq < oldest_of_all->seq)
            oldest_of_all = e;
        if (e->next_hop != hop || e->interface != p->interface)
            continue;
        same++;
        if (oldest == NULL || e->seq < oldest->seq)
            oldest = e;
    }
    if (free_slot == NULL && ip->pending_end < ip->pending_slots)
        free_slot = &ip->pending[ip->pending_end];
    /* RFC 1122 section 2.3.2.2: keep the latest. */
    if (same >= PENDING_PER_NEIGHBOUR || free_slot == NULL) {
        free_slot = same >= PENDING_PER_NEIGHBOUR ? oldest : oldest_of_all;
        pending_drop(ip, free_slot, IP_C_DROP_PENDING_FULL);
    }
    const uint64_t seq = ip->shm->pending_seq + 1;

    /* The number is used up before the entry has it: no two entries share one. */
    shm_store(&ip->shm->pending_seq, seq);
    shm_store(&free_slot->question, question);
    shm_store(&free_slot->next_hop, hop);
    shm_store(&free_slot->interface, (uint32_t)p->interface);
    shm_copy(&free_slot->packet, p, packet_used(p));
    shm_store(&free_slot->seq, seq);
    ip->pending_used++;
    if (ip->pending_end <= (uint32_t)(free_slot - ip->pending))
        ip->pending_end = (uint32_t)(free_slot - ip->pending) + 1;
    /* The question has had its effect, at once: were it asked again after this entry was dropped,
     * a packet would be sent whose payload was given back. */
    ip_publish(ip);
    ip->answered = question + 1;
    shm_store(&ip->shm->answered, ip->answered);
}

/* Did a predecessor publish all frames of this packet? */
static bool all_made(const struct ip *ip, const struct port *port, const struct packet *p,
                     uint16_t src, uint64_t index)
{
    const struct chan_tx *tx = &port->out;

    return passed(tx, src, index) &&
           (index < tx->last[src].index || tx->last[src].sub + 1u >= frame_count(ip, p));
}

int ip_transmit(struct ip *ip, const struct packet *p, uint16_t src, uint64_t index, uint64_t now)
{
    struct port *port = &ip->port[p->interface];
    uint8_t mac[6];
    uint32_t hop;

    if (all_made(ip, port, p, src, index) || pending_has(ip, index))
        return CHAN_OK;
    const unsigned n = frame_count(ip, p);
    if (n > (port->out.mask + 1) / 2) {
        count(ip, IP_C_DROP_TOO_BIG);
        chain_complete(ip, p);
        return CHAN_OK;
    }
    if (!port_room(ip, port, n)) {
        ip->blocked = &port->out;
        ip->blocked_for = n;
        return CHAN_FULL;
    }
    switch (next_hop_mac(ip, p, &hop, mac, now)) {
    case ARP_KNOWN:
        put_packet(ip, port, p, mac, src, index);
        break;
    case ARP_WAIT:
        pending_add(ip, p, index, hop);
        break;
    case ARP_NO:
        count(ip, IP_C_DROP_NEIGHBOUR);
        chain_complete(ip, p);
        break;
    }
    return CHAN_OK;
}

void pending_run(struct ip *ip, uint64_t now)
{
    (void)now;
    for (;;) {
        struct ip_pending *next = NULL;
        enum arp_answer what = ARP_WAIT;
        uint8_t mac[6], next_mac[6];

        /* Oldest first, so that a flow keeps its order. */
        for (uint32_t i = 0; i < ip->pending_end; i++) {
            struct ip_pending *e = &ip->pending[i];
            enum arp_answer a;

            if (e->seq == 0 || (next != NULL && e->seq > next->seq) ||
                (a = arp_peek(ip, e->interface, e->next_hop, mac)) == ARP_WAIT)
                continue;
            next = e;
            what = a;
            memcpy(next_mac, mac, 6);
        }
        if (next == NULL)
            return;
        if (chain_is_complete(ip, &next->packet)) {
            pending_free(ip, next); /* a predecessor dropped it, up to this store */
            continue;
        }
        if (what == ARP_NO) {
            ip_report(ip, &next->packet, ICMP_UNREACHABLE, ICMP_HOST, 0);
            pending_drop(ip, next, IP_C_DROP_NEIGHBOUR);
            continue;
        }
        struct port *port = &ip->port[next->interface];
        if (!port_room(ip, port, frame_count(ip, &next->packet)))
            return;
        put_packet(ip, port, &next->packet, next_mac, 0, next->seq);
        /* The frame first: a successor that finds both takes the entry off the list. */
        chan_tx_publish(&port->out);
        pending_free(ip, next);
    }
}
