/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The driver component: queues, pool, returns. What a device kind does is behind struct device_ops.
 *
 * Life of a received frame, and what makes each step safe against a crash after any store:
 *
 *   FREE -> RX     owner stored before read(): a packet that was read and not yet described is
 * found again by salvage(). (FREE -> FILL for devices with a FILL ring.) RX -> OUT      off, len,
 * gso_size, csum, index, generation stored, then owner := OUT. From there on the frame belongs to
 * index `index` of the queue to ip. published      by the queue's tail. A successor finds OUT with
 * index >= tail: it publishes the frame at that same index; index < tail: it was published, nothing
 * is to be done. OUT -> FREE    by a return that names the present generation. The head of the
 * return queue advances later; a return that is seen twice no longer finds OUT with that
 * generation.
 *
 * A restart keeps every frame's owner, and loses nothing that came from the device. Sending: a slot
 * of ip is passed when the device has copied it; a crash in between sends it twice (tap, packet) or
 * is mended by a journal (xdp). Not promised: that neighbours return frames; free, fill, out, tx
 * are counted, so that a leak shows.
 */
#include "driver.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <syslog.h>
#include <unistd.h>

enum { RETRY_BLOCKED_NS = 100 * 1000, RETRY_ERROR_NS = 100 * 1000 * 1000 };

static struct driver *self(struct component *c)
{
    return c->state;
}

/* --- frames --- */

int driver_take(struct driver *d, enum frame_owner owner, uint64_t index)
{
    if (d->nfree == 0)
        return -1;
    const unsigned n = d->free[--d->nfree];
    struct driver_frame *f = &d->frame[n];

    shm_store(&f->len, 0u); /* before the owner: RX with a length means that it was read */
    shm_keep(&f->index, index);
    shm_store(&f->owner, (uint8_t)owner);
    if (owner == FRAME_TX)
        d->count_tx++;
    else
        d->count_fill++;
    return (int)n;
}

void driver_give(struct driver *d, unsigned n)
{
    struct driver_frame *f = &d->frame[n];

    if (f->owner == FRAME_FILL || f->owner == FRAME_RX)
        d->count_fill--;
    else if (f->owner == FRAME_TX)
        d->count_tx--;
    shm_store(&f->owner, (uint8_t)FRAME_FREE);
    d->free[d->nfree++] = (uint16_t)n;
}

bool driver_room(struct driver *d)
{
    return chan_tx_room(&d->to_ip, 1);
}

void driver_publish(struct driver *d)
{
    chan_tx_publish(&d->to_ip);
    d->unpublished = 0;
}

/* Puts frame `n`, which is OUT at the queue's next index, into its slot. */
static void put_slot(struct driver *d, unsigned n)
{
    const struct driver_frame *f = &d->frame[n];
    void *slot = NULL;

    /* Without an input there is no duplicate, and the caller made sure of room. */
    if (chan_tx_reserve(&d->to_ip, 0, f->index, 0, &slot) != CHAN_OK) {
        d->c->log(d->c, LOG_CRIT, "no room for a frame that was given a place");
        abort();
    }
    struct driver_rx rx = {
        .frame = n,
        .generation = f->generation,
        .off = f->off,
        .len = f->len,
        .gso_size = f->gso_size,
        .csum = f->csum,
        .stamp_ns = d->now,
    };
    shm_copy((uint8_t *)slot + sizeof rx.head, (uint8_t *)&rx + sizeof rx.head,
             sizeof rx - sizeof rx.head);
    chan_tx_commit(&d->to_ip);
    driver_count(d, DRIVER_RX_FRAMES, 1);
    driver_count(d, DRIVER_RX_BYTES, f->len);
    if (++d->unpublished >= DRIVER_RX_BATCH)
        driver_publish(d);
}

void driver_receive(struct driver *d, unsigned n, uint32_t off, uint32_t len, uint16_t gso_size,
                    enum packet_csum csum)
{
    struct driver_frame *f = &d->frame[n];

    d->count_fill--;
    shm_store(&f->off, off);
    shm_store(&f->gso_size, gso_size);
    shm_store(&f->csum, (uint8_t)csum);
    /* After what it describes: for a successor RX with a length is complete. */
    shm_store(&f->len, len);
    shm_keep(&f->index, d->to_ip.tail);
    /* Before OUT: returns of the frame's last use must not fit. Raised twice if we die here: nobody
     * has seen the first value. */
    shm_store(&f->generation, f->generation + 1);
    shm_store(&f->owner, (uint8_t)FRAME_OUT);
    put_slot(d, n);
}

