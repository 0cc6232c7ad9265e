/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Queues. See chan.h for the contract; here are the orders.
 *
 * Reset of an edge. Both sides hold a generation; they use the queue only while the two are equal.
 *   the consumer saw an impossible tail: it raises its generation and waits
 *   the producer saw an impossible head: it raises its generation and waits
 *   a producer that sees a newer one:   tail := max(tail, head), then generation := the newer
 *   a consumer that sees a newer one:   head := tail,            then generation := the newer
 * Indices never go back, so that provenance stays unambiguous. What was in the queue is lost and
 * counted (resets); its buffers are found by the owner's audit. A side that dies between its two
 * stores leaves the generations unequal, and its successor does the step again.
 */
#include "chan.h"

#include <errno.h>

static struct bell *usable(struct bell *b)
{
    return b != NULL && b->kind != BELL_NONE ? b : NULL;
}

int chan_tx_attach(struct chan_tx *tx, const struct region *own, const struct region *peer,
                   enum edge edge, server_id self, server_id peer_id, uint64_t epoch,
                   struct bell *bell)
{
    const struct wiring_entry *out = wiring_find(own, WIRING_OUT, edge, peer_id);
    struct wiring_entry in;

    if (out == NULL || !wiring_read(peer, WIRING_IN, edge, self, &in))
        return -ENOENT;
    *tx = (struct chan_tx){
        .out = (struct chan_out *)(own->base + out->off),
        .in = (const struct chan_in *)(peer->base + in.off),
        .slots = own->base + out->off + sizeof(struct chan_out),
        .bell = usable(bell),
        .mask = out->count - 1,
        .slot_size = out->size,
        .epoch = (uint32_t)epoch,
    };
    tx->generation = load_acquire(&tx->out->generation);
    tx->tail = tx->published = load_acquire(&tx->out->tail);
    tx->head = load_acquire(&tx->in->head);
    /* A head that cannot be starts a reset at the first look. Until then believe what is certain.
     */
    if (tx->head > tx->tail || tx->tail - tx->head > out->count)
        tx->head = tx->tail > out->count ? tx->tail - out->count : 0;
    shm_store(&tx->out->want, 0u);

    /* What did the predecessor publish last, for each of its inputs? Slots behind the tail may have
     * been written and not published; they alias the oldest half, which is not looked at. */
    const uint64_t span = out->count / 2;
    for (uint64_t i = tx->tail; i > 0 && tx->tail - i < span; i--) {
        const struct slot_head *h = chan_tx_slot(tx, i - 1);

        if (h->src == 0 || h->src >= CHAN_INPUTS || tx->last[h->src].valid)
            continue;
        tx->last[h->src].index = h->src_index;
        tx->last[h->src].sub = h->src_sub;
        tx->last[h->src].valid = true;
    }
    return 0;
}

/* Reads the consumer's head. False: the edge is being reset, or was found broken. */
static bool refresh_head(struct chan_tx *tx)
{
    const uint32_t theirs = load_acquire(&tx->in->generation);
    const uint64_t head = load_acquire(&tx->in->head);

    if (theirs != tx->generation) {
        /* Theirs is newer: they ask. Ours is newer: we asked, and they have not followed yet. */
        if ((int32_t)(theirs - tx->generation) < 0)
            return false;
        tx->tail = tx->published = head > tx->published ? head : tx->published;
        shm_store_release(&tx->out->tail, tx->published);
        tx->generation = theirs;
        shm_store_release(&tx->out->generation, theirs);
        tx->resets++;
        bell_due(tx->bell);
        return false;
    }
    if (head > tx->published || tx->published - head > tx->mask + 1) {
        tx->generation++;
        tx->resets++;
        shm_store_release(&tx->out->generation, tx->generation);
        bell_due(tx->bell);
        return false;
    }
    tx->head = head;
    return true;
}

static bool fits(const struct chan_tx *tx, uint64_t n)
{
    const uint64_t capacity = tx->mask + 1;

    return tx->tail - tx->head <= capacity && capacity - (tx->tail - tx->head) >= n;
}

