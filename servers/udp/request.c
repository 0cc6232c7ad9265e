/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Requests of applications.
 *
 * Effect and request number are committed in one record, then the slot's view follows. A request
 * that fails on a slot without a record has no effect and may be executed twice. Its generation is
 * then not taken over: the slot stays the application's until it asks for OP_CLOSE or releases it.
 *
 * OP_INHERIT moves a socket to another process, with the datagrams that wait in its receive ring.
 * It waits for datagrams that are still to be sent from the old one.
 */
#include "internal.h"
#include "servers/wire/route.h"

#include <errno.h>

enum { RING_MIN = 4096, RING_MAX = 8 << 20 };

static uint32_t ring_size(uint64_t want)
{
    uint32_t size = RING_MIN;

    while (size < want && size < RING_MAX)
        size <<= 1;
    return size;
}

static bool ring_alloc(struct block_map *m, struct ring_desc *r, uint32_t size)
{
    *r = (struct ring_desc){0};
    for (; size >= RING_MIN; size >>= 1) { /* memory is short: a smaller ring is better than none */
        const uint64_t off = block_alloc(m, size);
        if (off != 0) {
            r->block[0] = (struct ring_block){.off = off, .size = size};
            return true;
        }
    }
    return false;
}

static void ring_free(struct block_map *m, const struct ring_desc *r)
{
    for (int i = 0; i < 2; i++)
        if (r->block[i].size != 0)
            block_free(m, r->block[i].off, r->block[i].size);
}

/* A record for a slot that has none: rings and bases, not yet committed. */
static uint32_t sock_new(struct udp *u, unsigned app, uint32_t slot, const struct up_slot *req)
{
    struct app_state *a = &u->app[app];
    const struct down_slot *d = down_slot_of(u, app, slot);
    const uint64_t tx_end = req->tx_end & OFF_MASK;

    if (u->free_top == 0 || tx_end < d->tx_una)
        return NO_SOCK;
    const uint32_t i = u->free[u->free_top - 1];
    struct sock *s = &u->sock[i];
    struct ring_desc tx, rx;

    if (!ring_alloc(&a->up, &tx, ring_size(u->cfg->udp_sndbuf)))
        return NO_SOCK;
    if (!ring_alloc(&a->down, &rx, ring_size(u->cfg->udp_rcvbuf))) {
        ring_free(&a->up, &tx);
        return NO_SOCK;
    }
    u->free_top--;
    s->heir = 0;
    s->rec = (struct udp_record){
        .version = s->rec.version,
        .state = UDP_OPEN,
        .use = (uint16_t)(s->rec.use + 1),
        .app = (uint16_t)app,
        .moved_app = NO_APP,
        .app_generation = u->c->app[app].generation,
        .slot = slot,
        .generation = req->generation,
        .uid = u->c->app[app].uid,
        .tx_base = tx_end,
        .rx_base = d->rx_nxt & OFF_MASK,
        .rx_start = d->rx_nxt & OFF_MASK,
        .tx = tx,
        .rx = rx,
    };
    slot_list_insert(u, i);
    /* The record is still free for a successor: nothing refers to the journals. */
    shm_zero(&u->shm[i].deliver, sizeof u->shm[i].deliver);
    shm_zero(&u->shm[i].error, sizeof u->shm[i].error);
    return i;
}

/* Undoes sock_new(). The record that is committed says free, as before. */
static void sock_drop(struct udp *u, uint32_t i)
{
    struct sock *s = &u->sock[i];
    struct app_state *a = &u->app[s->rec.app];

    table_remove(u, i);
    slot_list_remove(u, i);
    ring_free(&a->up, &s->rec.tx);
    ring_free(&a->down, &s->rec.rx);
    s->rec.state = UDP_FREE;
    u->free[u->free_top++] = i;
}

void sock_close(struct udp *u, uint32_t i)
{
    table_remove(u, i);
    u->sock[i].rec.state = UDP_CLOSING;
}

