/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The retransmission timer (RFC 6298) and the persist timer (RFC 9293 3.8.6.1). A duplicate ACK
 * never restarts the first; new data acknowledged clears its backoff.
 */
#include "engine.h"

#include <errno.h>

enum { CORK_MS = 200 }; /* what is kept back for a fuller segment leaves after it (tcp(7)) */

/* Something is under way: the retransmission timer. Nothing is, but there is data that the window
 * keeps back: the persist timer. Called when either may have changed; restarts the timer
 * (RFC 6298 5.3). */
void tcp_timer_rexmt_arm(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD || k->snd_max > k->tx_una) {
        k->rexmt = REXMT_DATA;
        tcp_timer_set(t, k, TIMER_REXMT, t->now + tcp_rtt_timeout(t, k));
    } else if (conn_synchronised(k) && k->r.state != TCP_TIME_WAIT && k->tx_end > k->snd_max) {
        if (k->rexmt != REXMT_PERSIST || k->when[TIMER_REXMT] == NEVER) {
            k->rexmt = REXMT_PERSIST;
            tcp_timer_set(t, k, TIMER_REXMT,
                          t->now + (k->snd_wnd ? CORK_MS * MSEC : tcp_rtt_timeout(t, k)));
        }
    } else {
        k->rexmt = REXMT_NONE;
        tcp_timer_set(t, k, TIMER_REXMT, NEVER);
    }
}

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

/* Nothing came for so long that even the least frequent probe should have been answered. */
static bool silent(const struct tcp *t, const struct tcp_conn *k)
{
    return t->now - k->last_heard > 2 * t->cfg->tcp_rto_max_ms * MSEC;
}

static bool given_up(const struct tcp *t, const struct tcp_conn *k)
{
    if (k->r.user_timeout && conn_synchronised(k))
        return t->now - k->progress_at >= k->r.user_timeout * MSEC;
    /* The window was taken back over what is under way: as with a window that was always shut. */
    if (conn_synchronised(k) && k->snd_wnd == 0 && !(k->r.flags & TCPF_CLOSED_BY_APP) &&
        !silent(t, k))
        return false;
    return k->tries > retries(t, k);
}

static void persist(struct tcp *t, struct tcp_conn *k)
{
    if (k->snd_wnd != 0) {
        /* The window is open and something was kept back for a fuller segment: long enough. */
        k->push_now = true;
        k->rexmt = REXMT_NONE;
        tcp_conn_dirty(t, k);
        return;
    }
    /* Never give up while the peer answers (RFC 9293 3.8.6.1); an orphan's peer may not hold us for
     * ever, and a user timeout says how long. */
    if ((k->r.user_timeout && t->now - k->progress_at >= k->r.user_timeout * MSEC) ||
        ((k->r.flags & TCPF_CLOSED_BY_APP) && k->tries > retries(t, k)) ||
        (k->tries > retries(t, k) && silent(t, k))) {
        tcp_conn_abort(t, k, ETIMEDOUT);
        return;
    }
    k->tries++;
    k->backoff++;
    tcp_count(t, TCP_C_PROBES);
    tcp_output_probe(t, k);
    tcp_timer_rexmt_arm(t, k);
}

void tcp_timer_rexmt_expire(struct tcp *t, struct tcp_conn *k)
{
    if (k->deferred && tcp_listen_deferred(t, k)) {
        /* The peer has our SYN-ACK; it is data that we wait for. */
        tcp_timer_set(t, k, TIMER_REXMT, k->progress_at + k->r.defer_accept * SEC);
        return;
    }
    if (k->rexmt == REXMT_PERSIST) {
        persist(t, k);
        return;
    }
    /* The probe was due before, or at the same time: it goes in the place of the timeout. */
    if (k->when[TIMER_LOSS] <= t->now && !k->rack.timer && tcp_rack_probe(t, k)) {
        tcp_rack_arm(t, k);
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
    tcp_info_timeout(t, k);
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD) {
        tcp_ecn_syn_timeout(t, k);
        k->syn_now = true;
    } else {
        tcp_pmtu_timeout(t, k);
        tcp_loss_timeout(t, k);
    }
    /* RFC 9293 3.8.6.1: a peer that took its window back, or whose old segment came last, is asked
     * for it: nothing else is sent into a window of zero, and it need not speak first. */
    if (conn_synchronised(k) && k->snd_wnd == 0)
        tcp_output_probe(t, k);
    k->rtt_start = 0; /* Karn */
    k->backoff++;
    tcp_timer_rexmt_arm(t, k);
    tcp_rack_arm(t, k);
    tcp_conn_dirty(t, k);
}
