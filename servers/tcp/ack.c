/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Acknowledgements: which are acceptable, the send window, what they set free, the round-trip time
 * (RFC 6298, 7323 4). What they say about losses is in loss.h.
 */
#include "engine.h"

/* Kept for a successor: one that had to ask for it would send a single segment, and the peer may
 * take its time to acknowledge that, or say it once and never again that its window opened. Stored
 * before tx_una moves, so that the sum of the two never lies beyond what the peer said. */
void tcp_ack_set_window(struct tcp *t, struct tcp_conn *k, uint64_t wnd)
{
    k->snd_wnd = wnd;
    if (t->shm[k->idx].snd_wnd != (uint32_t)wnd)
        shm_keep(&t->shm[k->idx].snd_wnd, (uint32_t)wnd);
}

/* The window, from the newest segment (RFC 9293 3.10.7.4). False: it is the same as before. */
static bool update_window(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s, int64_t rel)
{
    uint64_t wnd = (uint64_t)s->wnd << k->r.snd_wscale, old = k->snd_wnd;
    if (rel < (int64_t)k->tx_una || seq_lt(s->seq, k->snd_wl1) ||
        (k->snd_wl1 == s->seq && seq_lt(s->ack, k->snd_wl2)))
        return wnd != old;
    tcp_ack_set_window(t, k, wnd);
    k->snd_wl1 = s->seq;
    k->snd_wl2 = s->ack;
    if (wnd > k->max_wnd)
        k->max_wnd = wnd;
    if (wnd > old && k->rexmt == REXMT_PERSIST) {
        k->backoff = k->tries = 0;
        k->rexmt = REXMT_NONE;
        tcp_timer_set(t, k, TIMER_REXMT, NEVER);
    }
    return wnd != old;
}

static void sample(struct tcp *t, struct tcp_conn *k, const struct tcp_ack *a)
{
    if (a->rtt) {
        tcp_rtt_sample(t, k, a->rtt);
    } else if (a->advanced && a->s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) && a->s->tsecr) {
        /* After a retransmission the echo alone tells which one was answered. */
        uint32_t ms = tcp_clock(t, k) - a->s->tsecr;
        if (ms < t->cfg->tcp_rto_max_ms)
            tcp_rtt_sample(t, k, ms ? ms * MSEC : MSEC);
    }
}

static void advance(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a, uint64_t ack)
{
    tcp_sack_advance(t, k, a, ack);
    k->backoff = k->tries = 0;
    tcp_info_progress(t, k);
    k->progress_at = t->now;
    k->stat.delivered += (uint32_t)((a->advanced + k->mss - 1) / k->mss);
    shm_keep(&t->shm[k->idx].tx_una, ack);
    tcp_chain_tx_free(t, k);
    tcp_conn_publish_tx(t, k);
}

bool tcp_ack_process(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    int64_t rel = conn_tx_rel(k, s->ack);
    if (rel > (int64_t)k->snd_max) { /* RFC 9293 3.10.7.4: something not yet sent */
        tcp_count(t, TCP_C_DROP_OLD_ACK);
        tcp_input_challenge(t, k);
        return false;
    }
    uint64_t wide = k->max_wnd > 65535 ? k->max_wnd : 65535;
    if (rel < (int64_t)k->tx_una - (int64_t)wide) { /* RFC 5961 5.2 */
        tcp_count(t, TCP_C_DROP_OLD_ACK);
        tcp_input_challenge(t, k);
        return false;
    }
    struct tcp_ack a = {.s = s, .una = k->tx_una, .flight = k->snd_max - k->tx_una};
    bool window_same = !update_window(t, k, s, rel);
    if (rel > (int64_t)k->tx_una)
        advance(t, k, &a, (uint64_t)rel);
    if (rel == (int64_t)k->tx_una && k->rexmt == REXMT_PERSIST)
        k->tries = 0;
    if (a.flight || s->sacks) { /* a DSACK may come when all is acknowledged */
        if (s->sacks && (k->r.flags & TCPF_SACK))
            tcp_sack_blocks(t, k, &a);
        /* RFC 5681 2: no data, no FIN, no new window, something outstanding. */
        a.duplicate = a.flight && rel == (int64_t)a.una && s->len == 0 &&
                      !(s->flags & (TH_FIN | TH_SYN)) && window_same &&
                      a.dsack_start == a.dsack_end;
        if (a.advanced || a.sacked)
            sample(t, k, &a);
        if (rel >= (int64_t)a.una)
            tcp_ecn_echoed(t, k, &a);
        k->stat.reorderings += a.reordered;
        tcp_loss_ack(t, k, &a);
        if (a.advanced) {
            k->rexmt = REXMT_NONE;
            tcp_timer_rexmt_arm(t, k);
        }
        tcp_rack_arm(t, k);
    }
    tcp_conn_dirty(t, k);
    return true;
}
