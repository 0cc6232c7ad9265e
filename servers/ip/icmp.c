/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ICMP for IPv4, RFC 792 and RFC 1122 section 3.2.2: answers echoes, passes reports about our
 * packets to tcp and udp, makes reports about what we received. All that is sent goes through pf.
 *
 * Keeps nothing but buffers; the rate limit starts afresh at a restart.
 */
#include "servers/wire/icmp.h"
#include "internal.h"
#include "servers/wire/checksum.h"

enum { ICMP_PER_SECOND = 1000, ICMP_BURST = 50 };

/* A bucket for all reports. Its size jitters, so that an observer who counts our answers does not
 * learn whether somebody else's question took one (the side channel of a fixed global limit). */
static bool rate_allows(struct ip *ip, uint64_t now)
{
    const uint64_t gained = (now - ip->icmp_tokens_ns) / (SECOND / ICMP_PER_SECOND);

    if (gained > 0) {
        ip->random ^= ip->random << 13;
        ip->random ^= ip->random >> 7;
        ip->random ^= ip->random << 17;
        ip->icmp_tokens_ns = now;
        ip->icmp_tokens += gained;
        const uint64_t most = ICMP_BURST - (ip->random & 3);
        if (ip->icmp_tokens > most)
            ip->icmp_tokens = most;
    }
    if (ip->icmp_tokens == 0)
        return false;
    ip->icmp_tokens--;
    return true;
}

/* Verifies the checksum over headers and payload. The payload is foreign memory and only added. */
static bool checksum_good(struct ip *ip, const struct packet *q)
{
    const size_t inl = (size_t)(q->hdr_len - q->l4);
    uint32_t sum = csum_partial(q->hdr + q->l4, inl, 0);

    if (q->pieces > 0) {
        const uint8_t *at = region_resolve(ip->c->map, &q->piece[0]);

        if (at == NULL)
            return false;
        sum = csum_add_at(sum, csum_partial(at, q->piece[0].len, 0), inl);
    }
    return csum_fold(sum) == 0;
}

static void echo(struct ip *ip, const struct packet *q, uint64_t index)
{
    struct route r;
    struct icmp in;
    const struct icmp *reply = &in;
    const uint8_t *from = q->pieces > 0 ? region_resolve(ip->c->map, &q->piece[0]) : NULL;

    count(ip, IP_C_ICMP_ECHO_IN);
    /* A predecessor asked for the reply, or had no room for it. */
    if (passed(&ip->question, ip->verdict.number, index))
        return;
    if (!icmp_parse(&in, q->hdr + q->l4, q->hdr_len - q->l4) || (q->pieces > 0 && from == NULL)) {
        count(ip, IP_C_DROP_ICMP_OTHER);
        return;
    }
    if (route_lookup(ip->cfg, &q->src, &r) != 0 || r.interface >= ip->ports) {
        count(ip, IP_C_DROP_NO_ROUTE);
        return;
    }
    int64_t buffer = -1;
    if (!ip_question_room(ip, 1, true) || (q->payload_len > 0 && (buffer = buffer_take(ip)) < 0)) {
        count(ip, IP_C_DROP_ICMP_MEMORY);
        return;
    }
    struct packet p = {
        .protocol = PROTO_ICMP,
        .origin = ip->c->id,
        .chain = NO_CHAIN,
        .tos = q->tos,
        .payload_len = q->payload_len,
    };
    /* The checksum of the request is verified over the copy, which is what the reply carries. */
    uint32_t sum = 0;
    if (buffer >= 0) {
        p.chain = (uint32_t)buffer;
        p.chain_generation = ip->shm->buffer[buffer].generation;
        p.pieces = 1;
        p.piece[0] = buffer_piece(ip, p.chain, 0, q->payload_len);
        shm_copy(buffer_at(ip, p.chain), from, q->payload_len);
        sum = csum_partial(buffer_at(ip, p.chain), q->payload_len, 0);
    }
    if (csum_fold(csum_partial(q->hdr + q->l4, ICMP_LEN, sum)) != 0) {
        count(ip, IP_C_DROP_ICMP_CHECKSUM);
        chain_complete(ip, &p);
        return;
    }
    in.type = ICMP_ECHO_REPLY;
    in.code = 0;
    packet_to_send(ip, &p, &r, q->dst.word[0], q->src.word[0], ICMP_LEN, false);
    uint8_t *l4 = p.hdr + p.l4;
    icmp_emit(l4, reply);
    put_csum(l4 + 2, csum_fold(csum_partial(l4, ICMP_LEN, sum)));
    ip_ask(ip, &p, ip->verdict.number, index);
    count(ip, IP_C_ICMP_ECHO_OUT);
}

