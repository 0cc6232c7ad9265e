/* SPDX-License-Identifier: BSD-2-Clause
 *
 * SEGMENT ARRIVES (RFC 9293 3.10.7), with RFC 5961 (blind attacks), 7323 (PAWS), 1337 and 6191
 * (TIME-WAIT), 5927 (ICMP). The peer's bad input is dropped and counted.
 *
 * A segment with data is copied and verified before anything else in it is believed: a wrong
 * checksum must not have moved an acknowledgement.
 */
#include "engine.h"

#include <errno.h>

enum { CHALLENGES_PER_SECOND = 10 };

void tcp_input_challenge(struct tcp *t, struct tcp_conn *k)
{
    /* Limited per connection: a limit over all of them is a side channel (RFC 5961 7). */
    if (k->challenge_at != t->now / SEC) {
        k->challenge_at = t->now / SEC;
        k->challenge_n = 0;
    }
    if (++k->challenge_n > CHALLENGES_PER_SECOND)
        return;
    tcp_count(t, TCP_C_CHALLENGES);
    k->ack_now = true;
    tcp_conn_dirty(t, k);
}

/* Both SYNs are acknowledged. One commit: state and, for a connect, its reply. */
void tcp_input_established(struct tcp *t, struct tcp_conn *k)
{
    tcp_count(t, TCP_C_ESTABLISHED);
    k->r.state = conn_has_fin(k) ? TCP_FIN_WAIT_1 : TCP_ESTABLISHED;
    if (k->r.flags & TCPF_WAITING) {
        k->r.flags &= ~(uint32_t)TCPF_WAITING;
        k->r.result = 0;
    }
    tcp_record_commit(t, k);
    tcp_conn_route(t, k);
    if (k->rtt_start) {
        tcp_rtt_sample(t, k, t->now - k->rtt_start);
        k->rtt_start = 0;
    }
    tcp_cc_init(t, k);
    k->backoff = k->tries = 0;
    k->progress_at = t->now;
    k->rexmt = REXMT_NONE;
    tcp_timer_set(t, k, TIMER_REXMT, NEVER);
    tcp_timer_keep_arm(t, k);
    tcp_conn_publish(t, k);
    tcp_conn_publish_info(t, k);
    tcp_conn_dirty(t, k);
}

static void first_window(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s, bool scaled)
{
    tcp_ack_set_window(t, k, scaled ? (uint64_t)s->wnd << k->r.snd_wscale : s->wnd);
    k->max_wnd = k->snd_wnd;
    k->snd_wl1 = s->seq;
    k->snd_wl2 = s->ack;
}

static void store_ts_recent(struct tcp *t, struct tcp_conn *k, uint32_t tsval)
{
    k->ts_recent_age = t->now;
    if (k->ts_recent == tsval)
        return;
    k->ts_recent = tsval;
    shm_store(&t->shm[k->idx].ts_recent, tsval);
}

static void negotiate(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    k->r.irs = s->seq;
    k->r.mss = s->mss ? s->mss : (s->local.addr.family == 6 ? 1220 : 536);
    if (k->r.mss < 64)
        k->r.mss = 64; /* RFC 9293 3.7.1 sets no least; smaller ones are attacks */
    k->r.flags &= ~(uint32_t)(TCPF_TIMESTAMPS | TCPF_SACK | TCPF_WSCALE);
    if (s->has_ts && t->cfg->tcp_timestamps)
        k->r.flags |= TCPF_TIMESTAMPS;
    if (s->sack_ok && t->cfg->tcp_sack)
        k->r.flags |= TCPF_SACK;
    if (s->has_wscale && t->cfg->tcp_window_scaling) {
        k->r.flags |= TCPF_WSCALE;
        k->r.snd_wscale = s->wscale;
    } else {
        k->r.snd_wscale = k->r.rcv_wscale = 0;
    }
    if (k->r.flags & TCPF_TIMESTAMPS)
        store_ts_recent(t, k, s->tsval);
}

static void syn_sent(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    bool ack = s->flags & TH_ACK;
    if (!tcp_rx_verify(s)) {
        tcp_count(t, TCP_C_DROP_CHECKSUM);
        return;
    }
    if (ack && s->ack != k->r.iss + 1) {
        /* Something of a former connection: reset it, then try again at once. */
        if (!(s->flags & TH_RST)) {
            tcp_output_reset_for(t, s);
            if (k->challenge_at != t->now / SEC) {
                k->challenge_at = t->now / SEC;
                k->syn_now = true;
                tcp_conn_dirty(t, k);
            }
        }
        tcp_count(t, TCP_C_DROP_OLD_ACK);
        return;
    }
    if (s->flags & TH_RST) {
        tcp_count(t, ack ? TCP_C_RESETS_IN : TCP_C_DROP_STATE);
        if (ack)
            tcp_conn_end(t, k, ECONNREFUSED);
        return;
    }
    if (!(s->flags & TH_SYN)) {
        tcp_count(t, TCP_C_DROP_STATE);
        return;
    }
    negotiate(t, k, s);
    first_window(t, k, s, false);
    if (ack) {
        k->ack_now = true;
        tcp_input_established(t, k);
        return;
    }
    /* Both sides opened at once: our SYN again, with an ACK and the same ISN. */
    k->r.state = TCP_SYN_RCVD;
    tcp_record_commit(t, k);
    k->syn_now = true;
    tcp_timer_rexmt_arm(t, k);
    tcp_conn_dirty(t, k);
}

