/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sending one packet: one slot of the queue to ip is one segment, or one super-segment that the
 * driver or device cuts at gso_size.
 *
 * Order for each packet: chain taken, snd_max and rx_edge stored, slot filled, tail published (at
 * the end of the turn). A successor therefore never meets an ACK for something that snd_max does
 * not cover, and never takes back a window.
 */
#include "engine.h"

uint32_t tcp_clock(const struct tcp *t, const struct tcp_conn *k)
{
    return (uint32_t)(t->now / MSEC) + k->r.ts_offset;
}

static unsigned ip_header(const struct tcp_conn *k)
{
    return k->r.remote.addr.family == 6 ? 40 : 20;
}

static uint16_t own_mss(const struct tcp *t, const struct tcp_conn *k)
{
    struct route r;
    uint32_t mtu = route_lookup(t->cfg, &k->r.remote.addr, &r) == 0 ? r.mtu : 1500;
    return (uint16_t)(mtu - ip_header(k) - 20);
}

static void fill(struct tcp *t, struct packet *p, const struct tcp_seg *s)
{
    memset(p, 0, offsetof(struct packet, hdr));
    p->hdr_len = (uint16_t)tcp_segment_emit(p->hdr, s);
    p->l3 = (uint8_t)p->hdr_len;
    p->protocol = 6;
    p->direction = RULE_OUT;
    p->csum = CSUM_PARTIAL;
    p->origin = t->c->id;
    p->payload_len = s->len;
    p->chain = NO_CHAIN;
    p->flags = PACKET_DONT_FRAGMENT;
    p->src = s->local.addr;
    p->dst = s->remote.addr;
}

static bool queue_room(struct tcp *t)
{
    return chan_tx_room(&t->tx_ip, 1);
}

static void put(struct tcp *t, const struct packet *p)
{
    void *slot;
    if (chan_tx_reserve(&t->tx_ip, 0, t->out_number++, 0, &slot) != CHAN_OK)
        return; /* there was room a moment ago; whatever it was can be built again */
    packet_put(slot, p);
    chan_tx_commit(&t->tx_ip);
    tcp_count(t, TCP_C_SEGS_OUT);
}

static void acked_now(struct tcp *t, struct tcp_conn *k)
{
    k->ack_now = false;
    k->unacked = 0;
    tcp_timer_set(t, k, TIMER_DELACK, NEVER);
    uint64_t ack = k->rx_nxt + (k->rx_fin ? 1 : 0);
    if ((k->rx_acked != ack || k->rx_told != (uint32_t)k->rx_edge) && !k->awaiting) {
        k->awaiting = true;
        t->acked[t->n_acked++] = k->idx;
    }
    k->rx_acked = ack;
    k->rx_told = (uint32_t)k->rx_edge;
}

static void put_pieces(struct tcp *t, struct tcp_conn *k, struct packet *p, uint64_t start,
                       uint32_t len)
{
    while (len > 0 && p->pieces < PACKET_PIECES) {
        uint64_t contig, off = ring_offset(&k->r.tx, k->r.tx_base + start, start, &contig);
        uint32_t n = len < contig ? len : (uint32_t)contig;
        p->piece[p->pieces++] = (struct rptr){.off = off,
                                              .len = n,
                                              .region = REGION_OF_APP(k->r.app, APP_UP),
                                              .generation = t->app[k->r.app]->up_generation};
        start += n;
        len -= n;
    }
}

/* Sends [start, start + len) with `flags`. False: no room or no chain now. */
bool tcp_emit(struct tcp *t, struct tcp_conn *k, uint64_t start, uint32_t len, uint8_t flags)
{
    struct packet p;
    struct tcp_seg s = {
        .local = k->r.local,
        .remote = k->r.remote,
        .seq = conn_seq(k, start),
        .ack = conn_rcv_nxt(k),
        .flags = flags | TH_ACK,
        .len = len,
        .has_ts = k->r.flags & TCPF_TIMESTAMPS,
        .tsval = tcp_clock(t, k),
        .tsecr = k->ts_recent,
    };
    /* Below the peer's window, where it may refuse a segment without a look at what it
     * acknowledges: an ACK that is owed is still owed after it. */
    bool probe = !len && !(flags & TH_FIN) && start != k->snd_max;
    if (!queue_room(t))
        return false;
    uint32_t chain = NO_CHAIN;
    if (len) {
        chain = tcp_chain_take(t, k, start);
        if (chain == NO_CHAIN)
            return false;
    }
    uint64_t edge = tcp_rx_window(t, k, &s.wnd);
    if (edge != k->rx_edge) {
        k->rx_edge = edge;
        /* Before the segment: the window that it opens may never be taken back. */
        shm_keep(&t->shm[k->idx].rx_edge, edge);
    }
    if (!len && !(flags & (TH_FIN | TH_RST)) && (k->r.flags & TCPF_SACK))
        s.sacks = tcp_rx_sacks(k, s.sack, s.has_ts ? 3 : 4);
    k->dsack_due = k->dsack_due && probe;
    tcp_ecn_stamp(k, &s, len && start == k->snd_max);
    fill(t, &p, &s);
    p.tos = k->r.tos | s.ecn;
    p.ttl = k->r.ttl;
    if (len) {
        put_pieces(t, k, &p, start, len);
        p.gso_size = len > k->mss ? (uint16_t)k->mss : 0;
        p.chain = chain;
        p.chain_generation = t->chains[chain].generation;
    }
    uint64_t end = start + len + (flags & TH_FIN ? 1 : 0);
    if ((len || (flags & TH_FIN)) && end > k->snd_max) { /* a probe is below what was sent */
        if (start + len > k->snd_max) {
            tcp_count_add(t, TCP_C_BYTES_SENT, start + len - k->snd_max);
            tcp_rx_answered(t, k);
            if (s.flags & TH_CWR)
                k->ecn.cwr = false;
        }
        k->snd_max = end;
        /* Before the segment is published: its ACK must be acceptable to a successor. */
#ifdef EFT_BREAK_SND_MAX_AFTER
        put(t, &p);
        chan_tx_publish(&t->tx_ip);
        shm_keep(&t->shm[k->idx].snd_max, end);
        return true;
#endif
        shm_keep(&t->shm[k->idx].snd_max, end);
    }
    put(t, &p);
    uint32_t segs = len > k->mss ? (len + k->mss - 1) / k->mss : 1;
    k->segs_out += segs;
    if (len) {
        tcp_count_add(t, TCP_C_BYTES_OUT, len);
        k->stat.data_segs_out += segs;
        k->stat.bytes_sent += len;
        k->stat.data_sent_at = t->now;
    }
    if (!probe)
        acked_now(t, k);
    return true;
}

