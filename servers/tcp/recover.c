/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A successor's start. All records are walked, a few hundred in a turn; a segment for a record that
 * was not reached yet takes it over at once, so that the gap does not grow with their number. Until
 * the walk has ended a miss is held, and no block, record or port is given to anybody new.
 *
 * Every record and every relation between counters is checked before use. A connection that fails
 * is reset alone: its application sees ECONNABORTED, it is counted, and what was found is kept in a
 * ring of the last such copies.
 *
 * Rebuilt: maps of free blocks, chains per connection, groups, ports, timers; replies and counters
 * are published again. As after idle: congestion. Only what the hot words show to be needed is
 * sent: an ACK where the last one may not have left, a FIN that nobody has acknowledged, new data.
 * What was published is under way: its ACKs, or the timers, say what becomes of it.
 */
#include "engine.h"

#include <errno.h>

enum { RING_SHIFT_MOST = 30 }; /* log2 of a ring's bytes */

void tcp_recover_begin(struct tcp *t)
{
    t->walk = 0;
    t->used = tcp_record_load_used(t);
    tcp_record_store_used(t);
    t->walked = false;
    __atomic_store_n(&t->c->block->excused, 1, __ATOMIC_RELAXED); /* segments may have to wait */
    t->n_free = 0;
    /* Our predecessor may have sent cookies (syn.c). */
    t->cookies_until = t->c->epoch > 1 ? t->now + 120 * SEC : 0;
    tcp_chain_recover(t);
}

static void into_free(struct tcp *t, struct tcp_conn *k)
{
    k->ready = false;
    if (t->free_known != NULL && !(t->free_known[k->idx / 8] >> (k->idx % 8) & 1)) {
        t->free_known[k->idx / 8] |= (uint8_t)(1 << k->idx % 8);
        t->free[t->n_free++] = k->idx;
    }
}

static bool app_present(const struct tcp *t, unsigned app, uint32_t generation)
{
    return app < APPS_MAX && t->app[app] != NULL && t->app[app]->generation == generation;
}

static int reserve(struct ring_space *s, const struct tcp_ring *r)
{
    if (r->shift[1] && r->shift[1] <= r->shift[0])
        return -EINVAL; /* rings only grow */
    for (unsigned i = 0; i < 2; i++) {
        if (r->shift[i] == 0)
            continue;
        if (r->shift[i] > RING_SHIFT_MOST || tcp_ring_reserve(s, r->page[i], r->shift[i]) != 0) {
            if (i == 1 && r->shift[0])
                tcp_ring_release(s, r->page[0], r->shift[0]);
            return -EINVAL;
        }
    }
    return 0;
}

/* Numbers that no server of ours writes, whatever the checksum says. */
static bool odd(const struct tcp_record *r)
{
    return r->kind > TCP_KIND_DEAD || r->state >= TCP_STATES || r->snd_wscale > 14 ||
           r->rcv_wscale > 14 || r->sndbuf_shift > RING_SHIFT_MOST ||
           r->rcvbuf_shift > RING_SHIFT_MOST || (r->mss && r->mss < 64) ||
           (r->maxseg && r->maxseg < 64);
}

