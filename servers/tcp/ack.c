/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Acknowledgements: what left the network, what was lost (RFC 5681, 6582, 6675), round-trip times
 * (RFC 6298, 7323 4). The board of SACKed ranges is private: after a restart the peer fills it
 * again.
 */
#include "engine.h"

void tcp_ack_clear_board(struct tcp_conn *k)
{
    k->lost_all = false;
    k->n_sacked = 0;
    k->dupacks = 0;
    k->rxt_next = k->tx_una;
}

uint64_t tcp_ack_sacked_bytes(const struct tcp_conn *k)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < k->n_sacked; i++)
        n += k->sacked[i].end - k->sacked[i].start;
    /* Without SACK each duplicate ACK says that a segment arrived. */
    if (!(k->r.flags & TCPF_SACK)) {
        n = (uint64_t)k->dupacks * k->mss;
        uint64_t flight = k->snd_nxt - k->tx_una;
        if (n > flight)
            n = flight;
    }
    return n;
}

/* Below it, what is not SACKed is lost: three segments above it arrived (RFC 6675 IsLost). */
uint64_t tcp_ack_lost_edge(const struct tcp_conn *k)
{
    if (!k->recovering)
        return k->tx_una;
    uint64_t first = k->tx_una + k->mss;
    if (first > k->recover)
        first = k->recover;
    if (!(k->r.flags & TCPF_SACK) || k->n_sacked == 0)
        return first;
    uint64_t high = k->sacked[k->n_sacked - 1].end, back = (uint64_t)TCP_DUPTHRESH * k->mss;
    uint64_t edge = high > back ? high - back : 0;
    /* A hole whose far side is below the edge is lost as a whole. */
    if (edge < k->sacked[0].start && k->dupacks >= TCP_DUPTHRESH)
        edge = k->sacked[0].start;
    if (k->lost_all)
        edge = k->sacked[k->n_sacked - 1].start;
    return edge > first ? edge : first;
}

static uint64_t unsacked(const struct tcp_conn *k, uint64_t from, uint64_t to)
{
    if (to <= from)
        return 0;
    uint64_t n = to - from;
    for (unsigned i = 0; i < k->n_sacked; i++) {
        uint64_t a = k->sacked[i].start > from ? k->sacked[i].start : from;
        uint64_t b = k->sacked[i].end < to ? k->sacked[i].end : to;
        if (b > a)
            n -= b - a;
    }
    return n;
}

/* Bytes that are believed to be in the network. */
uint64_t tcp_ack_pipe(const struct tcp_conn *k)
{
    uint64_t pipe = unsacked(k, k->tx_una, k->snd_nxt);
    if (!(k->r.flags & TCPF_SACK))
        pipe -= tcp_ack_sacked_bytes(k);
    if (k->recovering) {
        uint64_t from = k->rxt_next > k->tx_una ? k->rxt_next : k->tx_una;
        uint64_t edge = tcp_ack_lost_edge(k), lost;
        lost = unsacked(k, from, edge < k->snd_nxt ? edge : k->snd_nxt);
        pipe = pipe > lost ? pipe - lost : 0;
    }
    return pipe;
}

/* Adds a block to the board. Returns the bytes that are new. */
static uint64_t board_add(struct tcp_conn *k, uint64_t start, uint64_t end)
{
    uint64_t fresh = unsacked(k, start, end);
    if (fresh == 0)
        return 0;
    unsigned i = 0, j;
    while (i < k->n_sacked && k->sacked[i].end < start)
        i++;
    for (j = i; j < k->n_sacked && k->sacked[j].start <= end; j++) {
        start = k->sacked[j].start < start ? k->sacked[j].start : start;
        end = k->sacked[j].end > end ? k->sacked[j].end : end;
    }
    if (i == j) {
        if (k->n_sacked == TCP_SACKED)
            return 0;
        memmove(&k->sacked[i + 1], &k->sacked[i], (k->n_sacked - i) * sizeof k->sacked[0]);
        k->n_sacked++;
    } else {
        memmove(&k->sacked[i + 1], &k->sacked[j], (k->n_sacked - j) * sizeof k->sacked[0]);
        k->n_sacked -= j - i - 1;
    }
    k->sacked[i] = (struct sacked){start, end};
    return fresh;
}

