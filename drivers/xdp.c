/* SPDX-License-Identifier: BSD-2-Clause
 *
 * AF_XDP: the device takes and gives frames of our pool through four rings. rs has made socket and
 * rings and registered the pool; we map the rings by descriptor and go on at the indices we find.
 *
 * Moves between queues, and why each happens once although we may die after any store:
 *   free -> FILL     owner FILL with the ring's index, then the ring's producer index. A successor
 * frees a frame whose index is at or beyond the producer: the kernel never saw it. RX -> queue to
 * owner RX, then OUT (run.c), the queue's tail, then the ring's consumer index. A ip successor
 * passes entries whose frame is OUT already; RX goes back to FILL, as its entry is still there.
 *   queue from ip    the bytes are copied to a frame of ours, owner TX with the ring's index; then
 * the
 *         -> TX      journal (driver_state), the ring's producer index, the queue's head, journal
 * cleared. A successor that finds the journal valid and the ring advanced advances the head: a
 *                    packet is sent once.
 *   completion ->    owner FREE, then the ring's consumer index. A successor passes entries whose
 *         free       frame is free already; it does so before it takes any frame.
 *
 * So a restart loses nothing and sends nothing twice. Not promised: checksum offload. Frames of a
 * peer on the same machine must carry complete checksums (ethtool -K PEER tx off).
 */
#include "xdp.h"
#include "segment.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <syslog.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
enum { KICKS_MAX = 16 /* the kernel sends 32 frames a kick */ };

struct xdp {
    struct xdp_rings ring;
    int fd;
    uint32_t fill_prod, tx_prod; /* private: may be ahead of what is published */
};
_Static_assert(sizeof(struct xdp) <= DRIVER_DEVICE_STATE, "fits");

static struct xdp *self(struct driver *d)
{
    return (struct xdp *)(void *)d->device;
}

void xdp_use_rings(struct driver *d, const struct xdp_rings *rings, int fd)
{
    *self(d) = (struct xdp){
        .ring = *rings,
        .fd = fd,
        .fill_prod = load_relaxed(rings->fill.producer),
        .tx_prod = load_relaxed(rings->tx.producer),
    };
}

static int map_ring(int fd, struct xdp_ring *r, const struct xdp_ring_offset *o, uint64_t page_off,
                    uint32_t entries, size_t entry_size)
{
    uint8_t *p = mmap(NULL, o->desc + entries * entry_size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, fd, (off_t)page_off);

    if (p == MAP_FAILED)
        return -errno;
    r->producer = (uint32_t *)(void *)(p + o->producer);
    r->consumer = (uint32_t *)(void *)(p + o->consumer);
    r->entry = p + o->desc;
    r->mask = entries - 1;
    return 0;
}

static int attach(struct driver *d, const int *fds, unsigned nfds)
{
    struct xdp_mmap_offsets o;
    struct xdp_rings r;
    socklen_t len = sizeof o;
    int rc;

    (void)nfds;
    if (getsockopt(fds[0], SOL_XDP, XDP_MMAP_OFFSETS, &o, &len) < 0)
        return -errno;
    if (len != sizeof o)
        return -EPROTO;
    /* The kernel does not tell the sizes of rings: device_open_xdp() makes them of the pool's. */
    rc = map_ring(fds[0], &r.fill, &o.fr, XDP_UMEM_PGOFF_FILL_RING, d->frames, sizeof(uint64_t));
    if (rc == 0)
        rc = map_ring(fds[0], &r.completion, &o.cr, XDP_UMEM_PGOFF_COMPLETION_RING, d->frames,
                      sizeof(uint64_t));
    if (rc == 0)
        rc = map_ring(fds[0], &r.rx, &o.rx, XDP_PGOFF_RX_RING, d->frames, sizeof(struct xdp_desc));
    if (rc == 0)
        rc = map_ring(fds[0], &r.tx, &o.tx, XDP_PGOFF_TX_RING, d->frames, sizeof(struct xdp_desc));
    if (rc == 0)
        xdp_use_rings(d, &r, fds[0]);
    return rc;
}

/* --- take-over --- */

static bool at_or_beyond(uint32_t index, uint32_t limit)
{
    return (int32_t)(index - limit) >= 0;
}

static enum frame_owner salvage(struct driver *d, unsigned n)
{
    struct driver_frame *f = &d->frame[n];
    struct xdp *x = self(d);