/* Attaches the record to its slot and blocks. Negative: it does not hold; nothing is attached. */
static int take_over(struct tcp *t, struct tcp_conn *k)
{
    unsigned app = k->r.app, rx_app = k->r.rx_app;
    uint32_t slot = k->r.slot;
    k->r.app = k->r.rx_app = TCP_NO_APP;
    if (odd(&k->r))
        return -EINVAL;
    if (app != TCP_NO_APP && (!app_present(t, app, k->r.app_generation) || slot >= t->layout.n_tcp))
        return -EINVAL;
    if (rx_app != TCP_NO_APP && (rx_app >= APPS_MAX || t->app[rx_app] == NULL))
        return -EINVAL;
    if ((k->r.tx.shift[0] && app == TCP_NO_APP) || (k->r.rx.shift[0] && rx_app == TCP_NO_APP))
        return -EINVAL;
    if (app != TCP_NO_APP && t->app[app]->slot_conn[slot]) {
        /* A claim and the connection that it got: killed between the two commits. */
        struct tcp_conn *o = &t->conn[t->app[app]->slot_conn[slot] - 1];
        if (o->r.kind == TCP_KIND_CLAIM && k->r.kind == TCP_KIND_CONN) {
            tcp_listen_drop(t, o);
            tcp_conn_detach(t, o);
            tcp_timer_stop_all(t, o);
            o->r.kind = TCP_KIND_FREE;
            tcp_record_commit(t, o);
            into_free(t, o);
        } else if (o->r.kind == TCP_KIND_CONN && k->r.kind == TCP_KIND_CLAIM) {
            k->r.kind = TCP_KIND_FREE;
            tcp_record_commit(t, k);
            return 0;
        } else {
            return -EEXIST;
        }
    }
    if (reserve(app == TCP_NO_APP ? NULL : &t->app[app]->up_space, &k->r.tx) != 0)
        return -EINVAL;
    if (reserve(rx_app == TCP_NO_APP ? NULL : &t->app[rx_app]->down_space, &k->r.rx) != 0) {
        if (k->r.tx.shift[0])
            tcp_block_release(&t->app[app]->up_space, &k->r.tx);
        return -EINVAL;
    }
    if (app != TCP_NO_APP)
        tcp_conn_attach(t, k, app, slot);
    if (rx_app != TCP_NO_APP)
        tcp_conn_set_rx_app(t, k, rx_app);
    return 0;
}

/* Hot words into private state. */
static int load_hot(struct tcp *t, struct tcp_conn *k)
{
    const struct tcp_conn_shm *s = &t->shm[k->idx];
    uint64_t ring = ring_bytes(&k->r.tx);
    k->rx_nxt = s->rx_nxt & OFF_MASK;
    k->rx_fin = (s->rx_nxt & OFF_MARK) != 0;
    k->tx_una = s->tx_una;
    k->snd_max = s->snd_max;
    k->tx_free = s->tx_free;
    k->rx_edge = s->rx_edge;
    uint64_t ack = k->rx_nxt + k->rx_fin, behind = (uint32_t)ack - s->rx_acked;
    k->rx_acked = ack - behind;
    k->rx_told = s->rx_told;
    k->ts_recent = s->ts_recent;
    k->ts_recent_age = t->now;
    k->snd_wnd = k->max_wnd = s->snd_wnd;
    k->snd_wl1 = conn_rcv_nxt(k);
    k->snd_wl2 = conn_seq(k, k->tx_una);
    k->tx_end = conn_has_fin(k) ? k->r.tx_fin : k->snd_max > k->tx_una ? k->snd_max : k->tx_una;
    /* What the application has read it says itself; at least this much must be so. */
    uint64_t size = ring_bytes(&k->r.rx);
    k->rx_read = size && k->rx_edge > size ? k->rx_edge - size : 0;
    if (k->rx_read < k->r.rx_start)
        k->rx_read = k->r.rx_start; /* by the owner before this one */
    uint64_t span = conn_has_fin(k) ? 1 : 0;
    if (k->tx_una > k->snd_max || k->tx_free > k->tx_una ||
        (ring && k->snd_max - k->tx_una > ring + span) || behind > ack ||
        (conn_has_fin(k) && k->snd_max > k->r.tx_fin + 1) || k->rx_read > k->rx_nxt ||
        k->snd_wnd > 65535u << 14 || (size && k->rx_nxt > k->rx_edge))
        return -EINVAL;
    /* Without a ring there is nothing that could be sent again. */
    if (!ring && (conn_has_fin(k) ? k->tx_una < k->r.tx_fin : k->tx_una != k->snd_max))
        return -EINVAL;
    /* Where the second blocks begin: what was in use when they came lies below. */
    if ((k->r.rx.shift[1] && k->r.rx.switch_at > k->rx_edge) ||
        (k->r.tx.shift[1] && k->r.tx.switch_at > k->tx_free + (1ull << k->r.tx.shift[0])))
        return -EINVAL;
    struct tcp_range range[TCP_OOO_RANGES];
    unsigned n = tcp_record_ooo_load(s, &t->ooo_shm[k->idx], range);
    if (n > TCP_OOO_RANGES)
        return -EINVAL;
    /* Ranges that rx_nxt has passed are void; the rest must be ascending and inside the window. */
    int64_t at = (int64_t)k->rx_nxt;
    for (unsigned i = 0; i < n; i++) {
        int64_t a = conn_rx_rel(k, range[i].start), b = conn_rx_rel(k, range[i].end);
        if (b <= (int64_t)k->rx_nxt)
            continue;
        if (a <= at || b <= a || b > (int64_t)k->rx_edge)
            return -EINVAL;
        k->ooo[k->n_ooo++] = range[i];
        at = b;
    }
    return 0;
}

