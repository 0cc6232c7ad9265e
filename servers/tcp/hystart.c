/* SPDX-License-Identifier: BSD-2-Clause
 *
 * HyStart++ (RFC 9406): slow start ends when the round-trip time rises, before the queue overflows
 * and half a window is lost. A rise begins conservative slow start, a quarter as fast; when it was
 * none, the RTT falls back and slow start goes on; after five rounds congestion avoidance begins.
 * For the first slow start only (4.3): later ones know their threshold.
 *
 * One difference: the RFC compares the least RTT of the whole round, to which its first segments
 * contribute, which met no queue. The rise then shows one round late, when the window has doubled
 * once more. Here the least of the last eight samples is compared. A queue that is only this
 * round's burst is gone with the next round, and slow start goes on, as after jitter.
 */
#include "engine.h"

enum { RTT_SAMPLES = 8, CSS_GROWTH_DIVISOR = 4, CSS_ROUNDS = 5 };
#define RTT_RISE_MIN (4 * MSEC)
#define RTT_RISE_MAX (16 * MSEC)

void tcp_hystart_init(struct tcp_hystart *h)
{
    *h = (struct tcp_hystart){.least = NEVER, .least_before = NEVER, .baseline = NEVER};
}

void tcp_hystart_sample(struct tcp_hystart *h, uint64_t rtt)
{
    if (rtt < h->least)
        h->least = rtt;
    if (h->samples == RTT_SAMPLES)
        h->samples = 0;
    if (h->samples == 0 || rtt < h->recent)
        h->recent = rtt;
    h->samples++;
}

void tcp_hystart_round(struct tcp_conn *k)
{
    struct tcp_hystart *h = &k->cc.hystart;
    if (h->baseline != NEVER && k->ssthresh == TCP_CC_NO_THRESHOLD && ++h->rounds >= CSS_ROUNDS)
        k->ssthresh = k->cwnd;
    h->least_before = h->least;
    h->least = NEVER;
    h->samples = 0;
}

uint64_t tcp_hystart_grow(struct tcp_conn *k, uint64_t bytes)
{
    struct tcp_hystart *h = &k->cc.hystart;
    if (k->ssthresh != TCP_CC_NO_THRESHOLD)
        return bytes;
    if (h->samples >= RTT_SAMPLES && h->baseline == NEVER && h->least_before != NEVER) {
        uint64_t rise = h->least_before / 8;
        rise = rise < RTT_RISE_MIN ? RTT_RISE_MIN : rise > RTT_RISE_MAX ? RTT_RISE_MAX : rise;
        if (h->recent >= h->least_before + rise) {
            h->baseline = h->recent;
            h->rounds = 0;
        }
    } else if (h->samples >= RTT_SAMPLES && h->baseline != NEVER && h->recent < h->baseline) {
        h->baseline = NEVER; /* it was jitter */
    }
    return h->baseline == NEVER ? bytes : bytes / CSS_GROWTH_DIVISOR;
}
