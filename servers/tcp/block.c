/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The blocks of a connection's rings: given, grown, given back.
 *
 * GROWTH. A ring goes on in a second, larger block from `switch_at`; no byte moves. Which offset
 * that is decides everything: each byte has one place, for whoever looks, at whatever time.
 *
 *   receive  switch_at = rx_edge. Below it is all that was ever advertised, and so all that was
 *            received or remembered out of order; at it and above the peer has not been asked for
 *            anything yet. [rx_read, switch_at) fits into the old block, because it was advertised;
 *            [switch_at, rx_read + new size) into the new one.
 *   send     switch_at = tx_free + old size. The application may be writing up to there at this
 *            moment, with the descriptor that it knows, and no further. It loads tx_free before the
 *            descriptor: if it sees a tx_free that lets it pass switch_at, it sees the descriptor.
 *
 * Order, receive and send alike:
 *   1. The block is taken: privately. Killed here: nothing has happened.
 *   2. The record with both blocks is committed: one store. From here on a successor reserves both
 *      and publishes them (tcp_conn_publish); nobody uses the second one yet.
 *   3. The descriptor is published: the other copy, then `select`. Before anybody can need it:
 *   4. The larger window is advertised, or more of the send ring taken, by what reads the record.
 *
 * THE OLD BLOCK GOES when rx_read or tx_free has passed switch_at. tx_free is below every chain, so
 * that no device reads from the block; whoever has published rx_read or tx_end beyond it is done
 * with it. Again the record first: killed after it, a successor knows of one block alone. Readers
 * with the old descriptor find the same bytes, for they look at or above switch_at. Only then is
 * the block free for others.
 *
 * A RING NEVER SHRINKS. The space behind the bytes of a receive ring is promised to the peer, and a
 * window is never taken back (RFC 9293 3.8.6): it could change to a small block only after the
 * large one was filled once more, and what is idle fills nothing. The same holds for a send ring
 * and its application. The memory of idle rings is given back instead (reclaim.c), and the blocks
 * stay.
 *
 * A restart loses the map of free blocks, and rebuilds it from the records.
 */
#include "engine.h"

#include <errno.h>

static int64_t alloc(struct ring_space *s, unsigned *shift)
{
    int64_t page = -ENOSPC;
    while (*shift >= RING_PAGE_SHIFT && (page = tcp_ring_alloc(s, *shift)) < 0)
        --*shift;
    return page;
}

int tcp_conn_alloc_rx(struct tcp *t, struct tcp_conn *k, unsigned app)
{
    struct tcp_app *a = t->app[app];
    unsigned shift = k->r.rcvbuf_shift ? k->r.rcvbuf_shift : tcp_tune_shift(t->cfg->tcp_rcvbuf);
    /* What was advertised must have its place in a smaller block, too. */
    unsigned least =
        k->rx_edge > k->rx_read ? tcp_tune_shift(k->rx_edge - k->rx_read) : RING_PAGE_SHIFT;
    int64_t page = alloc(&a->down_space, &shift);
    if (page < 0)
        return -ENOBUFS;
    if (shift < least) {
        tcp_ring_release(&a->down_space, (uint32_t)page, shift);
        return -ENOBUFS;
    }
    k->r.rx = (struct tcp_ring){
        .switch_at = UINT64_MAX, .page = {(uint32_t)page}, .shift = {(uint8_t)shift}};
    tcp_conn_set_rx_app(t, k, app);
    return 0;
}

int tcp_conn_alloc_tx(struct tcp *t, struct tcp_conn *k)
{
    unsigned shift = k->r.sndbuf_shift ? k->r.sndbuf_shift : tcp_tune_shift(t->cfg->tcp_sndbuf);
    int64_t page = alloc(&t->app[k->r.app]->up_space, &shift);
    if (page < 0)
        return -ENOBUFS;
    k->r.tx = (struct tcp_ring){
        .switch_at = UINT64_MAX, .page = {(uint32_t)page}, .shift = {(uint8_t)shift}};
    return 0;
}

void tcp_block_release(struct ring_space *s, struct tcp_ring *r)
{
    for (unsigned i = 0; i < 2; i++)
        if (r->shift[i])
            tcp_ring_release(s, r->page[i], r->shift[i]);
    *r = (struct tcp_ring){.switch_at = UINT64_MAX};
}

/* The caller has committed a record without these rings, or frees the record next; until then a
 * successor sees the blocks as taken. */
void tcp_conn_free_rings(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.tx.shift[0] && k->r.app != TCP_NO_APP)
        tcp_block_release(&t->app[k->r.app]->up_space, &k->r.tx);
    if (k->r.rx.shift[0] && k->r.rx_app != TCP_NO_APP)
        tcp_block_release(&t->app[k->r.rx_app]->down_space, &k->r.rx);
    tcp_conn_set_rx_app(t, k, TCP_NO_APP);
}

