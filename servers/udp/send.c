/* SPDX-License-Identifier: BSD-2-Clause
 *
 * From the send rings to IP.
 *
 * A datagram is copied from the application's ring to a buffer of the pool, so that its ring space
 * is free as soon as it was published. Order of the stores, for a batch of one socket:
 *
 *   payload in the buffer      nobody refers to it
 *   slots, then the tail       published: IP has them, whatever happens to us
 *   buffers' generations       they are in use; until then only this turn knows
 *   tx_una, tx_free            the application may write there again
 *
 * A slot carries the offset behind its datagram and the socket. A successor reads its predecessor's
 * last slots back and makes up for the stores that are missing: what was published is not sent
 * again, what was not published is still in the ring.
 */
#include "internal.h"
#include "servers/wire/checksum.h"
#include "servers/wire/route.h"

#include <errno.h>

/* In packet.reserved2 of a datagram: whose it is. */
struct mark {
    uint32_t sock;
    uint32_t use; /* 1 + udp_record.use; 0: not a datagram of a socket */
};
_Static_assert(sizeof(struct mark) == sizeof((struct packet){0}.reserved2), "mark");

enum { PAYLOAD_MAX_V4 = 65507, PAYLOAD_MAX_V6 = 65527 };

static uint16_t be16(uint16_t v)
{
    return __builtin_bswap16(v);
}

void send_enqueue(struct udp *u, uint32_t i)
{
    if (u->sock[i].queued)
        return;
    u->sock[i].queued = true;
    u->send_queue[(u->send_first + u->send_count++) % UDP_SOCKETS_MAX] = i;
}

static void progress(struct udp *u, uint32_t i, uint64_t end, bool wake)
{
    struct down_slot *d = sock_down(u, &u->sock[i]);

    shm_store_release(&d->tx_una, end);
    shm_store_release(&d->tx_free, end);
    if (wake)
        notify(u, u->sock[i].rec.app, u->sock[i].rec.slot);
}

static uint64_t tx_size(const struct sock *s)
{
    return s->rec.tx.block[0].size;
}

void send_recover(struct udp *u)
{
    const struct chan_tx *tx = &u->to_ip;
    /* Slots behind the tail may have been written and alias the oldest ones; a batch is much
     * smaller than half of the queue. */
    const uint64_t span = (tx->mask + 1) / 2;
    const uint64_t from = tx->tail > span ? tx->tail - span : 0;

    for (uint64_t n = from; n < tx->tail; n++) {
        struct packet p;
        struct mark m;

        memcpy(&p, chan_tx_slot(tx, n), offsetof(struct packet, hdr));
        memcpy(&m, p.reserved2, sizeof m);
        if ((p.flags & PACKET_UNREACHABLE) != 0 || m.use == 0 || p.chain >= u->buffers)
            continue;
        /* Published, so that the buffer is in use (or was: then its generation is newer). */
        if (u->buffer[p.chain].generation + 1 == p.chain_generation)
            shm_store(&u->buffer[p.chain].generation, p.chain_generation);
        if (m.sock >= u->socks || !u->sock[m.sock].live)
            continue;
        const struct sock *s = &u->sock[m.sock];
        const struct down_slot *d = sock_down(u, s);
        if (m.use != 1u + s->rec.use || p.head.src_index <= d->tx_una ||
            p.head.src_index - d->tx_una > tx_size(s))
            continue;
        progress(u, m.sock, p.head.src_index, true);
        count(u, UDP_OUT_REPLAYED, 1);
    }
    for (uint32_t i = 0; (u->c->start & START_COLD) && i < u->socks; i++) {
        const struct sock *k = &u->sock[i];

        if (!k->live)
            continue;
        const uint64_t end = load_acquire(&sock_up(u, k)->tx_end) & OFF_MASK;
        if (end > sock_down(u, k)->tx_una && end - sock_down(u, k)->tx_una <= tx_size(k))
            progress(u, i, end, true); /* waits to be sent, and brought us down perhaps */
    }
}

