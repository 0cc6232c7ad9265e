/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Received data into the ring. Data is copied only into holes: never below rx_nxt, never into a
 * range that is remembered, or a corrupted retransmission would destroy good bytes. What is not
 * copied is checksummed at its source. A range is remembered only after the checksum over the copy
 * was verified; rx_nxt is published after that, and only then may an ACK leave.
 */
#include "engine.h"

#include "servers/wire/checksum.h"

static uint64_t rel_seq(const struct tcp_conn *k, uint32_t seq)
{
    return (uint64_t)conn_rx_rel(k, seq);
}

/* One run of payload [from, from + len) that goes to the ring or is only summed. */
static void run(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s, uint32_t from,
                uint64_t len, int64_t rel, bool copy, uint32_t *sum)
{
    if (len == 0)
        return;
    if (!copy) {
        if (s->verify)
            *sum = csum_add_at(*sum, csum_partial(s->payload + from, len, 0), from);
        return;
    }
    uint8_t *down = (uint8_t *)t->app[k->r.rx_app]->down;
    tcp_reclaim_used(t, k);
    while (len > 0) {
        uint64_t contig;
        uint64_t off = ring_offset(&k->r.rx, k->r.rx_base + (uint64_t)rel, (uint64_t)rel, &contig);
        uint64_t n = len < contig ? len : contig;
        /* Into a hole: nothing refers to these bytes, so that any part of them may be written when
         * we die. */
        if (s->verify) {
            SHM_CRASHPOINT();
            *sum = csum_add_at(*sum, csum_copy(down + off, s->payload + from, n, 0), from);
        } else {
            shm_copy(down + off, s->payload + from, n);
        }
        from += (uint32_t)n;
        rel += (int64_t)n;
        len -= n;
    }
}

bool tcp_rx_verify(const struct tcp_seg *s)
{
    return !s->verify || csum_fold(csum_partial(s->payload, s->len, s->sum)) == 0;
}

#ifdef EFT_BREAK_COPY_OVER
enum { COPY_OVER = true }; /* negative control */
#else
enum { COPY_OVER = false };
#endif

enum rx_result tcp_rx_copy(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    uint32_t sum = s->sum, done = 0;
    int64_t first = conn_rx_rel(k, s->seq), end = first + s->len;
    int64_t lo = (int64_t)k->rx_nxt, hi = (int64_t)k->rx_edge;
    bool room = k->r.rx.shift[0] != 0 && !(k->r.flags & TCPF_RX_SHUT);

    /* Walk over [first, end): below the window, then holes and remembered ranges, then above. */
    int64_t at = first;
    if (room && hi > lo && first < hi && end > lo) {
        int64_t stop = end < hi ? end : hi;
        if (at < lo) {
            run(t, k, s, done, (uint64_t)(lo - at), at, COPY_OVER, &sum);
            done += (uint32_t)(lo - at);
            at = lo;
        }
        for (unsigned i = 0; i <= k->n_ooo && at < stop; i++) {
            int64_t rs = stop, re = stop;
            if (i < k->n_ooo) {
                rs = (int64_t)rel_seq(k, k->ooo[i].start);
                re = (int64_t)rel_seq(k, k->ooo[i].end);
            }
            if (re <= at)
                continue;
            if (rs > at) {
                int64_t n = (rs < stop ? rs : stop) - at;
                run(t, k, s, done, (uint64_t)n, at, true, &sum);
                done += (uint32_t)n;
                at += n;
            }
            if (at < stop && re > at) {
                int64_t n = (re < stop ? re : stop) - at;
                run(t, k, s, done, (uint64_t)n, at, COPY_OVER, &sum);
                done += (uint32_t)n;
                at += n;
            }
        }
    }
    run(t, k, s, done, s->len - done, at, false, &sum);
    return s->verify && csum_fold(sum) != 0 ? RX_BAD_CHECKSUM : RX_OK;
}

