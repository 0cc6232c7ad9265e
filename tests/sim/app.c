/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A scripted application: plays the application's side of libchan/edge/app.h for one TCP socket,
 * sends a stream in which every byte follows from its position, and checks every byte that it
 * receives.
 */
#include <errno.h>
#include <stdio.h>

#include "sim.h"

static struct up_region *up_of(const struct sim_socket *k)
{
    return (struct up_region *)k->st->map->entry[REGION_OF_APP(k->app, APP_UP)].base;
}

static struct up_slot *up_slot(const struct sim_socket *k)
{
    struct app_layout l;

    app_layout(&l, &k->st->cfg);
    return (struct up_slot *)((uint8_t *)up_of(k) + l.up_tcp_slots) + k->slot;
}

static struct down_slot *down_slot(const struct sim_socket *k)
{
    struct app_layout l;
    uint8_t *down = k->st->map->entry[REGION_OF_APP(k->app, APP_DOWN_TCP)].base;

    app_layout(&l, &k->st->cfg);
    return (struct down_slot *)(void *)(down + l.down_tcp_slots) + k->slot;
}

static void kick(struct sim_socket *k)
{
    struct app_work *w = &up_of(k)->work_tcp;
    const struct down_region *down =
        (const struct down_region *)k->st->map->entry[REGION_OF_APP(k->app, APP_DOWN_TCP)].base;

    if (w->tail - down->work_head >= WORK_SLOTS) {
        w->scan++;
        return;
    }
    w->slot[w->tail % WORK_SLOTS] = k->slot;
    shm_store_release(&w->tail, w->tail + 1);
}

static struct up_slot *open_slot(struct sim_socket *k)
{
    struct up_slot *up = up_slot(k);

    up->generation++;
    k->generation = up->generation;
    up->tx_end &= OFF_MASK;
    up->tx_base = up->tx_end;
    up->share_token = 1000 + k->slot;
    memset(&up->local, 0, sizeof up->local);
    memset(&up->remote, 0, sizeof up->remote);
    up->arg0 = 0;
    return up;
}

static void request(struct sim_socket *k, enum app_op op)
{
    struct up_slot *up = up_slot(k);

    up->op = op;
    shm_store_release(&up->req_id, up->req_id + 1);
    k->requested = true;
    kick(k);
}

void socket_listen(struct sim_socket *k, uint16_t port)
{
    struct up_slot *up = open_slot(k);

    up->local = (struct sock_name){.addr = {.family = 4}, .port = port};
    up->arg0 = 16;
    request(k, OP_LISTEN);
}

void socket_claim(struct sim_socket *k, const struct sim_socket *listener)
{
    struct up_slot *up = open_slot(k);

    up->target_app = listener->app;
    up->target_slot = listener->slot;
    up->target_generation = listener->generation;
    up->token = up_slot(listener)->share_token;
    request(k, OP_ACCEPT);
}

void socket_connect(struct sim_socket *k, const struct ip_addr *addr, uint16_t port)
{
    struct up_slot *up = open_slot(k);

    up->remote = (struct sock_name){.addr = *addr, .port = port};
    request(k, OP_CONNECT);
}

void socket_close(struct sim_socket *k)
{
    struct up_slot *up = up_slot(k);

    up->arg0 = 0;
    request(k, OP_CLOSE);
    shm_store_release(&up->released, k->generation);
    kick(k);
}

static uint8_t pattern(uint64_t seed, uint64_t at)
{
    return (uint8_t)((seed + at) * 0x9e3779b97f4a7c15ull >> 56);
}

/* Address of stream offset `o` in a ring, in the region `base`, and how many bytes follow there. */
static uint8_t *ring_at(uint8_t *base, const struct ring_desc *r, uint64_t o, uint64_t *contiguous)
{
    const struct ring_block *b = &r->block[o >= r->switch_at && r->block[1].size != 0];
    const uint64_t at = o & (b->size - 1);

    *contiguous = b->size - at;
    if (b == &r->block[0] && r->block[1].size != 0 && r->switch_at - o < *contiguous)
        *contiguous = r->switch_at - o;
    return base + b->off + at;
}