/* Our SYN or SYN-ACK. Its window is what was advertised first, and is not scaled (RFC 7323 2.2). */
struct tcp_seg tcp_output_syn(const struct tcp *t, const struct tcp_conn *k)
{
    bool passive = k->r.state == TCP_SYN_RCVD;
    const struct stack_config *cfg = t->cfg;
    struct tcp_seg s = {
        .local = k->r.local,
        .remote = k->r.remote,
        .seq = k->r.iss,
        .ack = passive ? k->r.irs + 1 : 0,
        .flags = (uint8_t)((passive ? TH_SYN | TH_ACK : TH_SYN) | tcp_ecn_syn(t, k)),
        .mss = own_mss(t, k),
        .has_ts = passive ? (k->r.flags & TCPF_TIMESTAMPS) != 0 : cfg->tcp_timestamps,
        .sack_ok = passive ? (k->r.flags & TCPF_SACK) != 0 : cfg->tcp_sack,
        .has_wscale = passive ? (k->r.flags & TCPF_WSCALE) != 0 : cfg->tcp_window_scaling,
        .wscale = k->r.rcv_wscale,
        .tsval = tcp_clock(t, k),
        .tsecr = k->ts_recent,
    };
    if (k->r.maxseg && s.mss > k->r.maxseg)
        s.mss = k->r.maxseg;
    uint64_t edge = k->rx_edge;
    if (edge == 0) {
        edge = k->r.rx.shift[0]    ? ring_bytes(&k->r.rx)
               : k->r.rcvbuf_shift ? 1ull << k->r.rcvbuf_shift
                                   : cfg->tcp_rcvbuf;
        edge -= 1ull << k->r.rcv_wscale;
    }
    s.wnd = (uint16_t)(edge < 65535 ? edge : 65535);
    return s;
}

/* A segment without payload. False: no room in the queue. */
bool tcp_output_bare(struct tcp *t, const struct tcp_seg *s, uint8_t tos, uint8_t ttl)
{
    if (!queue_room(t))
        return false;
    struct packet p;
    fill(t, &p, s);
    p.tos = tos;
    p.ttl = ttl;
    put(t, &p);
    return true;
}

void tcp_emit_syn(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_seg s = tcp_output_syn(t, k);
    if (!queue_room(t)) {
        tcp_conn_dirty(t, k);
        return;
    }
    if (k->rx_edge == 0) {
        k->rx_edge = s.wnd;
        shm_keep(&t->shm[k->idx].rx_edge, k->rx_edge);
    }
    tcp_output_bare(t, &s, k->r.tos, k->r.ttl);
    k->segs_out++;
    if (k->r.state == TCP_SYN_RCVD)
        acked_now(t, k); /* it acknowledges the SYN and says the window */
    k->syn_now = k->ack_now = false;
    if (k->tries == 0 && k->rtt_start == 0) {
        k->rtt_start = t->now;
    }
}

/* --- resets, probes --- */

bool tcp_output_reset(struct tcp *t, const struct tcp_conn *k)
{
    struct tcp_seg s = {.local = k->r.local,
                        .remote = k->r.remote,
                        .seq = conn_seq(k, k->snd_max),
                        .ack = conn_rcv_nxt(k),
                        .flags = TH_RST | TH_ACK};
    if (!queue_room(t))
        return false;
    struct packet p;
    fill(t, &p, &s);
    put(t, &p);
    tcp_count(t, TCP_C_RESETS_OUT);
    return true;
}

/* To somebody without a connection (RFC 9293 3.10.7.1); limited, as each is an answer to a
 * stranger. */
void tcp_output_reset_for(struct tcp *t, const struct tcp_seg *in)
{
    if (in->flags & TH_RST)
        return;
    if (t->now / SEC != t->rst_at) {
        t->rst_at = t->now / SEC;
        t->rst_n = 0;
    }
    if (++t->rst_n > t->cfg->tcp_resets_per_s || !queue_room(t))
        return;
    struct tcp_seg s = {.local = in->local, .remote = in->remote, .flags = TH_RST};
    if (in->flags & TH_ACK) {
        s.seq = in->ack;
    } else {
        s.flags |= TH_ACK;
        s.ack = in->seq + in->len + (in->flags & TH_SYN ? 1 : 0) + (in->flags & TH_FIN ? 1 : 0);
    }
    struct packet p;
    fill(t, &p, &s);
    put(t, &p);
    tcp_count(t, TCP_C_RESETS_OUT);
}

/* Window probe and keepalive: an old sequence number, no data, so that the peer must answer. */
bool tcp_output_probe(struct tcp *t, struct tcp_conn *k)
{
    return tcp_emit(t, k, k->tx_una - 1, 0, 0);
}