    switch (f->owner) {
    case FRAME_FILL:
        return at_or_beyond((uint32_t)f->index, x->fill_prod) ? FRAME_FREE : FRAME_FILL;
    case FRAME_TX:
        return at_or_beyond((uint32_t)f->index, x->tx_prod) ? FRAME_FREE : FRAME_TX;
    default:
        /* Its RX entry is there still, and will be read again. The index may be of the queue to ip:
         * one that says "the kernel saw it" comes before the owner. */
        shm_keep(&f->index, (uint64_t)(x->fill_prod - 1));
        return FRAME_FILL;
    }
}

static void reap_completions(struct driver *d)
{
    struct xdp_ring *r = &self(d)->ring.completion;
    const uint32_t produced = load_acquire(r->producer);
    uint32_t i = load_relaxed(r->consumer);

    if (i == produced)
        return;
    for (; i != produced; i++) {
        const uint64_t addr = ((const uint64_t *)r->entry)[i & r->mask];
        const uint64_t n = addr / d->frame_size;

        if (n < d->frames && d->frame[n].owner == FRAME_TX)
            driver_give(d, (unsigned)n);
    }
    shm_store_release(r->consumer, i);
}

/* Frames to the device, except for a reserve to send with: acknowledgements must be able to leave
 * although the stack holds everything else. */
static void refill(struct driver *d)
{
    struct xdp *x = self(d);
    struct xdp_ring *r = &x->ring.fill;
    const uint32_t reserve = d->count_tx < d->frames / 4 ? d->frames / 4 - d->count_tx : 0;

    if (d->nfree <= reserve)
        return;
    while (d->nfree > reserve && x->fill_prod - load_acquire(r->consumer) <= r->mask) {
        const int n = driver_take(d, FRAME_FILL, x->fill_prod);

        shm_store(&((uint64_t *)r->entry)[x->fill_prod & r->mask], (uint64_t)n * d->frame_size);
        x->fill_prod++;
        /* In batches: a driver that dies early again and again gets on all the same. */
        if (x->fill_prod % DRIVER_RX_BATCH == 0)
            shm_store_release(r->producer, x->fill_prod);
    }
    shm_store_release(r->producer, x->fill_prod);
}

/* Lets the kernel send. False: it has not taken everything, try again later. */
static bool kick(struct xdp *x)
{
    const struct xdp_ring *r = &x->ring.tx;

    for (unsigned i = 0; i < KICKS_MAX && load_acquire(r->consumer) != x->tx_prod; i++) {
        if (x->fd < 0 || sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0 || errno == EAGAIN)
            continue;
        break; /* ENOBUFS, EBUSY: full; ENETDOWN, ENXIO: link or device gone */
    }
    return load_acquire(r->consumer) == x->tx_prod;
}

static int resume(struct driver *d)
{
    struct xdp *x = self(d);
    struct xdp_ring *rx = &x->ring.rx;
    const uint32_t produced = load_acquire(rx->producer);
    uint32_t i = load_relaxed(rx->consumer);

    /* Entries that the predecessor had moved to the queue to ip and not yet passed. */
    for (; i != produced; i++) {
        const struct xdp_desc *e = &((const struct xdp_desc *)rx->entry)[i & rx->mask];
        const uint64_t n = e->addr / d->frame_size;

        if (n < d->frames && d->frame[n].owner != FRAME_OUT)
            break;
    }
    shm_store_release(rx->consumer, i);

    struct driver_state *s = d->shared;
    if (s->journal_valid != 0) {
        if (x->tx_prod == s->ring_to) {
            while (chan_rx_index(&d->from_ip) < s->head_to && chan_rx_peek(&d->from_ip) != NULL)
                chan_rx_next(&d->from_ip);
            chan_rx_release(&d->from_ip);
        }
        shm_store(&s->journal_valid, 0u);
    }
    reap_completions(d);
    refill(d);
    if (!kick(x))
        d->tx_blocked = true;
    return 0;
}

/* --- receive --- */

