/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What to send now (RFC 9293 3.8, 5681, 6675), and sending it: one slot of the queue to ip is one
 * segment, or one super-segment that the driver or device cuts at gso_size.
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

void tcp_conn_set_mss(struct tcp *t, struct tcp_conn *k, uint32_t mtu)
{
    (void)t;
    uint32_t most = mtu > ip_header(k) + 20u + 64u ? mtu - ip_header(k) - 20 : 64;
    uint32_t mss = k->r.mss ? k->r.mss : (k->r.remote.addr.family == 6 ? 1220 : 536);
    if (mss > most)
        mss = most;
    if (k->r.maxseg && mss > k->r.maxseg)
        mss = k->r.maxseg;
    if (k->r.flags & TCPF_TIMESTAMPS)
        mss -= 12; /* RFC 6691: the option takes its space from the data */
    k->mss = mss < 32 ? 32 : mss;
    k->pmtu = mtu;
}

static uint16_t own_mss(const struct tcp *t, const struct tcp_conn *k)
{
    struct route r;
    uint32_t mtu = route_lookup(t->cfg, &k->r.remote.addr, &r) == 0 ? r.mtu : 1500;
    return (uint16_t)(mtu - ip_header(k) - 20);
}

/* Path MTU, and what may be handed down at once. */
void tcp_conn_route(struct tcp *t, struct tcp_conn *k)
{
    struct route r;
    uint32_t mtu = 1500;
    bool offload = false;
    if (route_lookup(t->cfg, &k->r.remote.addr, &r) == 0) {
        mtu = r.mtu;
        offload = t->cfg->interface[r.interface].offload;
    }
    uint32_t known = tcp_pmtu_get(t, &k->r.remote.addr);
    if (known && known < mtu)
        mtu = known;
    k->advmss = own_mss(t, k);
    tcp_conn_set_mss(t, k, mtu);
    k->gso = offload ? TCP_GSO_MAX / k->mss * k->mss : k->mss;
}

/* --- one packet --- */

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
static bool emit(struct tcp *t, struct tcp_conn *k, uint64_t start, uint32_t len, uint8_t flags)
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
        shm_store(&t->shm[k->idx].rx_edge, edge);
    }
    if (!len && !(flags & (TH_FIN | TH_RST)) && (k->r.flags & TCPF_SACK))
        s.sacks = tcp_rx_sacks(k, s.sack, s.has_ts ? 3 : 4);
    k->dsack_due = false;
    fill(t, &p, &s);
    p.tos = k->r.tos;
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
        }
        k->snd_max = end;
        /* Before the segment is published: its ACK must be acceptable to a successor. */
#ifdef EFT_BREAK_SND_MAX_AFTER
        put(t, &p);
        chan_tx_publish(&t->tx_ip);
        shm_store(&t->shm[k->idx].snd_max, end);
        return true;
#endif
        shm_store(&t->shm[k->idx].snd_max, end);
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
        .flags = passive ? TH_SYN | TH_ACK : TH_SYN,
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

