/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The TCP server as a component. One turn: completed chains, segments, control requests,
 * applications, timers, a step of the walk, then what all of it made necessary to send; then one
 * store per queue publishes the turn.
 *
 * Order at the end of a turn: frame returns, segments, then rx_acked and rx_told of those whose ACK
 * is now published, then the heads of the inputs. A successor that finds an input again whose frame
 * went back already (provenance of the return) passes over it: its effects were published before.
 */
#include "tcp.h"

#include "engine.h"
#include <errno.h>
#include <stdlib.h>
#include <syslog.h>

enum { WALK_STEP = 64 }; /* records in a turn; a fifth of a millisecond */

static int attach(struct tcp *t)
{
    struct component *c = t->c;
    const server_id ip = SERVER_ID(SERVER_IP, 0), sys = SERVER_ID(SERVER_SYSCALL, 0);
    int rc = component_rx(c, &t->rx_ip, EDGE_IP_TCP, ip);
    if (rc == 0)
        rc = component_tx(c, &t->tx_ip, EDGE_TCP_IP, ip);
    if (rc == 0)
        rc = component_tx(c, &t->ret_ip, EDGE_TCP_RETURN, ip);
    for (unsigned i = 0; rc == 0 && i < c->cfg->interfaces && i < CONFIG_INTERFACES; i++)
        rc = component_tx(c, &t->ret_driver[i], EDGE_TCP_RETURN, SERVER_ID(SERVER_DRIVER, i));
    if (rc == 0)
        rc = component_rx(c, &t->rx_sys, EDGE_SYSCALL_TCP, sys);
    if (rc == 0)
        rc = component_tx(c, &t->tx_sys, EDGE_TCP_SYSCALL, sys);
    return rc;
}

void tcp_dispose(struct component *c)
{
    struct tcp *t = c->state;
    for (unsigned i = 0; i < APPS_MAX; i++) {
        struct tcp_app *a = t->app[i];
        if (a == NULL)
            continue;
        tcp_ring_space_fini(&a->up_space);
        tcp_ring_space_fini(&a->down_space);
        free(a->slot_conn);
        free(a);
        t->app[i] = NULL;
    }
    for (unsigned i = 0; i < TCP_GROUP_HASH; i++) {
        for (struct tcp_group *g = t->group[i], *next; g != NULL; g = next) {
            next = g->next;
            free(g);
        }
        t->group[i] = NULL;
    }
    free(t->conn);
    free(t->ooo);
    free(t->free);
    free(t->free_known);
    free(t->link);
    free(t->dirty);
    free(t->dirty2);
    free(t->acked);
    wheel_fini(&t->wheel);
    tcp_sent_fini(&t->sent);
}

static int start(struct component *c, uint64_t now)
{
    struct tcp *t = c->state;
    uint64_t n, chains, done;
    const struct region *ip = &c->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_IP, 0))];
    t->c = c;
    t->cfg = c->cfg;
    t->now = now;
    t->news_turn = 1;
    t->heirs_at = t->reclaim_at = NEVER;
    app_layout(&t->layout, c->cfg);
    t->shm = wiring_table(c->own, TABLE_TCP_CONNS, &n);
    t->n_conns = (uint32_t)n;
    t->index = wiring_table(c->own, TABLE_TCP_INDEX, &n);
    const uint64_t index_elements = n;
    t->state_shm = wiring_table(c->own, TABLE_TCP_STATE, &n);
    t->ooo_shm = wiring_table(c->own, TABLE_TCP_OOO, &n);
    t->forensic = wiring_table(c->own, TABLE_TCP_FORENSIC, &n);
    t->app_shm = wiring_table(c->own, TABLE_TCP_APPS, &n);
    t->chains = wiring_table(c->own, TABLE_TCP_CHAINS, &chains);
    t->chain_done = wiring_table(ip, TABLE_TCP_CHAIN_DONE, &done);
    if (t->shm == NULL || t->index == NULL || t->state_shm == NULL || t->app_shm == NULL ||
        t->forensic == NULL || t->ooo_shm == NULL || n < APPS_MAX || t->chains == NULL ||
        t->chain_done == NULL || chains != done || (chains & (chains - 1)) != 0) {
        c->log(c, LOG_ERR, "a table is missing or of the wrong size");
        return -EPROTO;
    }
    t->n_chains = (uint32_t)chains;
    t->conn = calloc(t->n_conns, sizeof *t->conn);
    t->ooo = calloc((size_t)t->n_conns * TCP_OOO_RANGES, sizeof *t->ooo);
    t->free = calloc(t->n_conns, sizeof *t->free);
    t->free_known = calloc(t->n_conns / 8 + 1, 1);
    t->link = calloc(t->n_chains, sizeof *t->link);
    t->dirty = calloc(t->n_conns, sizeof *t->dirty);
    t->dirty2 = calloc(t->n_conns, sizeof *t->dirty2);
    t->acked = calloc(t->n_conns, sizeof *t->acked);
    if (!t->conn || !t->ooo || !t->free || !t->free_known || !t->link || !t->dirty || !t->dirty2 ||
        !t->acked || wheel_init(&t->wheel, t->n_conns, now) != 0 || !tcp_sent_ready(t))
        return -ENOMEM;
    for (unsigned i = 0; i < TCP_COUNTERS; i++)
        t->counter[i] = c->block->counter[i];
    int rc = attach(t);
    if (rc)
        return rc;
    t->replay_end = load_acquire(&t->rx_ip.out->tail);
    tcp_lookup_begin(t, index_elements);
    tcp_recover_begin(t);
    return 0;
}

