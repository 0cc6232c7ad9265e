/* SPDX-License-Identifier: BSD-2-Clause
 *
 * An application that does not keep the rules of edge/app.h: its threads stand still while
 * something wrong is written to its own region, and the socket is named in its work queue, so that
 * the server looks at it.
 */
#include "stores.h"

#include "libchan/edge/app.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LIVE_MAX = 1024 };

struct world {
    struct region up, down, ctl;
    struct up_slot *slot;
    const struct down_slot *seen;
    uint32_t n;
};

static int map_world(struct world *w, const struct target *t, unsigned app)
{
    int rc = shared_map(&w->up, t, REGION_OF_APP(app, APP_UP), true);

    if (rc == 0)
        rc = shared_map(&w->down, t, REGION_OF_APP(app, APP_DOWN_TCP), false);
    if (rc == 0)
        rc = shared_map(&w->ctl, t, REGION_OF_APP(app, APP_DOWN_CTL), false);
    if (rc < 0)
        return rc;
    const struct ctl_region *c = (const struct ctl_region *)w->ctl.base;
    w->slot = (struct up_slot *)(void *)(w->up.base + c->up_tcp_slots);
    w->seen = (const struct down_slot *)(const void *)(w->down.base + c->down_tcp_slots);
    w->n = c->n_tcp;
    return 0;
}

static void unmap_world(struct world *w)
{
    struct region *all[] = {&w->up, &w->down, &w->ctl};

    for (unsigned i = 0; i < 3; i++)
        if (all[i]->base != NULL)
            region_unmap(all[i]);
}

/* A socket in use, connections before others. -1: there is none. */
static int64_t pick_socket(const struct world *w, struct random *r)
{
    uint32_t live[LIVE_MAX], connections = 0, n = 0;

    for (uint32_t i = 0; i < w->n && n < LIVE_MAX; i++) {
        const uint32_t state = load_relaxed(&w->seen[i].state);
        if (state == SOCK_FREE || state > SOCK_CLOSED)
            continue;
        live[n] = i;
        if (state == SOCK_ESTABLISHED) {
            live[n] = live[connections];
            live[connections++] = i;
        }
        n++;
    }
    if (n == 0)
        return -1;
    return live[random_below(r, connections > 0 ? connections : n)];
}

static void put(const struct world *w, void *at, const void *value, unsigned len, struct store *s)
{
    s->at = (uint64_t)((uint8_t *)at - w->up.base);
    s->len = len;
    memcpy(s->before, at, len);
    shm_copy(at, value, len);
    memcpy(s->after, at, len);
}

static void put_counter(const struct world *w, uint64_t *at, uint64_t add, struct store *s)
{
    const uint64_t value = (*at & OFF_MARK) | ((*at + add) & OFF_MASK);

    put(w, at, &value, sizeof value, s);
}

static void put_request(const struct world *w, struct up_slot *u, struct random *r, struct store *s)
{
    uint64_t argument = random_next(r);
    const uint32_t op = random_below(r, 4) == 0 ? (uint32_t)random_next(r)
                                                : (uint32_t)random_below(r, OP_INFO + 2),
                   id = u->req_id + 1 + (uint32_t)(random_below(r, 4) == 0 ? random_next(r) : 0);

    shm_store(&u->op, op);
    shm_store(&u->flags, (uint32_t)random_next(r));
    shm_store(&u->tx_base, random_next(r));
    shm_store(&u->target_slot, (uint32_t)random_below(r, 2 * w->n));
    shm_store(&u->arg0, (uint32_t)random_next(r));
    shm_store(&u->arg1, argument);
    put(w, &u->req_id, &id, sizeof id, s);
}

static void act(const struct world *w, struct up_slot *u, enum crash_class c, struct random *r,
                struct store *s)
{
    struct app_work *work = &((struct up_region *)(void *)w->up.base)->work_tcp;
    uint64_t *counter = random_below(r, 2) == 0 ? &u->tx_end : &u->rx_read, value;

    switch (c) {
    case CRASH_JUMP:
        put_counter(w, counter, 1ull << 32, s);
        break;
    case CRASH_BACK:
        put_counter(w, counter, 0 - (1 + random_below(r, 65536)), s);
        break;
    case CRASH_OVERLAP:
        put_counter(w, counter, 1 + random_below(r, 1 << 22), s);
        break;
    case CRASH_REQUEST:
        put_request(w, u, r, s);
        break;
    case CRASH_WORK:
        value =
            work->tail + (random_below(r, 2) == 0 ? 1ull << 32 : 1 + random_below(r, WORK_SLOTS));
        for (unsigned i = 0; i < 16; i++)
            shm_store(&work->slot[(work->tail + i) % WORK_SLOTS], (uint32_t)random_next(r));
        put(w, &work->tail, &value, sizeof value, s);
        break;
    default:
        put(w, &u->released, &u->generation, sizeof u->generation, s);
    }
}

int byzantine_act(struct target *t, unsigned app, enum crash_class *c, struct random *r,
                  struct store *list, unsigned max, struct witness *witness)
{
    struct world w = {0};

    *witness = (struct witness){0};
    *c = crash_class_draw(*c, r);
    int rc = max == 0 ? -EINVAL : map_world(&w, t, app);
    if (rc == 0)
        rc = target_stop(t);
    if (rc == 0) {
        struct app_work *work = &((struct up_region *)(void *)w.up.base)->work_tcp;
        const int64_t i = pick_socket(&w, r);
        rc = -ENOENT;
        if (i >= 0) {
            list[0] = (struct store){0};
            snprintf(list[0].place, sizeof list[0].place, "up of app%u, socket %u", app,
                     (unsigned)i);
            witness->beyond = work->tail;
            shm_store(&work->slot[work->tail % WORK_SLOTS], (uint32_t)i);
            act(&w, &w.slot[i], *c, r, &list[0]);
            if (*c != CRASH_WORK)
                shm_store_release(&work->tail, work->tail + 1);
            witness->passed = offsetof(struct down_region, work_head);
            witness->region = w.down;
            w.down.base = NULL;
            rc = 1;
        }
    }
    target_go(t);
    unmap_world(&w);
    return rc;
}
