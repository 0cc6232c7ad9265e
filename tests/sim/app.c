/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Scripted programs: the application's side of libchan/edge/app.h for one TCP socket, driven by a
 * plan. It sends a stream in which every byte follows from its position, and compares every byte
 * that it receives.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "sim.h"

/* Streams are windows into one block of noise, whose length is a prime: a stream that is shifted by
 * anything that a ring or a segment could be long does not fit itself. */
enum { NOISE = 131071 };

static const uint8_t *noise(void)
{
    static uint8_t block[2 * NOISE];
    static bool made;

    if (!made) {
        struct rng r = {.s = 1};

        for (unsigned i = 0; i < NOISE; i++)
            block[i] = block[i + NOISE] = (uint8_t)rng_next(&r);
        made = true;
    }
    return block;
}

const uint8_t *stream_at(uint64_t pattern, uint64_t at)
{
    return noise() + (pattern % NOISE + at % NOISE) % NOISE;
}

/* --- shared memory --- */

static void kick(struct sim_socket *k)
{
    struct app_work *w = &k->up_region->work_tcp;

    if (w->tail - k->down_region->work_head >= WORK_SLOTS) {
        w->scan++;
        return;
    }
    w->slot[w->tail % WORK_SLOTS] = k->slot;
    shm_store_release(&w->tail, w->tail + 1);
}

static struct up_slot *open_slot(struct sim_socket *k)
{
    struct up_slot *up = k->up;

    up->generation++;
    k->generation = up->generation;
    up->tx_end &= OFF_MASK;
    up->tx_base = up->tx_end;
    up->share_token = 1000 + k->slot;
    memset(&up->local, 0, sizeof up->local);
    memset(&up->remote, 0, sizeof up->remote);
    up->arg0 = 0;
    up->flags = 0;
    k->sent = k->received = k->stalled = k->paused = 0;
    k->dead = false;
    k->shut = k->eof = k->reset = k->refused = false;
    k->options = 0;
    return up;
}

static void request(struct sim_socket *k, enum app_op op)
{
    k->up->op = op;
    shm_store_release(&k->up->req_id, k->up->req_id + 1);
    kick(k);
}

void socket_init(struct sim_socket *k, struct stack *st, unsigned app, unsigned slot)
{
    struct app_layout l;
    uint8_t *up = st->map->entry[REGION_OF_APP(app, APP_UP)].base;
    uint8_t *down = st->map->entry[REGION_OF_APP(app, APP_DOWN_TCP)].base;

    app_layout(&l, &st->cfg);
    *k = (struct sim_socket){
        .st = st,
        .app = app,
        .slot = slot,
        .up_region = (struct up_region *)(void *)up,
        .down_region = (struct down_region *)(void *)down,
        .up = (struct up_slot *)(void *)(up + l.up_tcp_slots) + slot,
        .down = (struct down_slot *)(void *)(down + l.down_tcp_slots) + slot,
    };
}

/* --- requests --- */

void socket_listen(struct sim_socket *k, uint16_t port, unsigned backlog)
{
    struct up_slot *up = open_slot(k);

    up->local = (struct sock_name){.addr = {.family = 4}, .port = port};
    up->arg0 = backlog;
    k->stage = STAGE_LISTEN;
    request(k, OP_LISTEN);
}

void socket_claim(struct sim_socket *k, const struct sim_socket *listener)
{
    struct up_slot *up = open_slot(k);

    up->target_app = listener->app;
    up->target_slot = listener->slot;
    up->target_generation = listener->generation;
    up->token = listener->up->share_token;
    k->stage = STAGE_WAIT;
    request(k, OP_ACCEPT);
}

static void connect_now(struct sim_socket *k)
{
    k->up->remote = k->to;
    k->stage = STAGE_WAIT;
    request(k, OP_CONNECT);
}

void socket_connect(struct sim_socket *k, const struct stack *to, uint16_t port)
{
    struct up_slot *up = open_slot(k);

    k->connects = true;
    k->to = (struct sock_name){.addr = to->cfg.interface[0].addr, .port = port};
    if (k->bind_port == 0) {
        connect_now(k);
        return;
    }
    up->local = (struct sock_name){.addr = {.family = 4}, .port = k->bind_port};
    k->stage = STAGE_BIND;
    request(k, OP_BIND);
}

void socket_cancel(struct sim_socket *k)
{
    request(k, OP_CANCEL);
    shm_store_release(&k->up->released, k->generation);
    kick(k);
    k->stage = STAGE_CLOSE;
}

