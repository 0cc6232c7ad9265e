/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How large the rings of a connection should be. They begin small, for most connections never move
 * more than a page, and follow what the path and the application can use, up to rmem_max and
 * wmem_max. A size that the program asked for (SO_RCVBUF, SO_SNDBUF) holds instead.
 *
 * Receive (as Linux, after "Dynamic Right-Sizing"): twice what the application takes in a round
 * trip, and six times while that doubles: what is decided here holds for a round trip, in which a
 * sender in slow start doubles its window, and at the end of it wants to double it again; the rest
 * is for what the application has not yet read. The round
 * trip is what the peer's echo of our timestamps says, and until there is one what the handshake
 * took.
 *
 * Send: twice what may be under way, when the application keeps the ring full.
 *
 * A restart loses the measurements; the blocks are in the record.
 */
#include "engine.h"

enum {
    RTT_FLOOR_US = 1000,            /* the resolution of our timestamps */
    RTT_MOST_US = 10 * 1000 * 1000, /* an echo that is older is of before a pause */
    INITIAL_SEGMENTS = 16,          /* room for a first window besides, as Linux */
};

unsigned tcp_tune_shift(uint64_t bytes)
{
    unsigned n = RING_PAGE_SHIFT;
    while (n < 30 && 1ull << n < bytes)
        n++;
    return n;
}

unsigned tcp_tune_shift_max(uint64_t bytes)
{
    unsigned n = RING_PAGE_SHIFT;
    while (n < 30 && 2ull << n <= bytes)
        n++;
    return n;
}

/* The largest receive window that a connection may come to have: what its scale is chosen for. */
uint64_t tcp_tune_window_max(const struct tcp *t, const struct tcp_conn *k)
{
    uint64_t ring = k->r.rcvbuf_shift ? 1ull << k->r.rcvbuf_shift : t->cfg->tcp_rcvbuf;
    uint64_t most = t->cfg->tcp_autotune ? t->cfg->tcp_rmem_max : 0;
    return k->r.rcvbuf_shift || most < ring ? ring : most;
}

/* A segment of data came. Its echo names an ACK of ours, and what came is what that let go. A pause
 * of the sender looks like a long round trip: one sample alone moves the estimate little. */
void tcp_tune_echo(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    if (!s->has_ts || s->tsecr == k->drs.echo || s->len < k->rcv_mss ||
        !(k->r.flags & TCPF_TIMESTAMPS))
        return;
    k->drs.echo = s->tsecr;
    uint64_t us = (uint64_t)(uint32_t)(tcp_clock(t, k) - s->tsecr) * 1000;
    if (us > RTT_MOST_US)
        return;
    if (us < RTT_FLOOR_US)
        us = RTT_FLOOR_US;
    uint64_t old = k->drs.rtt_us;
    if (old == 0)
        old = us;
    if (us > 2 * old)
        us = 2 * old;
    k->drs.rtt_us = (uint32_t)((7 * old + us) / 8);
}

static uint64_t round_trip(const struct tcp_conn *k)
{
    uint64_t us = k->drs.rtt_us ? k->drs.rtt_us : k->srtt / 1000;
    return us > RTT_FLOOR_US ? us : RTT_FLOOR_US;
}

void tcp_tune_rx(struct tcp *t, struct tcp_conn *k)
{
    unsigned want = k->r.rcvbuf_shift;
    if (want == 0 && t->cfg->tcp_autotune) {
        uint64_t rtt = round_trip(k), took = (t->now - k->drs.since) / 1000;
        if (took < rtt)
            return;
        uint64_t taken = k->rx_read - k->drs.from;
        k->drs.since = t->now;
        k->drs.from = k->rx_read;
        taken = taken * rtt / took;
        uint64_t more = taken > k->drs.taken ? taken - k->drs.taken : 0;
        k->drs.taken = taken;
        want = tcp_tune_shift(2 * taken + 8 * more + INITIAL_SEGMENTS * (uint64_t)k->rcv_mss);
        unsigned most = tcp_tune_shift_max(t->cfg->tcp_rmem_max);
        want = want < most ? want : most;
    }
    if (want > ring_shift(&k->r.rx))
        tcp_block_grow_rx(t, k, want);
}

void tcp_tune_tx(struct tcp *t, struct tcp_conn *k)
{
    uint64_t size = ring_bytes(&k->r.tx);
    if (k->tx_end - k->tx_free < size - size / 4)
        return;
    unsigned want = k->r.sndbuf_shift;
    if (want == 0 && t->cfg->tcp_autotune) {
        want = tcp_tune_shift(2 * (k->cwnd < k->snd_wnd ? k->cwnd : k->snd_wnd));
        unsigned most = tcp_tune_shift_max(t->cfg->tcp_wmem_max);
        want = want < most ? want : most;
    }
    if (want > ring_shift(&k->r.tx))
        tcp_block_grow_tx(t, k, want);
}
