/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life of a socket's record, and its half of the shared slot.
 *
 * Everything in the down slot is derived from the record and the hot words: tcp_conn_publish() may
 * be repeated at any time, and a successor does so for each socket. A slot is let go in this order:
 * SOCK_FREE is published, then the record forgets the slot, then blocks are free. A successor that
 * finds a record whose slot is already free for its generation finishes that.
 */
#include "engine.h"

#include <errno.h>

const struct up_slot *tcp_app_up_slot(const struct tcp *t, unsigned app, uint32_t slot)
{
    if (app >= APPS_MAX || t->app[app] == NULL || slot >= t->layout.n_tcp)
        return NULL;
    return (const struct up_slot *)((const uint8_t *)t->app[app]->up + t->layout.up_tcp_slots) +
           slot;
}

struct down_slot *tcp_app_down_slot(const struct tcp *t, unsigned app, uint32_t slot)
{
    if (app >= APPS_MAX || t->app[app] == NULL || slot >= t->layout.n_tcp)
        return NULL;
    return (struct down_slot *)((uint8_t *)t->app[app]->down + t->layout.down_tcp_slots) + slot;
}

struct sock_info *tcp_app_info(const struct tcp *t, unsigned app, uint32_t slot)
{
    if (app >= APPS_MAX || t->app[app] == NULL || slot >= t->layout.n_tcp)
        return NULL;
    return (struct sock_info *)((uint8_t *)t->app[app]->down + t->layout.down_tcp_info) + slot;
}

void tcp_app_ref(struct tcp *t, unsigned app, int by)
{
    struct tcp_app *a = app < APPS_MAX ? t->app[app] : NULL;
    if (a != NULL)
        a->refs += (uint32_t)by;
}

/* A name as everybody compares it: reserved bytes zero. */
struct sock_name tcp_name_copy(const struct sock_name *n)
{
    struct sock_name out = {.port = n->port};
    out.addr.family = n->addr.family;
    memcpy(out.addr.v6, n->addr.v6, n->addr.family == 6 ? 16 : 4);
    return out;
}

struct tcp_conn *tcp_conn_get(struct tcp *t, uint32_t idx)
{
    if (idx >= t->n_conns)
        return NULL;
    if (!t->conn[idx].ready && !t->walked)
        tcp_recover_conn(t, idx);
    return t->conn[idx].ready ? &t->conn[idx] : NULL;
}

/* Private state of a record that begins or is taken over; k->r, k->idx stay. */
void tcp_conn_init(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_record r = k->r;
    /* Chains outlive us: a successor has linked them before it takes the record over. */
    uint32_t idx = k->idx, first = k->chain_first, last = k->chain_last;
    bool dirty = k->dirty, awaiting = k->awaiting; /* it may still stand in the lists of the turn */
    *k = (struct tcp_conn){.r = r, .idx = idx, .ready = true, .dirty = dirty, .awaiting = awaiting};
    k->ooo = t->ooo + (size_t)idx * TCP_OOO_RANGES;
    k->chain_first = first;
    k->chain_last = last;
    k->queue_next = k->queue_prev = k->member_next = NO_CONN;
    for (unsigned i = 0; i < TIMERS; i++)
        k->when[i] = NEVER;
    k->rack.due = NEVER;
    k->quickacks = t->cfg->tcp_quickacks;
    k->rx_used = !t->walked;
    k->last_heard = k->progress_at = t->now;
    k->mss = 536;
    k->gso = 536;
}

struct tcp_conn *tcp_conn_new(struct tcp *t)
{
    if (!t->walked || (t->n_free == 0 && t->used == t->n_conns))
        return NULL;
    if (t->n_free == 0) {
        /* Before the record's first commit, or a successor would not find it. */
        t->used++;
        tcp_record_store_used(t);
        t->free[t->n_free++] = t->used - 1;
    }
    uint32_t idx = t->free[--t->n_free];
    struct tcp_conn *k = &t->conn[idx];
    uint32_t version = k->r.version;
    k->idx = idx;
    k->r = (struct tcp_record){.version = version,
                               .app = TCP_NO_APP,
                               .rx_app = TCP_NO_APP,
                               .tx_fin = TCP_NO_FIN,
                               .congestion = t->cfg->tcp_congestion,
                               .user_timeout = t->cfg->tcp_user_timeout_ms,
                               .tx = {.switch_at = UINT64_MAX},
                               .rx = {.switch_at = UINT64_MAX}};
    /* The record is free until its first commit: these stores mean nothing before it. */
    tcp_record_clear_hot(t, idx);
    tcp_conn_init(t, k);
    return k;
}