/* A buffer that nobody refers to and that this batch has not taken; UINT32_MAX: none. */
static uint32_t buffer_find(struct udp *u, const uint32_t *taken, unsigned n)
{
    for (uint32_t tried = 0; tried < u->buffers; tried++) {
        const uint32_t b = u->next_buffer++ % u->buffers;
        bool free = load_acquire(&u->buffer_done[b]) == load_relaxed(&u->buffer[b].generation);

        for (unsigned i = 0; free && i < n; i++)
            free = taken[i] != b;
        if (free)
            return b;
    }
    return UINT32_MAX;
}

bool send_buffer_free(const struct udp *u)
{
    for (uint32_t b = 0; b < u->buffers; b++)
        if (load_acquire(&u->buffer_done[b]) == load_relaxed(&u->buffer[b].generation))
            return true;
    return false;
}

/* IP rings after completions those who `want` something of its queue. More slots than there are can
 * never be had, so that this asks, and nothing else. */
static void buffer_wait(struct udp *u)
{
    (void)chan_tx_room(&u->to_ip, u->to_ip.mask + 2);
    fence_full(); /* pending() looks at the done table once more before we sleep */
}

/* Copies out of the send ring, over its end. */
static void ring_read(const struct udp *u, const struct sock *s, uint64_t off, uint8_t *dst,
                      uint64_t len, bool shared)
{
    uint8_t *up = u->c->map->entry[REGION_OF_APP(s->rec.app, APP_UP)].base;

    while (len > 0) {
        uint64_t n;
        const uint8_t *src = ring_at(up, &s->rec.tx, off, &n);
        if (n > len)
            n = len;
        if (shared)
            shm_copy(dst, src, n);
        else
            memcpy(dst, src, n);
        dst += n;
        off += n;
        len -= n;
    }
}

/* Where a datagram goes, and from where. 0 or -errno. */
static int destination(const struct udp *u, const struct udp_record *rec, const struct dgram *h,
                       struct sock_name *dst, struct ip_addr *src)
{
    struct route route;

    *dst = h->remote.addr.family == 0 ? rec->remote : h->remote;
    if (dst->addr.family == 0)
        return -EDESTADDRREQ;
    if (dst->addr.family != 4 && dst->addr.family != 6)
        return -EAFNOSUPPORT;
    if (dst->addr.family == 4) /* unused bytes are the application's */
        dst->addr = ip_addr_v4(dst->addr.v4);
    memset(dst->addr.reserved, 0, sizeof dst->addr.reserved);
    if (dst->port == 0 || rec->local.port == 0 || ip_addr_any(&dst->addr))
        return -EINVAL;
    if (rec->local.addr.family != dst->addr.family &&
        !(rec->local.addr.family == 6 && ip_addr_any(&rec->local.addr) &&
          (rec->options & UDP_V6ONLY) == 0))
        return -EAFNOSUPPORT;
    const bool broadcast = addr_broadcast(u->cfg, &dst->addr);
    if (broadcast && (rec->options & UDP_BROADCAST) == 0)
        return -EACCES;

    if (h->local.family == dst->addr.family && route_local(u->cfg, &h->local) >= 0) {
        *src = h->local; /* PKTINFO: the program chose */
    } else if (!ip_addr_any(&rec->local.addr) && !addr_multicast(&rec->local.addr) &&
               !addr_broadcast(u->cfg, &rec->local.addr)) {
        *src = rec->local.addr;
    } else if (route_lookup(u->cfg, &dst->addr, &route) == 0) {
        *src = route.source;
    } else if (broadcast || addr_multicast(&dst->addr)) {
        /* No route is needed on the link: the address of the first interface of this family. */
        unsigned i = 0;
        while (i < u->cfg->interfaces && u->cfg->interface[i].addr.family != dst->addr.family)
            i++;
        if (i == u->cfg->interfaces)
            return -ENETUNREACH;
        *src = u->cfg->interface[i].addr;
    } else {
        return -ENETUNREACH;
    }
    return 0;
}

