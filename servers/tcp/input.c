/* SPDX-License-Identifier: BSD-2-Clause
 *
 * SEGMENT ARRIVES (RFC 9293 3.10.7), with RFC 5961 (blind attacks), 7323 (PAWS), 1337 and 6191
 * (TIME-WAIT). The peer's bad input is dropped and counted. ICMP is in pmtu.c.
 *
 * A segment with data is copied and verified before anything else in it is believed: a wrong
 * checksum must not have moved an acknowledgement. URG and the urgent pointer say nothing to us:
 * urgent data is delivered in line (RFC 6093 6).
 *
 * A restart loses when a connection last answered a segment that was not acceptable.
 */
#include "engine.h"

#include <errno.h>

/* May an unacceptable segment be answered? One in half a second or so for each connection: two that
 * challenge each other must come to an end (RFC 5961 7, 10). A limit over all connections would be
 * a side channel, and so would one whose end an attacker can compute: hence the keyed jitter. */
static bool may_answer(struct tcp *t, struct tcp_conn *k)
{
    uint64_t interval = t->cfg->tcp_challenge_ms * MSEC;
    if (t->now < k->challenge_at) {
        tcp_count(t, TCP_C_ANSWERS_LIMITED);
        return false;
    }
    uint64_t in[2] = {t->now, k->idx};
    if (interval)
        k->challenge_at =
            t->now + interval / 2 + tcp_hash(t->cfg->secret, in, sizeof in) % interval;
    return true;
}

void tcp_input_challenge(struct tcp *t, struct tcp_conn *k)
{
    if (!may_answer(t, k))
        return;
    tcp_count(t, TCP_C_CHALLENGES);
    k->ack_now = true;
    tcp_conn_dirty(t, k);
}

/* An ACK for a segment that is not acceptable. What carries data or a FIN is no part of a loop of
 * ACKs, and its sender waits for this one: no limit. */
static void answer(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    if (s->len == 0 && !(s->flags & TH_FIN) && !may_answer(t, k))
        return;
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
    tcp_info_progress(t, k);
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
    shm_keep(&t->shm[k->idx].ts_recent, tsval);
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
    tcp_ecn_agree(t, k, s);
    if (k->r.flags & TCPF_TIMESTAMPS)
        store_ts_recent(t, k, s->tsval);
}

static void take_text(struct tcp *t, struct tcp_conn *k, struct tcp_seg *s);

static void syn_sent(struct tcp *t, struct tcp_conn *k, struct tcp_seg *s)
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
            if (may_answer(t, k)) {
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
        /* Text and FIN that came along (RFC 9293 3.10.7.3, last paragraph). */
        s->seq++;
        s->flags &= (uint8_t)~TH_SYN;
        if ((s->len || (s->flags & TH_FIN)) && tcp_rx_copy(t, k, s) == RX_OK)
            take_text(t, k, s);
        return;
    }
    /* Both sides opened at once: our SYN again, with an ACK and the same ISN. */
    k->r.state = TCP_SYN_RCVD;
    tcp_record_commit(t, k);
    k->syn_now = true;
    tcp_timer_rexmt_arm(t, k);
    tcp_conn_dirty(t, k);
}

/* A new SYN for a connection in TIME-WAIT: its timestamp, or else its sequence number, must be
 * higher than all that the old one used (RFC 6191 2, RFC 9293 3.6.1). */
static bool reopens(const struct tcp_conn *k, const struct tcp_seg *s)
{
    if (k->r.state != TCP_TIME_WAIT || (s->flags & (TH_SYN | TH_ACK | TH_RST | TH_FIN)) != TH_SYN)
        return false;
    if (s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) && s->tsval != k->ts_recent)
        return seq_lt(k->ts_recent, s->tsval);
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
        return true;
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
        if (s->flags & TH_SYN)
            return true;               /* a challenge ACK answers it */
        tcp_count(t, TCP_C_DROP_PAWS); /* RFC 7323 3.2 */
        return false;
    }
    /* A clock of a millisecond goes round its sign bit in 24.8 days (RFC 7323 5.5). */
    if (seq_lt(s->tsval, k->ts_recent) && t->now - k->ts_recent_age < 24ull * 86400 * SEC) {
        tcp_count(t, TCP_C_DROP_PAWS);
        answer(t, k, s);
        return false;
    }
    return true;
}

/* Its FIN again in TIME-WAIT: our ACK was lost. 2 MSL from now, for a successor, too. */
static void time_wait_again(struct tcp *t, struct tcp_conn *k)
{
    k->r.expiry = t->now + t->cfg->tcp_timewait_ms * MSEC;
    tcp_record_commit(t, k);
    tcp_timer_set(t, k, TIMER_LIFE, k->r.expiry);
}

