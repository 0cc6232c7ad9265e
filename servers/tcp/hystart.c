/* SPDX-License-Identifier: BSD-2-Clause
 *
 * HyStart++ (RFC 9406): slow start ends when the round-trip time rises, before the queue overflows
 * and half a window is lost. A rise begins conservative slow start, a quarter as fast; when it was
 * none, the RTT falls back and slow start goes on; after five rounds congestion avoidance begins.
 * For the first slow start only (4.3): later ones know their threshold.
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
    if (h->samples < RTT_SAMPLES)
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
        if (h->least >= h->least_before + rise) {
            h->baseline = h->least;
            h->rounds = 0;
        }
    } else if (h->samples >= RTT_SAMPLES && h->baseline != NEVER && h->least < h->baseline) {
        h->baseline = NEVER; /* it was jitter */
    }
    return h->baseline == NEVER ? bytes : bytes / CSS_GROWTH_DIVISOR;
}
