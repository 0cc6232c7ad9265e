/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Timers: each connection stands in the wheel (wheel.h) at its earliest deadline or before. Putting
 * a deadline off costs nothing: the entry is then too early, and is filed anew when it comes up.
 * The last deadline that is stopped takes it out, so that an idle stack sleeps. A restart arms them
 * anew from the records.
 */
#include "engine.h"

#include <errno.h>

static uint64_t earliest(const struct tcp_conn *k)
{
    uint64_t at = NEVER;
    for (unsigned i = 0; i < TIMERS; i++)
        if (k->when[i] < at)
            at = k->when[i];
    return at;
}

void tcp_timer_set(struct tcp *t, struct tcp_conn *k, enum tcp_timer timer, uint64_t when)
{
    k->when[timer] = when;
    if (when < wheel_at(&t->wheel, k->idx))
        wheel_put(&t->wheel, k->idx, when);
    else if (when == NEVER && earliest(k) == NEVER)
        wheel_take(&t->wheel, k->idx);
}

void tcp_timer_stop_all(struct tcp *t, struct tcp_conn *k)
{
    for (unsigned i = 0; i < TIMERS; i++)
        k->when[i] = NEVER;
    wheel_take(&t->wheel, k->idx);
}

uint64_t tcp_timer_next(const struct tcp *t)
{
    return wheel_next(&t->wheel);
}

/* --- what to wait for --- */

/* Something is under way: the retransmission timer. Nothing is, but there is data that the window
 * keeps back: the persist timer (RFC 9293 3.8.6.1). Called when either may have changed; restarts
 * the timer (RFC 6298 5.3). */
void tcp_timer_rexmt_arm(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD || k->snd_max > k->tx_una) {
        uint64_t probe = 4 * k->srtt > 40 * MSEC ? 4 * k->srtt : 40 * MSEC;
        k->rexmt = REXMT_DATA;
        /* More than one segment, so that no delayed ACK is waited for: a tail loss probe. */
        if (conn_synchronised(k) && (k->r.flags & TCPF_SACK) && k->srtt && !k->backoff &&
            !k->recovering && !k->lost_state && !k->tail_probed &&
            k->snd_nxt - k->tx_una > 2ull * k->mss && probe < k->rto) {
            k->rexmt = REXMT_PROBE;
            tcp_timer_set(t, k, TIMER_REXMT, t->now + probe);
            return;
        }
        tcp_timer_set(t, k, TIMER_REXMT, t->now + tcp_rtt_timeout(t, k));
    } else if (conn_synchronised(k) && k->r.state != TCP_TIME_WAIT && k->tx_end > k->snd_nxt) {
        if (k->rexmt != REXMT_PERSIST || k->when[TIMER_REXMT] == NEVER) {
            k->rexmt = REXMT_PERSIST;
            tcp_timer_set(t, k, TIMER_REXMT, t->now + tcp_rtt_timeout(t, k));
        }
    } else {
        k->rexmt = REXMT_NONE;
        tcp_timer_set(t, k, TIMER_REXMT, NEVER);
    }
}

void tcp_timer_keep_arm(struct tcp *t, struct tcp_conn *k)
{
    if (!(k->r.flags & TCPF_KEEPALIVE) || !conn_synchronised(k) || k->r.state == TCP_TIME_WAIT) {
        tcp_timer_set(t, k, TIMER_KEEP, NEVER);
        return;
    }
    uint64_t idle = k->r.keepidle ? k->r.keepidle : t->cfg->tcp_keepalive_s;
    tcp_timer_set(t, k, TIMER_KEEP, k->last_heard + (idle ? idle : 7200) * SEC);
}

/* --- what happens --- */

static unsigned retries(const struct tcp *t, const struct tcp_conn *k)
{
    if (k->r.state == TCP_SYN_RCVD && (k->r.flags & TCPF_PASSIVE))
        return t->cfg->tcp_synack_retries;
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD)
        return t->cfg->tcp_syn_retries;
    if (k->r.flags & TCPF_CLOSED_BY_APP)
        return t->cfg->tcp_orphan_retries;
    return t->cfg->tcp_retries ? t->cfg->tcp_retries : 15;
}

static bool given_up(const struct tcp *t, const struct tcp_conn *k)
{
    if (k->r.user_timeout && conn_synchronised(k))
        return t->now - k->progress_at >= k->r.user_timeout * MSEC;
    /* The window was taken back over what is under way: as with a window that was always shut. */
    if (conn_synchronised(k) && k->snd_wnd == 0 && !(k->r.flags & TCPF_CLOSED_BY_APP) &&
        t->now - k->last_heard <= TCP_RTO_MAX_S * 2 * SEC)
        return false;
    return k->tries > retries(t, k);
}

