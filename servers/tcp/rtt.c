/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The round-trip time and the retransmission timeout (RFC 6298), from any number of samples per
 * round trip (RFC 7323 appendix G). Private: a restart loses it, and the timeout is the initial one
 * until the first sample.
 */
#include "engine.h"

void tcp_rtt_init(struct tcp *t, struct tcp_conn *k)
{
    k->srtt = k->rttvar = 0;
    k->min_rtt = k->min_rtt_before = 0;
    k->min_rtt_at = t->now;
    k->rtt_round = k->rtt_samples = k->rtt_weight = 0;
    k->rto = t->cfg->tcp_rto_initial_ms * MSEC; /* RFC 6298 2.1 */
    k->backoff = k->tries = 0;
}

/* The least of this half of the span and the one before: two words instead of all samples. A path
 * that became longer is believed after the span. */
static void least(struct tcp *t, struct tcp_conn *k, uint64_t rtt)
{
    if (t->now - k->min_rtt_at >= t->cfg->tcp_min_rtt_s * SEC / 2) {
        k->min_rtt_before = k->min_rtt_now;
        k->min_rtt_now = rtt;
        k->min_rtt_at = t->now;
    } else if (k->min_rtt == 0) {
        k->min_rtt_before = k->min_rtt_now = rtt;
    } else if (rtt < k->min_rtt_now) {
        k->min_rtt_now = rtt;
    }
    k->min_rtt = k->min_rtt_now < k->min_rtt_before ? k->min_rtt_now : k->min_rtt_before;
}

/* RFC 7323 appendix G divides the gains of RFC 6298 by the number of samples that are expected per
 * round trip, so that the memory stays as long as with one. How many there were in the last one
 * says it for any sender of samples. */
static uint64_t weight(struct tcp_conn *k)
{
    if (k->tx_una >= k->rtt_round) {
        k->rtt_round = k->snd_max;
        k->rtt_weight = k->rtt_samples;
        k->rtt_samples = 0;
    }
    k->rtt_samples++;
    return k->rtt_weight ? k->rtt_weight : 1;
}

void tcp_rtt_sample(struct tcp *t, struct tcp_conn *k, uint64_t rtt)
{
    uint64_t min = t->cfg->tcp_rto_min_ms * MSEC, max = t->cfg->tcp_rto_max_ms * MSEC;
    if (rtt == 0)
        rtt = 1000;
    least(t, k, rtt);
    tcp_hystart_sample(&k->cc.hystart, rtt);
    uint64_t n = weight(k);
    if (k->srtt == 0) {
        k->srtt = rtt;
        k->rttvar = rtt / 2;
    } else {
        int64_t err = (int64_t)(rtt - k->srtt), off = err < 0 ? -err : err;
        k->rttvar = (uint64_t)((int64_t)k->rttvar + (off - (int64_t)k->rttvar) / (int64_t)(4 * n));
        k->srtt = (uint64_t)((int64_t)k->srtt + err / (int64_t)(8 * n));
        if (k->srtt == 0)
            k->srtt = 1000;
    }
    /* The least applies to the variance term, as Linux: a long path keeps its margin. */
    uint64_t var = 4 * k->rttvar;
    k->rto = k->srtt + (var > min ? var : min);
    if (k->rto > max)
        k->rto = max;
}

uint64_t tcp_rtt_timeout(const struct tcp *t, const struct tcp_conn *k)
{
    uint64_t d = k->rto, max = t->cfg->tcp_rto_max_ms * MSEC;
    for (unsigned i = 0; i < k->backoff && d < max; i++)
        d *= 2;
    return d < max ? d : max;
}