static void fail(struct sim_socket *k, const char *why)
{
    fprintf(stderr, "stack %u app %u slot %u: %s (sent %lu received %lu)\n", k->st->number, k->app,
            k->slot, why, (unsigned long)k->sent, (unsigned long)k->received);
    k->failed = true;
}

static void receive(struct sim_socket *k, struct rng *rng)
{
    struct up_slot *up = up_slot(k);
    const struct down_slot *down = down_slot(k);
    const uint64_t nxt = load_acquire(&down->rx_nxt);
    uint64_t have = (nxt & OFF_MASK) - up->rx_read;
    const uint32_t select = down->select;
    uint64_t read = up->rx_read;

    if (k->slow && have > 0)
        have = 1 + rng_below(rng, have);
    while (have > 0) {
        uint64_t n;
        const uint8_t *p = ring_at(k->st->map->entry[REGION_OF_APP(k->app, APP_DOWN_TCP)].base,
                                   &down->rx[select >> 1 & 1], read, &n);

        if (n > have)
            n = have;
        for (uint64_t i = 0; i < n; i++, k->received++)
            if (p[i] != pattern(k->expect, k->received)) {
                fail(k, "wrong byte");
                return;
            }
        read += n;
        have -= n;
    }
    if (read != up->rx_read) {
        shm_store_release(&up->rx_read, read);
        kick(k);
    }
    if ((nxt & OFF_MARK) != 0 && read == (nxt & OFF_MASK))
        k->eof = true;
}

static void transmit(struct sim_socket *k, struct rng *rng)
{
    struct up_slot *up = up_slot(k);
    const struct down_slot *down = down_slot(k);
    const uint32_t select = down->select;
    const struct ring_desc *ring = &down->tx[select & 1];
    const struct ring_block *last = &ring->block[ring->block[1].size != 0];
    const uint64_t limit = load_acquire(&down->tx_free) + last->size;
    uint64_t end = up->tx_end, want = 1 + rng_below(rng, 20000);

    if (k->shut)
        return;
    if (want > k->to_send - k->sent)
        want = k->to_send - k->sent;
    if (want > limit - end)
        want = limit - end;
    while (want > 0) {
        uint64_t n;
        uint8_t *p = ring_at(k->st->map->entry[REGION_OF_APP(k->app, APP_UP)].base, ring, end, &n);

        if (n > want)
            n = want;
        for (uint64_t i = 0; i < n; i++, k->sent++)
            p[i] = pattern(k->pattern, k->sent);
        end += n;
        want -= n;
    }
    if (k->sent == k->to_send) {
        k->shut = true;
        shm_store_release(&up->tx_end, end | OFF_MARK);
        kick(k);
    } else if (end != up->tx_end) {
        shm_store_release(&up->tx_end, end);
        kick(k);
    }
}

bool socket_done(const struct sim_socket *k)
{
    return load_acquire(&down_slot(k)->req_done) == up_slot(k)->req_id;
}

void socket_step(struct sim_socket *k, struct rng *rng)
{
    const struct down_slot *down = down_slot(k);
    const struct up_slot *up = up_slot(k);

    if (!k->requested || k->failed || k->finished)
        return;
    if (!k->established) {
        if (load_acquire(&down->req_done) != up->req_id)
            return;
        if (down->result != 0) {
            /* Three ARP requests or their answers were lost in a row: a true answer, and a program
             * would try again. */
            if (down->result == -EHOSTUNREACH && up->op == OP_CONNECT)
                k->unreachable = true;
            else
                fail(k, strerror(-down->result));
            return;
        }
        if (load_acquire(&down->state) != SOCK_ESTABLISHED)
            return;
        k->established = true;
    }
    if (down->error != 0) {
        fail(k, "error on the socket");
        return;
    }
    receive(k, rng);
    if (!k->failed && rng_chance(rng, 0.5))
        transmit(k, rng);
    if (k->shut && k->eof) {
        k->finished = true;
        if (k->received != k->to_send)
            fail(k, "end of stream in the wrong place");
        socket_close(k);
    }
}
