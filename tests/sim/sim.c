/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Two stacks and the time between them. See sim.h.
 */
#include "sim.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "drivers/driver.h"
#include "servers/ip/ip.h"
#include "servers/pf/pf.h"
#include "servers/tcp/tcp.h"
#include "servers/udp/udp.h"
#include "tests/harness/memory.h"

static const struct component_ops *const kinds[SIM_COMPONENTS] = {&driver_ops, &ip_ops, &pf_ops,
                                                                  &tcp_ops, &udp_ops};

uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    return n == 0 ? 0 : rng_next(r) % n;
}

bool rng_chance(struct rng *r, double p)
{
    return p > 0 && (double)(rng_next(r) >> 11) < p * 9007199254740992.0;
}

static void start(struct stack *st, unsigned i, enum rs_end end)
{
    struct component *c = host_new(kinds[i], SERVER_ID(kinds[i]->kind, 0), st->map);

    st->component[i] = c;
    if (kinds[i] == &driver_ops) {
        struct driver *d = c->state;

        driver_use_device(c, &sim_device);
        memcpy(d->device, &st, sizeof st);
    }
    if (host_start(c, st->sim->now, end) < 0) {
        fprintf(stderr, "%s cannot start\n", kinds[i]->name);
        abort();
    }
    for (unsigned app = 0; app < st->apps; app++)
        host_add_app(c, app, 1);
}

void sim_crash(struct stack *st, unsigned i)
{
    if (kinds[i] == &tcp_ops)
        tcp_dispose(st->component[i]);
    host_free(st->component[i]);
    start(st, i, END_KILLED);
    st->sim->crashes++;
}

void sim_create(struct sim *s, uint64_t seed, const struct wire_conditions *wire)
{
    memset(s, 0, sizeof *s);
    s->rng.s = seed;
    s->now = 1000 * SIM_MS;
    s->wire = *wire;
    for (unsigned i = 0; i < SIM_STACKS; i++) {
        struct stack *st = &s->stack[i];

        st->sim = s;
        st->number = i;
        st->map = calloc(1, sizeof *st->map);
        memory_config(&st->cfg);
        st->cfg.interface[0].addr = ip_addr_v4(htonl(0x0a000001 + i));
        st->cfg.interface[0].mac[5] = (uint8_t)(1 + i);
        st->cfg.routes = 1;
        for (unsigned k = 0; k < sizeof st->cfg.secret; k++)
            st->cfg.secret[k] = (uint8_t)rng_next(&s->rng);
        memory_create(st->map, &st->cfg);
        for (unsigned k = 0; k < SIM_COMPONENTS; k++)
            start(st, k, END_NONE);
    }
}

void sim_destroy(struct sim *s)
{
    for (unsigned i = 0; i < SIM_STACKS; i++) {
        struct stack *st = &s->stack[i];

        for (unsigned k = 0; k < SIM_COMPONENTS; k++) {
            if (kinds[k] == &tcp_ops)
                tcp_dispose(st->component[k]);
            host_free(st->component[k]);
        }
        wire_clear(&st->in);
        memory_destroy(st->map);
        free(st->map);
    }
}

unsigned sim_add_app(struct stack *st)
{
    const unsigned app = st->apps++;

    memory_add_app(st->map, &st->cfg, app, 1);
    for (unsigned i = 0; i < SIM_COMPONENTS; i++)
        host_add_app(st->component[i], app, 1);
    return app;
}

unsigned sim_turn(struct sim *s)
{
    const unsigned all = SIM_STACKS * SIM_COMPONENTS;
    const unsigned first = (unsigned)rng_below(&s->rng, all);
    unsigned n = 0;

    for (unsigned k = 0; k < all; k++) {
        const unsigned which = (first + k) % all;
        struct stack *st = &s->stack[which / SIM_COMPONENTS];
        const unsigned i = which % SIM_COMPONENTS;

        if (rng_chance(&s->rng, s->crash_chance)) {
            sim_crash(st, i);
            n++;
        }
        n += component_turn(st->component[i], s->now);
    }
    return n;
}

uint64_t sim_next(const struct sim *s)
{
    uint64_t next = NEVER;

    for (unsigned i = 0; i < SIM_STACKS; i++) {
        const struct stack *st = &s->stack[i];

        if (st->in.coming != NULL && st->in.coming->at < next)
            next = st->in.coming->at;
        for (unsigned k = 0; k < SIM_COMPONENTS; k++) {
            struct component *c = st->component[k];
            const uint64_t d = c->ops->deadline != NULL ? c->ops->deadline(c) : NEVER;

            if (d < next)
                next = d;
        }
    }
    return next;
}

unsigned sim_frames_out(const struct stack *st)
{
    const uint64_t *counter =
        wiring_block(&st->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_DRIVER, 0))])->counter;

    return (unsigned)counter[DRIVER_COUNT_OUT];
}
