/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What all congestion-control algorithms share: see cc.h.
 */
#include "engine.h"

#include <errno.h>

#define UNPROVEN_AFTER (300 * SEC)

static const struct tcp_cc_ops *const algorithms[TCP_CC_ALGORITHMS] = {
    [TCP_CC_NEWRENO] = &tcp_cc_newreno,
    [TCP_CC_CUBIC] = &tcp_cc_cubic,
};

static const struct tcp_cc_ops *ops(const struct tcp_conn *k)
{
    return algorithms[k->r.congestion < TCP_CC_ALGORITHMS ? k->r.congestion : TCP_CC_CUBIC];
}

const char *tcp_cc_name(uint8_t algorithm)
{
    return algorithm < TCP_CC_ALGORITHMS ? algorithms[algorithm]->name : NULL;
}

uint64_t tcp_cc_initial(const struct tcp *t, const struct tcp_conn *k)
{
    return (uint64_t)t->cfg->tcp_initial_window * k->mss; /* RFC 6928 */
}

void tcp_cc_init(struct tcp *t, struct tcp_conn *k)
{
    k->cc = (struct tcp_cc){.event = TCP_CC_NONE};
    tcp_hystart_init(&k->cc.hystart);
    k->cc.round_end = k->snd_max;
    /* A SYN lost once may be chance (RFC 6928 2 leaves it open; Linux forgives one). */
    k->cwnd = k->tries > 1 ? k->mss : tcp_cc_initial(t, k);
    k->ssthresh = TCP_CC_NO_THRESHOLD;
    k->idle_since = t->now;
}

int tcp_cc_select(struct tcp_conn *k, uint64_t algorithm)
{
    if (algorithm >= TCP_CC_ALGORITHMS)
        return -ENOENT;
    if (k->r.congestion != algorithm) {
        k->r.congestion = (uint8_t)algorithm;
        memset(&k->cc.state, 0, sizeof k->cc.state);
        k->cc.before.cwnd = 0;
    }
    return 0;
}

/* --- growing --- */

static void new_round(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_cc *c = &k->cc;
    if (c->round_at && t->now > c->round_at)
        c->rate = (k->tx_una - c->round_una) * SEC / (t->now - c->round_at);
    c->round_at = t->now;
    c->round_una = k->tx_una;
    c->round_end = k->snd_max;
    c->used_before = c->used;
    c->used = 0;
    tcp_hystart_round(k);
}

/* RFC 7661 4.4.3: a window that nobody could prove for five minutes. */
static void unproven(struct tcp *t, struct tcp_conn *k)
{
    uint64_t least = tcp_cc_initial(t, k), known = k->cwnd / 4 * 3;
    if (k->cwnd <= least)
        return;
    if (k->ssthresh < known)
        k->ssthresh = known;
    k->cwnd = k->cwnd / 2 > least ? k->cwnd / 2 : least;
}

/* RFC 7661: a window that was not used is no proof that it may grow. In slow start half of it is
 * enough, as in its "validated phase" and in Linux: the other half was opened by these very ACKs.
 */
static bool in_use(struct tcp *t, struct tcp_conn *k, uint64_t flight)
{
    struct tcp_cc *c = &k->cc;
    if (k->tx_una >= c->round_end)
        new_round(t, k);
    if (flight > c->used)
        c->used = flight;
    uint64_t used = c->used > c->used_before ? c->used : c->used_before;
    bool yes = k->cwnd < k->ssthresh ? used * 2 >= k->cwnd : used + 2ull * k->mss >= k->cwnd;
    if (!yes && c->paused_at == 0) {
        c->paused_at = t->now;
    } else if (c->paused_at && (yes || t->now - c->paused_at >= UNPROVEN_AFTER)) {
        if (!yes)
            unproven(t, k);
        if (ops(k)->paused)
            ops(k)->paused(k, t->now - c->paused_at);
        c->paused_at = yes ? 0 : t->now;
    }
    return yes;
}

void tcp_cc_acked(struct tcp *t, struct tcp_conn *k, uint64_t bytes, uint64_t flight)
{
    bool used = in_use(t, k, flight);
    /* Until something above it is acknowledged the peer cannot have seen our CWR. */
    if (!used || k->recovering || (k->cc.event == TCP_CC_ECN && k->tx_una <= k->cc.event_end))
        return;
    if (k->cwnd < k->ssthresh) {
        uint64_t room = k->ssthresh - k->cwnd, grow = tcp_hystart_grow(k, bytes);
        k->cwnd += grow < room ? grow : room;
    } else {
        ops(k)->avoid(t, k, bytes);
    }
    if (k->cwnd > TCP_CC_CWND_MAX)
        k->cwnd = TCP_CC_CWND_MAX;
}