bool chan_tx_room(struct chan_tx *tx, uint64_t n)
{
    if (fits(tx, n) || (refresh_head(tx) && fits(tx, n))) {
        if (tx->wanting) {
            tx->wanting = false;
            shm_store(&tx->out->want, 0u);
        }
        return true;
    }
    /* Say that we wait, then look once more: the consumer stores its head first and looks at `want`
     * afterwards, each with a full fence in between, so that one of us sees the other. */
    tx->wanting = true;
    shm_store(&tx->out->want, 1u);
    fence_full();
    if (refresh_head(tx) && fits(tx, n)) {
        tx->wanting = false;
        shm_store(&tx->out->want, 0u);
        return true;
    }
    tx->full++;
    return false;
}

int chan_tx_reserve(struct chan_tx *tx, uint16_t src, uint64_t src_index, uint16_t src_sub,
                    void **slot)
{
    if (src != 0 && src < CHAN_INPUTS && tx->last[src].valid &&
        (src_index < tx->last[src].index ||
         (src_index == tx->last[src].index && src_sub <= tx->last[src].sub)))
        return CHAN_DUP;
    /* A successor looks back half a queue: never leave more than that unpublished. */
    if (tx->tail - tx->published > tx->mask / 2)
        chan_tx_publish(tx);
    if (!chan_tx_room(tx, 1))
        return CHAN_FULL;

    struct slot_head *h = chan_tx_slot(tx, tx->tail);
    const struct slot_head head = {
        .src_index = src_index, .src = src, .src_sub = src_sub, .epoch = tx->epoch};
    shm_copy(h, &head, sizeof head);
    if (src < CHAN_INPUTS) {
        tx->last[src].index = src_index;
        tx->last[src].sub = src_sub;
        tx->last[src].valid = true;
    }
    *slot = h;
    return CHAN_OK;
}

void chan_tx_publish(struct chan_tx *tx)
{
    if (tx->tail == tx->published)
        return;
    tx->published = tx->tail;
    shm_store_release(&tx->out->tail, tx->tail);
    bell_due(tx->bell);
    /* A consumer that saw a tail that was not ours takes nothing until we follow; we would come to
     * look at its head when the queue seems full, or never. */
    if (load_acquire(&tx->in->generation) != tx->generation)
        refresh_head(tx);
}

uint64_t chan_tx_consumed(struct chan_tx *tx)
{
    refresh_head(tx);
    return tx->head;
}

int chan_rx_attach(struct chan_rx *rx, const struct region *own, const struct region *peer,
                   enum edge edge, server_id self, server_id peer_id, struct bell *bell)
{
    const struct wiring_entry *in = wiring_find(own, WIRING_IN, edge, peer_id);
    struct wiring_entry out;

    if (in == NULL || !wiring_read(peer, WIRING_OUT, edge, self, &out))
        return -ENOENT;
    if (in->count != out.count || in->size != out.size)
        return -EPROTO;
    *rx = (struct chan_rx){
        .in = (struct chan_in *)(own->base + in->off),
        .out = (const struct chan_out *)(peer->base + out.off),
        .slots = peer->base + out.off + sizeof(struct chan_out),
        .bell = usable(bell),
        .own = own,
        .block = wiring_block(own),
        .mask = out.count - 1,
        .slot_size = out.size,
    };
    /* Inputs are numbered in the order of the directory, from 1. */
    const struct region_header *h = (const struct region_header *)own->base;
    const struct wiring_entry *dir = (const struct wiring_entry *)(h + 1);
    for (const struct wiring_entry *e = dir; e <= in; e++)
        if (e->role == WIRING_IN)
            rx->number++;
    if (rx->number >= CHAN_INPUTS)
        return -EPROTO;
    rx->generation = load_acquire(&rx->in->generation);
    rx->head = rx->released = rx->tail = load_acquire(&rx->in->head);
    rx->cold = load_relaxed(&rx->block->cold) != 0 ? load_acquire(&rx->out->tail) : 0;
    return 0;
}