/* The hot words are of no use, but what the application was told is in its own region: it is told
 * no more than that, so that it never reads bytes which nobody received. */
static void distrust_hot(const struct tcp *t, struct tcp_conn *k)
{
    const struct down_slot *d = tcp_app_down_slot(t, k->r.app, k->r.slot);
    uint64_t ring = ring_bytes(&k->r.tx), size = ring_bytes(&k->r.rx);
    uint64_t rx = k->r.rx_start, una = 0, snd_max = k->snd_max;
    k->rx_fin = false;
    if (d != NULL && load_relaxed(&d->generation) == k->r.generation &&
        load_relaxed(&d->state) >= SOCK_ESTABLISHED) {
        uint64_t nxt = load_relaxed(&d->rx_nxt);
        rx = (nxt & OFF_MASK) - k->r.rx_base;
        una = load_relaxed(&d->tx_free) - k->r.tx_base;
        k->rx_fin = (nxt & OFF_MARK) != 0;
    }
    k->n_ooo = 0;
    k->rx_nxt = k->rx_acked = rx;
    k->rx_edge = rx;
    k->rx_read = rx > size ? rx - size : 0;
    k->tx_una = k->tx_free = una;
    k->snd_max = snd_max >= una && snd_max - una <= ring + 1 ? snd_max : una;
    k->tx_end = k->snd_max;
}

static bool let_go(const struct tcp *t, const struct tcp_conn *k)
{
    const struct down_slot *d = tcp_app_down_slot(t, k->r.app, k->r.slot);
    return d != NULL && (k->r.flags & TCPF_CLOSED_BY_APP) && load_relaxed(&d->state) == SOCK_FREE &&
           load_relaxed(&d->generation) == k->r.generation;
}

/* What follows from the hot words and was not yet in the record. */
static void settle(struct tcp *t, struct tcp_conn *k)
{
    if (k->rx_fin && conn_receives(k)) {
        if (k->r.state == TCP_ESTABLISHED)
            tcp_conn_set_state(t, k, TCP_CLOSE_WAIT);
        else if (k->r.state == TCP_FIN_WAIT_1)
            tcp_conn_set_state(t, k, TCP_CLOSING);
        else
            tcp_conn_time_wait(t, k);
    }
    if (k->ready && conn_has_fin(k) && k->tx_una > k->r.tx_fin) {
        if (k->r.state == TCP_FIN_WAIT_1)
            tcp_conn_set_state(t, k, TCP_FIN_WAIT_2);
        else if (k->r.state == TCP_CLOSING)
            tcp_conn_time_wait(t, k);
        else if (k->r.state == TCP_LAST_ACK)
            tcp_conn_end(t, k, 0);
    }
}

/* What getsockopt(TCP_INFO) was told last is in our own region: enough to time the first loss. */
static void rtt_hint(struct tcp *t, struct tcp_conn *k)
{
    const struct sock_info *i = tcp_app_info(t, k->r.app, k->r.slot);
    uint64_t rtt = i != NULL && !(t->c->start & START_FRUGAL) ? i->rtt * 1000ull : 0;
    if (rtt != 0 && rtt < t->cfg->tcp_rto_max_ms * MSEC)
        tcp_rtt_sample(t, k, rtt);
}

