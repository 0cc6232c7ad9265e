/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connections that begin: initial sequence numbers, a SYN for a listener, SYN cookies (RFC
 * 4987 3.6).
 *
 * A listener holds a bounded number of connections whose handshake is under way. When they are so
 * many, nothing is kept of a further SYN: what we would have kept is in the SYN-ACK, and comes back
 * with the ACK. Of 32 bits of our ISN 8 say the minute, and 24 are a keyed hash of names, the
 * peer's ISN and that minute, to which the number of a size of segments (one of 8) is added. With
 * timestamps the low 6 bits of ours say the rest: window scale, SACK, ECN. Without them a
 * connection by cookie has none of them, as in Linux. A cookie is good for the minute after its
 * own.
 *
 * The keys are rs's: a cookie that was sent before a crash is honoured after it. A restart loses
 * when the last one was sent, and takes it that it was just now.
 */
#include "engine.h"

enum {
    COOKIE_MINUTES = 2,
    COOKIE_SIZES = 8,
    COOKIE_OPTIONS = 63, /* bits of the timestamp */
    COOKIE_SACK = 1 << 4,
    COOKIE_ECN = 1 << 5,
    COOKIE_NO_WSCALE = 15,
    ISN_TICK = 64, /* ns, as Linux; RFC 9293 3.4.1 has 4 us, of a time when that was a byte's */
};
#define MINUTE (60 * SEC)

/* --- what every connection begins with --- */

static uint8_t wscale_for(uint64_t size)
{
    uint8_t n = 0;
    while (n < 14 && 65535ull << n < size)
        n++;
    return n;
}

void tcp_conn_start_sending(struct tcp *t, struct tcp_conn *k)
{
    struct {
        struct sock_name local, remote;
    } name = {k->r.local, k->r.remote};
    /* RFC 6528: keyed hash plus a clock; RFC 7323 7.1 for the timestamps' offset. The names may
     * come again while the peer is in TIME-WAIT, and without timestamps it takes only an ISN above
     * all that was sent: so the clock runs faster than data, and round in 275 s (ISN_TICK). */
    k->r.iss =
        (uint32_t)tcp_hash(t->cfg->secret, &name, sizeof name) + (uint32_t)(t->now / ISN_TICK);
    k->r.ts_offset = (uint32_t)tcp_hash(t->cfg->secret + 48, &name, sizeof name);
    /* For the largest window that it may ever have (RFC 7323 2.3). */
    uint64_t most = tcp_tune_window_max(t, k);
    k->r.rcv_wscale = t->cfg->tcp_window_scaling ? wscale_for(most) : 0;
    k->r.flags &= ~(uint32_t)(TCPF_ECN | TCPF_ECN_PLAIN);
    k->ts_recent_age = t->now;
    tcp_rtt_init(t, k);
    k->syn_now = true;
}

/* What listener and SYN agree upon. Writes nothing that is shared. */
static void begin(struct tcp *t, struct tcp_conn *k, const struct tcp_conn *l,
                  const struct tcp_seg *s)
{
    k->r.kind = TCP_KIND_CONN;
    k->r.state = TCP_SYN_RCVD;
    /* Options are copied at the handshake, as Linux does. */
    k->r.flags =
        TCPF_PASSIVE | (l->r.flags & (TCPF_NODELAY | TCPF_CORK | TCPF_KEEPALIVE | TCPF_QUICKACK));
    k->r.local = s->local;
    k->r.remote = s->remote;
    k->r.group = l->r.group;
    k->r.maxseg = l->r.maxseg;
    k->r.keepidle = l->r.keepidle;
    k->r.keepintvl = l->r.keepintvl;
    k->r.keepcnt = l->r.keepcnt;
    k->r.user_timeout = l->r.user_timeout;
    k->r.congestion = l->r.congestion;
    k->r.tos = l->r.tos;
    k->r.ttl = l->r.ttl;
    k->r.sndbuf_shift = l->r.sndbuf_shift;
    k->r.rcvbuf_shift = l->r.rcvbuf_shift;
    k->r.defer_accept = l->r.defer_accept;
    tcp_conn_start_sending(t, k);
    k->r.irs = s->seq;
    k->r.mss = s->mss ? s->mss : (s->local.addr.family == 6 ? 1220 : 536);
    if (k->r.mss < 64)
        k->r.mss = 64;
    if (s->has_ts && t->cfg->tcp_timestamps) {
        k->r.flags |= TCPF_TIMESTAMPS;
        k->ts_recent = s->tsval;
    }
    if (s->sack_ok && t->cfg->tcp_sack)
        k->r.flags |= TCPF_SACK;
    tcp_ecn_agree(t, k, s);
    if (s->has_wscale && t->cfg->tcp_window_scaling) {
        k->r.flags |= TCPF_WSCALE;
        k->r.snd_wscale = s->wscale;
    } else {
        k->r.rcv_wscale = 0;
    }
}