static void build(struct udp *u, uint32_t i, struct packet *p, const struct dgram *h,
                  const struct sock_name *dst, const struct ip_addr *src, uint32_t buffer)
{
    const struct udp_record *rec = &u->sock[i].rec;
    const struct mark m = {.sock = i, .use = 1u + rec->use};
    const uint32_t udp_len = 8 + h->len;
    uint16_t field[4] = {be16(rec->local.port), be16(dst->port), be16((uint16_t)udp_len),
                         csum_fold_partial(csum_pseudo(src, &dst->addr, 17, udp_len))};

    *p = (struct packet){
        .hdr_len = sizeof field,
        .protocol = 17,
        .direction = RULE_OUT,
        .csum = CSUM_PARTIAL,
        .pieces = h->len != 0 ? 1 : 0,
        .origin = u->c->id,
        .payload_len = h->len,
        .chain = buffer,
        .chain_generation = u->buffer[buffer].generation + 1,
        .tos = h->tos != 0 ? h->tos : rec->tos,
        .ttl = h->ttl != 0 ? h->ttl : rec->ttl,
        .src = *src,
        .dst = dst->addr,
    };
    if (h->len != 0)
        p->piece[0] = (struct rptr){
            .off = u->pool_off + (uint64_t)buffer * UDP_BUFFER_SIZE,
            .len = h->len,
            .region = REGION_OF_SERVER(u->c->id),
            .generation = u->c->own->generation,
        };
    memcpy(p->reserved2, &m, sizeof m);
    memcpy(p->hdr, field, sizeof field);
}

struct batch {
    unsigned n;
    uint32_t buffer[SEND_BATCH];
    uint64_t end[SEND_BATCH];
};

enum send_end { SEND_EMPTY, SEND_MORE, SEND_NO_BUFFER, SEND_QUEUE_FULL };

/* Fills a batch from one ring. *una is where the next datagram begins. */
static enum send_end fill(struct udp *u, uint32_t i, struct batch *b, uint64_t *una)
{
    const struct sock *s = &u->sock[i];
    const uint64_t end = load_acquire(&sock_up(u, s)->tx_end) & OFF_MASK;

    /* A successor looks back half a queue. */
    const uint64_t half = (u->to_ip.mask + 1) / 2;
    const unsigned most = half < SEND_BATCH ? (unsigned)half : SEND_BATCH;

    for (unsigned turns = 0; turns < most; turns++) {
        struct dgram h;
        struct sock_name dst;
        struct ip_addr src;
        struct packet p;
        void *slot;

        if (*una >= end)
            return SEND_EMPTY;
        if (end - *una > tx_size(s) || end - *una < sizeof h)
            goto broken;
        const uint64_t item = item_numbered(ITEM_DATAGRAM, i, (uint32_t)*una);
        item_begin(u->c->block, item);
        ring_read(u, s, *una, (uint8_t *)&h, sizeof h, false);
        if (item_condemned(u->c->block, item)) {
            const struct item_part part = {&h, sizeof h};

            count(u, UDP_QUARANTINED, 1);
            quarantine_keep(u->c->own, item, u->now, &part, 1);
            goto broken;
        }
        if (h.len > PAYLOAD_MAX_V6 || DGRAM_SPACE(h.len) > end - *una)
            goto broken;
        const uint64_t next = *una + DGRAM_SPACE(h.len);
        int r = destination(u, &s->rec, &h, &dst, &src);
        if (r == 0 && dst.addr.family == 4 && h.len > PAYLOAD_MAX_V4)
            r = -EMSGSIZE;
        if (r != 0) {
            count(u, UDP_OUT_REFUSED, 1);
            sock_error(u, i, (uint32_t)-r, 0);
            *una = next;
            continue;
        }
        if (!chan_tx_room(&u->to_ip, 1))
            return SEND_QUEUE_FULL;
        const uint32_t buffer = buffer_find(u, b->buffer, b->n);
        if (buffer == UINT32_MAX)
            return SEND_NO_BUFFER;
        ring_read(u, s, *una + sizeof h, u->pool + (uint64_t)buffer * UDP_BUFFER_SIZE, h.len, true);
        build(u, i, &p, &h, &dst, &src, buffer);
        if (chan_tx_reserve(&u->to_ip, 0, next, 0, &slot) != CHAN_OK)
            return SEND_QUEUE_FULL;
        packet_put(slot, &p);
        chan_tx_commit(&u->to_ip);
        b->buffer[b->n] = buffer;
        b->end[b->n++] = next;
        *una = next;
        count(u, UDP_OUT_DATAGRAMS, 1);
        count(u, UDP_OUT_BYTES, h.len);
        continue;
    broken:
        /* Nobody can tell where the next datagram begins: all that is there is dropped. */
        count(u, UDP_RING_BROKEN, 1);
        sock_error(u, i, EPROTO, 0);
        *una = end;
    }
    return *una < end ? SEND_MORE : SEND_EMPTY;
}

