/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The application's half of a socket, as libsock plays it: requests, and streams whose every byte
 * follows from its position. See world.h.
 */
#include "world.h"

struct up_slot *sock_up(const struct sock *k)
{
    uint8_t *up = k->s->map->entry[REGION_OF_APP(k->app, APP_UP)].base;
    return (struct up_slot *)(void *)(up + k->s->layout.up_tcp_slots) + k->slot;
}

struct down_slot *sock_down(const struct sock *k)
{
    uint8_t *down = k->s->map->entry[REGION_OF_APP(k->app, APP_DOWN_TCP)].base;
    return (struct down_slot *)(void *)(down + k->s->layout.down_tcp_slots) + k->slot;
}

void sock_kick(struct sock *k)
{
    struct up_region *up =
        (struct up_region *)(void *)k->s->map->entry[REGION_OF_APP(k->app, APP_UP)].base;
    const struct down_region *down = (const struct down_region *)(const void *)k->s->map
                                         ->entry[REGION_OF_APP(k->app, APP_DOWN_TCP)]
                                         .base;
    struct app_work *w = &up->work_tcp;
    if (w->tail - load_acquire(&down->work_head) >= WORK_SLOTS) {
        w->scan++;
        return;
    }
    w->slot[w->tail % WORK_SLOTS] = k->slot;
    w->tail++;
}

struct up_slot *sock_fresh(struct sock *k)
{
    struct up_slot *up = sock_up(k);
    const struct down_slot *d = sock_down(k);
    if (d->state != SOCK_FREE || d->generation != up->generation)
        violation(k->s->w, "slot %u of side %u is not free: state %u", k->slot, k->s->number,
                  d->state);
    k->generation = ++up->generation;
    up->tx_end &= OFF_MASK;
    up->tx_base = up->tx_end;
    up->share_token = 77 + k->slot;
    up->flags = 0;
    up->local = up->remote = (struct sock_name){0};
    return up;
}

void sock_request(struct sock *k, enum app_op op, uint32_t arg0, uint64_t arg1)
{
    struct up_slot *up = sock_up(k);
    up->op = op;
    up->arg0 = arg0;
    up->arg1 = arg1;
    up->req_id++;
    sock_kick(k);
}

void sock_listen(struct sock *k, uint16_t port, unsigned backlog)
{
    struct up_slot *up = sock_fresh(k);
    up->local = (struct sock_name){.addr = {.family = 4}, .port = port};
    sock_request(k, OP_LISTEN, backlog, 0);
}

void sock_connect(struct sock *k, const struct side *to, uint16_t port)
{
    struct up_slot *up = sock_fresh(k);
    up->remote = (struct sock_name){.addr = to->cfg.interface[0].addr, .port = port};
    sock_request(k, OP_CONNECT, 0, 0);
}

void sock_claim(struct sock *k, const struct sock *l)
{
    struct up_slot *up = sock_fresh(k);
    up->target_app = l->app;
    up->target_slot = l->slot;
    up->target_generation = l->generation;
    up->token = sock_up(l)->share_token;
    sock_request(k, OP_ACCEPT, 0, 0);
}

void sock_inherit(struct sock *k, const struct sock *from)
{
    struct up_slot *up = sock_fresh(k);
    up->target_app = from->app;
    up->target_slot = from->slot;
    up->target_generation = from->generation;
    up->token = sock_up(from)->share_token;
    sock_request(k, OP_INHERIT, 0, 0);
}

void sock_close(struct sock *k, bool abort)
{
    k->closed = true;
    sock_request(k, OP_CLOSE, abort, 0);
    sock_up(k)->released = k->generation;
    sock_kick(k);
}

void sock_shutdown(struct sock *k)
{
    k->shut = true;
    sock_up(k)->tx_end |= OFF_MARK;
    sock_kick(k);
}

bool sock_replied(const struct sock *k, int *result)
{
    const struct down_slot *d = sock_down(k);
    if (d->req_done != sock_up(k)->req_id)
        return false;
    if (result != NULL)
        *result = d->result;
    return true;
}

static uint8_t pattern(uint64_t seed, uint64_t at)
{
    return (uint8_t)(((seed + at) * 0x9e3779b97f4a7c15ull) >> 56);
}

/* Where offset o of a stream is in the region. */
static uint64_t ring_at(const struct ring_desc *r, uint64_t o)
{
    const struct ring_block *b = &r->block[r->block[1].size != 0 && o >= r->switch_at];
    return b->off + (o & (b->size - 1));
}

/* Inside the region, as libsock checks it: what TCP shows may be damaged. */
static bool ring_ok(const struct ring_desc *r, const struct region *in)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct ring_block *b = &r->block[i];
        if ((b->size & (b->size - 1)) != 0 || b->size > in->size || b->off > in->size - b->size)
            return false;
    }
    return r->block[0].size != 0;
}

bool sock_step(struct sock *k)
{
    struct up_slot *up = sock_up(k);
    const struct down_slot *d = sock_down(k);
    bool moved = false;
    int result;
    if (k->closed)
        return false;
    if (!k->open) {
        if (!sock_replied(k, &result))
            return false;
        if (result != 0) {
            violation(k->s->w, "side %u slot %u: request failed: %d", k->s->number, k->slot,
                      result);
            k->closed = true;
            return false;
        }
        if (d->state != SOCK_ESTABLISHED)
            return false;
        k->open = true;
        k->read_at = d->rx_base;
        up->rx_read = k->read_at;
    }
    if (d->error != 0) {
        if (k->may_fail) {
            k->failed = d->error;
            return false;
        }
        violation(k->s->w, "side %u slot %u: error %u", k->s->number, k->slot, d->error);
        k->closed = true;
    }
    const struct region *down = &k->s->map->entry[REGION_OF_APP(k->app, APP_DOWN_TCP)],
                        *upm = &k->s->map->entry[REGION_OF_APP(k->app, APP_UP)];
    const struct ring_desc *rx = &d->rx[d->select >> 1 & 1], *tx = &d->tx[d->select & 1];
    uint64_t nxt = d->rx_nxt & OFF_MASK;
    if (!ring_ok(rx, down) || !ring_ok(tx, upm))
        return false;
    if (nxt < k->read_at) {
        violation(k->s->w, "rx_nxt went back");
        return false;
    }
    while (!k->no_read && k->read_at < nxt) {
        if (down->base[ring_at(rx, k->read_at)] != pattern(k->seed_rx, k->received)) {
            violation(k->s->w, "side %u: byte %lu is wrong", k->s->number,
                      (unsigned long)k->received);
            k->closed = true;
            return false;
        }
        k->read_at++;
        k->received++;
        moved = true;
    }
    if (moved)
        shm_store_release(&up->rx_read, k->read_at);
    if ((d->rx_nxt & OFF_MARK) && k->read_at == nxt)
        k->eof = true;
    uint64_t end = up->tx_end & OFF_MASK, size = tx->block[tx->block[1].size != 0].size;
    uint64_t room = d->tx_free + size - end;
    if (room > size)
        violation(k->s->w, "tx_free is beyond tx_end");
    bool wrote = false;
    if (k->write_max && room > k->write_max)
        room = k->write_max;
    while (!k->shut && !k->no_write && k->sent < k->to_send && room > 0) {
        upm->base[ring_at(tx, end)] = pattern(k->seed_tx, k->sent);
        end++;
        k->sent++;
        room--;
        wrote = true;
    }
    if (wrote)
        shm_store_release(&up->tx_end, end);
    if (moved || wrote)
        sock_kick(k);
    return moved || wrote;
}
