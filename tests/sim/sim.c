/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Stacks, the time between them, and deaths. A component dies before one of its stores to shared
 * memory (libchan/atomic.h), so at any step that a SIGKILL could be seen at; its successor starts
 * at once or some time later, and may die in the same way while it takes over. See sim.h.
 */
#include "sim.h"
#include "scenario.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
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
static jmp_buf death;
static uint32_t stores_left; /* until the running component dies; 0: it lives on */
bool sim_quiet;

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
    if (stores_left != 0 && --stores_left == 0)
        longjmp(death, 1);
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
    va_list ap;

    s->failed = true;
    s->event = "failed";
    if (sim_quiet)
        return;
    fprintf(stderr, "  at %.6f s: ", (double)(s->now - SIM_START) / 1e9);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* --- life and death --- */

/* Starts a new incarnation of component `i` on the region as it is. */
static void start(struct stack *st, unsigned i, enum rs_end end)
{
    struct component *c = st->component[i];

    if (kinds[i] == &tcp_ops)
        tcp_dispose(c);
    for (unsigned app = 0; app < st->apps; app++)
        st->app[app].done[i] |= host_app_done(c, app);
    host_reset(c);
    if (kinds[i] == &driver_ops) {
        struct driver *d = c->state;

        driver_use_device(c, &sim_device);
        memcpy(d->device, &st, sizeof st);
    }
    st->down[i] = false;
    if (host_start(c, st->sim->now, end) < 0) {
        fprintf(stderr, "%s cannot start\n", kinds[i]->name);
        abort();
    }
    for (unsigned app = 0; app < st->apps; app++) {
        if (st->app[app].done[i])
            continue;
        host_add_app(c, app, 1);
        if (st->app[app].dead)
            host_app_gone(c, app);
    }
}

static void died(struct stack *st, unsigned i)
{
    static const char *const note[SIM_COMPONENTS] = {
        "driver died before this", "ip died before this", "pf died before this",
        "tcp died before this", "udp died before this"};
    struct sim *s = st->sim;

    s->crashes++;
    s->event = note[i];
    st->down[i] = true;
    st->up_at[i] = s->now;
    if (rng_chance(&s->rng, 0.5))
        st->up_at[i] += rng_below(&s->rng, s->crash.down_ns + 1);
}

/* Starts the successor, which may die, too; then its own successor starts at a later turn. */
static void succeed(struct stack *st, unsigned i)
{
    struct sim *s = st->sim;

    stores_left = 0;
    if (rng_chance(&s->rng, s->crash.again))
        stores_left = 1 + (uint32_t)rng_below(&s->rng, 200);
    if (setjmp(death) == 0) {
        start(st, i, END_KILLED);
        stores_left = 0;
    } else {
        died(st, i);
    }
}

/* One turn of a component that may die in it. */
static unsigned mortal_turn(struct stack *st, unsigned i)
{
    struct sim *s = st->sim;
    unsigned n;

    stores_left = st->crash_in[i];
    if (setjmp(death) != 0) {
        st->crash_in[i] = 0;
        died(st, i);
        return 1;
    }
    n = component_turn(st->component[i], s->now);
    st->crash_in[i] = stores_left;
    stores_left = 0;
    return n;
}

static void draw_death(struct sim *s, struct stack *st, unsigned i)
{
    const struct crashes *c = &s->crash;

    if (c->chance == 0 || st->crash_in[i] != 0 || (c->which != 0 && (c->which >> i & 1) == 0) ||
        s->now >= c->until_ns || !rng_chance(&s->rng, c->chance))
        return;
    st->crash_in[i] = 1 + (uint32_t)rng_below(&s->rng, 300);
    /* A storm: the others will not live long, either. */
    for (unsigned k = 0; k < c->storm; k++)
        s->stack[rng_below(&s->rng, s->stacks)].crash_in[rng_below(&s->rng, SIM_COMPONENTS)] =
            1 + (uint32_t)rng_below(&s->rng, 300);
}

/* --- the world --- */

