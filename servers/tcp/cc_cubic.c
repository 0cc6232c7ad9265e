/* SPDX-License-Identifier: BSD-2-Clause
 *
 * CUBIC (RFC 9438): after a loss the window grows fast, slowly around the size at which the loss
 * happened, and fast again, as a function of time and not of round trips. Where Reno would be
 * faster, it is Reno.
 *
 *     W_cubic(t) = C (t - K)^3 + W_max        K = cbrt((W_max - cwnd at t = 0) / C)
 *
 * Windows are in bytes here; C is in segments per s^3, hence the factor mss. Floating point: no
 * window up to 1 GiB and no time up to years overflows or loses a byte.
 */
#include "engine.h"

static const double C = 0.4, BETA = 0.7;

/* Newton's method; it closes in from above by a third a step, then fast. */
static double cube_root(double v)
{
    if (v <= 0)
        return 0;
    double x = v > 1 ? v / 3 + 1 : 1;
    for (unsigned i = 0; i < 64; i++) {
        double next = (2 * x + v / (x * x)) / 3;
        if (next >= x)
            break;
        x = next;
    }
    return x;
}

static uint64_t cubic_reduce(struct tcp_conn *k, uint64_t flight, enum tcp_cc_event event)
{
    double cwnd = (double)k->cwnd;
    k->cc.state.cubic.prior = cwnd;
    k->cc.state.cubic.epoch = 0;
    /* Fast convergence (RFC 9438 4.7): lost below the last plateau, somebody else needs room. */
    if (cwnd < k->cc.state.cubic.w_max)
        k->cc.state.cubic.w_max = cwnd * (1 + BETA) / 2;
    else
        k->cc.state.cubic.w_max = cwnd;
    /* 4.8: the stage after a timeout begins at its own plateau. */
    if (event == TCP_CC_TIMEOUT)
        k->cc.state.cubic.w_max = 0;
    return (uint64_t)((double)flight * BETA);
}

static void begin(struct tcp *t, struct tcp_conn *k, double cwnd)
{
    k->cc.state.cubic.epoch = t->now;
    k->cc.state.cubic.w_est = cwnd;
    /* 4.8, 4.10: after a timeout, or slow start that ended without a loss. */
    if (k->cc.state.cubic.w_max < cwnd)
        k->cc.state.cubic.w_max = cwnd;
    if (k->cc.state.cubic.prior == 0)
        k->cc.state.cubic.prior = cwnd;
    k->cc.state.cubic.k = cube_root((k->cc.state.cubic.w_max - cwnd) / (C * k->mss));
}

static void cubic_avoid(struct tcp *t, struct tcp_conn *k, uint64_t bytes)
{
    double mss = k->mss, cwnd = (double)k->cwnd, acked = (double)bytes;
    if (k->cc.state.cubic.epoch == 0)
        begin(t, k, cwnd);
    /* What is below a byte is remembered, or a large window would never grow. */
    if (cwnd <= k->cc.state.cubic.last && k->cc.state.cubic.last < cwnd + 1)
        cwnd = k->cc.state.cubic.last;

    /* 4.2: where the curve will be one round trip from now. */
    double at = (double)(t->now - k->cc.state.cubic.epoch + k->srtt) / 1e9 - k->cc.state.cubic.k;
    double target = C * mss * at * at * at + k->cc.state.cubic.w_max;
    if (target < cwnd)
        target = cwnd;
    if (target > 1.5 * cwnd)
        target = 1.5 * cwnd;
    /* 4.3: not slower than Reno, which makes up for the smaller reduction by a smaller step until
     * it is back where it was. */
    double alpha =
        k->cc.state.cubic.w_est >= k->cc.state.cubic.prior ? 1 : 3 * (1 - BETA) / (1 + BETA);
    k->cc.state.cubic.w_est += alpha * mss * acked / cwnd;
    /* 4.4, 4.5 */
    double next = cwnd + (target - cwnd) * acked / cwnd;
    if (next > target)
        next = target;
    if (next < k->cc.state.cubic.w_est)
        next = k->cc.state.cubic.w_est;
    if (next > 1.5 * cwnd)
        next = 1.5 * cwnd;
    k->cc.state.cubic.last = next;
    k->cwnd = (uint64_t)next;
}

/* 4.2, 5.8: the curve does not go on while nothing fills the window. */
static void cubic_paused(struct tcp_conn *k, uint64_t ns)
{
    if (k->cc.state.cubic.epoch)
        k->cc.state.cubic.epoch += ns;
}

static void cubic_restart(struct tcp_conn *k)
{
    k->cc.state.cubic.epoch = 0;
}

const struct tcp_cc_ops tcp_cc_cubic = {
    .name = "cubic",
    .reduce = cubic_reduce,
    .avoid = cubic_avoid,
    .paused = cubic_paused,
    .restart = cubic_restart,
};