/* A probe of a window that was closed, or of life: without text, one below what we expect. */
static bool is_probe(const struct tcp_conn *k, const struct tcp_seg *s)
{
    return conn_synchronised(k) && s->len == 0 && !(s->flags & (TH_SYN | TH_FIN | TH_RST)) &&
           s->seq + 1 == conn_rcv_nxt(k);
}

/* RFC 9293 3.10.7.4, first. As Linux does, what touches the window from below or above passes: a
 * repetition that ends at RCV.NXT may bring a new ACK; rx.c takes no byte outside of the window. So
 * may a probe: whoever sends only probes says what it has received in these (the "special
 * allowance" of the RFC). For an RST the limits are exact (RFC 5961 3.2). */
static bool in_window(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    uint32_t nxt = conn_rcv_nxt(k);
    uint32_t end = s->seq + s->len + (s->flags & TH_SYN ? 1 : 0) + (s->flags & TH_FIN ? 1 : 0);
    uint32_t edge = k->r.irs + 1 + (uint32_t)k->rx_edge;
    if (seq_lt(edge, nxt))
        edge = nxt;
    if (s->flags & TH_RST) {
        if (s->seq == nxt || (seq_lt(nxt, s->seq) && seq_lt(s->seq, edge)))
            return true;
        tcp_count(t, TCP_C_DROP_WINDOW);
        return false;
    }
    if ((seq_le(nxt, end) && seq_le(s->seq, edge)) || is_probe(k, s))
        return true;
    tcp_count(t, TCP_C_DROP_WINDOW);
    if (s->flags & TH_SYN) {
        tcp_input_challenge(t, k); /* wherever it lies: RFC 5961 4.2 */
        return false;
    }
    if (s->len && seq_lt(s->seq, nxt) && tcp_rx_verify(s)) {
        tcp_rx_duplicate(t, k, s->seq, s->seq + s->len);
        tcp_count(t, TCP_C_DUP_DATA);
    }
    if (k->r.state == TCP_TIME_WAIT && (s->flags & TH_FIN))
        time_wait_again(t, k);
    answer(t, k, s);
    return false;
}

/* RFC 9293 3.10.7.4, seventh and eighth: text that tcp_rx_copy() has copied, and the FIN. */
static void take_text(struct tcp *t, struct tcp_conn *k, struct tcp_seg *s)
{
    if (!s->len && !(s->flags & TH_FIN))
        return;
    if (!conn_receives(k)) { /* its FIN again, or text behind it */
        if (s->len)
            tcp_count(t, TCP_C_DROP_STATE);
        answer(t, k, s);
        return;
    }
    if (s->len && (k->r.flags & TCPF_CLOSED_BY_APP) &&
        conn_rx_rel(k, s->seq) + s->len > (int64_t)k->rx_nxt) {
        tcp_conn_abort(t, k, 0); /* nobody will ever read it (RFC 9293 3.6.1) */
        return;
    }
    tcp_ecn_received(k, s);
    tcp_rx_commit(t, k, s);
}

/* Fourth, in a synchronised state or SYN-RECEIVED. False: the segment is done with. */
static bool syn_received(struct tcp *t, struct tcp_conn *k, struct tcp_seg *s)
{
    if (k->r.state != TCP_SYN_RCVD || s->seq != k->r.irs) {
        tcp_input_challenge(t, k); /* RFC 5961 4.2 */
        return false;
    }
    if (s->flags & TH_ACK) {
        if (k->r.flags & TCPF_PASSIVE) {
            tcp_input_challenge(t, k);
            return false;
        }
        tcp_ecn_syn_again(t, k, s);
        s->seq++; /* the SYN-ACK of a simultaneous open */
        s->flags &= (uint8_t) ~(TH_SYN | TH_ECE | TH_CWR);
        /* RFC 7323 2.2: its window is not scaled, and what follows expects that. Rounded down. */
        s->wnd >>= k->r.snd_wscale;
        return true;
    }
    /* Its SYN again: our SYN-ACK was lost. */
    if (may_answer(t, k)) {
        tcp_ecn_syn_again(t, k, s);
        k->syn_now = true;
        tcp_conn_dirty(t, k);
    }
    return false;
}