static void expire_rexmt(struct tcp *t, struct tcp_conn *k)
{
    if (k->deferred && tcp_listen_deferred(t, k)) {
        /* The peer has our SYN-ACK; it is data that we wait for. */
        tcp_timer_set(t, k, TIMER_REXMT, k->progress_at + k->r.defer_accept * SEC);
        return;
    }
    if (k->rexmt == REXMT_PERSIST && k->snd_wnd != 0) {
        /* The window is open and something was kept back for a fuller segment: long enough. */
        k->push_now = true;
        k->rexmt = REXMT_NONE;
        tcp_conn_dirty(t, k);
        return;
    }
    if (k->rexmt == REXMT_PERSIST) {
        /* Never give up while the peer answers (RFC 9293 3.8.6.1); an orphan's peer may not hold
         * us for ever, and a user timeout says how long. */
        if ((k->r.user_timeout && t->now - k->progress_at >= k->r.user_timeout * MSEC) ||
            ((k->r.flags & TCPF_CLOSED_BY_APP) && k->tries > retries(t, k)) ||
            (k->tries > retries(t, k) && t->now - k->last_heard > TCP_RTO_MAX_S * 2 * SEC)) {
            tcp_conn_abort(t, k, ETIMEDOUT);
            return;
        }
        k->tries++;
        k->backoff++;
        tcp_count(t, TCP_C_PROBES);
        tcp_output_probe(t, k);
        k->when[TIMER_REXMT] = NEVER;
        tcp_timer_rexmt_arm(t, k);
        return;
    }
    if (k->rexmt == REXMT_PROBE) {
        /* Tail loss probe (RFC 8985 7): the last segment again; its ACK tells what is missing. */
        k->tail_probed = true;
        tcp_output_tail(t, k);
        tcp_timer_rexmt_arm(t, k);
        return;
    }
    k->tries++;
    if (given_up(t, k)) {
        if (k->r.state == TCP_SYN_RCVD && (k->r.flags & TCPF_PASSIVE))
            tcp_conn_end(t, k, 0);
        else
            tcp_conn_end(t, k, ETIMEDOUT);
        return;
    }
    tcp_count(t, TCP_C_TIMEOUTS);
    k->stat.timeouts++;
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD) {
        k->syn_now = true;
    } else {
        tcp_pmtu_timeout(t, k);
        tcp_cc_timeout(t, k, k->snd_nxt - k->tx_una);
        tcp_ack_clear_board(k); /* the peer may have reneged (RFC 2018 8) */
        k->recovering = false;
        k->lost_state = true;
        k->recover = k->snd_max;
        k->snd_nxt = k->tx_una;
    }
    /* RFC 9293 3.8.6.1: a peer that took its window back, or whose old segment came last, is asked
     * for it: nothing else is sent into a window of zero, and it need not speak first. */
    if (conn_synchronised(k) && k->snd_wnd == 0)
        tcp_output_probe(t, k);
    k->rtt_start = 0; /* Karn */
    k->backoff++;
    tcp_timer_rexmt_arm(t, k);
    tcp_conn_dirty(t, k);
}

/* Nothing heard for a while, and nothing under way that would be answered: a probe, and another one
 * each interval (RFC 9293 3.8.4). As Linux: so many without an answer end the connection, or the
 * user timeout does, whichever is set. */
static void expire_keep(struct tcp *t, struct tcp_conn *k)
{
    uint64_t idle = (k->r.keepidle ? k->r.keepidle : t->cfg->tcp_keepalive_s) * SEC;
    uint64_t interval = (k->r.keepintvl ? k->r.keepintvl : t->cfg->tcp_keepintvl_s) * SEC;
    unsigned most = k->r.keepcnt ? k->r.keepcnt : t->cfg->tcp_keepcnt;
    uint64_t heard = t->now - k->last_heard;
    if (heard < idle) {
        k->keep_probes = 0;
        tcp_timer_set(t, k, TIMER_KEEP, k->last_heard + idle);
        return;
    }
    if (k->snd_max > k->tx_una || k->tx_end > k->snd_nxt) {
        /* The retransmission or the persist timer watches. */
        tcp_timer_set(t, k, TIMER_KEEP, t->now + idle);
        return;
    }
    if (k->r.user_timeout ? k->keep_probes && heard >= k->r.user_timeout * MSEC
                          : k->keep_probes >= most) {
        tcp_conn_abort(t, k, ETIMEDOUT);
        return;
    }
    k->keep_probes++;
    tcp_count(t, TCP_C_KEEPALIVES);
    tcp_output_probe(t, k);
    tcp_timer_set(t, k, TIMER_KEEP, t->now + interval);
}

static void expire_life(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.state == TCP_TIME_WAIT || (k->r.flags & TCPF_CLOSED_BY_APP))
        tcp_conn_end(t, k, 0);
}

static void expire(struct tcp *t, struct tcp_conn *k, enum tcp_timer timer)
{
    k->when[timer] = NEVER;
    switch (timer) {
    case TIMER_REXMT:
        expire_rexmt(t, k);
        break;
    case TIMER_DELACK:
        k->ack_now = true;
        tcp_conn_dirty(t, k);
        break;
    case TIMER_KEEP:
        expire_keep(t, k);
        break;
    default:
        expire_life(t, k);
    }
}

void tcp_timer_run(struct tcp *t, unsigned quota)
{
    unsigned moves = 8 * quota; /* of entries to finer slots: a tenth of the work of an expiry */
    uint32_t idx;
    while (quota-- && (idx = wheel_pop(&t->wheel, t->now, &moves)) != WHEEL_NONE) {
        struct tcp_conn *k = &t->conn[idx];
        unsigned due = 0;
        for (unsigned i = 1; i < TIMERS; i++)
            if (k->when[i] < k->when[due])
                due = i;
        if (k->when[due] <= t->now)
            expire(t, k, due);
        const uint64_t at = earliest(k);
        if (at != NEVER && wheel_at(&t->wheel, idx) > at)
            wheel_put(&t->wheel, idx, at);
    }
}
