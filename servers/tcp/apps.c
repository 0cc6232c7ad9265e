/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Applications: their regions, their work queues, their death. Each gets a share of every turn: one
 * that fills its queue without end starves nobody. Nothing in an application's region is believed.
 */
#include "engine.h"

#include <stdlib.h>

enum {
    APP_QUOTA = WORK_QUOTA,
    RECENT = 64, /* entries that a predecessor took last: their connections were busy */
    TURN_QUOTA =
        16 * WORK_QUOTA, /* of all of them: a turn must end long before rs thinks it hung */
};

void tcp_app_added(struct component *c, unsigned app)
{
    struct tcp *t = c->state;
    const struct region *up = &c->map->entry[REGION_OF_APP(app, APP_UP)];
    const struct region *down = &c->map->entry[REGION_OF_APP(app, APP_DOWN_TCP)];
    if (app >= APPS_MAX || t->app[app] != NULL || up->base == NULL || down->base == NULL)
        return;
    if (up->size < t->layout.up_end || down->size < t->layout.down_tcp_end)
        return;
    struct tcp_app *a = calloc(1, sizeof *a);
    if (a == NULL)
        return;
    a->slot_conn = calloc(t->layout.n_tcp, sizeof *a->slot_conn);
    if (a->slot_conn == NULL ||
        tcp_ring_space_init(&a->up_space, t->layout.up_tcp_blocks, t->layout.up_udp_blocks) != 0 ||
        tcp_ring_space_init(&a->down_space, t->layout.down_tcp_blocks, t->layout.down_tcp_end) !=
            0 ||
        /* Of what a predecessor gave out nobody knows what was given back. */
        tcp_ring_space_watch(&a->down_space, !t->walked && c->epoch > 1) != 0) {
        tcp_ring_space_fini(&a->up_space);
        free(a->slot_conn);
        free(a);
        return;
    }
    a->up = (const struct up_region *)up->base;
    a->down = (struct down_region *)down->base;
    a->up_generation = up->generation;
    a->generation = c->app[app].generation;
    a->work_head = load_relaxed(&a->down->work_head);
    a->peeked = a->work_head > RECENT ? a->work_head - RECENT : 0;
    a->scan_seen = load_relaxed(&a->down->scan_done);
    a->scan_next = t->layout.n_tcp;
    t->app[app] = a;
    if (app + 1 > t->apps)
        t->apps = app + 1;
    /* Ports that a former application of this number was granted are not this one's. */
    struct tcp_app_shm *s = &t->app_shm[app];
    if (s->generation != a->generation) {
        shm_zero(s->granted, sizeof s->granted);
        shm_store(&s->generation, a->generation);
    }
    if (c->app[app].gone)
        tcp_app_gone(c, app);
}

void tcp_app_gone(struct component *c, unsigned app)
{
    struct tcp *t = c->state;
    if (app < APPS_MAX && t->app[app] != NULL)
        t->app[app]->gone = true;
    else if (c->app_done != NULL)
        c->app_done(c, app);
}

/* A process that forks and ends at once leaves its sockets to a child that may not have asked for
 * them yet. The mark is the application's own, so that nobody else's sockets wait. */
static bool waits_for_heir(const struct tcp *t, unsigned app, const struct tcp_conn *k)
{
    const struct up_slot *up = tcp_app_up_slot(t, app, k->r.slot);
    if (up == NULL || t->app[app]->heirs_until == 0 || (k->r.flags & TCPF_CLOSED_BY_APP) ||
        load_relaxed(&up->forked) != k->r.generation)
        return false;
    return k->r.kind == TCP_KIND_LISTEN || k->r.kind == TCP_KIND_SOCKET ||
           (conn_synchronised(k) && !conn_has_fin(k));
}

/* As the kernel closes what a dead process had open. */
static void bury_slot(struct tcp *t, unsigned app, uint32_t slot)
{
    struct tcp_app *a = t->app[app];
    uint32_t i = a->slot_conn[slot];
    struct tcp_conn *k = &t->conn[i - 1];
    const struct up_slot *up = tcp_app_up_slot(t, app, slot);
    tcp_conn_begin(t, k);
    tcp_conn_sync(t, k);
    if (!k->ready || a->slot_conn[slot] != i)
        return;
    if (waits_for_heir(t, app, k)) {
        a->heirs = true;
        return;
    }
    /* Its last request may have been a close that aborts, and we had not come to it. */
    bool abort = load_acquire(&up->req_id) != k->r.req_id && load_relaxed(&up->op) == OP_CLOSE &&
                 load_relaxed(&up->arg0) != 0;
    tcp_request_close(t, k, abort);
    if (k->ready && a->slot_conn[slot] == i)
        tcp_conn_detach_try(t, k);
}

/* Somebody wants this port now: no listener of the dead keeps it any longer, whether it waits for
 * an heir or our turn for its burial has not come. */
bool tcp_app_evict(struct tcp *t, uint16_t port)
{
    bool any = false;
    for (unsigned app = 0; app < t->apps; app++) {
        struct tcp_app *a = t->app[app];
        if (a == NULL || !a->gone)
            continue;
        uint64_t until = a->heirs_until;
        a->heirs_until = 0;
        for (uint32_t slot = 0; slot < t->layout.n_tcp; slot++) {
            const struct tcp_conn *k = a->slot_conn[slot] ? &t->conn[a->slot_conn[slot] - 1] : NULL;
            if (k == NULL || k->r.kind == TCP_KIND_CONN || k->r.local.port != port)
                continue;
            bury_slot(t, app, slot);
            any = true;
        }
        a->heirs_until = until;
    }
    return any;
}