/* Adds [start, end) to the ranges, merging. False: too many holes. */
static bool remember(struct tcp_conn *k, int64_t start, int64_t end)
{
    unsigned i = 0, j;
    while (i < k->n_ooo && (int64_t)rel_seq(k, k->ooo[i].end) < start)
        i++;
    for (j = i; j < k->n_ooo && (int64_t)rel_seq(k, k->ooo[j].start) <= end; j++) {
        int64_t s = (int64_t)rel_seq(k, k->ooo[j].start), e = (int64_t)rel_seq(k, k->ooo[j].end);
        start = s < start ? s : start;
        end = e > end ? e : end;
    }
    if (i == j) {
        if (k->n_ooo == TCP_OOO_RANGES)
            return false;
        memmove(&k->ooo[i + 1], &k->ooo[i], (k->n_ooo - i) * sizeof k->ooo[0]);
        k->n_ooo++;
    } else {
        memmove(&k->ooo[i + 1], &k->ooo[j], (k->n_ooo - j) * sizeof k->ooo[0]);
        k->n_ooo -= j - i - 1;
    }
    k->ooo[i] = (struct tcp_range){conn_seq_rx(k, start), conn_seq_rx(k, end)};
    return true;
}

/* In-order data up to `end`, and what lay behind the hole. */
static void advance(struct tcp *t, struct tcp_conn *k, uint64_t end)
{
    unsigned drop = 0;
    while (drop < k->n_ooo && rel_seq(k, k->ooo[drop].start) <= end) {
        uint64_t e = rel_seq(k, k->ooo[drop].end);
        if (e > end)
            end = e;
        drop++;
    }
    if (drop) {
        memmove(&k->ooo[0], &k->ooo[drop], (k->n_ooo - drop) * sizeof k->ooo[0]);
        k->n_ooo -= drop;
    }
    tcp_count_add(t, TCP_C_BYTES_RECEIVED, end - k->rx_nxt);
    k->rx_nxt = end;
    if (k->fin_ooo && k->fin_at == end)
        k->rx_fin = true;
#ifdef EFT_BREAK_ACK_BEFORE_COMMIT
    /* Negative control: the ACK is published before rx_nxt. */
    k->ack_now = true;
    tcp_output(t, k);
    chan_tx_publish(&t->tx_ip);
#endif
    /* Ours first, then the application's copy, then whatever is derived; the ranges that it covers
     * are void from here on, whether or not the next store still happens. */
    shm_keep_release(&t->shm[k->idx].rx_nxt, k->rx_nxt | (k->rx_fin ? OFF_MARK : 0));
    if (drop)
        tcp_record_ooo(t, k);
    tcp_conn_publish_rx(t, k);
}

static void fin_received(struct tcp *t, struct tcp_conn *k)
{
    k->ack_now = true;
    switch (k->r.state) {
    case TCP_ESTABLISHED:
        tcp_conn_set_state(t, k, TCP_CLOSE_WAIT);
        break;
    case TCP_FIN_WAIT_1:
        tcp_conn_set_state(t, k, TCP_CLOSING);
        break;
    case TCP_FIN_WAIT_2:
        tcp_conn_time_wait(t, k);
        break;
    default:
        break;
    }
}

/* Something came twice (RFC 2883 4). What follows on what is not yet reported joins it. */
void tcp_rx_duplicate(const struct tcp *t, struct tcp_conn *k, uint32_t start, uint32_t end)
{
    if (!(k->r.flags & TCPF_SACK) || !t->cfg->tcp_dsack)
        return;
    if (k->dsack_due && seq_le(start, k->dsack.end) && seq_le(k->dsack.start, end)) {
        start = seq_lt(k->dsack.start, start) ? k->dsack.start : start;
        end = seq_lt(end, k->dsack.end) ? k->dsack.end : end;
    }
    k->dsack = (struct tcp_range){start, end};
    k->dsack_due = true;
}

/* What of [from, to) is in ranges that are remembered: reported as received twice. */
static void duplicates(const struct tcp *t, struct tcp_conn *k, int64_t from, int64_t to)
{
    for (unsigned i = 0; i < k->n_ooo; i++) {
        int64_t a = (int64_t)rel_seq(k, k->ooo[i].start), b = (int64_t)rel_seq(k, k->ooo[i].end);
        a = a > from ? a : from;
        b = b < to ? b : to;
        if (b > a)
            tcp_rx_duplicate(t, k, conn_seq_rx(k, a), conn_seq_rx(k, b));
    }
}

static bool told(const struct tcp_range *out, unsigned n, const struct tcp_range *r)
{
    while (n > 0 && out[n - 1].start != r->start)
        n--;
    return n > 0;
}

/* Blocks for an ACK: a duplicate first (RFC 2883 4), then the range that the newest segment fell
 * into, then those reported before it (RFC 2018 4): each is repeated a few times, so that ACKs may
 * be lost. */