void sock_finish(struct udp *u, uint32_t i)
{
    struct sock *s = &u->sock[i];
    const unsigned app = s->rec.app;

    if (s->rec.state != UDP_CLOSING || s->queued)
        return;
    const struct up_slot *up = sock_up(u, s);
    struct down_slot *d = sock_down(u, s);
    const bool free_already = d->state == SOCK_FREE && d->generation == s->rec.generation;

    if (!free_already) {
        if ((load_acquire(&up->tx_end) & OFF_MASK) > d->tx_una) {
            send_enqueue(u, i); /* close() does not take back what was sent */
            return;
        }
        if (!u->app[app].gone && load_acquire(&up->released) != s->rec.generation)
            return;
        /* The slot first: a successor that finds the record closing and the slot free ends here,
         * even when the application has begun to use the slot again. */
        shm_store_release(&d->state, (uint32_t)SOCK_FREE);
    }
    s->rec.state = UDP_FREE;
    record_commit(u, i);
    notify(u, app, s->rec.slot);
    sock_drop(u, i);
    count(u, UDP_SOCKETS, (uint64_t)-1);
    app_check_done(u, app);
}

static int check_local(const struct udp *u, const struct ip_addr *a)
{
    if (a->family != 4 && a->family != 6)
        return -EAFNOSUPPORT;
    if (ip_addr_any(a) || addr_multicast(a) || addr_broadcast(u->cfg, a) ||
        route_local(u->cfg, a) >= 0)
        return 0;
    return -EADDRNOTAVAIL;
}

/* Chooses or checks the port, and puts the name into the record (not into the tables). */
static int bind_name(struct udp *u, struct udp_record *rec, struct sock_name name)
{
    name.reserved = 0;
    if (name.port == 0) {
        name.port = table_ephemeral(u, rec, &name);
        if (name.port == 0)
            return -EADDRINUSE;
    } else {
        if (name.port < 1024) {
            const struct udp_app_shm *g = &u->app_shm[rec->app];
            if (g->generation != rec->app_generation ||
                (g->granted[name.port / 64] >> (name.port % 64) & 1) == 0)
                return -EACCES;
        }
        const int r = table_conflict(u, rec, &name);
        if (r != 0)
            return r;
    }
    rec->local = name;
    return 0;
}

static struct sock_name clean_name(const struct sock_name *n)
{
    struct sock_name c = {.addr = {.family = n->addr.family}, .port = n->port};

    /* Equal names compare equal by memcmp: unused bytes are zero. */
    if (n->addr.family == 4)
        c.addr.word[0] = n->addr.word[0];
    else if (n->addr.family == 6)
        memcpy(c.addr.v6, n->addr.v6, 16);
    return c;
}

static int do_bind(struct udp *u, uint32_t i, const struct up_slot *req)
{
    struct udp_record *rec = &u->sock[i].rec;
    const struct sock_name name = clean_name(&req->local);

    if (rec->local.port != 0)
        return -EINVAL;
    if (name.addr.family == 6 && req->arg0 == 1)
        rec->options |= UDP_V6ONLY; /* together with the name, as it decides about conflicts */
    int r = check_local(u, &name.addr);
    if (r != 0)
        return r;
    if ((req->flags & BIND_REUSEADDR) != 0)
        rec->options |= UDP_REUSEADDR;
    if ((req->flags & BIND_REUSEPORT) != 0)
        rec->options |= UDP_REUSEPORT;
    r = bind_name(u, rec, name);
    if (r == 0)
        table_insert(u, i);
    return r;
}