static uint64_t frame_item(const struct driver *d, unsigned n)
{
    return item_numbered(ITEM_FRAME, n, d->frame[n].generation);
}

void driver_frame_begin(struct driver *d, unsigned n)
{
    item_begin(d->c->block, frame_item(d, n));
}

bool driver_frame_condemned(struct driver *d, unsigned n)
{
    if (!item_condemned(d->c->block, frame_item(d, n)))
        return false;
    const struct item_part part = {driver_frame_data(d, n), d->frame_size};

    quarantine_keep(d->c->own, frame_item(d, n), d->now, &part, 1);
    driver_count(d, DRIVER_QUARANTINED, 1);
    return true;
}

/* --- take-over --- */

/* Rebuilds the free list from the owner bytes, and publishes what the predecessor had described and
 * not published. Its order is that of the indices which it chose. */
static int recover(struct driver *d)
{
    const uint64_t tail = d->to_ip.tail;
    int waiting[2 * DRIVER_RX_BATCH], found = -1;

    for (unsigned i = 0; i < 2 * DRIVER_RX_BATCH; i++)
        waiting[i] = -1;
    for (unsigned i = 0; i < d->frames; i++) {
        const unsigned n = d->frames - 1 - i; /* so that low numbers are used first */
        struct driver_frame *f = &d->frame[n];
        uint8_t owner = f->owner;

        if (owner == FRAME_OUT && f->index >= tail) {
            if (f->index - tail < 2 * DRIVER_RX_BATCH && waiting[f->index - tail] < 0) {
                waiting[f->index - tail] = (int)n;
                continue;
            }
            owner = FRAME_TX + 1; /* an index that we cannot have chosen */
        }
        if (owner == FRAME_RX || owner == FRAME_FILL || owner == FRAME_TX) {
            driver_frame_begin(d, n);
            owner = (uint8_t)d->dev->salvage(d, n);
            if (owner == FRAME_OUT && (d->c->start & START_COLD))
                owner = FRAME_FREE; /* what it holds is not looked at any more */
            if (owner == FRAME_OUT) {
                d->count_fill++;
                found = (int)n;
                continue;
            }
            if (owner != f->owner)
                shm_store(&f->owner, owner);
        }
        switch (owner) {
        case FRAME_OUT:
            break;
        case FRAME_FILL:
            d->count_fill++;
            break;
        case FRAME_TX:
            d->count_tx++;
            break;
        default: /* a wild store of a predecessor: nobody can hold this use of the frame */
            driver_count(d, DRIVER_OWNER_BAD, 1);
            shm_store(&f->generation, f->generation + 1);
            /* fall through */
        case FRAME_FREE:
            shm_store(&f->owner, (uint8_t)FRAME_FREE);
            d->free[d->nfree++] = (uint16_t)n;
        }
    }
    for (unsigned i = 0; i < 2 * DRIVER_RX_BATCH; i++) {
        if (waiting[i] < 0)
            continue;
        /* Normally the index is this one already. After a gap it is not, and must be before the
         * slot is published. */
        shm_store(&d->frame[waiting[i]].index, d->to_ip.tail);
        put_slot(d, (unsigned)waiting[i]);
        driver_count(d, DRIVER_RX_FOUND, 1);
    }
    if (found >= 0) {
        const struct driver_frame *f = &d->frame[found];

        driver_receive(d, (unsigned)found, f->off, f->len, f->gso_size, f->csum);
        driver_count(d, DRIVER_RX_FOUND, 1);
    }
    driver_publish(d);
    item_end(d->c->block);
    return 0;
}