unsigned tcp_rx_sacks(struct tcp_conn *k, struct tcp_range *out, unsigned most)
{
    unsigned n = 0, first;
    if (k->dsack_due)
        out[n++] = k->dsack;
    first = n;
    for (unsigned i = 0; i < TCP_SACK_RECENT && n < most; i++) {
        for (unsigned j = 0; j < k->n_ooo; j++) {
            if (seq_lt(k->sack_recent[i], k->ooo[j].start) ||
                !seq_lt(k->sack_recent[i], k->ooo[j].end))
                continue;
            if (!told(out + first, n - first, &k->ooo[j]))
                out[n++] = k->ooo[j];
            break;
        }
    }
    for (unsigned j = 0; j < k->n_ooo && n < most; j++)
        if (!told(out + first, n - first, &k->ooo[j]))
            out[n++] = k->ooo[j];
    return n;
}

/* ACKs at once for a while: at the start, after a gap or a duplicate, after a pause. */
static void quick(const struct tcp *t, struct tcp_conn *k)
{
    k->quickacks = t->cfg->tcp_quickacks;
    k->pingpong = false;
}

/* New data leaves soon after data came: the application answers, and its answer takes the ACK
 * along. From now on ACKs wait for it, as in Linux. */
void tcp_rx_answered(const struct tcp *t, struct tcp_conn *k)
{
    if (k->rx_at && t->now - k->rx_at < t->cfg->tcp_delack_ms * MSEC)
        k->pingpong = true;
}

/* Every second full segment, and whatever ends a burst of merged ones, at once (RFC 5681 4.2);
 * while ACKs are quick each; else delayed (RFC 9293 3.8.6.3). */
static void schedule_ack(struct tcp *t, struct tcp_conn *k)
{
    if (!k->unacked || k->ack_now)
        return;
    uint64_t delay = t->cfg->tcp_delack_ms * MSEC;
    bool hurry = (k->r.flags & TCPF_QUICKACK) || (k->quickacks && !k->pingpong) || delay == 0;
    if (hurry || k->unacked >= 2 * k->rcv_mss) {
        k->ack_now = true;
        if (k->quickacks)
            k->quickacks--;
    } else if (k->when[TIMER_DELACK] == NEVER) {
        tcp_timer_set(t, k, TIMER_DELACK, t->now + delay);
    }
}

void tcp_rx_commit(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    int64_t first = conn_rx_rel(k, s->seq), end = first + s->len;
    int64_t lo = (int64_t)k->rx_nxt, hi = (int64_t)k->rx_edge;
    bool had_holes = k->n_ooo != 0, fin_before = k->rx_fin;
    bool fin = (s->flags & TH_FIN) && end >= lo && end <= hi && !k->rx_fin;

    if (s->len && first < lo) {
        if (end <= lo) /* nothing new */
            tcp_count(t, TCP_C_DUP_DATA);
        tcp_rx_duplicate(t, k, s->seq, conn_seq_rx(k, end < lo ? end : lo));
        quick(t, k);
        k->ack_now = true;
    }
    /* The end of the stream is where its first FIN says: nothing behind it, and no FIN before
     * something that is there already. */
    if (fin && !k->fin_ooo &&
        (k->n_ooo == 0 || end >= (int64_t)rel_seq(k, k->ooo[k->n_ooo - 1].end))) {
        k->fin_ooo = true;
        k->fin_at = (uint64_t)end;
    }
    if (k->fin_ooo && hi > (int64_t)k->fin_at)
        hi = (int64_t)k->fin_at;
    int64_t from = first > lo ? first : lo, to = end < hi ? end : hi;
    if (s->gso > k->rcv_mss)
        k->rcv_mss = s->gso < k->advmss ? s->gso : k->advmss;
    tcp_tune_echo(t, k, s);
    if (to > from && first <= lo) {
        uint64_t before = k->rx_nxt;
        if (k->rx_at && t->now - k->rx_at > k->rto)
            quick(t, k);
        k->rx_at = t->now;
        tcp_count_add(t, TCP_C_BYTES_IN, (uint64_t)(to - from));
        if (had_holes) {
            duplicates(t, k, from, to);
            k->ack_now = true;
        }
        advance(t, k, (uint64_t)to);
        k->unacked += (uint32_t)(k->rx_nxt - before);
    } else if (to > from) {
        tcp_count(t, TCP_C_OOO_DATA);
        k->stat.ooo_segs++;
        duplicates(t, k, from, to);
        if (remember(k, from, to)) {
            memmove(&k->sack_recent[1], &k->sack_recent[0],
                    sizeof k->sack_recent - sizeof k->sack_recent[0]);
            k->sack_recent[0] = s->seq;
#ifdef EFT_BREAK_SACK_BEFORE_COMMIT
            /* Negative control: the SACK is published before the range. */
            k->ack_now = true;
            tcp_output(t, k);
            chan_tx_publish(&t->tx_ip);
#endif
            tcp_record_ooo(t, k); /* before the SACK that says so */
        } else {
            tcp_count(t, TCP_C_DROP_OOO_FULL);
        }
        quick(t, k);
        k->ack_now = true;
    } else if (k->fin_ooo && k->fin_at == k->rx_nxt && !k->rx_fin) {
        advance(t, k, k->rx_nxt);
    } else {
        k->ack_now = true; /* the window is full, or all of it was there */
    }
    if (k->rx_fin && !fin_before)
        fin_received(t, k);
    if (!k->ready)
        return;
    schedule_ack(t, k);
    tcp_conn_dirty(t, k);
    /* The application tells of a quarter of the ring at once, but the ACK should say what the
     * window is now, and growth is decided on what is read in each round trip. */
    if (k->ack_now)
        tcp_conn_sync_read(t, k);
}