static void resume(struct tcp *t, struct tcp_conn *k)
{
    tcp_rtt_init(t, k);
    tcp_conn_route(t, k);
    tcp_cc_init(t, k);
    tcp_lookup_add(t, k);
    if (k->r.group && k->r.app == TCP_NO_APP && !(k->r.flags & TCPF_CLOSED_BY_APP))
        tcp_group_enqueue(t, k, k->r.state == TCP_SYN_RCVD ? QUEUE_SYN : QUEUE_PENDING);
    if (let_go(t, k)) {
        tcp_conn_detach_try(t, k);
        if (!k->ready)
            return;
    } else {
        tcp_conn_publish(t, k);
    }
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD) {
        k->syn_now = true;
        tcp_timer_rexmt_arm(t, k);
        tcp_conn_dirty(t, k);
        return;
    }
    if (k->r.state == TCP_TIME_WAIT || k->r.expiry)
        tcp_timer_set(t, k, TIMER_LIFE, k->r.expiry);
    tcp_conn_orphan(t, k);
    if (k->ready && k->r.state != TCP_CLOSED)
        settle(t, k);
    if (!k->ready || k->r.state == TCP_CLOSED)
        return;
    tcp_chain_tx_free(t, k);
    tcp_conn_sync(t, k);
    if (!k->ready || k->r.state == TCP_CLOSED)
        return;
    rtt_hint(t, k);
    if (k->snd_max > k->tx_una) {
        if (!tcp_loss_restore(t, k)) {
            tcp_conn_abort(t, k, ENOBUFS);
            return;
        }
        tcp_timer_rexmt_arm(t, k);
        tcp_rack_arm(t, k);
    }
    /* Its last ACK, or the window that it opened, may not have left; at the beginning that is the
     * ACK of its SYN, before which nothing was told. */
    if (k->rx_told != (uint32_t)k->rx_edge || k->rx_acked != k->rx_nxt + (k->rx_fin ? 1 : 0)) {
        k->ack_now = true;
        tcp_conn_dirty(t, k);
    }
    if (k->tx_end > k->snd_max || conn_has_fin(k))
        tcp_conn_dirty(t, k);
    tcp_timer_keep_arm(t, k);
    tcp_conn_detach_try(t, k);
}

/* Before the record is changed. A kill in here means one copy more, by the successor. */
static void keep_copy(struct tcp *t, const struct tcp_conn *k, enum tcp_forensic_reason reason)
{
    const struct up_slot *up = tcp_app_up_slot(t, k->r.app, k->r.slot);
    uint64_t taken = load_relaxed(&t->forensic->taken);
    struct tcp_forensic_copy *c = &t->forensic->copy[taken % TCP_FORENSIC_COPIES];
    struct tcp_forensic_copy v = {.time_ns = t->now,
                                  .epoch = t->c->epoch,
                                  .index = k->idx,
                                  .reason = (uint32_t)reason,
                                  .tx_end = up ? load_relaxed(&up->tx_end) : 0,
                                  .rx_read = up ? load_relaxed(&up->rx_read) : 0,
                                  .found = t->shm[k->idx]};
    shm_copy(c, &v, sizeof v);
    /* A reader that sees the number sees the copy. */
    shm_store_release(&t->forensic->taken, taken + 1);
    tcp_count(t, TCP_C_FORENSIC);
}

/* Resets this one alone. */
static void fail(struct tcp *t, struct tcp_conn *k, bool attached)
{
    tcp_count(t, TCP_C_RECOVERY_RESETS);
    unsigned app = k->r.app;
    if (attached && app != TCP_NO_APP && k->r.kind == TCP_KIND_CONN) {
        tcp_conn_abort(t, k, ECONNABORTED);
        return;
    }
    t->lost_record = true;
    tcp_timer_stop_all(t, k);
    tcp_conn_free_rings(t, k);
    tcp_conn_detach(t, k);
    k->r.kind = TCP_KIND_FREE;
    k->r.state = TCP_CLOSED;
    tcp_record_commit(t, k);
    into_free(t, k);
}

static bool known(const struct tcp *t, uint32_t idx)
{
    return t->conn[idx].ready || (t->free_known[idx / 8] >> (idx % 8) & 1);
}

/* The record does not hold. One of its copies may say at least whose it was. Called when all that
 * hold have taken what is theirs, so that an old copy claims nothing of others. */