/* Takes over the producer's tail as our head: everything in between is gone. */
static void adopt(struct chan_rx *rx, uint64_t tail, uint32_t generation)
{
    rx->head = rx->released = rx->tail = tail;
    shm_store_release(&rx->in->head, tail);
    rx->generation = generation;
    shm_store_release(&rx->in->generation, generation);
    rx->asked = false;
    bell_due(rx->bell);
}

/* Reads the producer's tail. False: nothing new, or the edge is being reset. */
static bool refresh_tail(struct chan_rx *rx)
{
    const uint32_t theirs = load_acquire(&rx->out->generation);
    const uint64_t tail = load_acquire(&rx->out->tail);

    if (theirs != rx->generation) {
        if ((int32_t)(theirs - rx->generation) < 0)
            return false; /* we asked, and it has not followed yet */
        rx->resets++;
        adopt(rx, tail, theirs);
        return false;
    }
    if (rx->asked) {
        adopt(rx, tail, theirs);
        return false;
    }
    if (tail < rx->head || tail - rx->released > rx->mask + 1) {
        rx->resets++;
        rx->asked = true;
        rx->generation++;
        shm_store_release(&rx->in->generation, rx->generation);
        bell_due(rx->bell);
        return false;
    }
    rx->tail = tail;
    return tail != rx->head;
}

const void *chan_rx_peek(struct chan_rx *rx)
{
    if (rx->head == rx->tail && !refresh_tail(rx))
        return NULL;
    item_begin(rx->block, item_slot(rx->number, rx->head));
    return rx->slots + (rx->head & rx->mask) * rx->slot_size;
}

bool chan_rx_keep(const struct chan_rx *rx, uint64_t now, const void *payload, size_t len)
{
    const struct item_part part[] = {
        {rx->slots + (rx->head & rx->mask) * rx->slot_size, rx->slot_size},
        {payload, payload != NULL ? len : 0},
    };

    /* Of what is dropped because it waited at a cold start nobody learns anything. */
    return rx->head >= rx->cold && quarantine_keep(rx->own, chan_rx_item(rx), now, part, 2);
}

void chan_rx_release(struct chan_rx *rx)
{
    if (rx->released == rx->head)
        return;
    rx->released = rx->head;
    shm_store_release(&rx->in->head, rx->head);
    item_end(rx->block);
    /* Pairs with chan_tx_room(): head, fence, want here; want, fence, head there. */
    fence_full();
    if (load_relaxed(&rx->out->want) != 0)
        bell_due(rx->bell);
}

bool chan_rx_pending(struct chan_rx *rx)
{
    const uint32_t theirs = load_acquire(&rx->out->generation);

    if (theirs != rx->generation)
        return (int32_t)(theirs - rx->generation) > 0;
    return rx->asked || rx->head != rx->tail || load_acquire(&rx->out->tail) != rx->head;
}

uint64_t chan_rx_waiting(const struct region_map *map, const struct region *own, server_id self)
{
    const struct region_header *h = (const struct region_header *)own->base;
    const struct wiring_entry *dir = (const struct wiring_entry *)(h + 1);
    unsigned number = 0;

    for (uint32_t i = 0; i < h->dir_count; i++) {
        const struct wiring_entry *e = &dir[i];
        struct wiring_entry out;

        if (e->role != WIRING_IN)
            continue;
        number++; /* as chan_rx_attach() counts */
        const struct region *peer = &map->entry[REGION_OF_SERVER(e->peer)];
        if (!wiring_read(peer, WIRING_OUT, e->what, self, &out))
            continue;
        const uint64_t head = load_relaxed(&((struct chan_in *)(own->base + e->off))->head);
        if (load_acquire(&((const struct chan_out *)(peer->base + out.off))->tail) != head)
            return item_slot(number, head);
    }
    return 0;
}