/* Fifth, in SYN-RECEIVED. False: the segment is done with. */
static bool handshake_ends(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    if (s->ack != k->r.iss + 1) {
        tcp_count(t, TCP_C_DROP_OLD_ACK);
        tcp_output_reset_for(t, s);
        return false;
    }
    first_window(t, k, s, true);
    if (k->r.flags & TCPF_PASSIVE) {
        tcp_listen_established(t, k, s->len == 0 && !(s->flags & TH_FIN));
        if (!k->ready || k->r.state <= TCP_SYN_RCVD)
            return false;
    } else {
        tcp_input_established(t, k);
    }
    /* There was no ring before; now there is. */
    return !s->len || tcp_rx_copy(t, k, s) == RX_OK;
}

void tcp_input_segment(struct tcp *t, struct tcp_conn *k, struct tcp_seg *s)
{
    /* What was merged on its way counts as what it was. */
    unsigned segs = s->gso && s->len > s->gso ? (s->len + s->gso - 1) / s->gso : 1;
    k->segs_in += segs;
    if (s->len)
        k->stat.data_segs_in += segs;
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
    if ((s->flags & TH_SYN) && !syn_received(t, k, s))
        return;
    if (!(s->flags & TH_ACK)) {
        tcp_count(t, TCP_C_DROP_STATE);
        return;
    }
    k->last_heard = t->now;
    k->keep_probes = 0;
    if (k->r.state == TCP_SYN_RCVD && !handshake_ends(t, k, s))
        return;
    bool probe = is_probe(k, s);
    if (!tcp_ack_process(t, k, s))
        return;
    if (conn_has_fin(k) && k->tx_una > k->r.tx_fin && !fin_acked(t, k))
        return;
    /* RFC 7323 4.3: of the segment that holds the left edge of what was last acknowledged. */
    if (s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) &&
        conn_rx_rel(k, s->seq) <= (int64_t)k->rx_acked && seq_le(k->ts_recent, s->tsval))
        store_ts_recent(t, k, s->tsval);
    if (k->r.state == TCP_TIME_WAIT && (s->flags & TH_FIN))
        time_wait_again(t, k);
    if (probe) {
        /* Always (RFC 9293 3.8.6.1). No loop comes of it: our answer lies in the peer's window and
         * is not answered, unless it acknowledges what was not sent, and such answers are limited.
         */
        k->ack_now = true;
        tcp_conn_dirty(t, k);
    }
    take_text(t, k, s);
}

/* --- entry --- */

/* Nobody has this connection (RFC 9293 3.10.7.1, 3.10.7.2). */
static void stranger(struct tcp *t, struct tcp_seg *s)
{
    struct tcp_conn *l = tcp_port_listener(t, &s->local, &s->remote);
    if (l != NULL && !(s->flags & TH_RST)) {
        if ((s->flags & (TH_SYN | TH_ACK | TH_FIN)) == TH_SYN) {
            tcp_listen_syn(t, l, s);
            return;
        }
        if ((s->flags & (TH_SYN | TH_ACK)) == TH_ACK && tcp_listen_cookie(t, l, s))
            return;
        if (!(s->flags & TH_ACK)) { /* no SYN, or one that ends what it begins: as Linux */
            tcp_count(t, TCP_C_DROP_STATE);
            return;
        }
    }
    tcp_count(t, TCP_C_DROP_NO_SOCKET);
    /* What our predecessor had in its hands may be what ended the connection that we now miss. */
    if (chan_rx_index(&t->rx_ip) >= t->replay_end)
        tcp_output_reset_for(t, s);
}

/* Does it concern a listener besides its connection? That may not have been taken over yet. */
static bool needs_listener(const struct tcp_conn *k, const struct tcp_seg *s)
{
    return (k->r.state == TCP_SYN_RCVD && (k->r.flags & TCPF_PASSIVE)) || reopens(k, s);
}

bool tcp_input(struct tcp *t, const struct packet *p)
{
    struct tcp_seg s;
    if (p->icmp_type)
        return tcp_icmp(t, p);
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
    if (k != NULL && !t->walked && needs_listener(k, &s))
        return false;
    if (k != NULL && reopens(k, &s) && tcp_rx_verify(&s) &&
        tcp_port_listener(t, &s.local, &s.remote) != NULL) {
        /* Its successor's sequence numbers begin behind all that it used (RFC 9293 3.6.1). */
        t->reopening = true;
        t->iss_floor = conn_seq(k, k->snd_max) + 65536;
        tcp_conn_end(t, k, 0);
        k = NULL;
    }
    if (k != NULL) {
        tcp_input_segment(t, k, &s);
        return true;
    }
#ifndef EFT_BREAK_ANSWER_MISS /* negative control */
    if (!t->walked)
        return false; /* never answered while records may not have been seen */
#endif
    if (tcp_rx_verify(&s))
        stranger(t, &s);
    else
        tcp_count(t, TCP_C_DROP_CHECKSUM);
    return true;
}