void tcp_conn_free(struct tcp *t, struct tcp_conn *k)
{
    tcp_timer_stop_all(t, k);
    tcp_sent_clear(t, k);
    k->r.kind = TCP_KIND_FREE;
    k->r.state = TCP_CLOSED;
    tcp_record_commit(t, k);
    /* After the record: an index entry of a free record is passed over. */
    tcp_lookup_remove(t, k);
    k->ready = false;
    if (!t->walked)
        t->free_known[k->idx / 8] |= (uint8_t)(1 << k->idx % 8);
    t->free[t->n_free++] = k->idx;
}

void tcp_conn_dirty(struct tcp *t, struct tcp_conn *k)
{
    if (k->dirty)
        return;
    k->dirty = true;
    t->dirty[t->n_dirty++] = k->idx;
}

/* Rings whoever waits for what was published in this turn. */
void tcp_news_flush(struct tcp *t)
{
    if (t->n_news == 0)
        return;
    component_ring_apps(t->c, t->news, t->n_news);
    t->n_news = 0;
    t->news_turn++;
}

void tcp_news(struct tcp *t, unsigned app, uint32_t socket)
{
    if (t->n_news == TCP_NEWS)
        tcp_news_flush(t);
    t->news[t->n_news++] = (struct app_ring){(uint16_t)app, socket};
}

void tcp_conn_news(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.app == TCP_NO_APP || k->news == t->news_turn)
        return;
    tcp_news(t, k->r.app, k->r.slot);
    k->news = t->news_turn;
}

void tcp_conn_attach(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot)
{
    k->r.app = (uint16_t)app;
    k->r.slot = slot;
    k->r.app_generation = t->app[app]->generation;
    t->app[app]->slot_conn[slot] = k->idx + 1;
    k->news = 0; /* what was noted in this turn is about the slot that it had before */
    tcp_app_ref(t, app, 1);
}

void tcp_conn_detach(struct tcp *t, struct tcp_conn *k)
{
    unsigned app = k->r.app;
    if (app == TCP_NO_APP)
        return;
    struct tcp_app *a = t->app[app];
    if (a != NULL && a->slot_conn[k->r.slot] == k->idx + 1)
        a->slot_conn[k->r.slot] = 0;
    k->r.app = TCP_NO_APP;
    tcp_app_ref(t, app, -1);
}

void tcp_conn_set_rx_app(struct tcp *t, struct tcp_conn *k, unsigned app)
{
    unsigned old = k->r.rx_app;
    k->r.rx_app = (uint16_t)app;
    if (app != TCP_NO_APP)
        tcp_app_ref(t, app, 1);
    if (old != TCP_NO_APP)
        tcp_app_ref(t, old, -1);
}

/* --- the down slot --- */

static uint32_t sock_state(const struct tcp_conn *k)
{
    switch (k->r.kind) {
    case TCP_KIND_SOCKET:
        return SOCK_BOUND;
    case TCP_KIND_LISTEN:
        return SOCK_LISTEN;
    case TCP_KIND_CLAIM:
        return SOCK_CLAIM;
    case TCP_KIND_CONN:
        if (k->r.state == TCP_CLOSED)
            return SOCK_CLOSED;
        return k->r.state <= TCP_SYN_RCVD ? SOCK_CONNECTING : SOCK_ESTABLISHED;
    default:
        return SOCK_FREE;
    }
}

static uint64_t data_acked(const struct tcp_conn *k)
{
    return conn_has_fin(k) && k->tx_una > k->r.tx_fin ? k->r.tx_fin : k->tx_una;
}

void tcp_conn_publish_rx(struct tcp *t, struct tcp_conn *k)
{
    struct down_slot *d = tcp_app_down_slot(t, k->r.app, k->r.slot);
    if (d == NULL)
        return;
    shm_store_release(&d->rx_nxt,
                      ((k->r.rx_base + k->rx_nxt) & OFF_MASK) | (k->rx_fin ? OFF_MARK : 0));
    tcp_conn_news(t, k);
}