/* From here on a successor knows it: the record before the SYN-ACK (DESIGN 6.5), then the index. */
static void commit(struct tcp *t, struct tcp_conn *k)
{
    k->r.order = ++t->order_last;
    if (k->r.flags & TCPF_TIMESTAMPS)
        shm_keep(&t->shm[k->idx].ts_recent, k->ts_recent);
    tcp_conn_route(t, k);
    tcp_record_commit(t, k);
    tcp_lookup_add(t, k);
    tcp_group_enqueue(t, k, QUEUE_SYN);
}

/* --- cookies --- */

static const uint16_t cookie_size[COOKIE_SIZES] = {64, 536, 1220, 1300, 1400, 1440, 1460, 8940};

static uint32_t cookie_hash(const struct tcp *t, const struct tcp_seg *s, uint32_t irs,
                            uint32_t minute)
{
    /* Longer than what ISNs are made of under the same key, so that none is the other. */
    struct {
        struct sock_name local, remote;
        uint32_t irs, minute;
    } in = {s->local, s->remote, irs, minute};
    return (uint32_t)tcp_hash(t->cfg->secret, &in, sizeof in);
}

static uint32_t cookie_make(const struct tcp *t, const struct tcp_seg *s, uint16_t mss)
{
    uint32_t minute = (uint32_t)(t->now / MINUTE), i = COOKIE_SIZES - 1;
    while (i > 0 && cookie_size[i] > mss)
        i--;
    return cookie_hash(t, s, s->seq, UINT32_MAX) +
           (minute << 24 | ((cookie_hash(t, s, s->seq, minute) + i) & 0xffffff));
}

/* The size of segments that an ACK's cookie stands for; 0: it is none of ours, or too old. */
static uint16_t cookie_check(const struct tcp *t, const struct tcp_seg *s)
{
    uint32_t irs = s->seq - 1, minute = (uint32_t)(t->now / MINUTE);
    uint32_t v = s->ack - 1 - cookie_hash(t, s, irs, UINT32_MAX);
    uint32_t age = (minute - (v >> 24)) & 0xff;
    if (age >= COOKIE_MINUTES)
        return 0;
    uint32_t i = (v - cookie_hash(t, s, irs, minute - age)) & 0xffffff;
    return i < COOKIE_SIZES ? cookie_size[i] : 0;
}

static void send_cookie(struct tcp *t, const struct tcp_conn *l, const struct tcp_seg *s)
{
    struct tcp_conn *k = &t->scratch;
    *k = (struct tcp_conn){.r = {.tx_fin = TCP_NO_FIN}};
    begin(t, k, l, s);
    k->r.iss = cookie_make(t, s, k->r.mss);
    struct tcp_seg out = tcp_output_syn(t, k);
    if (out.has_ts) {
        uint32_t options = (out.has_wscale ? k->r.snd_wscale : COOKIE_NO_WSCALE) |
                           (out.sack_ok ? COOKIE_SACK : 0u) |
                           (k->r.flags & TCPF_ECN ? COOKIE_ECN : 0u);
        /* Never ahead of our clock: later segments must not look older (PAWS). */
        uint32_t ts = (out.tsval & ~(uint32_t)COOKIE_OPTIONS) | options;
        out.tsval = seq_lt(out.tsval, ts) ? ts - COOKIE_OPTIONS - 1 : ts;
    } else {
        out.sack_ok = out.has_wscale = false;
        out.flags &= (uint8_t)~TH_ECE;
    }
    tcp_output_bare(t, &out, k->r.tos, k->r.ttl);
    tcp_count(t, TCP_C_COOKIES_SENT);
    t->cookies_until = t->now + COOKIE_MINUTES * MINUTE;
}