static void board_trim(struct tcp_conn *k)
{
    unsigned drop = 0;
    while (drop < k->n_sacked && k->sacked[drop].end <= k->tx_una)
        drop++;
    memmove(&k->sacked[0], &k->sacked[drop], (k->n_sacked - drop) * sizeof k->sacked[0]);
    k->n_sacked -= drop;
    if (k->n_sacked && k->sacked[0].start < k->tx_una)
        k->sacked[0].start = k->tx_una;
}

static uint64_t take_sacks(struct tcp_conn *k, const struct tcp_seg *s)
{
    uint64_t fresh = 0;
    for (unsigned i = 0; i < s->sacks; i++) {
        int64_t a = conn_tx_rel(k, s->sack[i].start), b = conn_tx_rel(k, s->sack[i].end);
        /* At or below the ACK: a DSACK (RFC 2883), or old. Beyond what we sent: nonsense. */
        if (a < (int64_t)k->tx_una || b <= a || b > (int64_t)k->snd_max)
            continue;
        fresh += board_add(k, (uint64_t)a, (uint64_t)b);
    }
    return fresh;
}

static void enter_recovery(struct tcp *t, struct tcp_conn *k)
{
    tcp_count(t, TCP_C_FAST_RECOVERIES);
    tcp_cc_enter_recovery(t, k, k->snd_nxt - k->tx_una);
    k->recovering = true;
    k->recover = k->snd_max;
    k->rxt_next = k->tx_una;
    k->rxt_first = true;
    k->rtt_start = 0;
}

/* Was the hole at tx_una retransmitted, and has what was sent after that arrived? Then the
 * retransmission is lost, too (RFC 8985 says it by time; we say it by order). */
static void lost_again(struct tcp_conn *k)
{
    if (!k->recovering || k->n_sacked == 0 || k->rxt_next <= k->tx_una)
        return;
    uint64_t high = k->sacked[k->n_sacked - 1].end;
    if (high > k->rxt_mark + (uint64_t)TCP_DUPTHRESH * k->mss) {
        k->rxt_next = k->tx_una;
        k->rxt_first = true;
    }
}

static void acked_new(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s, uint64_t ack)
{
    uint64_t bytes = ack - k->tx_una;
    uint64_t flight = k->snd_nxt - k->tx_una;

    if (k->rtt_start && ack >= k->rtt_seq) {
        tcp_rtt_sample(t, k, t->now - k->rtt_start);
        k->rtt_start = 0;
    } else if (s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) && s->tsecr && k->backoff) {
        /* After a retransmission the echo alone tells which one was answered. */
        uint32_t ms = tcp_clock(t, k) - s->tsecr;
        if (ms < TCP_RTO_MAX_S * 1000)
            tcp_rtt_sample(t, k, ms ? ms * MSEC : MSEC);
    }
    k->backoff = k->tries = 0;
    k->tail_probed = false;
    k->progress_at = t->now;
    k->stat.delivered += (uint32_t)((bytes + k->mss - 1) / k->mss);
    k->tx_una = ack;
    shm_store(&t->shm[k->idx].tx_una, ack);
    if (k->snd_nxt < ack)
        k->snd_nxt = ack;
    board_trim(k);
    if (k->rxt_next < ack)
        k->rxt_next = ack;
    if (k->recovering) {
        if (ack >= k->recover) {
            k->recovering = k->lost_all = false;
            k->dupacks = 0;
            k->cwnd = k->ssthresh;
        } else if (!(k->r.flags & TCPF_SACK)) {
            /* Partial ACK (RFC 6582 3.2): the next hole; as many duplicates are accounted. */
            unsigned segs = (unsigned)(bytes / k->mss);
            k->dupacks = k->dupacks > segs ? k->dupacks - segs : 0;
            k->rxt_next = ack;
            k->rxt_first = true;
        } else if (k->rxt_next == ack) {
            k->rxt_first = true;
        }
    } else {
        k->dupacks = 0;
        if (k->lost_state && ack >= k->recover)
            k->lost_state = false;
        tcp_cc_acked(t, k, bytes, flight);
    }
    tcp_chain_tx_free(t, k);
    tcp_conn_publish_tx(t, k);
    k->rexmt = REXMT_NONE;
    tcp_timer_set(t, k, TIMER_REXMT, NEVER);
    tcp_timer_rexmt_arm(t, k);
}