void tcp_conn_publish_tx(struct tcp *t, struct tcp_conn *k)
{
    struct down_slot *d = tcp_app_down_slot(t, k->r.app, k->r.slot);
    if (d == NULL)
        return;
    uint64_t una = (k->r.tx_base + data_acked(k)) & OFF_MASK;
    uint64_t free = (k->r.tx_base + k->tx_free) & OFF_MASK;
    if (load_relaxed(&d->tx_una) != una)
        shm_store_release(&d->tx_una, una);
    if (load_relaxed(&d->tx_free) != free) {
        shm_store_release(&d->tx_free, free);
        tcp_conn_news(t, k);
    }
}

static void publish_reply(struct tcp_conn *k, struct down_slot *d)
{
    if (k->r.flags & TCPF_WAITING)
        return;
    if (load_relaxed(&d->req_done) == k->r.req_id)
        return;
    shm_store(&d->result, k->r.result);
    /* Last: the caller goes on when it sees this. */
    shm_store_release(&d->req_done, k->r.req_id);
}

void tcp_conn_publish(struct tcp *t, struct tcp_conn *k)
{
    struct down_slot *d = tcp_app_down_slot(t, k->r.app, k->r.slot);
    if (d == NULL)
        return;
    if (memcmp(&d->local, &k->r.local, sizeof d->local) != 0)
        shm_copy(&d->local, &k->r.local, sizeof d->local);
    if (memcmp(&d->remote, &k->r.remote, sizeof d->remote) != 0)
        shm_copy(&d->remote, &k->r.remote, sizeof d->remote);
    if (k->r.kind == TCP_KIND_CONN) {
        tcp_block_publish(k, d);
        shm_store(&d->tx_base, k->r.tx_base & OFF_MASK);
        shm_store(&d->rx_base, (k->r.rx_base + k->r.rx_start) & OFF_MASK);
        tcp_conn_publish_rx(t, k);
        tcp_conn_publish_tx(t, k);
    }
    if (load_relaxed(&d->generation) != k->r.generation)
        shm_store(&d->error, 0u);
    if (k->r.error != 0 && load_relaxed(&d->error) != k->r.error) {
        shm_store(&d->error, (uint32_t)k->r.error);
        shm_store(&d->error_seq, load_relaxed(&d->error_seq) + 1);
    }
    if (load_relaxed(&d->record) != k->idx + 1)
        shm_store(&d->record, k->idx + 1);
    shm_store(&d->generation, k->r.generation);
    /* State after all that it promises, and the reply after the state. */
    uint32_t state = sock_state(k);
    if (load_relaxed(&d->state) != state)
        shm_store_release(&d->state, state);
    publish_reply(k, d);
    tcp_conn_news(t, k);
}

void tcp_conn_reply(struct tcp *t, struct tcp_conn *k, int result)
{
    k->r.result = result;
    k->r.flags &= ~(uint32_t)TCPF_WAITING;
    tcp_record_commit(t, k);
    tcp_conn_publish(t, k);
}

/* --- the application's counters --- */

static void violation(struct tcp *t, struct tcp_conn *k)
{
    tcp_count(t, TCP_C_APP_VIOLATIONS);
    tcp_conn_abort(t, k, EPROTO);
}

static const struct up_slot *counters(const struct tcp *t, const struct tcp_conn *k)
{
    const struct up_slot *up = tcp_app_up_slot(t, k->r.app, k->r.slot);
    if (up == NULL || k->r.kind != TCP_KIND_CONN || k->r.state == TCP_CLOSED ||
        load_acquire(&up->generation) != k->r.generation)
        return NULL;
    return up;
}

/* False: the connection is gone. */
static bool sync_read(struct tcp *t, struct tcp_conn *k, const struct up_slot *up)
{
    uint64_t read = (load_acquire(&up->rx_read) & OFF_MASK) - k->r.rx_base;
    /* Behind what we know: the application has not yet taken over rx_base. */
    if ((int64_t)read <= (int64_t)k->rx_read)
        return true;
    if (read > k->rx_nxt) {
        violation(t, k);
        return false;
    }
    k->rx_read = read;
    tcp_block_passed(t, k);
    tcp_tune_rx(t, k);
    if (tcp_rx_window_update_due(t, k)) {
        k->ack_now = true;
        tcp_conn_dirty(t, k);
    }
    return true;
}

