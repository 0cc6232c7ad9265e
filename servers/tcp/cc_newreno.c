/* SPDX-License-Identifier: BSD-2-Clause
 *
 * NewReno: the window grows by a segment per round trip and is halved by a loss (RFC 5681 3.1).
 * Growth counts bytes, not ACKs (RFC 3465 2.1): one ACK may cover forty segments.
 */
#include "engine.h"

static uint64_t newreno_reduce(struct tcp_conn *k, uint64_t flight, enum tcp_cc_event event)
{
    (void)event;
    k->cc.state.newreno.acked = 0;
    return flight / 2;
}

static void newreno_avoid(struct tcp *t, struct tcp_conn *k, uint64_t bytes)
{
    (void)t;
    uint64_t *acked = &k->cc.state.newreno.acked;
    *acked += bytes;
    if (*acked >= k->cwnd) {
        *acked -= k->cwnd;
        k->cwnd += k->mss;
        if (*acked > k->cwnd)
            *acked = k->cwnd; /* at most a segment per round trip, whatever was left over */
    }
}

const struct tcp_cc_ops tcp_cc_newreno = {
    .name = "reno",
    .reduce = newreno_reduce,
    .avoid = newreno_avoid,
};