void socket_close(struct sim_socket *k, bool abort)
{
    k->up->arg0 = abort;
    request(k, OP_CLOSE);
    shm_store_release(&k->up->released, k->generation);
    kick(k);
    k->stage = STAGE_CLOSE;
}

void socket_die(struct sim_socket *k)
{
    k->dead = true;
    k->refused = false;
    k->stage = STAGE_DONE;
}

/* --- data --- */

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

__attribute__((format(printf, 2, 3))) static void fail(struct sim_socket *k, const char *fmt, ...)
{
    char why[128];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    sim_fail(k->st->sim, "stack %u app %u slot %u: %s (sent %lu of %lu, received %lu of %lu)",
             k->st->number, k->app, k->slot, why, (unsigned long)k->sent,
             (unsigned long)k->plan.to_send, (unsigned long)k->received,
             (unsigned long)k->expected);
}

/* True: progress. */
static bool receive(struct sim_socket *k)
{
    const uint64_t now = k->st->sim->now;
    const uint64_t nxt = load_acquire(&k->down->rx_nxt);
    const uint32_t select = k->down->select;
    uint64_t read = k->up->rx_read, have = (nxt & OFF_MASK) - read;
    const bool was = k->eof;

    if (k->plan.stall_at != 0 && k->stalled == 0 && k->received + have >= k->plan.stall_at)
        k->stalled = now + k->plan.stall_ns;
    if (now < k->stalled)
        return false;
    if (k->plan.read_max != 0 && have > k->plan.read_max)
        have = k->plan.read_max;
    while (have > 0) {
        uint64_t n;
        const uint8_t *p =
            ring_at((uint8_t *)k->down_region, &k->down->rx[select >> 1 & 1], read, &n);

        if (n > have)
            n = have;
        if (n > NOISE)
            n = NOISE;
        if (memcmp(p, stream_at(k->expect, k->received), n) != 0 || k->received + n > k->expected) {
            fail(k, "wrong bytes after %lu", (unsigned long)k->received);
            return true;
        }
        k->received += n;
        read += n;
        have -= n;
    }
    const bool moved = read != k->up->rx_read;
    if (moved) {
        shm_store_release(&k->up->rx_read, read);
        kick(k);
    }
    k->eof = (nxt & OFF_MARK) != 0 && read == (nxt & OFF_MASK);
    /* What a program wrote before it died arrives, unless an error says that it did not. */
    if (k->eof && k->received != (k->peer != NULL && k->peer->dead ? k->peer->sent : k->expected))
        fail(k, "the stream ends too early");
    return moved || k->eof != was;
}

static bool transmit(struct sim_socket *k, struct rng *rng)
{
    struct up_slot *up = k->up;
    const uint64_t now = k->st->sim->now;
    const struct ring_desc *ring = &k->down->tx[k->down->select & 1];
    const struct ring_block *last = &ring->block[ring->block[1].size != 0];
    const uint64_t limit = load_acquire(&k->down->tx_free) + last->size;
    uint64_t end = up->tx_end, want = k->plan.to_send - k->sent;

    if (k->shut)
        return false;
    if (k->plan.pause_ns != 0 && k->paused == 0 && k->sent >= k->plan.pause_at)
        k->paused = now + k->plan.pause_ns;
    if (now < k->paused)
        return false;
    if (k->plan.write_max != 0 && want > k->plan.write_max)
        want = 1 + rng_below(rng, k->plan.write_max);
    if (want > limit - end)
        want = limit - end;
    while (want > 0) {
        uint64_t n;
        uint8_t *p = ring_at((uint8_t *)k->up_region, ring, end, &n);

        if (n > want)
            n = want;
        if (n > NOISE)
            n = NOISE;
        memcpy(p, stream_at(k->plan.pattern, k->sent), n);
        k->sent += n;
        end += n;
        want -= n;
    }
    const bool moved = end != up->tx_end;
    if (k->sent == k->plan.to_send && k->plan.ending == END_FIN) {
        k->shut = true;
        end |= OFF_MARK;
    }
    if (end != up->tx_end) {
        shm_store_release(&up->tx_end, end);
        kick(k);
    }
    return moved || k->shut;
}

/* --- a plan --- */

static const struct {
    enum app_option option;
    uint64_t value;
} keepalive[] = {{OPT_KEEPALIVE, 1}, {OPT_KEEPIDLE, 10}, {OPT_KEEPINTVL, 5}};