/* --- the window --- */

/* What may be advertised: the ring's size behind what was read, less the slack that rounding up by
 * the scale may take (DESIGN 6.2). */
static uint64_t target_edge(const struct tcp_conn *k)
{
    uint64_t size = ring_bytes(&k->r.rx), slack = 1ull << k->r.rcv_wscale;
    uint64_t edge = k->rx_read + (size > slack ? size - slack : 0);
    return edge > k->rx_edge ? edge : k->rx_edge;
}

/* The right edge to advertise now, and the field that says it. Never less than what was advertised
 * before: when the scale does not divide it, it is rounded up, into the slack. */
uint64_t tcp_rx_window(struct tcp *t, struct tcp_conn *k, uint16_t *field)
{
    (void)t;
    unsigned shift = k->r.rcv_wscale;
    uint64_t base = k->rx_nxt + (k->rx_fin ? 1 : 0);
    uint64_t cap = k->rx_read + ring_bytes(&k->r.rx);
    uint64_t edge = target_edge(k);
    /* Silly window avoidance (RFC 9293 3.8.6.2.2): open by a useful amount or not at all. */
    uint64_t useful = ring_bytes(&k->r.rx) / 2;
    uint64_t mss = k->rcv_mss ? k->rcv_mss : k->mss;
    useful = useful < mss ? useful : mss;
    if (edge < k->rx_edge + useful)
        edge = k->rx_edge;
    if (edge <= base) {
        *field = 0;
        return k->rx_edge;
    }
    uint64_t wnd = (edge - base) >> shift;
    if (base + (wnd << shift) < k->rx_edge && base + ((wnd + 1) << shift) <= cap)
        wnd++;
    if (wnd > 65535)
        wnd = 65535;
    *field = (uint16_t)wnd;
    edge = base + (wnd << shift);
    return edge > k->rx_edge ? edge : k->rx_edge;
}

/* Has reading opened the window by so much that the peer should hear of it? */
bool tcp_rx_window_update_due(const struct tcp *t, const struct tcp_conn *k)
{
    (void)t;
    if (k->rx_fin || k->r.rx.shift[0] == 0)
        return false;
    /* What the window field cannot say is no news, and looks to the peer like a duplicate ACK. */
    uint64_t edge = target_edge(k), sayable = k->rx_nxt + (65535ull << k->r.rcv_wscale);
    edge = edge < sayable ? edge : sayable;
    uint64_t opened = edge > k->rx_edge ? edge - k->rx_edge : 0, half = ring_bytes(&k->r.rx) / 2;
    uint64_t mss = k->rcv_mss ? k->rcv_mss : k->mss;
    uint64_t left = k->rx_edge - k->rx_nxt;
    /* While the peer has plenty, an update is a segment for nothing. */
    if (left > ring_bytes(&k->r.rx) / 4 * 3)
        return false;
    return opened >= 2 * mss || opened >= half ||
           (left == 0 && opened >= (half < mss ? half : mss));
}