static int do_connect(struct udp *u, uint32_t i, const struct up_slot *req)
{
    struct udp_record *rec = &u->sock[i].rec;
    const struct sock_name remote = clean_name(&req->remote);
    struct route route;

    if (remote.addr.family == 0) {
        table_remove(u, i);
        rec->remote = (struct sock_name){0};
        if ((rec->options & UDP_AUTO_ADDRESS) != 0) {
            const uint8_t family = rec->local.addr.family;
            rec->local.addr = (struct ip_addr){.family = family};
            rec->options &= ~(uint32_t)UDP_AUTO_ADDRESS;
        }
        table_insert(u, i);
        return 0;
    }
    if (remote.addr.family != 4 && remote.addr.family != 6)
        return -EAFNOSUPPORT;
    if (remote.port == 0)
        return -EINVAL;
    const bool one_peer = !addr_multicast(&remote.addr);
    if (addr_broadcast(u->cfg, &remote.addr) && (rec->options & UDP_BROADCAST) == 0)
        return -EACCES;
    const int r = route_lookup(u->cfg, &remote.addr, &route);
    if (r != 0 && one_peer && !addr_broadcast(u->cfg, &remote.addr))
        return r;
    if (rec->local.port != 0 && rec->local.addr.family != remote.addr.family &&
        !(rec->local.addr.family == 6 && ip_addr_any(&rec->local.addr) &&
          (rec->options & UDP_V6ONLY) == 0))
        return -EAFNOSUPPORT;

    table_remove(u, i);
    if (rec->local.port == 0) {
        const struct sock_name any = {.addr = {.family = remote.addr.family}};
        const int bound = bind_name(u, rec, any);
        if (bound != 0)
            return bound;
    }
    /* Only a socket that was bound to no address gets one, and loses it with the connection. */
    if (r == 0 && (ip_addr_any(&rec->local.addr) || (rec->options & UDP_AUTO_ADDRESS) != 0)) {
        rec->local.addr = route.source;
        rec->options |= UDP_AUTO_ADDRESS;
    }
    rec->remote = remote;
    table_insert(u, i);
    return 0;
}

static int set_flag(struct udp_record *rec, uint32_t flag, uint64_t value)
{
    if (value != 0)
        rec->options |= flag;
    else
        rec->options &= ~flag;
    return 0;
}

/* A larger receive ring without copying: from the next datagram on a second block. The old one is
 * freed once everything in it was read (ring_settle). */
static int grow(struct udp *u, uint32_t i, uint64_t want)
{
    struct sock *s = &u->sock[i];
    const uint32_t size = ring_size(want);
    struct ring_desc *r = &s->rec.rx;

    if (r->block[1].size != 0 || size <= r->block[0].size)
        return 0; /* a smaller one is of no use to anybody */
    const uint64_t off = block_alloc(&u->app[s->rec.app].down, size);
    if (off == 0)
        return -ENOBUFS;
    r->switch_at = sock_down(u, s)->rx_nxt & OFF_MASK;
    r->block[1] = (struct ring_block){.off = off, .size = size};
    return 0;
}

void ring_settle(struct udp *u, uint32_t i)
{
    struct sock *s = &u->sock[i];
    struct ring_desc *r = &s->rec.rx;

    if (r->block[1].size == 0 || (load_acquire(&sock_up(u, s)->rx_read) & OFF_MASK) < r->switch_at)
        return;
    const struct ring_block old = r->block[0];
    *r = (struct ring_desc){.block = {r->block[1]}};
    /* Both descriptors name the same bytes from switch_at on; below nobody reads any more. The old
     * block is given to somebody else only after no descriptor names it. */
    record_commit(u, i);
    slot_publish(u, i);
    block_free(&u->app[s->rec.app].down, old.off, old.size);
}