static unsigned bury(struct tcp *t, unsigned app)
{
    struct tcp_app *a = t->app[app];
    unsigned n = 0;
    for (; a->scan_next < t->layout.n_tcp && n < APP_QUOTA; a->scan_next++) {
        if (a->slot_conn[a->scan_next] == 0)
            continue;
        n++;
        bury_slot(t, app, a->scan_next);
    }
    if (a->scan_next == t->layout.n_tcp && a->heirs) {
        if (t->now < a->heirs_until) {
            if (a->heirs_until < t->heirs_at)
                t->heirs_at = a->heirs_until;
        } else {
            a->heirs = false;
            a->heirs_until = 0;
            a->scan_next = 0;
            n++;
        }
    }
    if (a->scan_next == t->layout.n_tcp && a->refs == 0) {
        tcp_ring_space_fini(&a->up_space);
        tcp_ring_space_fini(&a->down_space);
        free(a->slot_conn);
        free(a);
        t->app[app] = NULL;
        if (t->c->app_done != NULL)
            t->c->app_done(t->c, app);
    }
    return n;
}

static unsigned serve(struct tcp *t, unsigned app)
{
    struct tcp_app *a = t->app[app];
    const struct app_work *w = &a->up->work_tcp;
    unsigned n = 0;
    if (a->scan_next < t->layout.n_tcp) {
        for (; a->scan_next < t->layout.n_tcp && n < APP_QUOTA && t->spent < TURN_QUOTA;
             a->scan_next++, n++, t->spent++)
            tcp_request_slot(t, app, a->scan_next);
        if (a->scan_next == t->layout.n_tcp)
            shm_store_release(&a->down->scan_done, a->scan_seen);
        return n;
    }
    uint64_t tail = load_acquire(&w->tail), scan = load_acquire(&w->scan);
    uint64_t behind = tail - a->work_head;
    if (behind > WORK_SLOTS) { /* nonsense: look at everything instead */
        tcp_count(t, TCP_C_APP_VIOLATIONS);
        a->work_head = tail;
        a->scan_next = 0;
        shm_store_release(&a->down->work_head, a->work_head);
        return 1;
    }
    for (; n < APP_QUOTA && t->spent < TURN_QUOTA && a->work_head != tail; n++, t->spent++) {
        uint32_t slot = load_relaxed(&w->slot[a->work_head % WORK_SLOTS]);
        if (slot < t->layout.n_tcp)
            tcp_request_slot(t, app, slot);
        else
            tcp_count(t, TCP_C_APP_VIOLATIONS);
        a->work_head++;
    }
    if (n) /* after the counters were read and the requests have had their effect */
        shm_store_release(&a->down->work_head, a->work_head);
    if (scan != a->scan_seen) {
        a->scan_seen = scan;
        a->scan_next = 0;
        n++;
    }
    return n;
}

/* Connections go on before the records are walked: whose slot stands in a work queue is taken over,
 * and its counters are read. Entries stay where they are: requests must wait, as a slot that seems
 * free may have a record that was not seen yet. */
static void serve_known(struct tcp *t, unsigned app)
{
    struct tcp_app *a = t->app[app];
    const struct app_work *w = &a->up->work_tcp;
    const uint64_t tail = load_acquire(&w->tail);
    if (tail - a->peeked > WORK_SLOTS)
        return; /* nonsense, or so much that the walk is sooner done */
    for (unsigned n = 0; n < APP_QUOTA && a->peeked != tail; n++, a->peeked++, t->spent++) {
        const uint32_t slot = load_relaxed(&w->slot[a->peeked % WORK_SLOTS]);
        const struct down_slot *d = tcp_app_down_slot(t, app, slot);
        struct tcp_conn *k = d != NULL ? tcp_conn_get(t, load_relaxed(&d->record) - 1) : NULL;
        if (k != NULL && k->r.app == app && k->r.slot == slot) {
            tcp_conn_begin(t, k);
            tcp_conn_sync(t, k);
        }
    }
}

void tcp_app_serve_known(struct tcp *t)
{
    t->spent = 0;
    for (unsigned i = 0; i < t->apps && t->spent < TURN_QUOTA; i++) {
        const unsigned app = (t->app_next + i) % t->apps;
        if (t->app[app] != NULL && !t->app[app]->gone)
            serve_known(t, app);
    }
    if (t->apps)
        t->app_next = (t->app_next + 1) % t->apps;
}

unsigned tcp_app_work(struct tcp *t)
{
    unsigned n = 0;
    unsigned first = t->app_next;
    t->heirs_at = NEVER;
    t->spent = 0;
    for (unsigned i = 0; i < t->apps; i++) {
        unsigned app = (first + i) % t->apps;
        struct tcp_app *a = t->app[app];
        t->app_next = app; /* whoever is not served now is the first in the next turn */
        if (t->spent >= TURN_QUOTA)
            return n;
        if (a == NULL)
            continue;
        if (!a->gone) {
            n += serve(t, app);
        } else {
            if (!a->burying) {
                a->burying = true;
                a->scan_next = 0;
                a->heirs_until = t->now + HEIR_WAIT_MS * MSEC;
            }
            unsigned buried = bury(t, app);
            n += buried;
            t->spent += buried;
        }
    }
    if (t->apps)
        t->app_next = (first + 1) % t->apps;
    return n;
}

bool tcp_app_pending(struct tcp *t)
{
    for (unsigned i = 0; i < t->apps; i++) {
        const struct tcp_app *a = t->app[i];
        if (a == NULL)
            continue;
        if (a->gone && (!a->burying || a->scan_next < t->layout.n_tcp || a->refs == 0))
            return true;
        if (!a->gone && (a->scan_next < t->layout.n_tcp ||
                         load_acquire(&a->up->work_tcp.tail) != a->work_head ||
                         load_acquire(&a->up->work_tcp.scan) != a->scan_seen))
            return true;
    }
    return false;
}