static bool set_option(struct sim_socket *k)
{
    enum { N = sizeof keepalive / sizeof keepalive[0] };

    if (k->plan.keepalive && k->options < N) {
        k->up->arg0 = keepalive[k->options].option;
        k->up->arg1 = keepalive[k->options].value;
    } else if (k->plan.nodelay && k->options < N + 1) {
        k->options = N;
        k->up->arg0 = OPT_NODELAY;
        k->up->arg1 = 1;
    } else {
        return false;
    }
    k->options++;
    request(k, OP_SETOPT);
    return true;
}

/* The reply to connect() or a claim. */
static void opened(struct sim_socket *k)
{
    const int result = k->down->result;

    if (result == 0) {
        if (load_acquire(&k->down->state) < SOCK_ESTABLISHED)
            fail(k, "replied, and is in state %u", k->down->state);
        /* Behind all that an earlier connection of this slot had (libchan/edge/app.h). */
        if (k->up->rx_read < k->down->rx_base)
            shm_store_release(&k->up->rx_read, k->down->rx_base);
        k->stage = STAGE_OPTION;
        return;
    }
    /* A true answer: requests of ARP, or their answers, were lost three times. A program would try
     * again, and the scenario says whether that can have happened. */
    k->refused = k->connects && (result == -EHOSTUNREACH || result == -ECONNREFUSED);
    if (result == -ECONNREFUSED && k->plan.resets) {
        k->refused = false; /* the other end is there and gone */
        k->reset = true;
    } else if (!k->refused) {
        fail(k, "%s: %s", k->connects ? "connect" : "accept", strerror(-result));
    }
    socket_close(k, false);
}

static bool acknowledged(const struct sim_socket *k)
{
    return load_acquire(&k->down->tx_una) >= (k->up->tx_end & OFF_MASK);
}

static bool play(struct sim_socket *k, struct rng *rng)
{
    bool did;

    if (k->down->error != 0 || load_acquire(&k->down->state) == SOCK_CLOSED) {
        const uint32_t error = k->down->error;

        if (error != 0 && (!k->plan.resets || (error != ECONNRESET && error != EPIPE)) &&
            (!k->plan.lonely || error != ETIMEDOUT))
            fail(k, "error %s", strerror((int)error));
        if (error != 0) {
            k->reset = true;
            socket_close(k, false);
            return true;
        }
    }
    did = receive(k);
    if (!k->st->sim->failed)
        did |= transmit(k, rng);
    if (k->plan.ending == END_ABORT && k->sent >= k->plan.abort_at)
        socket_close(k, true);
    else if (k->plan.ending == END_RUDE && k->sent == k->plan.to_send)
        socket_close(k, false);
    else if (k->shut && k->eof &&
             (!k->plan.patient || acknowledged(k) ||
              (k->plan.resets && load_acquire(&k->down->state) == SOCK_CLOSED)))
        socket_close(k, false);
    else
        return did;
    return true;
}

bool socket_step(struct sim_socket *k, struct rng *rng)
{
    const uint64_t now = k->st->sim->now;
    bool did = false;

    if (now < k->wake)
        return false;
    switch (k->stage) {
    case STAGE_BIND:
        did = socket_replied(k);
        if (did && k->down->result != 0)
            fail(k, "bind: %s", strerror(-k->down->result));
        else if (did)
            connect_now(k);
        break;
    case STAGE_WAIT:
        did = socket_replied(k);
        if (did)
            opened(k);
        break;
    case STAGE_OPTION:
        if (k->expect == 0 || !socket_replied(k)) /* nobody has given it a plan yet */
            break;
        did = true;
        if (k->down->result != 0)
            fail(k, "option: %s", strerror(-k->down->result));
        if (!set_option(k))
            k->stage = STAGE_OPEN;
        break;
    case STAGE_OPEN:
        did = play(k, rng);
        break;
    case STAGE_CLOSE:
        did = load_acquire(&k->down->state) == SOCK_FREE && k->down->generation == k->generation;
        if (did)
            k->stage = STAGE_DONE;
        break;
    case STAGE_NONE:
    case STAGE_LISTEN:
    case STAGE_DONE:
        break;
    }
    if (did && k->plan.think_ns != 0)
        k->wake = now + rng_below(rng, k->plan.think_ns + 1);
    return did;
}

uint64_t socket_next(const struct sim_socket *k)
{
    const uint64_t now = k->st->sim->now;
    uint64_t next = NEVER;

    if (k->wake > now && k->stage != STAGE_DONE && k->stage != STAGE_NONE)
        return k->wake;
    if (k->stage != STAGE_OPEN)
        return NEVER;
    if (k->stalled > now)
        next = k->stalled;
    if (k->paused > now && k->paused < next)
        next = k->paused;
    return next;
}