/* The queue on which the frame of `p` goes back, or NULL. */
static struct chan_tx *return_queue(struct tcp *t, const struct packet *p)
{
    if (p->icmp_type || p->chain == TCP_NO_CHAIN)
        return NULL;
    unsigned i = SERVER_ID_INSTANCE(p->origin);
    if (SERVER_ID_KIND(p->origin) == SERVER_DRIVER && i < t->cfg->interfaces)
        return &t->ret_driver[i];
    if (p->origin == SERVER_ID(SERVER_IP, 0))
        return &t->ret_ip;
    tcp_count(t, TCP_C_BAD_RETURN);
    return NULL;
}

static bool already_returned(const struct chan_tx *tx, uint16_t src, uint64_t index)
{
    return tx->last[src].valid && index <= tx->last[src].index;
}

static unsigned take_segments(struct tcp *t)
{
    unsigned n = 0;
    const void *slot;
    struct packet p;
    while (n < WORK_QUOTA && (slot = chan_rx_peek(&t->rx_ip)) != NULL) {
        uint64_t index = chan_rx_index(&t->rx_ip);
        if (!packet_copy(&p, slot)) {
            tcp_count(t, TCP_C_DROP_GARBAGE);
        } else {
            struct chan_tx *back = return_queue(t, &p);
            if (back != NULL && already_returned(back, t->rx_ip.number, index)) {
                /* Our predecessor finished it; the frame may hold another packet by now. */
                tcp_count(t, TCP_C_REPLAYED);
            } else {
                if (back != NULL && !chan_tx_room(back, 1))
                    break;
                if (!tcp_quarantine_drops(t, &p) && !tcp_input(t, &p)) {
                    tcp_count(t, TCP_C_HELD);
                    break;
                }
                void *out;
                if (back != NULL &&
                    chan_tx_reserve(back, t->rx_ip.number, index, 0, &out) == CHAN_OK) {
                    struct frame_return *r = out;
                    shm_store(&r->frame, p.chain);
                    shm_store(&r->generation, p.chain_generation);
                    chan_tx_commit(back);
                }
            }
        }
        chan_rx_next(&t->rx_ip);
        n++;
    }
    item_end(t->c->block);
    return n;
}

/* Answered with an error, once: whoever asked goes on. */
static int refuse(struct tcp *t)
{
    tcp_count(t, TCP_C_QUARANTINED);
    chan_rx_keep(&t->rx_sys, t->now, NULL, 0);
    return -EIO;
}

static int grant(struct tcp *t, const struct syscall_request *q)
{
    if (q->op != SYSCALL_GRANT_PORT || q->port >= 1024)
        return -EINVAL;
    struct tcp_app *a = q->app < APPS_MAX ? t->app[q->app] : NULL;
    if (a == NULL || a->generation != q->app_generation)
        return -ESRCH;
    uint64_t *word = &t->app_shm[q->app].granted[q->port / 64];
    shm_store(word, *word | 1ull << q->port % 64);
    return 0;
}

static unsigned take_control(struct tcp *t)
{
    unsigned n = 0;
    const void *slot;
    while (n < WORK_QUOTA && (slot = chan_rx_peek(&t->rx_sys)) != NULL) {
        struct syscall_request q;
        void *out;
        memcpy(&q, slot, sizeof q);
        int rc = chan_tx_reserve(&t->tx_sys, t->rx_sys.number, chan_rx_index(&t->rx_sys), 0, &out);
        if (rc == CHAN_FULL)
            break;
        if (rc == CHAN_OK) {
            const bool condemned = chan_rx_condemned(&t->rx_sys);
            struct syscall_reply r = {
                .result = condemned ? refuse(t) : grant(t, &q), .client = q.client, .id = q.id};
            shm_copy((uint8_t *)out + sizeof r.head, (uint8_t *)&r + sizeof r.head,
                     sizeof r - sizeof r.head);
            chan_tx_commit(&t->tx_sys);
        }
        chan_rx_next(&t->rx_sys);
        n++;
    }
    item_end(t->c->block);
    return n;
}