/* A new SYN for a connection in TIME-WAIT (RFC 6191, RFC 9293 3.6.1). */
static bool reopens(const struct tcp_conn *k, const struct tcp_seg *s)
{
    if (k->r.state != TCP_TIME_WAIT || (s->flags & (TH_SYN | TH_ACK | TH_RST)) != TH_SYN)
        return false;
    if (s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) && seq_lt(k->ts_recent, s->tsval))
        return true;
    return seq_lt(conn_rcv_nxt(k), s->seq);
}

static void reset_received(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    if (s->seq != conn_rcv_nxt(k)) { /* RFC 5961 3.2 */
        tcp_input_challenge(t, k);
        return;
    }
    tcp_count(t, TCP_C_RESETS_IN);
    switch (k->r.state) {
    case TCP_TIME_WAIT: /* RFC 1337 */
        return;
    case TCP_SYN_RCVD:
        tcp_conn_end(t, k, k->r.flags & TCPF_PASSIVE ? 0 : ECONNREFUSED);
        return;
    case TCP_CLOSE_WAIT:
        tcp_conn_end(t, k, EPIPE);
        return;
    case TCP_CLOSING:
    case TCP_LAST_ACK:
        tcp_conn_end(t, k, 0);
        return;
    default:
        tcp_conn_end(t, k, ECONNRESET);
    }
}

/* Our FIN is acknowledged. False: the connection is over. */
static bool fin_acked(struct tcp *t, struct tcp_conn *k)
{
    switch (k->r.state) {
    case TCP_FIN_WAIT_1:
        tcp_conn_set_state(t, k, TCP_FIN_WAIT_2);
        tcp_conn_detach_try(t, k);
        return true;
    case TCP_CLOSING:
        tcp_conn_time_wait(t, k);
        return false;
    case TCP_LAST_ACK:
        tcp_conn_end(t, k, 0);
        return false;
    default:
        return true;
    }
}

/* PAWS (RFC 7323 5). False: drop. */
static bool timestamps_good(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    if (!(k->r.flags & TCPF_TIMESTAMPS) || (s->flags & TH_RST))
        return true;
    if (!s->has_ts) {
        tcp_count(t, TCP_C_DROP_PAWS);
        return (s->flags & TH_SYN) != 0; /* a challenge ACK answers it */
    }
    if (seq_lt(s->tsval, k->ts_recent) && t->now - k->ts_recent_age < 24ull * 86400 * SEC) {
        tcp_count(t, TCP_C_DROP_PAWS);
        k->ack_now = true;
        tcp_conn_dirty(t, k);
        return false;
    }
    return true;
}

static bool in_window(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    uint32_t nxt = conn_rcv_nxt(k);
    uint32_t end = s->seq + s->len + (s->flags & TH_SYN ? 1 : 0) + (s->flags & TH_FIN ? 1 : 0);
    uint32_t edge = k->r.irs + 1 + (uint32_t)k->rx_edge;
    if (seq_lt(edge, nxt))
        edge = nxt;
    if (seq_le(nxt, end) && seq_le(s->seq, edge))
        return true;
    tcp_count(t, TCP_C_DROP_WINDOW);
    if (!(s->flags & TH_RST)) {
        if (s->len && seq_lt(s->seq, nxt) && tcp_rx_verify(s)) {
            k->dsack = (struct tcp_range){s->seq, s->seq + s->len};
            k->dsack_due = (k->r.flags & TCPF_SACK) != 0;
            tcp_count(t, TCP_C_DUP_DATA);
        }
        /* A FIN again in TIME-WAIT: its ACK was lost. 2 MSL from now. */
        if (k->r.state == TCP_TIME_WAIT && (s->flags & TH_FIN)) {
            k->r.expiry = t->now + t->cfg->tcp_timewait_ms * MSEC;
            tcp_timer_set(t, k, TIMER_LIFE, k->r.expiry);
        }
        k->ack_now = true;
        tcp_conn_dirty(t, k);
    }
    return false;
}

