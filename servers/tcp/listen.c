/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Listeners. What the peer sees as one listener is a group: one or more listening sockets, in one
 * or more processes, that share its connections. A connection that nobody has claimed belongs to
 * the group; its early data waits in a block in the down region of a member. OP_ACCEPT makes a
 * claim; claims and connections meet in the order in which they came, and that order is in the
 * records. When another process claims, what has arrived is copied to its own region.
 *
 * Groups are private. A successor builds them from the records.
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>

struct tcp_group *tcp_group_get(struct tcp *t, uint32_t id, bool create)
{
    struct tcp_group **head = &t->group[id % TCP_GROUP_HASH];
    for (struct tcp_group *g = *head; g != NULL; g = g->next)
        if (g->id == id)
            return g;
    if (!create)
        return NULL;
    struct tcp_group *g = calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    g->id = id;
    g->members = NO_CONN;
    for (unsigned i = 0; i < QUEUES; i++)
        g->queue[i].first = g->queue[i].last = NO_CONN;
    g->next = *head;
    *head = g;
    if (id > t->group_last)
        t->group_last = id;
    return g;
}

/* A number that no group has: they may have gone round. */
uint32_t tcp_group_fresh(struct tcp *t)
{
    do
        t->group_last++;
    while (t->group_last == TCP_GROUP_MOVERS || tcp_group_get(t, t->group_last, false) != NULL);
    return t->group_last;
}

static void group_drop(struct tcp *t, struct tcp_group *g)
{
    for (unsigned i = 0; i < QUEUES; i++)
        if (g->queue[i].count)
            return;
    if (g->members != NO_CONN)
        return;
    struct tcp_group **at = &t->group[g->id % TCP_GROUP_HASH];
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    free(g);
}

/* Who sleeps in accept() waits for the listener: which of its claims is served first depends on the
 * order in which we happened to see them. */
static void group_news(struct tcp *t, const struct tcp_group *g)
{
    for (uint32_t i = g->members; i != NO_CONN; i = t->conn[i].member_next)
        tcp_conn_news(t, &t->conn[i]);
}

static void publish_pending(struct tcp *t, struct tcp_group *g)
{
    for (uint32_t i = g->members; i != NO_CONN; i = t->conn[i].member_next) {
        struct tcp_conn *l = &t->conn[i];
        struct down_slot *d = tcp_app_down_slot(t, l->r.app, l->r.slot);
        if (d == NULL || load_relaxed(&d->pending) == g->queue[QUEUE_PENDING].count)
            continue;
        shm_store_release(&d->pending, g->queue[QUEUE_PENDING].count);
        tcp_conn_news(t, l);
    }
}

/* In the order of r.order: at the end but for a successor, who meets records in any order. */
void tcp_group_enqueue(struct tcp *t, struct tcp_conn *k, enum tcp_queue q)
{
    struct tcp_group *g = tcp_group_get(t, k->r.group, true);
    if (g == NULL)
        return;
    uint32_t after = g->queue[q].last;
    while (after != NO_CONN && t->conn[after].r.order > k->r.order)
        after = t->conn[after].queue_prev;
    k->queue_prev = after;
    k->queue_next = after == NO_CONN ? g->queue[q].first : t->conn[after].queue_next;
    if (k->queue_next != NO_CONN)
        t->conn[k->queue_next].queue_prev = k->idx;
    else
        g->queue[q].last = k->idx;
    if (after != NO_CONN)
        t->conn[after].queue_next = k->idx;
    else
        g->queue[q].first = k->idx;
    g->queue[q].count++;
    k->queued = (uint8_t)q;
}

static void dequeue(struct tcp *t, struct tcp_group *g, struct tcp_conn *k)
{
    unsigned q = k->queued;
    if (k->queue_prev != NO_CONN)
        t->conn[k->queue_prev].queue_next = k->queue_next;
    else
        g->queue[q].first = k->queue_next;
    if (k->queue_next != NO_CONN)
        t->conn[k->queue_next].queue_prev = k->queue_prev;
    else
        g->queue[q].last = k->queue_prev;
    g->queue[q].count--;
    k->queued = QUEUE_NONE;
    k->queue_next = k->queue_prev = NO_CONN;
}

void tcp_listen_drop(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_group *g = k->queued ? tcp_group_get(t, k->r.group, false) : NULL;
    if (g == NULL)
        return;
    dequeue(t, g, k);
    publish_pending(t, g);
    group_drop(t, g);
}

void tcp_group_join(struct tcp *t, struct tcp_conn *l)
{
    struct tcp_group *g = tcp_group_get(t, l->r.group, true);
    if (g == NULL)
        return;
    l->member_next = g->members;
    g->members = l->idx;
    publish_pending(t, g);
}