static void emit_syn(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_seg s = tcp_output_syn(t, k);
    if (!queue_room(t)) {
        tcp_conn_dirty(t, k);
        return;
    }
    if (k->rx_edge == 0) {
        k->rx_edge = s.wnd;
        shm_store(&t->shm[k->idx].rx_edge, k->rx_edge);
    }
    tcp_output_bare(t, &s, k->r.tos, k->r.ttl);
    k->segs_out++;
    if (k->r.state == TCP_SYN_RCVD)
        acked_now(t, k); /* it acknowledges the SYN and says the window */
    k->syn_now = k->ack_now = false;
    if (k->tries == 0 && k->rtt_start == 0) {
        k->rtt_start = t->now;
        k->rtt_seq = 0;
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
    return emit(t, k, k->tx_una - 1, 0, 0);
}

static uint64_t data_end(const struct tcp_conn *k)
{
    return conn_has_fin(k) && k->tx_end > k->r.tx_fin ? k->r.tx_fin : k->tx_end;
}

static void count_retrans(struct tcp *t, struct tcp_conn *k, uint32_t len)
{
    uint32_t n = len > k->mss ? (len + k->mss - 1) / k->mss : 1;
    k->retrans_total += n;
    k->stat.bytes_retrans += len;
    t->counter[TCP_C_RETRANS] += n - 1;
    tcp_count(t, TCP_C_RETRANS);
}

/* The last segment once more. */
bool tcp_output_tail(struct tcp *t, struct tcp_conn *k)
{
    uint64_t end = k->snd_max < data_end(k) ? k->snd_max : data_end(k);
    uint64_t start = end > k->tx_una + k->mss ? end - k->mss : k->tx_una;
    bool fin = conn_has_fin(k) && k->snd_max > k->r.tx_fin;
    if (start >= end && !fin)
        return false;
    count_retrans(t, k, 1);
    k->rtt_start = 0;
    return emit(t, k, start, (uint32_t)(end - start), (uint8_t)(TH_PUSH | (fin ? TH_FIN : 0)));
}

/* --- what to send --- */

enum { SENT = 1, NOTHING = 0, BLOCKED = -1 };

/* Past the SACKed range that holds `at`; *limit becomes the start of the next one. */
static uint64_t skip_sacked(const struct tcp_conn *k, uint64_t at, uint64_t *limit)
{
    for (unsigned i = 0; i < k->n_sacked; i++) {
        if (k->sacked[i].start <= at && at < k->sacked[i].end)
            at = k->sacked[i].end;
        else if (k->sacked[i].start > at) {
            if (k->sacked[i].start < *limit)
                *limit = k->sacked[i].start;
            break;
        }
    }
    return at;
}

static int send_lost(struct tcp *t, struct tcp_conn *k)
{
    uint64_t limit = tcp_ack_lost_edge(k);
    uint64_t at = k->rxt_next > k->tx_una ? k->rxt_next : k->tx_una;
    at = skip_sacked(k, at, &limit);
    if (at >= limit)
        return NOTHING;
    uint64_t pipe = tcp_ack_pipe(k), room = k->cwnd > pipe ? k->cwnd - pipe : 0;
    if (k->rxt_first && room < k->mss)
        room = k->mss;
    if (room < k->mss && room < limit - at)
        return NOTHING;
    uint64_t end = data_end(k), len = limit - at;
    if (len > room)
        len = room - room % k->mss;
    if (len > k->gso)
        len = k->gso;
    if (at + len > end)
        len = end > at ? end - at : 0;
    bool fin = conn_has_fin(k) && at + len == k->r.tx_fin && limit > k->r.tx_fin &&
               k->snd_max > k->r.tx_fin;
    if (len == 0 && !fin)
        return NOTHING;
    if (!emit(t, k, at, (uint32_t)len, (uint8_t)(TH_PUSH | (fin ? TH_FIN : 0))))
        return BLOCKED;
    count_retrans(t, k, (uint32_t)len);
    if (at == k->tx_una)
        k->rxt_mark = k->snd_max;
    k->rxt_next = at + len + (fin ? 1 : 0);
    k->rxt_first = false;
    if (k->rexmt == REXMT_NONE)
        tcp_timer_rexmt_arm(t, k);
    return SENT;
}

/* May less than a full segment leave? RFC 9293 3.8.6.2.1 (silly windows), Nagle, TCP_CORK. */
static bool small_may_go(const struct tcp_conn *k, uint64_t at, uint64_t len, bool tail)
{
    if (at < k->snd_max || k->push_now)
        return true;
    if (tail) {
        if (conn_has_fin(k))
            return true;
        if (k->r.flags & TCPF_CORK)
            return false;
        return (k->r.flags & TCPF_NODELAY) || k->snd_nxt == k->tx_una;
    }
    return len * 2 >= k->max_wnd && k->max_wnd;
}

static int send_next(struct tcp *t, struct tcp_conn *k)
{
    uint64_t limit = UINT64_MAX, at = k->snd_nxt, end = data_end(k);
    if (at < k->snd_max && k->n_sacked) {
        at = skip_sacked(k, at, &limit);
        if (at > k->snd_nxt)
            k->snd_nxt = at;
    }
    uint64_t win_end = k->tx_una + k->snd_wnd;
    uint64_t pipe = tcp_ack_pipe(k), room = k->cwnd > pipe ? k->cwnd - pipe : 0;
    uint64_t stop = end < limit ? end : limit;
    uint64_t len = 0;
    if (at < stop && at < win_end) {
        len = (stop < win_end ? stop : win_end) - at;
        if (len > room)
            len = room;
        if (len > k->gso)
            len = k->gso;
        bool tail = at + len == end;
        uint64_t rest = len % k->mss;
        if (rest && !small_may_go(k, at, rest, tail) &&
            !(len < k->mss && pipe == 0 && len == room && room))
            len -= rest;
        if (len == 0)
            return NOTHING;
    }
    bool fin = conn_has_fin(k) && at + len == k->r.tx_fin && k->snd_nxt <= k->r.tx_fin &&
               at + len <= win_end && at >= k->tx_una;
    if (len == 0 && !fin)
        return NOTHING;
    bool again = at < k->snd_max;
    uint8_t flags = fin ? TH_FIN : 0;
    if (at + len == end)
        flags |= TH_PUSH;
    if (!emit(t, k, at, (uint32_t)len, flags))
        return BLOCKED;
    k->snd_nxt = at + len + (fin ? 1 : 0);
    k->push_now = false;
    if (again) {
        count_retrans(t, k, (uint32_t)len);
        k->rtt_start = 0;
    } else if (k->rtt_start == 0 && !k->lost_state) {
        k->rtt_seq = k->snd_nxt;
        k->rtt_start = t->now;
    }
    k->idle_since = t->now;
    if (k->rexmt != REXMT_DATA && k->rexmt != REXMT_PROBE) {
        k->progress_at = t->now;
        tcp_timer_rexmt_arm(t, k);
    }
    return SENT;
}

void tcp_output(struct tcp *t, struct tcp_conn *k)
{
    if (!k->ready || k->r.kind != TCP_KIND_CONN || k->r.state == TCP_CLOSED)
        return;
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD) {
        if (k->syn_now)
            emit_syn(t, k);
        else if (k->ack_now && k->r.state == TCP_SYN_RCVD && !emit(t, k, 0, 0, 0))
            tcp_conn_dirty(t, k);
        return;
    }
    uint64_t ack_at = k->snd_nxt > k->snd_max ? k->snd_nxt : k->snd_max;
    if (k->ack_now && (k->n_ooo || k->dsack_due) && !emit(t, k, ack_at, 0, 0)) {
        tcp_conn_dirty(t, k);
        return;
    }
    if (k->r.state != TCP_TIME_WAIT && k->r.state != TCP_FIN_WAIT_2) {
        if (k->snd_max == k->tx_una && t->now - k->idle_since > k->rto)
            tcp_cc_idle(t, k);
        unsigned n = 0;
        int sent = NOTHING;
        do {
            sent = k->recovering ? send_lost(t, k) : NOTHING;
            if (sent == NOTHING)
                sent = send_next(t, k);
        } while (sent == SENT && ++n < TCP_BURST);
        if (sent != NOTHING)
            tcp_conn_dirty(t, k); /* more to do, or to be tried again */
        if (k->rexmt == REXMT_NONE && k->tx_end > k->snd_nxt)
            tcp_timer_rexmt_arm(t, k); /* kept back by the window: probe it */
    }
    ack_at = k->snd_nxt > k->snd_max ? k->snd_nxt : k->snd_max;
    if (k->ack_now && !emit(t, k, ack_at, 0, 0))
        tcp_conn_dirty(t, k);
    tcp_info_limit(t, k);
    if (t->now - k->info_at > 100 * MSEC)
        tcp_conn_publish_info(t, k);
}