static void segment_arrives(struct tcp *t, struct tcp_conn *k, struct tcp_seg *s)
{
    k->segs_in++;
    if (k->r.state == TCP_SYN_SENT) {
        syn_sent(t, k, s);
        return;
    }
    if (!timestamps_good(t, k, s) || !in_window(t, k, s))
        return;
    /* Copy and verify first; nothing of it is remembered yet. */
    bool data = s->len != 0 && conn_receives(k) && !(k->r.flags & TCPF_CLOSED_BY_APP);
    if (s->len && (data ? tcp_rx_copy(t, k, s) != RX_OK : !tcp_rx_verify(s))) {
        tcp_count(t, TCP_C_DROP_CHECKSUM);
        return;
    }
    if (s->flags & TH_RST) {
        reset_received(t, k, s);
        return;
    }
    if (s->flags & TH_SYN) {
        if (k->r.state == TCP_SYN_RCVD && s->seq == k->r.irs) {
            if (!(s->flags & TH_ACK)) { /* its SYN again: our SYN-ACK was lost */
                k->syn_now = true;
                tcp_conn_dirty(t, k);
                return;
            }
            s->seq++; /* the SYN-ACK of a simultaneous open */
            s->flags &= (uint8_t)~TH_SYN;
        } else {
            tcp_input_challenge(t, k); /* RFC 5961 4.2 */
            return;
        }
    }
    if (!(s->flags & TH_ACK)) {
        tcp_count(t, TCP_C_DROP_STATE);
        return;
    }
    k->last_heard = t->now;
    k->keep_probes = 0;
    if (k->r.state == TCP_SYN_RCVD) {
        if (s->ack != k->r.iss + 1) {
            tcp_count(t, TCP_C_DROP_OLD_ACK);
            tcp_output_reset_for(t, s);
            return;
        }
        first_window(t, k, s, true);
        if (k->r.flags & TCPF_PASSIVE) {
            tcp_listen_established(t, k);
            if (!k->ready || k->r.state <= TCP_SYN_RCVD)
                return;
        } else {
            tcp_input_established(t, k);
        }
        /* There was no ring before; now there is. */
        if (s->len && tcp_rx_copy(t, k, s) != RX_OK)
            return;
    }
    if (!tcp_ack_process(t, k, s))
        return;
    if (conn_has_fin(k) && k->tx_una > k->r.tx_fin && !fin_acked(t, k))
        return;
    /* RFC 7323 4.3: of the segment that holds the left edge of what was last acknowledged. */
    if (s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) &&
        conn_rx_rel(k, s->seq) <= (int64_t)k->rx_acked && seq_le(k->ts_recent, s->tsval))
        store_ts_recent(t, k, s->tsval);
    if (k->r.state == TCP_TIME_WAIT) {
        if (s->flags & TH_FIN) {
            tcp_timer_set(t, k, TIMER_LIFE, t->now + t->cfg->tcp_timewait_ms * MSEC);
            k->ack_now = true;
            tcp_conn_dirty(t, k);
        }
        return;
    }
    if (!s->len && !(s->flags & TH_FIN))
        return;
    if (!conn_receives(k)) { /* data behind a FIN */
        k->ack_now = true;
        tcp_conn_dirty(t, k);
        return;
    }
    if (s->len && (k->r.flags & TCPF_CLOSED_BY_APP) &&
        conn_rx_rel(k, s->seq) + s->len > (int64_t)k->rx_nxt) {
        tcp_conn_abort(t, k, 0); /* nobody will ever read it (RFC 9293 3.6.1) */
        return;
    }
    tcp_rx_commit(t, k, s);
}

/* --- ICMP --- */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The packet that an error quotes: ours, so that its source is our name. */
static bool quoted(const struct packet *p, struct sock_name *local, struct sock_name *remote,
                   uint32_t *seq)
{
    unsigned len = p->hdr_len, ip = p->l3 < len ? p->l3 : 0, l4;
    const uint8_t *h = p->hdr + ip;
    len -= ip;
    if (len >= 28 && h[0] >> 4 == 4) {
        l4 = (h[0] & 15u) * 4;
        if (l4 < 20 || h[9] != 6)
            return false;
        *local = (struct sock_name){.addr = {.family = 4}};
        *remote = *local;
        memcpy(local->addr.v6, h + 12, 4);
        memcpy(remote->addr.v6, h + 16, 4);
    } else if (len >= 48 && h[0] >> 4 == 6) {
        l4 = 40;
        if (h[6] != 6)
            return false;
        *local = (struct sock_name){.addr = {.family = 6}};
        *remote = *local;
        memcpy(local->addr.v6, h + 8, 16);
        memcpy(remote->addr.v6, h + 24, 16);
    } else {
        return false;
    }
    if (l4 + 8 > len)
        return false;
    local->port = (uint16_t)(h[l4] << 8 | h[l4 + 1]);
    remote->port = (uint16_t)(h[l4 + 2] << 8 | h[l4 + 3]);
    *seq = be32(h + l4 + 4);
    return true;
}

