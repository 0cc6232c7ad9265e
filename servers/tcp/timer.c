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
    if (k->snd_max > k->tx_una || k->tx_end > k->snd_max) {
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
        tcp_timer_rexmt_expire(t, k);
        break;
    case TIMER_LOSS:
        tcp_rack_expire(t, k);
        break;
    case TIMER_DELACK:
        k->ack_now = true;
        tcp_conn_dirty(t, k);
        break;
    case TIMER_KEEP:
        expire_keep(t, k);
        break;
    case TIMER_PACE:
        tcp_conn_dirty(t, k);
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
        tcp_conn_begin(t, k);
        if (k->when[due] <= t->now)
            expire(t, k, due);
        const uint64_t at = earliest(k);
        if (at != NEVER && wheel_at(&t->wheel, idx) > at)
            wheel_put(&t->wheel, idx, at);
    }
    item_end(t->c->block);
}