void tcp_conn_sync_read(struct tcp *t, struct tcp_conn *k)
{
    const struct up_slot *up = counters(t, k);
    if (up != NULL)
        sync_read(t, k, up);
}

/* Reads each counter once. What is impossible costs the application this connection, nothing else.
 * The connection may be gone afterwards. */
void tcp_conn_sync(struct tcp *t, struct tcp_conn *k)
{
    const struct up_slot *up = counters(t, k);
    if (up == NULL || !sync_read(t, k, up) || conn_has_fin(k))
        return;
    uint64_t mark = load_acquire(&up->tx_end), end = (mark & OFF_MASK) - k->r.tx_base;
    if (end < k->tx_end || end > k->tx_free + ring_bytes(&k->r.tx)) {
        violation(t, k);
        return;
    }
    if (end != k->tx_end) {
        k->tx_end = end;
        tcp_conn_dirty(t, k);
        tcp_tune_tx(t, k);
    }
    if (mark & OFF_MARK)
        tcp_conn_shutdown(t, k);
}

/* No more data will come from the application. */
void tcp_conn_shutdown(struct tcp *t, struct tcp_conn *k)
{
    if (conn_has_fin(k))
        return;
    k->r.tx_fin = k->tx_end;
    if (k->r.state == TCP_ESTABLISHED)
        k->r.state = TCP_FIN_WAIT_1;
    else if (k->r.state == TCP_CLOSE_WAIT)
        k->r.state = TCP_LAST_ACK;
    tcp_record_commit(t, k);
    tcp_conn_dirty(t, k);
}

/* --- states --- */

/* No program holds it any more, and it is not over: there may be so many, or peers that never say
 * their end would take all records. One more is reset, as Linux does. */
void tcp_conn_orphan(struct tcp *t, struct tcp_conn *k)
{
    if (k->orphan || !(k->r.flags & TCPF_CLOSED_BY_APP) || k->r.state == TCP_CLOSED ||
        k->r.state == TCP_TIME_WAIT)
        return;
    k->orphan = true;
    if (t->orphans++ < t->cfg->tcp_orphans_max)
        return;
    tcp_count(t, TCP_C_ORPHANS_RESET);
    tcp_conn_abort(t, k, 0);
}

static void orphan_ends(struct tcp *t, struct tcp_conn *k)
{
    t->orphans -= k->orphan;
    k->orphan = false;
}

void tcp_conn_set_state(struct tcp *t, struct tcp_conn *k, enum tcp_state state)
{
    k->r.state = (uint8_t)state;
    if (state == TCP_FIN_WAIT_2 && (k->r.flags & TCPF_CLOSED_BY_APP)) {
        k->r.expiry = t->now + t->cfg->tcp_fin_timeout_s * SEC;
        tcp_timer_set(t, k, TIMER_LIFE, k->r.expiry);
    }
    tcp_record_commit(t, k);
}

static void end_finish(struct tcp *t, struct tcp_conn *k)
{
    for (unsigned i = 0; i < TIMERS; i++)
        tcp_timer_set(t, k, i, NEVER);
    k->rexmt = REXMT_NONE;
    tcp_sent_clear(t, k);
    k->ack_now = k->syn_now = false;
    tcp_lookup_remove(t, k);
    tcp_listen_drop(t, k);
    tcp_conn_publish(t, k);
    tcp_conn_detach_try(t, k);
}

static void end_commit(struct tcp *t, struct tcp_conn *k, int error)
{
    orphan_ends(t, k);
    k->r.state = TCP_CLOSED;
    if (error) {
        k->r.error = (uint16_t)error;
        k->r.error_seq++;
    }
    if (k->r.flags & TCPF_WAITING) {
        k->r.flags &= ~(uint32_t)TCPF_WAITING;
        k->r.result = error ? -error : -ECONNABORTED;
    }
    tcp_record_commit(t, k);
}