void sim_create(struct sim *s, uint64_t seed, unsigned stacks,
                void (*adjust)(struct stack_config *cfg, void *arg), void *arg)
{
    /* Maps and components are large and are used again by the next run. */
    static struct region_map *maps[SIM_STACKS];
    static struct component *components[SIM_STACKS][SIM_COMPONENTS];

    memset(s, 0, sizeof *s);
    s->rng.s = seed;
    s->now = SIM_START;
    s->stacks = stacks;
    for (unsigned i = 0; i < SIM_STACKS; i++) {
        struct stack *st = &s->stack[i];

        st->sim = s;
        st->number = i;
        memory_config(&st->cfg);
        if (seed & 1) { /* rings that grow, from a page or a few */
            st->cfg.tcp_autotune = 1;
            st->cfg.tcp_sndbuf = 4096u << (seed >> 1 & 3);
            st->cfg.tcp_rcvbuf = 4096u << (seed >> 3 & 3);
        }
        st->cfg.interface[0].addr = ip_addr_v4(htonl(0x0a000001 + i));
        st->cfg.interface[0].mac[5] = (uint8_t)(1 + i);
        st->cfg.routes = 1;
        for (unsigned k = 0; k < sizeof st->cfg.secret; k++)
            st->cfg.secret[k] = (uint8_t)rng_next(&s->rng);
        if (adjust != NULL)
            adjust(&st->cfg, arg);
        if (i >= stacks)
            continue;
        if (maps[i] == NULL)
            maps[i] = calloc(1, sizeof *maps[i]);
        st->map = maps[i];
        memory_create(st->map, &st->cfg);
        for (unsigned k = 0; k < SIM_COMPONENTS; k++) {
            if (components[i][k] == NULL)
                components[i][k] = host_new(kinds[k], SERVER_ID(kinds[k]->kind, 0), st->map);
            st->component[k] = components[i][k];
            start(st, k, END_NONE);
        }
    }
}

void sim_destroy(struct sim *s)
{
    stores_left = 0;
    for (unsigned i = 0; i < s->stacks; i++) {
        struct stack *st = &s->stack[i];

        tcp_dispose(st->component[SIM_TCP]);
        for (unsigned k = 0; k < SIM_COMPONENTS; k++)
            memset(st->component[k]->state, 0, kinds[k]->size);
        wire_clear(&st->in);
        memory_destroy(st->map);
    }
    wire_clear(&s->stack[1].in);
}

unsigned sim_add_app(struct stack *st)
{
    const unsigned app = st->apps++;

    memory_add_app(st->map, &st->cfg, app, 1);
    for (unsigned i = 0; i < SIM_COMPONENTS; i++)
        host_add_app(st->component[i], app, 1);
    return app;
}

void sim_kill_app(struct stack *st, unsigned app)
{
    st->app[app].dead = true;
    st->sim->event = "an application died before this";
    /* The successor of one that is away is told when it starts. */
    for (unsigned i = 0; i < SIM_COMPONENTS; i++)
        if (!st->down[i])
            host_app_gone(st->component[i], app);
}

unsigned sim_turn(struct sim *s)
{
    const unsigned all = s->stacks * SIM_COMPONENTS;
    const unsigned first = (unsigned)rng_below(&s->rng, all);
    unsigned n = 0;

    s->turns++;
    for (unsigned k = 0; k < all; k++) {
        const unsigned which = (first + k) % all;
        struct stack *st = &s->stack[which / SIM_COMPONENTS];
        const unsigned i = which % SIM_COMPONENTS;

        if (st->down[i]) {
            if (st->up_at[i] > s->now)
                continue;
            succeed(st, i);
            n++;
            if (st->down[i])
                continue;
        }
        draw_death(s, st, i);
        n += mortal_turn(st, i);
    }
    return n;
}

uint64_t sim_next(const struct sim *s)
{
    uint64_t next = NEVER;

    for (unsigned i = 0; i < SIM_STACKS; i++) {
        const struct stack *st = &s->stack[i];

        /* One that has arrived waits for room; what makes room comes of somebody else. */
        if (st->in.coming != NULL && st->in.coming->at > s->now && st->in.coming->at < next)
            next = st->in.coming->at;
        for (unsigned k = 0; i < s->stacks && k < SIM_COMPONENTS; k++) {
            struct component *c = st->component[k];
            uint64_t d = NEVER;

            if (st->down[k])
                d = st->up_at[k];
            else if (c->ops->deadline != NULL)
                d = c->ops->deadline(c);
            if (d < next)
                next = d;
        }
    }
    return next;
}

const char *sim_late(const struct sim *s)
{
    static char text[64];

    for (unsigned i = 0; i < s->stacks; i++)
        for (unsigned k = 0; k < SIM_COMPONENTS; k++) {
            struct component *c = s->stack[i].component[k];

            if (!s->stack[i].down[k] && c->ops->deadline != NULL && c->ops->deadline(c) <= s->now) {
                snprintf(text, sizeof text, "stack %u: %s has passed its deadline and does nothing",
                         i, c->ops->name);
                return text;
            }
        }
    return "time stands still";
}