/* The handshake is complete. Without a block for early data it is as if the ACK had been lost. */
void tcp_listen_established(struct tcp *t, struct tcp_conn *k, bool bare)
{
    if (bare && tcp_listen_deferred(t, k)) {
        k->deferred = true;
        return;
    }
    struct tcp_group *g = tcp_group_get(t, k->r.group, false);
    if (g == NULL || g->members == NO_CONN) {
        tcp_conn_abort(t, k, 0);
        return;
    }
    if (g->queue[QUEUE_PENDING].count > t->conn[g->members].r.backlog &&
        g->queue[QUEUE_CLAIMS].count == 0) {
        tcp_count(t, TCP_C_DROP_BACKLOG);
        return;
    }
    int rc = -ENOBUFS;
    for (uint32_t i = g->members; rc && i != NO_CONN; i = t->conn[i].member_next)
        rc = tcp_conn_alloc_rx(t, k, t->conn[i].r.app);
    if (rc) {
        tcp_count(t, TCP_C_DROP_NO_BLOCK);
        return;
    }
    tcp_input_established(t, k);
    dequeue(t, g, k);
    tcp_group_enqueue(t, k, QUEUE_PENDING);
    publish_pending(t, g);
    tcp_group_serve(t, g);
}

/* --- moving a connection to a socket --- */

static void copy_ring(const uint8_t *from, const struct tcp_ring *fr, uint64_t fbase, uint8_t *to,
                      const struct tcp_ring *tr, uint64_t tbase, uint64_t start, uint64_t end)
{
    while (start < end) {
        uint64_t c1, c2, o1 = ring_offset(fr, fbase + start, start, &c1),
                         o2 = ring_offset(tr, tbase + start, start, &c2);
        uint64_t n = end - start;
        n = n < c1 ? n : c1;
        n = n < c2 ? n : c2;
        shm_copy(to + o2, from + o1, n);
        start += n;
    }
}

/* Moves the received data to a block of another application. The record is not yet committed:
 * *old is what the caller releases after the commit. */
static int move_rx(struct tcp *t, struct tcp_conn *k, unsigned app, uint64_t new_base,
                   struct tcp_ring *old, unsigned *old_app)
{
    struct tcp_ring from = k->r.rx;
    unsigned from_app = k->r.rx_app;
    uint64_t from_base = k->r.rx_base;
    uint8_t want = k->r.rcvbuf_shift;
    /* The same size: what was advertised has its place. */
    k->r.rcvbuf_shift = (uint8_t)ring_shift(&from);
    *old = (struct tcp_ring){.switch_at = UINT64_MAX};
    *old_app = TCP_NO_APP;
    tcp_app_ref(t, from_app, 1); /* tcp_conn_alloc_rx() drops one */
    int rc = tcp_conn_alloc_rx(t, k, app);
    k->r.rcvbuf_shift = want;
    if (rc) {
        tcp_app_ref(t, from_app, -1);
        return rc;
    }
    const uint8_t *src = (const uint8_t *)t->app[from_app]->down;
    uint8_t *dst = (uint8_t *)t->app[app]->down;
    copy_ring(src, &from, from_base, dst, &k->r.rx, new_base, k->rx_read, k->rx_nxt);
    for (unsigned i = 0; i < k->n_ooo; i++)
        copy_ring(src, &from, from_base, dst, &k->r.rx, new_base,
                  (uint64_t)conn_rx_rel(k, k->ooo[i].start),
                  (uint64_t)conn_rx_rel(k, k->ooo[i].end));
    *old = from;
    *old_app = from_app;
    return 0;
}

static void release_old(struct tcp *t, struct tcp_ring *old, unsigned app)
{
    if (app == TCP_NO_APP)
        return;
    tcp_block_release(&t->app[app]->down_space, old);
    tcp_app_ref(t, app, -1);
}

/* A base for the receive counter: not below what the slot has shown, and such that relative
 * offsets keep their places in the block. */
uint64_t tcp_rx_base_for(const struct down_slot *d, const struct tcp_ring *r)
{
    uint64_t size = ring_bytes(r), now = load_relaxed(&d->rx_nxt) & OFF_MASK;
#ifdef EFT_BREAK_COUNTER_RESET
    now = 0; /* negative control: each use of the slot begins at 0 */
#endif
    return (now + size - 1) & ~(size - 1);
}

