/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Records and what applications see of them.
 *
 * The record is the truth; down_slot is a view of it, written after the commit and written again by
 * a successor. Only four words of down_slot are truth themselves: rx_nxt, tx_una, tx_free and
 * error_seq, each with a journal or a queue that says what its last store was about.
 */
#include "internal.h"

static uint32_t record_sum(const struct udp_record *rec)
{
    const uint8_t *p = (const uint8_t *)rec;
    uint64_t h = 0xcbf29ce484222325ull;

    for (size_t i = 0; i < sizeof *rec; i += 8) {
        uint64_t w;
        memcpy(&w, p + i, 8);
        h = (h ^ w) * 0x100000001b3ull;
        h ^= h >> 29;
    }
    return (uint32_t)(h ^ h >> 32);
}

void record_commit(struct udp *u, uint32_t i)
{
    struct udp_sock_shm *shm = &u->shm[i];
    struct udp_record *rec = &u->sock[i].rec;
    const uint64_t other = (load_relaxed(&shm->select) & 1) ^ 1;

    if (!SHM_KEEP)
        return;
    rec->version++;
    rec->checksum = 0;
    rec->checksum = record_sum(rec);
    /* Nobody refers to the other copy until it is selected. */
    shm_copy(&shm->copy[other], rec, sizeof *rec);
    shm_store_release(&shm->select, other);
}

bool record_load(const struct udp *u, uint32_t i, struct udp_record *rec)
{
    const struct udp_sock_shm *shm = &u->shm[i];

    *rec = shm->copy[load_relaxed(&shm->select) & 1];
    if (rec->version == 0) /* never used */
        return rec->state == UDP_FREE && rec->checksum == 0;
    struct udp_record copy = *rec;
    copy.checksum = 0;
    return record_sum(&copy) == rec->checksum && rec->state <= UDP_CLOSING;
}

/* The entry with the larger source is the newer one. Inputs are handled in order, so that a source
 * below it is finished: delivered, or dropped because the ring was full. */
static unsigned newest(const struct udp_journal *j)
{
    return load_relaxed(&j->entry[1].source) > load_relaxed(&j->entry[0].source) ? 1 : 0;
}

bool journal_done(const struct udp_journal *j, uint64_t source, uint64_t counter)
{
    const unsigned n = newest(j);
    const uint64_t last = load_relaxed(&j->entry[n].source);

    if (source != last)
        return source < last;
    return counter >= load_relaxed(&j->entry[n].target);
}

void journal_begin(struct udp_journal *j, uint64_t source, uint64_t target)
{
    const unsigned n = newest(j);

    /* The same source once more: the predecessor died before the counter. It may take another
     * target this time (the ring may have drained), so that its own entry is rewritten. Its target
     * is above the counter before and after, and so says "not done" all along. */
    const unsigned e = load_relaxed(&j->entry[n].source) == source ? n : n ^ 1;

    /* Target first: with the old source, an entry that is not the newest is never looked at. */
    shm_keep(&j->entry[e].target, target);
    shm_keep(&j->entry[e].source, source);
}

const struct up_region *app_up(const struct udp *u, unsigned app)
{
    const struct region *r = &u->c->map->entry[REGION_OF_APP(app, APP_UP)];

    return r->base != NULL && r->size >= u->layout.up_tcp_blocks ? (const struct up_region *)r->base
                                                                 : NULL;
}

struct down_region *app_down(const struct udp *u, unsigned app)
{
    const struct region *r = &u->c->map->entry[REGION_OF_APP(app, APP_DOWN_UDP)];

    return r->base != NULL && r->writable && r->size >= u->layout.down_udp_blocks
               ? (struct down_region *)r->base
               : NULL;
}

const struct up_slot *up_slot_of(const struct udp *u, unsigned app, uint32_t slot)
{
    const uint8_t *base = (const uint8_t *)app_up(u, app);

    return (const struct up_slot *)(base + u->layout.up_udp_slots) + slot;
}

struct down_slot *down_slot_of(const struct udp *u, unsigned app, uint32_t slot)
{
    uint8_t *base = (uint8_t *)app_down(u, app);

    return (struct down_slot *)(base + u->layout.down_udp_slots) + slot;
}