static bool icmp_arrives(struct tcp *t, const struct packet *p)
{
    struct sock_name local, remote;
    uint32_t seq;
    tcp_count(t, TCP_C_ICMP_IN);
    if (!quoted(p, &local, &remote, &seq)) {
        tcp_count(t, TCP_C_ICMP_IGNORED);
        return true;
    }
    struct tcp_conn *k = tcp_lookup_find(t, &local, &remote);
    if (k == NULL && !t->walked)
        return false;
    /* RFC 5927 4.1: it must quote something that is under way. */
    bool syn = k && (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD);
    if (k == NULL ||
        (syn ? seq != k->r.iss
             : seq_lt(seq, conn_seq(k, k->tx_una)) || seq_lt(conn_seq(k, k->snd_max), seq))) {
        tcp_count(t, TCP_C_ICMP_IGNORED);
        return true;
    }
    bool v4 = local.addr.family == 4;
    bool too_big = v4 ? p->icmp_type == 3 && p->icmp_code == 4 : p->icmp_type == 2;
    if (too_big) {
        /* A floor against forged tiny values: RFC 1191 and 8200. */
        uint32_t least = v4 ? 552 : 1280, mtu = p->mss > least ? p->mss : least, old = k->mss;
        if (syn)
            return true;
        tcp_conn_set_mss(t, k, mtu);
        if (k->mss >= old) {
            k->mss = old;
            return true;
        }
        k->gso = k->gso / k->mss * k->mss;
        if (k->gso < k->mss)
            k->gso = k->mss;
        /* What was too large is lost, but no sign of congestion (RFC 8899). */
        k->snd_nxt = k->tx_una;
        k->lost_state = true;
        k->recover = k->snd_max;
        tcp_conn_dirty(t, k);
        return true;
    }
    bool unreachable = v4 ? p->icmp_type == 3 : p->icmp_type == 1;
    if (!unreachable || !syn || (k->r.flags & TCPF_PASSIVE)) {
        tcp_count(t, TCP_C_ICMP_IGNORED); /* soft once synchronised (RFC 5927 5) */
        return true;
    }
    int error = EHOSTUNREACH;
    if (v4 ? p->icmp_code == 0 : p->icmp_code == 0)
        error = ENETUNREACH;
    else if (v4 ? p->icmp_code == 2 || p->icmp_code == 3 : p->icmp_code == 4)
        error = ECONNREFUSED;
    tcp_conn_end(t, k, error);
    return true;
}

/* --- entry --- */

bool tcp_input(struct tcp *t, const struct packet *p)
{
    struct tcp_seg s;
    if (p->icmp_type)
        return icmp_arrives(t, p);
    tcp_count(t, TCP_C_SEGS_IN);
    if (p->flags & PACKET_BROADCAST) {
        tcp_count(t, TCP_C_DROP_BROADCAST);
        return true;
    }
    t->reopening = false;
    int rc = tcp_segment_parse(&s, p);
    if (rc) {
        tcp_count(t, rc == -EILSEQ ? TCP_C_DROP_CHECKSUM : TCP_C_DROP_HEADER);
        return true;
    }
    if (s.len) {
        s.payload = p->pieces == 1 ? region_resolve(t->c->map, &p->piece[0]) : NULL;
        if (s.payload == NULL) {
            tcp_count(t, TCP_C_DROP_GARBAGE);
            return true;
        }
    }
    struct tcp_conn *k = tcp_lookup_find(t, &s.local, &s.remote);
    if (k != NULL && reopens(k, &s) && t->walked) {
        /* Its successor's sequence numbers begin behind all that it used (RFC 9293 3.6.1). */
        t->reopening = true;
        t->iss_floor = conn_seq(k, k->snd_max) + 65536;
        tcp_conn_end(t, k, 0);
        k = NULL;
    }
    if (k != NULL) {
        segment_arrives(t, k, &s);
        return true;
    }
    if (!t->walked)
        return false; /* never answered while records may not have been seen */
    if (!tcp_rx_verify(&s)) {
        tcp_count(t, TCP_C_DROP_CHECKSUM);
        return true;
    }
    struct tcp_conn *l = tcp_port_listener(t, &s.local, &s.remote);
    if (l != NULL && (s.flags & (TH_SYN | TH_ACK | TH_RST)) == TH_SYN) {
        tcp_listen_syn(t, l, &s);
        return true;
    }
    tcp_count(t, TCP_C_DROP_NO_SOCKET);
    /* What our predecessor had in its hands may be what ended the connection that we now miss. */
    if (chan_rx_index(&t->rx_ip) >= t->replay_end)
        tcp_output_reset_for(t, &s);
    return true;
}