int tcp_listen_assign(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                      const struct up_slot *up, uint32_t req_id)
{
    struct down_slot *d = tcp_app_down_slot(t, app, slot);
    struct tcp_ring old = {.switch_at = UINT64_MAX};
    unsigned old_app = TCP_NO_APP;
    uint64_t tx_base = up->tx_base;
    if (tx_base > 1ull << 62 || tx_base < (load_relaxed(&d->tx_free) & OFF_MASK))
        return -EINVAL;
    struct tcp_group *g = tcp_group_get(t, k->r.group, false);
    uint32_t before = t->app[app]->slot_conn[slot];
    uint64_t rx_base = tcp_rx_base_for(d, &k->r.rx);
    tcp_conn_attach(t, k, app, slot);
    int rc = tcp_conn_alloc_tx(t, k);
    if (rc == 0 && k->r.rx_app != app) {
        rc = move_rx(t, k, app, rx_base, &old, &old_app);
        if (rc)
            tcp_ring_release(&t->app[app]->up_space, k->r.tx.page[0], k->r.tx.shift[0]);
    }
    if (rc) {
        k->r.tx = (struct tcp_ring){.switch_at = UINT64_MAX};
        tcp_conn_detach(t, k);
        t->app[app]->slot_conn[slot] = before;
        return rc;
    }
    if (g != NULL)
        dequeue(t, g, k);
    k->r.generation = up->generation;
    k->r.tx_base = tx_base;
    k->r.rx_base = rx_base;
    k->r.req_id = req_id;
    k->r.result = 0;
    k->r.flags &= ~(uint32_t)TCPF_WAITING;
    k->r.group = 0;
    /* Effect and request id in one store. */
    tcp_record_commit(t, k);
    release_old(t, &old, old_app);
    tcp_conn_publish(t, k);
    if (g != NULL) {
        publish_pending(t, g);
        group_news(t, g);
    }
    tcp_conn_sync(t, k);
    return 0;
}

/* OP_INHERIT of a connection: only with an empty send ring, as its bytes lie in memory that the old
 * owner writes (-EAGAIN: the heir waits). */
int tcp_conn_move(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                  const struct up_slot *up, uint32_t req_id)
{
    struct down_slot *d = tcp_app_down_slot(t, app, slot);
    /* The old owner says by these counters alone what it has read and written: of the last of it
     * nobody has told us, or our turn for it has not come. */
    tcp_conn_sync(t, k);
    if (!k->ready || !conn_synchronised(k) || k->r.app == TCP_NO_APP || conn_has_fin(k))
        return -ENOTCONN;
    if (k->tx_free != k->tx_end || k->chain_first != 0)
        return -EAGAIN;
    if (up->tx_base > 1ull << 62 || up->tx_base < (load_relaxed(&d->tx_free) & OFF_MASK))
        return -EINVAL;
    struct tcp_ring old_rx, old_tx = k->r.tx;
    unsigned old_rx_app, old_app = k->r.app;
    uint32_t old_slot = k->r.slot;
    uint64_t rx_base = tcp_rx_base_for(d, &k->r.rx);
    tcp_conn_detach(t, k);
    tcp_conn_attach(t, k, app, slot);
    int rc = tcp_conn_alloc_tx(t, k);
    if (rc == 0) {
        rc = move_rx(t, k, app, rx_base, &old_rx, &old_rx_app);
        if (rc)
            tcp_ring_release(&t->app[app]->up_space, k->r.tx.page[0], k->r.tx.shift[0]);
    }
    if (rc) {
        k->r.tx = old_tx;
        tcp_conn_detach(t, k);
        tcp_conn_attach(t, k, old_app, old_slot);
        return rc;
    }
    k->r.generation = up->generation;
    k->r.tx_base = up->tx_base - k->tx_una;
    k->r.rx_base = rx_base;
    k->r.rx_start = k->rx_read; /* reading goes on behind what the old owner read */
    k->r.req_id = req_id;
    k->r.result = 0;
    tcp_record_commit(t, k);
    release_old(t, &old_rx, old_rx_app);
    tcp_block_release(&t->app[old_app]->up_space, &old_tx);
    /* For the old owner the socket is gone; its slot goes when it closes it. */
    struct down_slot *od = tcp_app_down_slot(t, old_app, old_slot);
    shm_store_release(&od->state, (uint32_t)SOCK_CLOSED);
    tcp_conn_publish(t, k);
    return 0;
}

/* A claim ends without a connection. */
static void claim_fails(struct tcp *t, struct tcp_conn *claim, int result)
{
    claim->r.kind = TCP_KIND_DEAD;
    claim->r.flags |= TCPF_CLOSED_BY_APP;
    tcp_conn_reply(t, claim, result);
    tcp_conn_detach_try(t, claim);
}