/* --- reducing --- */

static void reduce(struct tcp_conn *k, uint64_t flight, enum tcp_cc_event event)
{
    struct tcp_cc *c = &k->cc;
    c->before.state = c->state;
    c->before.cwnd = k->cwnd;
    c->before.ssthresh = k->ssthresh;
    c->event_end = k->snd_max;
    /* What is in flight counts (RFC 5681 3.1), never more than was allowed to be. */
    k->ssthresh = ops(k)->reduce(k, flight < k->cwnd ? flight : k->cwnd, event);
    if (k->ssthresh < 2ull * k->mss)
        k->ssthresh = 2ull * k->mss;
    c->event = event;
    c->paused_at = 0;
    k->ecn.cwr = true; /* RFC 3168 6.1.2: whatever it was */
}

/* What was in flight when the last event came is the same event: one reduction per window. */
static bool same_event(const struct tcp_conn *k)
{
    return k->cc.event != TCP_CC_NONE && k->tx_una < k->cc.event_end;
}

void tcp_cc_enter_recovery(struct tcp *t, struct tcp_conn *k, uint64_t flight)
{
    (void)t;
    if (!same_event(k))
        reduce(k, flight, TCP_CC_LOSS);
    if (k->cwnd > k->ssthresh) /* not after a timeout */
        k->cwnd = k->ssthresh;
}

bool tcp_cc_ecn(struct tcp *t, struct tcp_conn *k, uint64_t flight)
{
    (void)t;
    if (same_event(k))
        return false;
    reduce(k, flight, TCP_CC_ECN);
    if (k->cwnd > k->ssthresh)
        k->cwnd = k->ssthresh;
    return true;
}

void tcp_cc_timeout(struct tcp *t, struct tcp_conn *k, uint64_t flight)
{
    (void)t;
    /* Only the first timeout of a row (RFC 5681 3.1); in fast recovery the window was reduced for
     * these losses. */
    if (k->backoff == 0 && (!same_event(k) || k->cc.event == TCP_CC_TIMEOUT))
        reduce(k, flight, TCP_CC_TIMEOUT);
    k->cwnd = k->mss;
}

/* RFC 9438 4.9. The window may have grown since. */
void tcp_cc_undo(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_cc *c = &k->cc;
    (void)t;
    if (c->before.cwnd == 0)
        return;
    if (k->cwnd < c->before.cwnd)
        k->cwnd = c->before.cwnd;
    if (k->ssthresh < c->before.ssthresh)
        k->ssthresh = c->before.ssthresh;
    c->state = c->before.state;
    c->before.cwnd = 0;
    c->event = TCP_CC_NONE;
    k->ecn.cwr = false;
}

/* RFC 5681 4.1 goes back to the restart window at once; Linux halves the window for each timeout
 * that passed, and keeps what it had learnt as the threshold. */
void tcp_cc_idle(struct tcp *t, struct tcp_conn *k)
{
    uint64_t restart = tcp_cc_initial(t, k), known = k->cwnd / 4 * 3;
    if (!t->cfg->tcp_slow_start_after_idle || k->rto == 0 || t->now - k->idle_since < k->rto)
        return;
    if (k->ssthresh < known)
        k->ssthresh = known;
    uint64_t timeouts = (t->now - k->idle_since) / k->rto;
    k->idle_since += timeouts * k->rto;
    while (timeouts-- && k->cwnd > restart)
        k->cwnd = k->cwnd / 2 > restart ? k->cwnd / 2 : restart;
    k->cc.used = k->cc.used_before = k->cc.paused_at = 0;
    k->cc.round_end = k->snd_max;
    if (ops(k)->restart)
        ops(k)->restart(k);
}

uint64_t tcp_cc_pacing_rate(const struct tcp *t, const struct tcp_conn *k)
{
    if (k->srtt == 0)
        return 0;
    /* Linux's border: not yet at the rate of slow start when that will end soon. */
    uint64_t percent =
        k->cwnd < k->ssthresh / 2 ? t->cfg->tcp_pacing_ss_percent : t->cfg->tcp_pacing_ca_percent;
    uint64_t flight = k->snd_max - k->tx_una, most = k->cwnd > flight ? k->cwnd : flight;
    /* 2^30 bytes * 10 (at most) * 10^9 fits. */
    return most * percent / 100 * SEC / k->srtt;
}