static void publish_ring(struct down_slot *d, struct ring_desc *pair, unsigned bit,
                         const struct tcp_ring *r, uint64_t base)
{
    uint32_t select = load_relaxed(&d->select);
    struct ring_desc want = {0};
    want.switch_at = r->switch_at == UINT64_MAX ? UINT64_MAX : r->switch_at + base;
    for (unsigned i = 0; i < 2; i++) {
        if (r->shift[i]) {
            want.block[i].off = (uint64_t)r->page[i] << RING_PAGE_SHIFT;
            want.block[i].size = 1u << r->shift[i];
        }
    }
    if (memcmp(&pair[select >> bit & 1], &want, sizeof want) == 0)
        return;
    shm_copy(&pair[~select >> bit & 1], &want, sizeof want);
    /* A reader that saw the same word twice has a whole copy. */
    shm_store_release(&d->select, ring_select_next(select, bit));
}

void tcp_block_publish(const struct tcp_conn *k, struct down_slot *d)
{
    publish_ring(d, d->tx, 0, &k->r.tx, k->r.tx_base);
    publish_ring(d, d->rx, 1, &k->r.rx, k->r.rx_base);
}

static void commit(struct tcp *t, struct tcp_conn *k)
{
    struct down_slot *d = tcp_app_down_slot(t, k->r.app, k->r.slot);
#ifndef EFT_BREAK_GROW_UNCOMMITTED
    /* Negative control: without it a successor knows nothing of the other block. */
    tcp_record_commit(t, k);
#endif
    if (d != NULL)
        tcp_block_publish(k, d);
}

static bool grow(struct tcp *t, struct tcp_conn *k, struct ring_space *s, struct tcp_ring *r,
                 unsigned shift, uint64_t switch_at)
{
    /* Before all records were walked a block that looks free may be another connection's. */
    if (!t->walked || r->shift[0] == 0 || r->shift[1] != 0 || shift <= r->shift[0])
        return false;
    /* Half of the space is kept for new connections. */
    const uint64_t half = (s->end - s->first) / 2;
    while (shift > r->shift[0] && s->free_pages < half + (1ull << (shift - RING_PAGE_SHIFT)))
        shift--;
    int64_t page = -ENOSPC;
    while (shift > r->shift[0] && (page = tcp_ring_alloc(s, shift)) < 0)
        shift--;
    if (page < 0) {
        tcp_count(t, TCP_C_GROWTH_REFUSED);
        return false;
    }
    r->page[1] = (uint32_t)page;
    r->shift[1] = (uint8_t)shift;
    r->switch_at = switch_at;
    commit(t, k);
    tcp_count(t, TCP_C_RINGS_GROWN);
    return true;
}

bool tcp_block_grow_rx(struct tcp *t, struct tcp_conn *k, unsigned shift)
{
    if (k->r.app == TCP_NO_APP || k->r.rx_app != k->r.app || !conn_receives(k) ||
        (k->r.flags & TCPF_RX_SHUT))
        return false;
    return grow(t, k, &t->app[k->r.app]->down_space, &k->r.rx, shift, k->rx_edge);
}

bool tcp_block_grow_tx(struct tcp *t, struct tcp_conn *k, unsigned shift)
{
    if (k->r.app == TCP_NO_APP || conn_has_fin(k))
        return false;
    uint64_t old = ring_bytes(&k->r.tx);
    if (!grow(t, k, &t->app[k->r.app]->up_space, &k->r.tx, shift, k->tx_free + old))
        return false;
    tcp_conn_news(t, k); /* there is space, and tx_free has not changed */
    return true;
}

static void drop_first(struct tcp *t, struct tcp_conn *k, struct ring_space *s, struct tcp_ring *r)
{
    uint32_t page = r->page[0];
    unsigned shift = r->shift[0];
    *r = (struct tcp_ring){.switch_at = UINT64_MAX, .page = {r->page[1]}, .shift = {r->shift[1]}};
    commit(t, k);
    tcp_ring_release(s, page, shift);
}

void tcp_block_passed(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.app == TCP_NO_APP)
        return;
    struct tcp_app *a = t->app[k->r.app];
    if (k->r.rx.shift[1] && k->rx_read >= k->r.rx.switch_at)
        drop_first(t, k, &a->down_space, &k->r.rx);
    if (k->r.tx.shift[1] && k->tx_free >= k->r.tx.switch_at)
        drop_first(t, k, &a->up_space, &k->r.tx);
}