static unsigned send_all(struct tcp *t)
{
    uint32_t *list = t->dirty, n = t->n_dirty;
    /* What becomes dirty while we send is for the next turn. */
    t->dirty = t->dirty2;
    t->dirty2 = list;
    t->n_dirty = 0;
    for (uint32_t i = 0; i < n; i++)
        t->conn[list[i]].dirty = false;
    for (uint32_t i = 0; i < n; i++) {
        tcp_conn_begin(t, &t->conn[list[i]]);
        tcp_output(t, &t->conn[list[i]]);
    }
    item_end(t->c->block);
    return n;
}

static void publish(struct tcp *t)
{
    for (unsigned i = 0; i < t->cfg->interfaces && i < CONFIG_INTERFACES; i++)
        chan_tx_publish(&t->ret_driver[i]);
    chan_tx_publish(&t->ret_ip);
    chan_tx_publish(&t->tx_ip);
    chan_tx_publish(&t->tx_sys);
    /* These ACKs are published: a successor need not repeat them. */
    for (uint32_t i = 0; i < t->n_acked; i++) {
        struct tcp_conn *k = &t->conn[t->acked[i]];
        k->awaiting = false;
        if (!k->ready)
            continue;
        shm_keep(&t->shm[k->idx].rx_acked, (uint32_t)k->rx_acked);
        if (t->shm[k->idx].rx_told != k->rx_told)
            shm_keep(&t->shm[k->idx].rx_told, k->rx_told);
    }
    t->n_acked = 0;
    chan_rx_release(&t->rx_ip);
    chan_rx_release(&t->rx_sys);
}

static void store_counters(struct tcp *t)
{
    while (t->counted) {
        unsigned i = (unsigned)__builtin_ctzll(t->counted);
        t->counted &= t->counted - 1;
        /* Nobody recovers from these. */
        __atomic_store_n(&t->c->block->counter[i], t->counter[i], __ATOMIC_RELAXED);
    }
}

static unsigned work(struct component *c, uint64_t now)
{
    struct tcp *t = c->state;
    unsigned n = 0;
    t->now = now;
    tcp_chain_poll(t);
    /* Segments before the walk: the connections that are in use are the first to be taken over. */
    n += take_segments(t);
    if (!t->walked) {
        tcp_app_serve_known(t);
        item_end(c->block);
        tcp_recover_step(t, WALK_STEP);
        n++;
    }
    if (t->walked) {
        n += take_control(t);
        n += tcp_app_work(t);
        item_end(c->block);
        tcp_movers_serve(t);
    }
    if (t->reclaim_at <= now && t->walked)
        tcp_reclaim_step(t);
    uint64_t due = tcp_timer_next(t);
    if (due <= now) {
        tcp_timer_run(t, WORK_QUOTA);
        n++;
    }
    if (t->n_dirty) {
        uint64_t before = t->tx_ip.tail;
        send_all(t);
        /* A connection that waits for room in the queue is no work. */
        n += (unsigned)(t->tx_ip.tail - before);
    }
    publish(t);
    tcp_news_flush(t);
    store_counters(t);
    return n;
}

static bool pending(struct component *c)
{
    struct tcp *t = c->state;
    if (!t->walked || chan_rx_pending(&t->rx_ip) || chan_rx_pending(&t->rx_sys) ||
        tcp_app_pending(t))
        return true;
    return t->n_dirty != 0 && t->chains_used < t->n_chains && chan_tx_room(&t->tx_ip, 1);
}

static uint64_t deadline(struct component *c)
{
    struct tcp *t = c->state;
    uint64_t at = tcp_timer_next(t);
    /* Completions ring no bell: an ACK brings them, mostly; look now and then. */
    if (t->chains_used && t->chain_look < at)
        at = t->chain_look;
    at = t->reclaim_at < at ? t->reclaim_at : at;
    return t->heirs_at < at ? t->heirs_at : at;
}

const struct component_ops tcp_ops = {
    .kind = SERVER_TCP,
    .name = "tcp",
    .size = sizeof(struct tcp),
    .start = start,
    .work = work,
    .pending = pending,
    .deadline = deadline,
    .app_added = tcp_app_added,
    .app_gone = tcp_app_gone,
};