static int start(struct component *c, uint64_t now)
{
    struct driver *d = self(c);
    server_id ids[COMPONENT_BELLS];
    uint64_t frames = 0, pool = 0, states = 0;
    server_id ip = SERVER_ID(SERVER_IP, 0);
    int r;

    d->c = c;
    d->now = now;
    d->ifc = &c->cfg->interface[SERVER_ID_INSTANCE(c->id)];
    d->frame = wiring_table(c->own, TABLE_DRIVER_FRAMES, &frames);
    d->pool = wiring_table(c->own, TABLE_DRIVER_POOL, &pool);
    d->shared = wiring_table(c->own, TABLE_DRIVER_STATE, &states);
    if (d->frame == NULL || d->pool == NULL || d->shared == NULL || pool != frames ||
        frames > DRIVER_FRAMES_MAX)
        return -EPROTO;
    d->frames = (uint32_t)frames;
    d->frame_size = d->ifc->frame_size;
    if (d->dev == NULL) {
        switch (d->ifc->driver) {
        case DRIVER_TAP:
            d->dev = &device_tap;
            break;
        case DRIVER_PACKET:
            d->dev = &device_packet;
            break;
        case DRIVER_XDP:
            d->dev = &device_xdp;
            break;
        default:
            return -EINVAL;
        }
    }
    if (d->nfds < d->dev->nfds) {
        c->log(c, LOG_ERR, "no descriptors of device %s", d->ifc->device);
        return -ENODEV;
    }

    const unsigned servers = wiring_servers(c->cfg, ids, COMPONENT_BELLS);
    for (unsigned i = 0; i < servers; i++) {
        enum edge edge = EDGE_NONE;

        if (SERVER_ID_KIND(ids[i]) == SERVER_IP) {
            edge = EDGE_IP_RETURN;
            if (SERVER_ID_INSTANCE(ids[i]) == 0)
                ip = ids[i];
        } else if (SERVER_ID_KIND(ids[i]) == SERVER_TCP) {
            edge = EDGE_TCP_RETURN;
        } else if (SERVER_ID_KIND(ids[i]) == SERVER_UDP) {
            edge = EDGE_UDP_RETURN;
        }
        if (edge == EDGE_NONE || d->nreturns == DRIVER_RETURNS)
            continue;
        r = component_rx(c, &d->returns[d->nreturns], edge, ids[i]);
        if (r < 0)
            return r;
        d->nreturns++;
    }
    r = component_tx(c, &d->to_ip, EDGE_DRIVER_IP, ip);
    if (r < 0)
        return r;
    r = component_rx(c, &d->from_ip, EDGE_IP_DRIVER, ip);
    if (r < 0)
        return r;

    d->fd = d->nfds > 0 ? d->fds[0] : -1;
    r = d->dev->attach(d, d->fds, d->nfds);
    if (r < 0) {
        c->log(c, LOG_ERR, "cannot take over device %s: %s", d->ifc->device, strerror(-r));
        return r;
    }
    r = recover(d);
    if (r == 0 && d->dev->resume != NULL)
        r = d->dev->resume(d);
    d->started = r == 0;
    return r;
}

void driver_use_device(struct component *c, const struct device_ops *dev)
{
    self(c)->dev = dev;
}

static void message(struct component *c, const struct rs_message *m, const int *fds)
{
    struct driver *d = self(c);

    if (m->op != RS_DEVICE || d->started) {
        for (unsigned i = 0; i < m->nfds; i++)
            close(fds[i]);
        return;
    }
    while (d->nfds > 0) /* told again */
        close(d->fds[--d->nfds]);
    for (unsigned i = 0; i < m->nfds; i++) {
        if (i < DRIVER_DEVICE_FDS)
            d->fds[d->nfds++] = fds[i];
        else
            close(fds[i]);
    }
}

/* --- work --- */

static unsigned take_returns(struct driver *d, struct chan_rx *rx)
{
    const struct frame_return *slot;
    unsigned n = 0;

    /* Returns are cheap, and frames are what keeps everybody else going: a larger quota. */
    while (n < 4 * WORK_QUOTA && (slot = chan_rx_peek(rx)) != NULL) {
        const struct frame_return r = *slot;

        n++;
        if (chan_rx_condemned(rx)) { /* the frame is lost: better than the server */
            chan_rx_keep(rx, d->now, NULL, 0);
            chan_rx_next(rx);
            continue;
        }
        chan_rx_next(rx);
        if (r.frame >= d->frames) {
            driver_count(d, DRIVER_RETURN_BAD, 1);
            continue;
        }
        const struct driver_frame *f = &d->frame[r.frame];
        if (f->owner != FRAME_OUT || f->generation != r.generation) {
            driver_count(d, DRIVER_RETURN_REPEATED, 1);
            continue;
        }
        driver_give(d, r.frame);
        driver_count(d, DRIVER_RETURNED, 1);
    }
    chan_rx_release(rx);
    return n;
}

/* Copies and checks the packet in `slot`. 0, or the counter of the reason for dropping it. */
static enum driver_counter tx_parse(struct driver *d, const void *slot, struct driver_tx *tx)
{
    const struct packet *p = &tx->p;

    if (!packet_copy(&tx->p, slot) || p->hdr_len < DRIVER_ETHERNET)
        return DRIVER_TX_BAD;
    for (unsigned i = 0; i < p->pieces; i++) {
        tx->piece[i] = region_resolve(d->c->map, &p->piece[i]);
        if (tx->piece[i] == NULL)
            return DRIVER_TX_POINTER;
    }
    return 0;
}