/* Heirs whose connection still had something in its old owner's send ring. */
void tcp_movers_serve(struct tcp *t)
{
    struct tcp_group *g = tcp_group_get(t, TCP_GROUP_MOVERS, false);
    for (uint32_t i = g ? g->queue[QUEUE_CLAIMS].first : NO_CONN, next; i != NO_CONN; i = next) {
        struct tcp_conn *claim = &t->conn[i];
        next = claim->queue_next;
        unsigned app = claim->r.app;
        uint32_t slot = claim->r.slot;
        struct up_slot up;
        memcpy(&up, tcp_app_up_slot(t, app, slot), sizeof up);
        up.generation = claim->r.generation;
        up.req_id = claim->r.req_id;
        struct tcp_conn *k = tcp_request_target(t, app, &up);
        int rc = k ? tcp_conn_move(t, k, app, slot, &up, up.req_id) : -EBADF;
        if (rc == -EAGAIN)
            continue;
        dequeue(t, g, claim);
        if (rc == 0) {
            tcp_conn_detach(t, claim);
            tcp_conn_free(t, claim);
        } else {
            claim_fails(t, claim, rc);
        }
    }
    if (g != NULL)
        group_drop(t, g);
}

/* Connections meet claims, oldest first. */
void tcp_group_serve(struct tcp *t, struct tcp_group *g)
{
    while (g->queue[QUEUE_CLAIMS].count && g->queue[QUEUE_PENDING].count) {
        struct tcp_conn *claim = &t->conn[g->queue[QUEUE_CLAIMS].first];
        struct tcp_conn *k = &t->conn[g->queue[QUEUE_PENDING].first];
        unsigned app = claim->r.app;
        uint32_t slot = claim->r.slot;
        const struct up_slot *up = tcp_app_up_slot(t, app, slot);
        dequeue(t, g, claim);
        int rc = -EBADF;
        if (up != NULL && load_acquire(&up->generation) == claim->r.generation) {
            struct up_slot copy;
            memcpy(&copy, up, sizeof copy);
            copy.generation = claim->r.generation;
            rc = tcp_listen_assign(t, k, app, slot, &copy, claim->r.req_id);
        }
        if (rc) {
            claim_fails(t, claim, rc); /* the connection stays */
            group_news(t, g);
            continue;
        }
        /* The connection has the slot and the reply; the claim goes without a word. */
        tcp_conn_detach(t, claim);
        tcp_conn_free(t, claim);
    }
    /* A successor has met the connections one by one: here all of them are known. */
    publish_pending(t, g);
}

/* --- a listening socket goes --- */

static void rehome(struct tcp *t, struct tcp_group *g, struct tcp_conn *k)
{
    struct tcp_ring old;
    unsigned old_app;
    for (uint32_t i = g->members; i != NO_CONN; i = t->conn[i].member_next) {
        if (move_rx(t, k, t->conn[i].r.app, k->r.rx_base, &old, &old_app) == 0) {
            tcp_record_commit(t, k);
            release_old(t, &old, old_app);
            return;
        }
    }
    tcp_conn_abort(t, k, 0);
}

void tcp_group_leave(struct tcp *t, struct tcp_conn *l)
{
    struct tcp_group *g = tcp_group_get(t, l->r.group, false);
    if (g == NULL)
        return;
    uint32_t *at = &g->members;
    while (*at != NO_CONN && *at != l->idx)
        at = &t->conn[*at].member_next;
    if (*at == l->idx)
        *at = l->member_next;
    l->member_next = NO_CONN;
    bool last = g->members == NO_CONN;
    for (uint32_t i = g->queue[QUEUE_PENDING].first, next; i != NO_CONN; i = next) {
        struct tcp_conn *k = &t->conn[i];
        next = k->queue_next;
        if (last) {
            dequeue(t, g, k);
            tcp_conn_abort(t, k, 0);
        } else if (k->r.rx_app == l->r.app) {
            rehome(t, g, k);
        }
    }
    while (last && g->queue[QUEUE_SYN].first != NO_CONN) {
        struct tcp_conn *k = &t->conn[g->queue[QUEUE_SYN].first];
        dequeue(t, g, k);
        tcp_conn_end(t, k, 0);
    }
    while (last && g->queue[QUEUE_CLAIMS].first != NO_CONN) {
        struct tcp_conn *k = &t->conn[g->queue[QUEUE_CLAIMS].first];
        dequeue(t, g, k);
        claim_fails(t, k, -EINVAL);
    }
    publish_pending(t, g);
    group_drop(t, g);
}