static void recover_bad(struct tcp *t, struct tcp_conn *k)
{
    const struct tcp_conn_shm *s = &t->shm[k->idx];
    const bool any = tcp_record_copy(s, s->select, &k->r) || tcp_record_copy(s, ~s->select, &k->r);
    const struct down_slot *d = any ? tcp_app_down_slot(t, k->r.app, k->r.slot) : NULL;
    /* It may be of an earlier use of this record or of the slot; then it says nothing. */
    const bool owned =
        any && (k->r.app == TCP_NO_APP || (d != NULL && d->generation == k->r.generation &&
                                           t->app[k->r.app]->slot_conn[k->r.slot] == 0));
    if (!owned || k->r.kind == TCP_KIND_FREE) {
        keep_copy(t, k, TCP_FORENSIC_NO_RECORD);
        k->r = (struct tcp_record){.version = s->select, .app = TCP_NO_APP, .rx_app = TCP_NO_APP};
        fail(t, k, false);
        return;
    }
    tcp_conn_init(t, k);
    if (take_over(t, k) != 0) {
        keep_copy(t, k, TCP_FORENSIC_OWNER);
        k->r.tx = k->r.rx = (struct tcp_ring){.switch_at = UINT64_MAX};
        fail(t, k, false);
        return;
    }
    if (k->r.kind == TCP_KIND_CONN) {
        (void)load_hot(t, k);
        distrust_hot(t, k);
    }
    keep_copy(t, k, TCP_FORENSIC_RECORD);
    fail(t, k, true);
}

/* Work on this one brought our predecessors down, or this is a cold start and it is a connection.
 * It is reset alone, as one that fails its check.
 * If that brings us down as well, not even that is tried: its record is forgotten. True: done. */
static bool condemned(struct tcp *t, struct tcp_conn *k)
{
    const unsigned times = item_times(t->c->block, tcp_conn_item(k));
    const bool cold = (t->c->start & START_COLD) && k->r.kind == TCP_KIND_CONN;
    if ((times < QUARANTINE_TIMES && !cold) ||
        (times < 2 * QUARANTINE_TIMES && k->r.kind == TCP_KIND_CONN && k->r.state == TCP_CLOSED))
        return false; /* a closed one was reset, and its application reads the reason */
    tcp_conn_init(t, k);
    if (times >= QUARANTINE_TIMES) {
        const struct item_part part = {&t->shm[k->idx], sizeof t->shm[k->idx]};
        quarantine_keep(t->c->own, tcp_conn_item(k), t->now, &part, 1);
        tcp_count(t, TCP_C_QUARANTINED);
        keep_copy(t, k, TCP_FORENSIC_SUSPECT);
    }
    bool attached = times < 2 * QUARANTINE_TIMES && take_over(t, k) == 0;
    if (attached && k->r.kind == TCP_KIND_FREE) {
        into_free(t, k);
        return true;
    }
    if (attached && k->r.kind == TCP_KIND_CONN) {
        (void)load_hot(t, k);
        distrust_hot(t, k);
    }
    if (!attached) {
        k->r.app = k->r.rx_app = TCP_NO_APP;
        k->r.tx = k->r.rx = (struct tcp_ring){.switch_at = UINT64_MAX};
    }
    fail(t, k, attached);
    return true;
}

static void recover(struct tcp *t, struct tcp_conn *k)
{
    tcp_conn_init(t, k);
    if (k->r.order > t->order_last)
        t->order_last = k->r.order;
    if (k->r.group > t->group_last)
        t->group_last = k->r.group;
    if (take_over(t, k) != 0) {
        keep_copy(t, k, TCP_FORENSIC_OWNER);
        k->r.tx = k->r.rx = (struct tcp_ring){.switch_at = UINT64_MAX};
        fail(t, k, false);
        return;
    }
    if (k->r.kind == TCP_KIND_FREE) {
        into_free(t, k);
        return;
    }
    if (k->r.kind == TCP_KIND_CONN && load_hot(t, k) != 0) {
        distrust_hot(t, k);
        /* A closed one has failed before, and was reset and reported then. */
        if (k->r.state != TCP_CLOSED) {
            keep_copy(t, k, TCP_FORENSIC_COUNTERS);
            fail(t, k, true);
            return;
        }
    }
    tcp_count(t, TCP_C_RECOVERED);
    switch (k->r.kind) {
    case TCP_KIND_CONN:
        if (k->r.state == TCP_CLOSED) {
            if (!let_go(t, k))
                tcp_conn_publish(t, k);
            tcp_conn_detach_try(t, k);
        } else {
            resume(t, k);
        }
        return;
    case TCP_KIND_CLAIM:
        tcp_group_enqueue(t, k, QUEUE_CLAIMS);
        break;
    case TCP_KIND_LISTEN:
        tcp_port_add(t, k);
        tcp_group_join(t, k);
        break;
    case TCP_KIND_SOCKET:
        if (k->r.local.port)
            tcp_port_add(t, k);
        break;
    default:
        break;
    }
    if (!let_go(t, k))
        tcp_conn_publish(t, k);
    tcp_conn_detach_try(t, k);
}

