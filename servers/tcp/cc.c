/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Congestion control behind four events: acknowledged, recovery, timeout, idle. NewReno (RFC 5681,
 * 6582) and CUBIC (RFC 9438). And the round-trip time (RFC 6298). All of it private: after a
 * restart a connection begins as after idle.
 */
#include "engine.h"

enum { CC_NEWRENO = 0, CC_CUBIC = 1 };
static const double CUBIC_C = 0.4, CUBIC_BETA = 0.7;

/* Newton's method; it closes in from above by a third a step, then fast. */
static double cube_root(double v)
{
    if (v <= 0)
        return 0;
    double x = v > 1 ? v / 3 + 1 : 1;
    for (unsigned i = 0; i < 40; i++)
        x = (2 * x + v / (x * x)) / 3;
    return x;
}

uint64_t tcp_cc_initial(const struct tcp *t, const struct tcp_conn *k)
{
    uint64_t n = t->cfg->tcp_initial_window ? t->cfg->tcp_initial_window : 10; /* RFC 6928 */
    return n * k->mss;
}

void tcp_cc_init(struct tcp *t, struct tcp_conn *k)
{
    k->cwnd = tcp_cc_initial(t, k);
    k->ssthresh = UINT32_MAX;
    k->cwnd_acked = 0;
    k->cubic.epoch = 0;
    k->cubic.w_max = 0;
    k->idle_since = t->now;
}

static void cubic_acked(struct tcp *t, struct tcp_conn *k, uint64_t bytes)
{
    double mss = k->mss, cwnd = (double)k->cwnd / mss;
    if (k->cubic.epoch == 0) {
        k->cubic.epoch = t->now;
        k->cubic.w_est = cwnd;
        if (k->cubic.w_max < cwnd)
            k->cubic.w_max = cwnd;
        k->cubic.k = cube_root((k->cubic.w_max - cwnd) / CUBIC_C);
    }
    /* RFC 9438 4.2: the target is where the curve will be one round trip from now. */
    double at = (double)(t->now - k->cubic.epoch + k->srtt) / 1e9 - k->cubic.k;
    double target = CUBIC_C * at * at * at + k->cubic.w_max;
    if (target > 1.5 * cwnd)
        target = 1.5 * cwnd;
    /* 4.3: not slower than Reno would be. */
    double acked = (double)bytes / mss;
    k->cubic.w_est += 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA) * acked / cwnd;
    double next = cwnd;
    if (target > cwnd)
        next += (target - cwnd) / cwnd * acked;
    if (k->cubic.w_est > next)
        next = k->cubic.w_est;
    if (next > 1.5 * cwnd)
        next = 1.5 * cwnd;
    k->cwnd = (uint64_t)(next * mss);
}

void tcp_cc_acked(struct tcp *t, struct tcp_conn *k, uint64_t bytes, bool limited)
{
    /* RFC 7661: a window that was not used is not proof that it may grow. */
    if (!limited || k->recovering)
        return;
    if (k->cwnd < k->ssthresh) {
        k->cwnd += bytes;
        if (k->cwnd > k->ssthresh)
            k->cwnd = k->ssthresh;
    } else if (k->r.congestion == CC_CUBIC) {
        cubic_acked(t, k, bytes);
    } else {
        k->cwnd_acked += bytes;
        if (k->cwnd_acked >= k->cwnd) {
            k->cwnd_acked -= k->cwnd;
            k->cwnd += k->mss;
        }
    }
    if (k->cwnd > 1u << 30)
        k->cwnd = 1u << 30;
}

static void reduce(struct tcp_conn *k, uint64_t flight)
{
    double beta = k->r.congestion == CC_CUBIC ? CUBIC_BETA : 0.5;
    uint64_t from = flight < k->cwnd ? flight : k->cwnd;
    if (k->r.congestion == CC_CUBIC) {
        double w = (double)k->cwnd / k->mss;
        /* Fast convergence, RFC 9438 4.7. */
        k->cubic.w_max = w < k->cubic.w_max ? w * (1 + CUBIC_BETA) / 2 : w;
        k->cubic.epoch = 0;
    }
    k->ssthresh = (uint64_t)((double)from * beta);
    if (k->ssthresh < 2ull * k->mss)
        k->ssthresh = 2ull * k->mss;
    k->cwnd_acked = 0;
}

void tcp_cc_enter_recovery(struct tcp *t, struct tcp_conn *k, uint64_t flight)
{
    (void)t;
    reduce(k, flight);
    k->cwnd = k->ssthresh;
}

void tcp_cc_timeout(struct tcp *t, struct tcp_conn *k, uint64_t flight)
{
    (void)t;
    /* Only the first timeout of a row (RFC 5681 3.1). */
    if (k->backoff == 0)
        reduce(k, flight);
    k->cwnd = k->mss;
}

/* Nothing was sent for longer than the timeout: what the path takes is unknown (RFC 5681 4.1). */
void tcp_cc_idle(struct tcp *t, struct tcp_conn *k)
{
    uint64_t restart = tcp_cc_initial(t, k);
    if (k->cwnd > restart)
        k->cwnd = restart;
    k->cubic.epoch = 0;
}

/* --- RTT --- */

void tcp_rtt_init(struct tcp *t, struct tcp_conn *k)
{
    (void)t;
    k->srtt = 0;
    k->rto = SEC; /* RFC 6298 2.1 */
    k->backoff = k->tries = 0;
}

void tcp_rtt_sample(struct tcp *t, struct tcp_conn *k, uint64_t rtt)
{
    uint64_t least = (t->cfg->tcp_rto_min_ms ? t->cfg->tcp_rto_min_ms : 200) * MSEC;
    if (rtt == 0)
        rtt = 1000;
    if (k->srtt == 0) {
        k->srtt = rtt;
        k->rttvar = rtt / 2;
    } else {
        uint64_t err = rtt > k->srtt ? rtt - k->srtt : k->srtt - rtt;
        k->rttvar += err / 4;
        k->rttvar -= k->rttvar / 4;
        k->srtt += rtt / 8;
        k->srtt -= k->srtt / 8;
        if (k->srtt == 0)
            k->srtt = 1000;
    }
    /* The least applies to the variance term, as Linux: a long path keeps its margin. */
    uint64_t var = 4 * k->rttvar;
    k->rto = k->srtt + (var > least ? var : least);
    if (k->rto > TCP_RTO_MAX_S * SEC)
        k->rto = TCP_RTO_MAX_S * SEC;
}