/* A report about a packet that we sent: tcp and udp decide what it means (RFC 5927). */
static int report(struct ip *ip, const struct packet *q, const struct icmp *in, uint64_t index)
{
    const uint8_t *quote = q->hdr + q->l4 + ICMP_LEN;
    const size_t len = (size_t)(q->hdr_len - q->l4 - ICMP_LEN);
    struct ipv4 h;
    void *slot;

    count(ip, IP_C_ICMP_ERRORS_IN);
    if (!checksum_good(ip, q)) {
        count(ip, IP_C_DROP_ICMP_CHECKSUM);
        return CHAN_OK;
    }
    const bool quoted = ipv4_parse_quoted(&h, quote, len) && h.offset == 0 &&
                        len - h.hdr_len >= 8 &&
                        (h.protocol == PROTO_TCP || h.protocol == PROTO_UDP);
    const struct ip_addr src = quoted ? ip_addr_v4(h.src) : (struct ip_addr){0};
    if (!quoted || route_local(ip->cfg, &src) < 0) {
        count(ip, IP_C_DROP_ICMP_QUOTE);
        return CHAN_OK;
    }
    struct chan_tx *tx = h.protocol == PROTO_TCP ? &ip->to_tcp : &ip->to_udp;
    int rc = chan_tx_reserve(tx, ip->verdict.number, index, 0, &slot);
    if (rc == CHAN_DUP)
        return CHAN_OK;
    if (rc == CHAN_FULL && tx == &ip->to_udp) {
        count(ip, IP_C_DROP_UDP_FULL);
        return CHAN_OK;
    }
    if (rc == CHAN_FULL)
        return CHAN_FULL;
    struct packet p = {
        .hdr_len = (uint16_t)(len < h.total_len ? len : h.total_len),
        .l4 = h.hdr_len,
        .protocol = h.protocol,
        .direction = RULE_IN,
        .interface = q->interface,
        .origin = ip->c->id,
        .chain = NO_CHAIN,
        .mss = in->mtu,
        .icmp_type = in->type,
        .icmp_code = in->code,
        .stamp_ns = q->stamp_ns,
        .src = src,
        .dst = ip_addr_v4(h.dst),
    };
    memcpy(p.hdr, quote, p.hdr_len);
    packet_put(slot, &p);
    chan_tx_commit(tx);
    return CHAN_OK;
}

int icmp_input(struct ip *ip, const struct packet *q, uint64_t index, uint64_t now)
{
    struct icmp in;

    (void)now;
    if (!icmp_parse(&in, q->hdr + q->l4, q->hdr_len - q->l4)) {
        count(ip, IP_C_DROP_ICMP_OTHER);
        return CHAN_OK;
    }
    switch (in.type) {
    case ICMP_ECHO:
        echo(ip, q, index);
        return CHAN_OK;
    case ICMP_UNREACHABLE:
    case ICMP_EXCEEDED:
    case ICMP_PARAMETER:
        return report(ip, q, &in, index);
    default:
        /* Source quench (RFC 6633), redirects (a host with one router has no use for them, and
         * anybody can forge one), replies that nobody asked for, timestamps. */
        count(ip, IP_C_DROP_ICMP_OTHER);
        return CHAN_OK;
    }
}

void icmp_error(struct ip *ip, uint8_t type, uint8_t code, const uint8_t *quote, size_t len,
                uint16_t src, uint64_t index, uint64_t now)
{
    struct ipv4 h;
    struct route r;

    if (passed(&ip->question, src, index))
        return;
    /* RFC 1122 section 3.2.2: never about a report, a fragment other than the first, or anything
     * that was or may have been sent to or from a group. */
    if (!ipv4_parse_quoted(&h, quote, len) || h.offset != 0 || ipv4_never_source(h.src) ||
        (h.protocol == PROTO_ICMP && (len <= h.hdr_len || icmp_is_error(quote[h.hdr_len])))) {
        count(ip, IP_C_DROP_ICMP_QUOTE);
        return;
    }
    const struct ip_addr own = ip_addr_v4(h.dst), peer = ip_addr_v4(h.src);
    if (route_local(ip->cfg, &own) < 0 || route_local(ip->cfg, &peer) >= 0 ||
        route_lookup(ip->cfg, &peer, &r) != 0 || r.interface >= ip->ports ||
        ipv4_net_broadcast(h.src, r.source.word[0], ip->cfg->interface[r.interface].prefix)) {
        count(ip, IP_C_DROP_ICMP_QUOTE);
        return;
    }
    if (!rate_allows(ip, now)) {
        count(ip, IP_C_ICMP_LIMITED);
        return;
    }
    /* As much of the packet as travels in the slot: header and more than the 8 bytes of RFC 792. */
    const size_t room = PACKET_HEADERS - QUESTION_HDR - IPV4_LEN - ICMP_LEN;
    size_t n = len < room ? len : room;
    if (n > h.total_len)
        n = h.total_len;
    struct packet p = {.protocol = PROTO_ICMP, .origin = ip->c->id, .chain = NO_CHAIN};
    const struct icmp out = {.type = type, .code = code};

    packet_to_send(ip, &p, &r, h.dst, h.src, (uint8_t)(ICMP_LEN + n), false);
    uint8_t *l4 = p.hdr + p.l4;
    icmp_emit(l4, &out);
    memcpy(l4 + ICMP_LEN, quote, n);
    put_csum(l4 + 2, csum_fold(csum_partial(l4, ICMP_LEN + n, 0)));
    if (ip_ask(ip, &p, src, index) == CHAN_OK)
        count(ip, IP_C_ICMP_ERRORS_OUT);
}