void tcp_recover_conn(struct tcp *t, uint32_t idx)
{
    struct tcp_conn *k = &t->conn[idx];
    k->idx = idx;
    if (known(t, idx))
        return;
    if (tcp_record_load(&t->shm[idx], &k->r) != 0) {
        t->bad_record = true;
        return;
    }
    if (k->r.kind == TCP_KIND_FREE) {
        into_free(t, k);
        return;
    }
    /* The segment, if one asks for it, is not to blame for what happens in here. */
    const uint64_t outer = load_relaxed(&t->c->block->in_progress);
    tcp_conn_begin(t, k);
    if (!condemned(t, k))
        recover(t, k);
    item_begin(t->c->block, outer);
}

/* Sockets whose record is gone: their applications hear of it. What they had asked for and got no
 * answer to is looked at again, as on a free slot. */
static void tell_bereaved(struct tcp *t, unsigned app)
{
    struct tcp_app *a = t->app[app];
    for (uint32_t slot = 0; slot < t->layout.n_tcp; slot++) {
        struct down_slot *d = tcp_app_down_slot(t, app, slot);
        uint32_t state = load_relaxed(&d->state);
        if (a->slot_conn[slot] != 0 || state == SOCK_FREE || state == SOCK_CLOSED)
            continue;
        if (load_acquire(&tcp_app_up_slot(t, app, slot)->req_id) != load_relaxed(&d->req_done))
            continue;
        shm_store(&d->error, (uint32_t)ECONNABORTED);
        shm_store(&d->error_seq, load_relaxed(&d->error_seq) + 1);
        /* Last: who sees the state finds the reason. */
        shm_store_release(&d->state, (uint32_t)SOCK_CLOSED);
    }
    a->scan_next = 0;
}

static void walk_ended(struct tcp *t)
{
    t->walked = true;
    __atomic_store_n(&t->c->block->excused, 0, __ATOMIC_RELAXED);
    tcp_reclaim_wake(t);
    tcp_lookup_walked(t);
    for (unsigned app = 0; t->lost_record && app < t->apps; app++)
        if (t->app[app] != NULL && !t->app[app]->gone)
            tell_bereaved(t, app);
    for (unsigned i = 0; i < TCP_GROUP_HASH; i++) {
        for (struct tcp_group *g = t->group[i], *next; g != NULL; g = next) {
            next = g->next;
            if (g->id == TCP_GROUP_MOVERS) {
                continue;
            } else if (g->members == NO_CONN) {
                /* Its last listener went, and we were killed before its connections did. */
                uint32_t any = NO_CONN;
                for (unsigned q = 1; q < QUEUES && any == NO_CONN; q++)
                    any = g->queue[q].first;
                if (any != NO_CONN)
                    tcp_group_leave(t, &t->conn[any]);
            } else {
                tcp_group_serve(t, g);
            }
        }
    }
    /* Whoever sleeps may have been promised a ring by our predecessor. */
    for (unsigned app = 0; app < t->apps; app++)
        if (t->app[app] != NULL)
            tcp_news(t, app, WAIT_ANY);
}

void tcp_recover_step(struct tcp *t, unsigned records)
{
    while (records-- && t->walk < t->used) {
        uint32_t idx = t->walk++;
        tcp_recover_conn(t, idx);
    }
    if (t->walk < t->used)
        return;
    for (uint32_t idx = 0; t->bad_record && idx < t->used; idx++)
        if (!known(t, idx))
            recover_bad(t, &t->conn[idx]);
    walk_ended(t);
}