const struct up_slot *sock_up(const struct udp *u, const struct sock *s)
{
    return up_slot_of(u, s->rec.app, s->rec.slot);
}

struct down_slot *sock_down(const struct udp *u, const struct sock *s)
{
    return down_slot_of(u, s->rec.app, s->rec.slot);
}

/* Writes the descriptor that is not selected and flips its bit, so that a reader who sees the same
 * `select` before and after has a consistent copy. */
static void publish_ring(struct down_slot *d, struct ring_desc two[2], unsigned bit,
                         const struct ring_desc *ring)
{
    const uint32_t select = load_relaxed(&d->select);
    const unsigned now = select >> bit & 1;

    if (memcmp(&two[now], ring, sizeof *ring) == 0)
        return;
    shm_copy(&two[now ^ 1], ring, sizeof *ring);
    shm_store_release(&d->select, ring_select_next(select, bit));
}

void slot_publish(struct udp *u, uint32_t i)
{
    const struct udp_record *rec = &u->sock[i].rec;
    struct down_slot *d = sock_down(u, &u->sock[i]);

    publish_ring(d, d->tx, 0, &rec->tx);
    publish_ring(d, d->rx, 1, &rec->rx);
    if (memcmp(&d->local, &rec->local, sizeof d->local) != 0)
        shm_copy(&d->local, &rec->local, sizeof d->local);
    if (memcmp(&d->remote, &rec->remote, sizeof d->remote) != 0)
        shm_copy(&d->remote, &rec->remote, sizeof d->remote);
    shm_store(&d->tx_base, rec->tx_base);
    shm_store(&d->rx_base, rec->rx_base);
    /* Counters only grow. A socket begins at its base, and may have brought data along. */
    if (d->tx_una < rec->tx_base)
        shm_store_release(&d->tx_una, rec->tx_base);
    if (d->tx_free < d->tx_una)
        shm_store_release(&d->tx_free, d->tx_una);
    if (d->rx_nxt < rec->rx_start)
        shm_store_release(&d->rx_nxt, rec->rx_start);
    /* State before generation: a free state with the present generation means a free slot. */
    shm_store_release(&d->state, (uint32_t)(rec->state == UDP_OPEN ? SOCK_UDP : SOCK_CLOSED));
    shm_store_release(&d->generation, rec->generation);
    /* The reply comes last: who sees it sees all of the above. */
    shm_store(&d->result, rec->result);
    shm_store_release(&d->req_done, rec->req_id);
    notify(u, rec->app, rec->slot);
}

uint8_t *ring_at(uint8_t *region, const struct ring_desc *r, uint64_t off, uint64_t *len)
{
    const bool second = r->block[1].size != 0 && off >= r->switch_at;
    const struct ring_block *b = &r->block[second ? 1 : 0];
    const uint64_t in = off & (b->size - 1);

    *len = b->size - in;
    if (!second && r->block[1].size != 0 && r->switch_at - off < *len)
        *len = r->switch_at - off;
    return region + b->off + in;
}

void notify(struct udp *u, unsigned app, uint32_t slot)
{
    for (unsigned i = 0; i < u->notify_count && i < 8; i++) {
        const unsigned last = u->notify_count - 1 - i;
        if (u->notify[last].app == app && u->notify[last].socket == (slot | WAIT_UDP))
            return;
    }
    if (u->notify_count == NOTIFY_MAX)
        notify_flush(u);
    u->notify[u->notify_count++] = (struct app_ring){(uint16_t)app, slot | WAIT_UDP};
}

void notify_flush(struct udp *u)
{
    component_ring_apps(u->c, u->notify, u->notify_count);
    u->notify_count = 0;
}

void sock_error(struct udp *u, uint32_t i, uint32_t error, uint64_t source)
{
    struct down_slot *d = sock_down(u, &u->sock[i]);
    const uint32_t next = d->error_seq + 1;

    if (source != 0) {
        if (journal_done(&u->shm[i].error, source, d->error_seq))
            return;
        journal_begin(&u->shm[i].error, source, next);
    }
    shm_store(&d->error, error);
    shm_store_release(&d->error_seq, next);
    notify(u, u->sock[i].rec.app, u->sock[i].rec.slot);
}