void tcp_conn_end(struct tcp *t, struct tcp_conn *k, int error)
{
    end_commit(t, k, error);
    end_finish(t, k);
}

void tcp_conn_abort(struct tcp *t, struct tcp_conn *k, int error)
{
    /* RFC 9293 3.10.5: where both sides have said all, nobody is told. */
    bool tell = k->r.state >= TCP_SYN_RCVD && k->r.state != TCP_TIME_WAIT &&
                k->r.state != TCP_CLOSING && k->r.state != TCP_LAST_ACK;
    end_commit(t, k, error);
    /* CLOSED is committed: a successor cannot go on with a connection that the peer has lost. */
    if (tell)
        tcp_output_reset(t, k);
    end_finish(t, k);
}

void tcp_conn_time_wait(struct tcp *t, struct tcp_conn *k)
{
    orphan_ends(t, k);
    k->r.state = TCP_TIME_WAIT;
    k->r.expiry = t->now + t->cfg->tcp_timewait_ms * MSEC;
    tcp_record_commit(t, k);
    tcp_timer_set(t, k, TIMER_REXMT, NEVER);
    tcp_timer_set(t, k, TIMER_KEEP, NEVER);
    k->rexmt = REXMT_NONE;
    tcp_timer_set(t, k, TIMER_LIFE, k->r.expiry);
    tcp_conn_publish(t, k);
    tcp_conn_detach_try(t, k);
}

/* Is the slot of no more use to this socket, and the application out of it? Then it goes. */
void tcp_conn_detach_try(struct tcp *t, struct tcp_conn *k)
{
    if (!k->ready || k->chain_first != 0)
        return; /* a driver may still read our bytes in the application's memory */
    bool conn = k->r.kind == TCP_KIND_CONN;
    bool over = !conn || k->r.state == TCP_CLOSED;
    if (k->r.app != TCP_NO_APP) {
        const struct up_slot *up = tcp_app_up_slot(t, k->r.app, k->r.slot);
        struct down_slot *d = tcp_app_down_slot(t, k->r.app, k->r.slot);
        if (!(k->r.flags & TCPF_CLOSED_BY_APP))
            return;
        if (!over && !(conn_has_fin(k) && k->tx_free >= k->r.tx_fin && k->tx_una >= k->r.tx_fin))
            return;
        if (up == NULL || d == NULL)
            return;
        if (k->r.kind != TCP_KIND_DEAD && !t->app[k->r.app]->gone &&
            load_acquire(&up->generation) == k->r.generation &&
            load_acquire(&up->released) != k->r.generation)
            return;
        publish_reply(k, d);
        if (load_relaxed(&d->generation) != k->r.generation)
            shm_store(&d->generation, k->r.generation);
        shm_store_release(&d->state, (uint32_t)SOCK_FREE);
        tcp_conn_news(t, k);
    } else if (!over || (conn && k->queued != QUEUE_NONE)) {
        return;
    }
    struct tcp_record old = k->r;
    if (over) {
        if (k->r.kind != TCP_KIND_CONN)
            tcp_port_remove(t, k);
        if (k->r.kind == TCP_KIND_LISTEN)
            tcp_group_leave(t, k);
        /* The record goes first, then what it named may be used again. */
        tcp_conn_free(t, k);
    } else {
        k->r.app = TCP_NO_APP;
        k->r.rx_app = TCP_NO_APP;
        k->r.flags |= TCPF_RX_SHUT;
        k->r.tx = k->r.rx = (struct tcp_ring){.switch_at = UINT64_MAX};
        if (k->r.state == TCP_FIN_WAIT_2 || k->r.state == TCP_FIN_WAIT_1)
            k->r.expiry = t->now + t->cfg->tcp_fin_timeout_s * SEC;
        tcp_record_commit(t, k);
        if (k->r.expiry)
            tcp_timer_set(t, k, TIMER_LIFE, k->r.expiry);
    }
    /* Private book-keeping of what the record no longer names. */
    uint32_t version = k->r.version;
    struct tcp_record now = k->r;
    k->r = old;
    tcp_conn_free_rings(t, k);
    tcp_conn_detach(t, k);
    if (!over) {
        k->r = now;
    } else {
        k->r.version = version;
        k->r.kind = TCP_KIND_FREE;
    }
}