/* Kept for a successor: one that had to ask for it would send a single segment, and the peer may
 * take its time to acknowledge that, or say it once and never again that its window opened. Stored
 * before tx_una moves, so that the sum of the two never lies beyond what the peer said. */
void tcp_ack_set_window(struct tcp *t, struct tcp_conn *k, uint64_t wnd)
{
    k->snd_wnd = wnd;
    if (t->shm[k->idx].snd_wnd != (uint32_t)wnd)
        shm_store(&t->shm[k->idx].snd_wnd, (uint32_t)wnd);
}

bool tcp_ack_process(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    int64_t rel = conn_tx_rel(k, s->ack);
    if (rel > (int64_t)k->snd_max) { /* RFC 9293 3.10.7.4: something not yet sent */
        tcp_count(t, TCP_C_DROP_OLD_ACK);
        tcp_input_challenge(t, k);
        return false;
    }
    uint64_t una = k->tx_una;
    uint64_t wide = k->max_wnd > 65535 ? k->max_wnd : 65535;
    if (rel < (int64_t)una - (int64_t)wide) { /* RFC 5961 5.2 */
        tcp_count(t, TCP_C_DROP_OLD_ACK);
        tcp_input_challenge(t, k);
        return false;
    }
    uint64_t fresh = 0;
    if ((k->r.flags & TCPF_SACK) && s->sacks && k->snd_max > una)
        fresh = take_sacks(k, s);

    /* The window, from the newest segment (RFC 9293 3.10.7.4). */
    uint64_t wnd = (uint64_t)s->wnd << k->r.snd_wscale, old_wnd = k->snd_wnd;
    if (rel >= (int64_t)una &&
        (seq_lt(k->snd_wl1, s->seq) || (k->snd_wl1 == s->seq && seq_le(k->snd_wl2, s->ack)))) {
        tcp_ack_set_window(t, k, wnd);
        k->snd_wl1 = s->seq;
        k->snd_wl2 = s->ack;
        if (wnd > k->max_wnd)
            k->max_wnd = wnd;
        if (wnd > old_wnd) {
            if (k->rexmt == REXMT_PERSIST) {
                k->backoff = k->tries = 0;
                k->rexmt = REXMT_NONE;
                tcp_timer_set(t, k, TIMER_REXMT, NEVER);
            }
        }
    }
    if (rel > (int64_t)una) {
        acked_new(t, k, s, (uint64_t)rel);
    } else if (rel == (int64_t)una && k->snd_max > una) {
        /* RFC 5681 2: no data, no FIN, no new window, something outstanding. With SACK it must also
         * say something new: answers to keepalives and DSACKs are none. */
        bool dup = s->len == 0 && !(s->flags & (TH_FIN | TH_SYN)) && wnd == old_wnd;
        if (k->r.flags & TCPF_SACK)
            dup = fresh != 0;
        if (dup)
            k->dupacks++;
        if (k->rexmt == REXMT_PERSIST)
            k->tries = 0;
    } else if (rel == (int64_t)una && k->rexmt == REXMT_PERSIST) {
        k->tries = 0;
    }
    if (k->snd_max > k->tx_una && !k->recovering && !k->lost_state) {
        bool lost = k->dupacks >= TCP_DUPTHRESH;
        if ((k->r.flags & TCPF_SACK) && k->n_sacked)
            lost = tcp_ack_sacked_bytes(k) >= (uint64_t)TCP_DUPTHRESH * k->mss;
        /* The probe arrived, and it was sent long after all the rest (RFC 8985 7.4). */
        bool probed =
            k->tail_probed && k->n_sacked && fresh && k->sacked[k->n_sacked - 1].end == k->snd_max;
        if (lost || probed) {
            enter_recovery(t, k);
            k->lost_all = probed;
        }
    }
    lost_again(k);
    tcp_conn_dirty(t, k);
    return true;
}