/* An ACK for a listener that belongs to no connection. True: it was a good cookie. */
bool tcp_listen_cookie(struct tcp *t, struct tcp_conn *l, struct tcp_seg *s)
{
    /* Guesses are worth a try only while cookies are out. */
    if (t->now >= t->cookies_until)
        return false;
    uint16_t mss = cookie_check(t, s);
    if (mss == 0) {
        tcp_count(t, TCP_C_COOKIES_BAD);
        return false;
    }
    struct tcp_group *g = tcp_group_get(t, l->r.group, false);
    if (g == NULL || g->queue[QUEUE_PENDING].count > l->r.backlog) {
        tcp_count(t, TCP_C_DROP_BACKLOG);
        return true;
    }
    struct tcp_conn *k = tcp_conn_new(t);
    if (k == NULL) {
        tcp_count(t, TCP_C_DROP_NO_RECORD);
        return true;
    }
    /* The SYN as it must have been. */
    uint32_t options = s->has_ts ? s->tsecr & COOKIE_OPTIONS : COOKIE_NO_WSCALE;
    struct tcp_seg syn = {.local = s->local,
                          .remote = s->remote,
                          .seq = s->seq - 1,
                          .flags = options & COOKIE_ECN ? TH_SYN | TH_ECE | TH_CWR : TH_SYN,
                          .mss = mss,
                          .has_ts = s->has_ts,
                          .tsval = s->tsval,
                          .sack_ok = options & COOKIE_SACK,
                          .has_wscale = (options & 15) != COOKIE_NO_WSCALE,
                          .wscale = options & 15};
    begin(t, k, l, &syn);
    tcp_count(t, TCP_C_PASSIVE_OPENS);
    tcp_count(t, TCP_C_COOKIES_GOOD);
    k->r.iss = s->ack - 1;
    k->r.defer_accept = 0; /* its SYN-ACK cannot be sent again */
    k->syn_now = false;
    /* What the SYN-ACK advertised. */
    k->rx_edge = tcp_output_syn(t, k).wnd;
    shm_keep(&t->shm[k->idx].rx_edge, k->rx_edge);
    commit(t, k);
    tcp_input_segment(t, k, s);
    /* No block, or bad data: as if the ACK had been lost. */
    if (k->ready && k->r.kind == TCP_KIND_CONN && k->r.state == TCP_SYN_RCVD)
        tcp_conn_end(t, k, 0);
    return true;
}

/* --- a SYN for a listener --- */

void tcp_listen_syn(struct tcp *t, struct tcp_conn *l, const struct tcp_seg *s)
{
    struct tcp_group *g = tcp_group_get(t, l->r.group, false);
    uint32_t backlog = l->r.backlog, most = backlog > 64 ? backlog : 64;
    most = most < t->cfg->tcp_syn_backlog_max ? most : t->cfg->tcp_syn_backlog_max;
    if (g == NULL || g->queue[QUEUE_PENDING].count > backlog) {
        tcp_count(t, TCP_C_DROP_BACKLOG);
        return;
    }
    bool full = g->queue[QUEUE_SYN].count >= most;
    /* Not in the place of a TIME-WAIT: a cookie is not above all that the old one used. */
    uint8_t cookies = t->cfg->tcp_syncookies;
    if (!t->reopening && cookies != CONFIG_COOKIES_OFF &&
        (full || cookies == CONFIG_COOKIES_ALWAYS)) {
        send_cookie(t, l, s);
        return;
    }
    struct tcp_conn *k = full ? NULL : tcp_conn_new(t);
    if (k == NULL) {
        tcp_count(t, full ? TCP_C_DROP_BACKLOG : TCP_C_DROP_NO_RECORD);
        return;
    }
    tcp_count(t, TCP_C_PASSIVE_OPENS);
    begin(t, k, l, s);
    if (t->reopening && seq_lt(k->r.iss, t->iss_floor))
        k->r.iss = t->iss_floor;
    commit(t, k);
    tcp_timer_rexmt_arm(t, k);
    tcp_conn_dirty(t, k);
}

/* TCP_DEFER_ACCEPT: a bare ACK does not end the handshake for so many seconds; the SYN-ACK goes
 * again after that, and its answer does. A restart begins to wait anew. */
bool tcp_listen_deferred(const struct tcp *t, const struct tcp_conn *k)
{
    return k->r.state == TCP_SYN_RCVD && k->r.defer_accept &&
           t->now - k->progress_at < k->r.defer_accept * SEC;
}