static unsigned transmit(struct driver *d)
{
    const void *slot;
    unsigned n = 0;
    bool queued = false;
    struct driver_tx tx;

    while (n < WORK_QUOTA && (slot = chan_rx_peek(&d->from_ip)) != NULL) {
        const bool condemned = chan_rx_condemned(&d->from_ip);
        const enum driver_counter bad = condemned ? DRIVER_QUARANTINED : tx_parse(d, slot, &tx);
        int r = 0;

        if (condemned)
            chan_rx_keep(&d->from_ip, d->now, NULL, 0);
        if (bad != 0) {
            driver_count(d, bad, 1);
        } else {
            r = d->dev->send(d, &tx);
            if (r == -EAGAIN) {
                if (!d->tx_blocked)
                    driver_count(d, DRIVER_TX_FULL, 1);
                d->tx_blocked = true;
                break;
            }
            if (r < 0) {
                driver_count(d, DRIVER_TX_ERROR, 1);
            } else {
                driver_count(d, DRIVER_TX_FRAMES, 1);
                driver_count(d, DRIVER_TX_BYTES, tx.p.hdr_len + tx.p.payload_len);
            }
        }
        d->tx_blocked = false;
        n++;
        chan_rx_next(&d->from_ip);
        if (r > 0)
            queued = true;
        else if (!queued)
            chan_rx_release(&d->from_ip); /* at once: at most one packet is sent twice */
    }
    if (queued) {
        d->dev->flush(d, d->from_ip.head);
        chan_rx_release(&d->from_ip);
        d->dev->flushed(d);
    }
    return n;
}

static unsigned work(struct component *c, uint64_t now)
{
    struct driver *d = self(c);
    unsigned n = 0;

    d->now = now;
    d->device_error = false;
    for (unsigned i = 0; i < d->nreturns; i++)
        n += take_returns(d, &d->returns[i]);
    d->rx_starved = false;
    n += d->dev->receive(d, WORK_QUOTA);
    item_end(c->block);
    driver_publish(d);
    n += transmit(d);

    __atomic_store_n(&c->block->excused, d->tx_blocked || d->device_error, __ATOMIC_RELAXED);
    uint64_t *counter = c->block->counter;
    counter[DRIVER_COUNT_FREE] = d->nfree;
    counter[DRIVER_COUNT_FILL] = d->count_fill;
    counter[DRIVER_COUNT_TX] = d->count_tx;
    counter[DRIVER_COUNT_OUT] = d->frames - d->nfree - d->count_fill - d->count_tx;
    return n;
}

static bool pending(struct component *c)
{
    struct driver *d = self(c);

    for (unsigned i = 0; i < d->nreturns; i++)
        if (chan_rx_pending(&d->returns[i]))
            return true;
    if (!d->tx_blocked && chan_rx_pending(&d->from_ip))
        return true;
    return d->dev->pending != NULL && d->dev->pending(d);
}

/* A device that is full or broken is tried again even if it never says anything. */
static uint64_t deadline(struct component *c)
{
    const struct driver *d = self(c);

    if (d->device_error)
        return d->now + RETRY_ERROR_NS;
    if (d->tx_blocked)
        return d->now + RETRY_BLOCKED_NS;
    return NEVER;
}

/* Level-triggered: so ask only for what we could do something about, or we would not sleep. */
static void before_sleep(struct component *c)
{
    struct driver *d = self(c);

    if (d->fd < 0)
        return;
    const uint32_t want = d->device_error ? 0 : d->dev->events(d);
    if (want == 0) {
        if (d->is_watched)
            c->unwatch(c, d->fd);
        d->is_watched = false;
    } else if (!d->is_watched || want != d->watched) {
        const int r = c->watch(c, d->fd, want);
        if (r < 0)
            c->log(c, LOG_ERR, "cannot wait for device %s: %s", d->ifc->device, strerror(-r));
        d->is_watched = r == 0;
        d->watched = want;
    }
}

static void ready(struct component *c, int fd, uint32_t events, uint64_t now)
{
    struct driver *d = self(c);

    (void)fd, (void)now;
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        driver_count(d, DRIVER_DEVICE_ERROR, 1);
        d->device_error = true;
    }
}

const struct component_ops driver_ops = {
    .kind = SERVER_DRIVER,
    .name = "driver",
    .size = sizeof(struct driver),
    .start = start,
    .work = work,
    .pending = pending,
    .deadline = deadline,
    .message = message,
    .ready = ready,
    .before_sleep = before_sleep,
};