static unsigned receive(struct driver *d, unsigned quota)
{
    struct xdp *x = self(d);
    struct xdp_ring *r = &x->ring.rx;
    const uint32_t produced = load_acquire(r->producer);
    const uint32_t begin = load_relaxed(r->consumer);
    uint32_t i = begin;

    for (; i != produced && i - begin < quota; i++) {
        const struct xdp_desc e = ((const struct xdp_desc *)r->entry)[i & r->mask];
        const uint64_t n = e.addr / d->frame_size;
        const uint32_t off = (uint32_t)(e.addr % d->frame_size), room = d->frame_size - off;

        if (!driver_room(d)) {
            driver_count(d, DRIVER_RX_STARVED, 1);
            d->rx_starved = true;
            break;
        }
        if (n >= d->frames || d->frame[n].owner != FRAME_FILL) {
            driver_count(d, DRIVER_RX_BAD, 1);
            continue;
        }
        driver_frame_begin(d, (unsigned)n);
        if (driver_frame_condemned(d, (unsigned)n)) {
            driver_give(d, (unsigned)n);
            continue;
        }
        /* From here on the record's index is of the other queue. */
        shm_store(&d->frame[n].owner, (uint8_t)FRAME_RX);
        driver_receive(d, (unsigned)n, off, e.len <= room ? e.len : room, 0, CSUM_NONE);
    }
    if (i != begin) {
        driver_publish(d);
        shm_store_release(r->consumer, i);
    }
    reap_completions(d);
    refill(d);
    if (load_acquire(x->ring.tx.consumer) != x->tx_prod)
        d->tx_blocked = !kick(x);
    return i - begin;
}

/* --- send --- */

static int send_packet(struct driver *d, const struct driver_tx *tx)
{
    struct xdp *x = self(d);
    const int count = segment_count(tx);

    if (count < 0)
        return count;
    if ((uint32_t)count > d->frames / 4)
        return -EMSGSIZE;
    if (d->nfree < (uint32_t)count || d->count_tx + (uint32_t)count > d->frames / 2) {
        reap_completions(d);
        if (d->nfree < (uint32_t)count || d->count_tx + (uint32_t)count > d->frames / 2)
            return -EAGAIN;
    }
    for (unsigned i = 0; i < (unsigned)count; i++) {
        struct segment s;

        segment_make(tx, i, &s);
        if (s.hdr_len + s.payload > d->ifc->mtu + DRIVER_ETHERNET)
            return -EMSGSIZE; /* the first already: all are of one size, but the last */
        const int n = driver_take(d, FRAME_TX, x->tx_prod);
        uint8_t *to = driver_frame_data(d, (unsigned)n);
        shm_copy(to, s.hdr, s.hdr_len);
        to += s.hdr_len;
        for (unsigned v = 0; v < s.niov; v++) {
            shm_copy(to, s.iov[v].iov_base, s.iov[v].iov_len);
            to += s.iov[v].iov_len;
        }
        const struct xdp_desc e = {.addr = (uint64_t)n * d->frame_size,
                                   .len = s.hdr_len + s.payload};
        struct xdp_ring *r = &x->ring.tx;
        shm_copy(&((struct xdp_desc *)r->entry)[x->tx_prod & r->mask], &e, sizeof e);
        x->tx_prod++;
    }
    return 1;
}

static void flush(struct driver *d, uint64_t head_to)
{
    struct xdp *x = self(d);
    struct driver_state *s = d->shared;

    shm_keep(&s->head_to, head_to);
    shm_keep(&s->ring_to, x->tx_prod);
    shm_keep(&s->journal_valid, 1u);
    shm_store_release(x->ring.tx.producer, x->tx_prod);
}

static void flushed(struct driver *d)
{
    shm_keep(&d->shared->journal_valid, 0u);
    if (!kick(self(d)))
        d->tx_blocked = true;
}

static bool pending(struct driver *d)
{
    const struct xdp_rings *r = &self(d)->ring;

    if (!d->rx_starved && load_acquire(r->rx.producer) != load_relaxed(r->rx.consumer))
        return true;
    return d->tx_blocked &&
           load_acquire(r->completion.producer) != load_relaxed(r->completion.consumer);
}

static uint32_t events(struct driver *d)
{
    return d->rx_starved ? 0 : EPOLLIN;
}

const struct device_ops device_xdp = {
    .name = "xdp",
    .kind = DRIVER_XDP,
    .nfds = 4,
    .attach = attach,
    .salvage = salvage,
    .resume = resume,
    .receive = receive,
    .send = send_packet,
    .flush = flush,
    .flushed = flushed,
    .pending = pending,
    .events = events,
};
