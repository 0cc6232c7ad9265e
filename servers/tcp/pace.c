/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Pacing: data of a connection, new or sent again, leaves no faster than tcp_cc_pacing_rate(), so
 * that a window that opens at once does not overflow a queue on the path.
 *
 * `pace_at` is when the next packet may leave; each one moves it on by its bytes over the rate. It
 * stays behind the clock by a millisecond's bytes or two segments at most: this is the burst after
 * a pause, and what makes up for a timer that was late. When something could leave but for the
 * rate, TIMER_PACE is set, a millisecond ahead at least: wakeups do not grow with the rate, what
 * leaves at one does. A super-segment is no longer than a millisecond's bytes, or two segments.
 *
 * Unpaced is: all when `[tcp] pacing` is off; a path with a least RTT below one millisecond (the
 * machine itself, its neighbours: bursts are over before a timer could spread them); the first
 * initial window of a connection, as Linux; all without data (ACK, FIN, SYN, window probe); and
 * what asks for an answer when the clock of ACKs has stopped: the tail loss probe, the first
 * retransmission after a timeout. Those with data count towards the rate of what follows.
 *
 * All of it is private. A successor has no sample of the RTT: it starts unpaced, with the initial
 * window.
 */
#include "engine.h"

#define QUANTUM MSEC

/* Bytes per second; 0: not paced. */
static uint64_t pace_rate(const struct tcp *t, const struct tcp_conn *k)
{
    if (!t->cfg->tcp_pacing || k->min_rtt < MSEC ||
        k->stat.data_segs_out < t->cfg->tcp_initial_window)
        return 0;
    return tcp_cc_pacing_rate(t, k);
}

bool tcp_pace_may(struct tcp *t, struct tcp_conn *k)
{
    if (k->pace_at <= t->now || pace_rate(t, k) == 0)
        return true;
    uint64_t at = t->now + QUANTUM, set = k->when[TIMER_PACE];
    if (at < k->pace_at)
        at = k->pace_at;
    if (set < k->pace_at || set > at) /* ACKs do not put it off */
        tcp_timer_set(t, k, TIMER_PACE, at);
    return false;
}

uint64_t tcp_pace_most(const struct tcp *t, const struct tcp_conn *k)
{
    uint64_t rate = pace_rate(t, k), most = rate / (SEC / QUANTUM);
    if (rate == 0)
        return k->gso;
    most -= most % k->mss;
    if (most < 2ull * k->mss)
        most = 2ull * k->mss;
    return most < k->gso ? most : k->gso;
}

void tcp_pace_sent(const struct tcp *t, struct tcp_conn *k, uint64_t len)
{
    uint64_t rate = pace_rate(t, k);
    if (rate == 0)
        return;
    uint64_t burst = 2 * k->mss * SEC / rate;
    if (burst < QUANTUM)
        burst = QUANTUM;
    if (k->pace_at + burst < t->now)
        k->pace_at = t->now - burst;
    k->pace_at += len * SEC / rate;
}

void tcp_pace_idle(struct tcp *t, struct tcp_conn *k)
{
    if (k->when[TIMER_PACE] != NEVER)
        tcp_timer_set(t, k, TIMER_PACE, NEVER);
}