static int do_option(struct udp *u, uint32_t i, const struct up_slot *req)
{
    struct udp_record *rec = &u->sock[i].rec;
    const uint64_t v = req->arg1;

    switch ((enum app_option)req->arg0) {
    case OPT_REUSEADDR:
        return set_flag(rec, UDP_REUSEADDR, v);
    case OPT_REUSEPORT:
        return set_flag(rec, UDP_REUSEPORT, v);
    case OPT_V6ONLY:
        return rec->local.port != 0 ? -EINVAL : set_flag(rec, UDP_V6ONLY, v);
    case OPT_BROADCAST:
        return set_flag(rec, UDP_BROADCAST, v);
    case OPT_RECVERR:
        return set_flag(rec, UDP_RECVERR, v);
    case OPT_PKTINFO: /* every datagram carries it; libsock decides what it shows */
        return set_flag(rec, UDP_PKTINFO, v);
    case OPT_TOS:
        if (v > 255)
            return -EINVAL;
        rec->tos = (uint8_t)v;
        return 0;
    case OPT_TTL:
        if (v > 255)
            return -EINVAL;
        rec->ttl = (uint8_t)v;
        return 0;
    case OPT_RCVBUF:
        return grow(u, i, v);
    case OPT_SNDBUF: /* datagrams leave the ring as soon as UDP has seen them */
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

void sock_moved(struct udp *u, uint32_t i)
{
    struct udp_record *rec = &u->sock[i].rec;

    if (rec->moved_app == NO_APP)
        return;
    const unsigned app = rec->moved_app;
    if (app < APPS_MAX && u->app[app].ready && rec->moved_slot < u->layout.n_udp &&
        slot_find(u, app, rec->moved_slot) == NO_SOCK) {
        struct down_slot *d = down_slot_of(u, app, rec->moved_slot);
        shm_store(&d->error, (uint32_t)ESTALE);
        shm_store_release(&d->state, (uint32_t)SOCK_CLOSED);
        notify(u, app, rec->moved_slot);
        app_check_done(u, app);
    }
    rec->moved_app = NO_APP;
    record_commit(u, i);
}

/* The socket (target_app, target_slot) becomes this slot. */
static int do_inherit(struct udp *u, unsigned app, uint32_t slot, const struct up_slot *req,
                      uint32_t *moved)
{
    const unsigned from = req->target_app;

    if (from >= APPS_MAX || !u->app[from].ready || u->app[from].gone ||
        req->target_slot >= u->layout.n_udp || req->token == 0)
        return -EBADF;
    const uint32_t i = slot_find(u, from, req->target_slot);
    if (i == NO_SOCK || u->sock[i].rec.state != UDP_OPEN ||
        u->sock[i].rec.generation != req->target_generation)
        return -EBADF;
    struct sock *s = &u->sock[i];
    const struct up_slot *old_up = sock_up(u, s);
    const struct down_slot *old_down = sock_down(u, s);
    if (load_acquire(&old_up->share_token) != req->token)
        return -EACCES;
    if (s->queued || (load_acquire(&old_up->tx_end) & OFF_MASK) > old_down->tx_una) {
        s->heir = 1 + ((uint32_t)app << 16 | slot);
        send_enqueue(u, i);
        return -EINPROGRESS;
    }

    struct app_state *a = &u->app[app];
    struct down_slot *d = down_slot_of(u, app, slot);
    const uint64_t tx_end = req->tx_end & OFF_MASK;
    const uint64_t end = old_down->rx_nxt & OFF_MASK;
    uint64_t read = load_acquire(&old_up->rx_read) & OFF_MASK;
    struct ring_desc tx, rx;

    if (tx_end < d->tx_una)
        return -EPROTO;
    if (read < s->rec.rx_base)
        read = s->rec.rx_base;
    /* What its reader says must be between two datagrams and inside the ring. */
    const uint64_t held = (uint64_t)s->rec.rx.block[0].size + s->rec.rx.block[1].size;
    if (read > end || end - read > held || (end - read) % sizeof(struct dgram) != 0)
        read = end;
    if (!ring_alloc(&a->up, &tx, s->rec.tx.block[0].size))
        return -ENOBUFS;
    if (!ring_alloc(&a->down, &rx, ring_size(held)) || rx.block[0].size < end - read) {
        ring_free(&a->down, &rx);
        ring_free(&a->up, &tx);
        return -ENOBUFS;
    }
    const uint64_t base = d->rx_nxt & OFF_MASK;
    for (uint64_t done = 0; done < end - read;) {
        uint64_t n, room;
        const uint8_t *src = ring_at((uint8_t *)app_down(u, from), &s->rec.rx, read + done, &n);
        uint8_t *dst = ring_at((uint8_t *)app_down(u, app), &rx, base + done, &room);
        if (n > room)
            n = room;
        if (n > end - read - done)
            n = end - read - done;
        shm_copy(dst, src, n); /* into a block that nothing names yet */
        done += n;
    }

    ring_free(&u->app[from].up, &s->rec.tx);
    ring_free(&u->app[from].down, &s->rec.rx);
    table_remove(u, i);
    slot_list_remove(u, i);
    s->rec.moved_app = (uint16_t)from;
    s->rec.moved_slot = s->rec.slot;
    s->rec.app = (uint16_t)app;
    s->rec.app_generation = u->c->app[app].generation;
    s->rec.slot = slot;
    s->rec.generation = req->generation;
    s->rec.use++; /* offsets in the queue to IP are of the old slot */
    s->rec.tx_base = tx_end;
    s->rec.rx_base = base;
    s->rec.rx_start = base + (end - read);
    s->rec.tx = tx;
    s->rec.rx = rx;
    slot_list_insert(u, i);
    table_insert(u, i);
    *moved = i;
    return 0;
}

/* Reply for a slot that has no record. */
static void reply(struct udp *u, unsigned app, uint32_t slot, uint32_t id, int result)
{
    struct down_slot *d = down_slot_of(u, app, slot);

    shm_store(&d->result, (int32_t)result);
    shm_store_release(&d->req_done, id);
    notify(u, app, slot);
}

void slot_settle(struct udp *u, unsigned app, uint32_t slot)
{
    const struct up_slot *up = up_slot_of(u, app, slot);
    struct down_slot *d = down_slot_of(u, app, slot);
    const uint32_t released = load_acquire(&up->released);

    if (released != load_relaxed(&up->generation) || load_relaxed(&up->req_id) != d->req_done ||
        (d->state == SOCK_FREE && d->generation == released))
        return;
    shm_store(&d->generation, released);
    shm_store_release(&d->state, (uint32_t)SOCK_FREE);
    notify(u, app, slot);
}

void request_serve(struct udp *u, unsigned app, uint32_t slot)
{
    const struct up_slot *up = up_slot_of(u, app, slot);
    struct down_slot *d = down_slot_of(u, app, slot);
    const uint32_t id = load_acquire(&up->req_id);

    if (id == d->req_done || u->app[app].gone)
        return;
    const struct up_slot req =
        *up; /* arguments are constant until we answer, or their owner lies */
    uint32_t i = slot_find(u, app, slot);
    int r;

    count(u, UDP_REQUESTS, 1);
    const uint64_t item = item_request(app, slot, id);
    item_begin(u->c->block, item);
    if (item_condemned(u->c->block, item)) {
        const struct item_part part = {&req, sizeof req};

        count(u, UDP_QUARANTINED, 1);
        quarantine_keep(u->c->own, item, u->now, &part, 1);
        r = -EIO;
    } else if (i != NO_SOCK && u->sock[i].rec.generation != req.generation) {
        r = -EPROTO; /* raised on a slot that is not free */
    } else if (i == NO_SOCK && req.op == OP_CLOSE) {
        /* Never bound, refused, or moved away: all that there is is the slot. */
        shm_store(&d->generation, req.generation);
        shm_store_release(&d->state, (uint32_t)SOCK_FREE);
        reply(u, app, slot, id, 0);
        return;
    } else if (i == NO_SOCK && req.op == OP_INHERIT) {
        r = do_inherit(u, app, slot, &req, &i);
        if (r == -EINPROGRESS)
            return; /* served again when the target's ring is empty */
    } else if (i == NO_SOCK &&
               (req.op == OP_BIND || req.op == OP_CONNECT_UDP || req.op == OP_SETOPT)) {
        i = sock_new(u, app, slot, &req);
        r = i == NO_SOCK          ? -ENOBUFS
            : req.op == OP_BIND   ? do_bind(u, i, &req)
            : req.op == OP_SETOPT ? do_option(u, i, &req)
                                  : do_connect(u, i, &req);
        if (r != 0 && i != NO_SOCK) {
            sock_drop(u, i);
            i = NO_SOCK;
        } else if (r == 0) {
            count(u, UDP_SOCKETS, 1);
        }
    } else if (i == NO_SOCK) {
        r = -EOPNOTSUPP;
    } else if (u->sock[i].rec.state != UDP_OPEN) {
        r = -EBADF;
    } else {
        switch ((enum app_op)req.op) {
        case OP_BIND:
            r = do_bind(u, i, &req);
            break;
        case OP_CONNECT_UDP:
            r = do_connect(u, i, &req);
            break;
        case OP_SETOPT:
            r = do_option(u, i, &req);
            break;
        case OP_CLOSE:
            sock_close(u, i);
            r = 0;
            break;
        default:
            r = -EOPNOTSUPP;
            break;
        }
    }
    if (r != 0)
        count(u, UDP_REQUESTS_REFUSED, 1);
    if (i == NO_SOCK) {
        reply(u, app, slot, id, r);
        return;
    }
    u->sock[i].rec.req_id = id;
    u->sock[i].rec.result = r;
    record_commit(u, i);
    slot_publish(u, i);
    sock_moved(u, i);
    sock_finish(u, i);
}
