/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the run loop and the simulator share: attaching queues, ringing, one turn of a component.
 */
#include "component.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <syslog.h>

static struct bell *neighbour_bell(struct component *c, server_id peer, const struct region *r)
{
    const struct server_block *block = wiring_block(r);
    struct bell *b = &c->bell[peer];

    if (peer >= COMPONENT_BELLS || block == NULL)
        return NULL;
    b->asleep = &block->asleep;
    for (unsigned i = 0; i < c->neighbours; i++)
        if (c->neighbour[i] == b)
            return b;
    c->neighbour[c->neighbours++] = b;
    return b;
}

int component_tx(struct component *c, struct chan_tx *tx, enum edge edge, server_id peer)
{
    const struct region *r = &c->map->entry[REGION_OF_SERVER(peer)];
    int rc = chan_tx_attach(tx, c->own, r, edge, c->id, peer, c->epoch, neighbour_bell(c, peer, r));

    if (rc < 0)
        c->log(c, LOG_ERR, "cannot attach queue %s to %s: %s", edge_name(edge),
               server_id_name(peer), strerror(-rc));
    return rc;
}

int component_rx(struct component *c, struct chan_rx *rx, enum edge edge, server_id peer)
{
    const struct region *r = &c->map->entry[REGION_OF_SERVER(peer)];
    int rc = chan_rx_attach(rx, c->own, r, edge, c->id, peer, neighbour_bell(c, peer, r));

    if (rc < 0)
        c->log(c, LOG_ERR, "cannot attach queue %s from %s: %s", edge_name(edge),
               server_id_name(peer), strerror(-rc));
    return rc;
}

static void ring_app(struct component *c, unsigned app, uint32_t socket)
{
    struct app *a = &c->app[app];
    const struct region *r = &c->map->entry[REGION_OF_APP(app, APP_UP)];

    if (r->base == NULL || a->gone)
        return;
    const struct up_region *up = (const struct up_region *)r->base;
    for (unsigned i = 0; i < a->waiters; i++) {
        const uint32_t armed = load_acquire(&up->waiter[i].armed);
        const uint32_t wants = load_relaxed(&up->waiter[i].socket);

        if ((armed & 1) == 0 || armed == a->rung[i] || a->waiter[i].fd < 0)
            continue;
        if (wants != WAIT_ANY && wants != socket && socket != WAIT_ANY)
            continue;
        a->rung[i] = armed;
        bell_ring(&a->waiter[i]);
    }
}

void component_ring_apps(struct component *c, const struct app_ring *list, unsigned n)
{
    if (n == 0)
        return;
    fence_full(); /* pairs with the fence of a waiter between arming and its last look */
    for (unsigned i = 0; i < n; i++)
        ring_app(c, list[i].app, list[i].socket);
}

unsigned component_turn(struct component *c, uint64_t now)
{
    const unsigned n = c->ops->work(c, now);

    bell_flush(c->neighbour, c->neighbours);
    return n;
}