static enum send_end pump(struct udp *u, uint32_t i, unsigned *sent)
{
    const struct sock *s = &u->sock[i];
    const uint64_t old = sock_down(u, s)->tx_una;
    struct batch b = {.n = 0};
    uint64_t una = old;
    const enum send_end r = fill(u, i, &b, &una);

    *sent = b.n;
    if (una == old)
        return r;
    chan_tx_publish(&u->to_ip);
    for (unsigned n = 0; n < b.n; n++) {
        struct udp_buffer *buffer = &u->buffer[b.buffer[n]];

        shm_store(&buffer->sock, i);
        shm_store(&buffer->end, b.end[n]);
        shm_store(&buffer->generation, buffer->generation + 1);
    }
    progress(u, i, una, false);
    /* Does a sender wait? One that saw the old tx_free has stored its tx_end before it armed its
     * waiter, so that behind the fence we see that tx_end. It waits when the ring cannot take its
     * datagram, or (poll) is more than half full. */
    fence_full();
    const uint64_t used = (load_relaxed(&sock_up(u, s)->tx_end) & OFF_MASK) - old;
    if (used > tx_size(s) / 2 || used + DGRAM_SPACE(PAYLOAD_MAX_V6) > tx_size(s))
        notify(u, s->rec.app, s->rec.slot);
    return r;
}

unsigned send_work(struct udp *u)
{
    unsigned handled = 0;

    if (u->starved)
        shm_store(&u->to_ip.out->want, 0u); /* buffer_wait() set it */
    u->starved = u->queue_full = false;
    for (uint32_t rounds = u->send_count; rounds > 0 && handled < 2 * WORK_QUOTA; rounds--) {
        const uint32_t i = u->send_queue[u->send_first];
        unsigned sent = 0;

        u->send_first = (u->send_first + 1) % UDP_SOCKETS_MAX;
        u->send_count--;
        u->sock[i].queued = false;
        if (!u->sock[i].live || !u->app[u->sock[i].rec.app].ready)
            continue;
        const enum send_end r = pump(u, i, &sent);
        handled += sent;
        if (r != SEND_EMPTY) {
            send_enqueue(u, i);
        } else {
            const uint32_t heir = u->sock[i].heir;

            u->sock[i].heir = 0;
            sock_finish(u, i);
            /* It waits for the last datagram to leave the old ring. */
            if (heir != 0 && u->app[(heir - 1) >> 16].ready)
                request_serve(u, (heir - 1) >> 16, (heir - 1) & 0xffff);
        }
        if (r == SEND_NO_BUFFER) {
            u->starved = true;
            buffer_wait(u);
            count(u, UDP_OUT_NO_BUFFER, 1);
            break;
        }
        if (r == SEND_QUEUE_FULL) {
            u->queue_full = true;
            count(u, UDP_OUT_QUEUE_FULL, 1);
            break;
        }
    }
    return handled;
}
