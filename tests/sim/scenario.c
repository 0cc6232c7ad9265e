/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One run, drawn from its seed: the path in each direction, who dies and when, and what programs do
 * with their connections. It ends when every program has what it wanted and every socket is closed;
 * then the stacks come to rest, and are judged.
 */
#include <stdio.h>

#include "scenario.h"
#include "sim.h"

enum { PAIRS = 24, ROUNDS = 6, PORT = 7777, SIMULTANEOUS_PORT = 9000, BOUND_PORT = 10000 };

bool scenario_clean;

/* Both ends of a connection. `end[1]` accepts, or connects at the same time. */
struct pair {
    struct sim_socket end[2];
    struct plan plan[2];
    uint64_t at; /* when it is opened */
    bool simultaneous;
    bool met;    /* the accepting end is known */
    bool mortal; /* the program of end[0] dies */
};

struct run {
    struct sim *s;
    struct rng rng;
    struct pair pair[PAIRS];
    struct sim_socket claim[PAIRS];
    bool claim_taken[PAIRS];
    unsigned pairs, claims, claims_made;
    uint64_t claim_at; /* the next call of accept() */
    struct sim_socket listener;
    bool refusals;                   /* addresses may not be resolved, hosts be away */
    unsigned round;                  /* of connections, in the same slots */
    unsigned client, server, mortal; /* applications; mortal: of stack 0, that dies */
    uint64_t dies_at;                /* NEVER: it does not, or is dead */
    bool cookies, trouble;           /* every handshake is one; frames may be lost or repeated */
};

/* --- what is drawn --- */

static double percent(struct rng *r, unsigned most)
{
    return (double)rng_below(r, most * 10 + 1) / 1000;
}

/* Exponential: small values are as likely as large ones. */
static uint64_t scale(struct rng *r, uint64_t least, unsigned doublings)
{
    const uint64_t n = least << rng_below(r, doublings + 1);

    return n + rng_below(r, n);
}

static void draw_link(struct rng *r, struct link *l)
{
    *l = (struct link){.delay_ns = scale(r, 20 * SIM_US, 12)};
    if (rng_chance(r, 0.5))
        l->jitter_ns = rng_below(r, l->delay_ns);
    if (rng_chance(r, 0.3)) {
        l->rate = scale(r, 50000, 8);
        l->queue = scale(r, 6000, 6);
        if (rng_chance(r, 0.5))
            l->mark = l->queue / 3;
    }
    if (rng_chance(r, 0.3))
        l->merge = 0.8;
    if (rng_chance(r, 0.2)) /* no damage: more segments, and none twice */
        l->split = percent(r, 30);
}

static void draw_trouble(struct rng *r, struct link *l)
{
    if (rng_chance(r, 0.5))
        l->loss = percent(r, 5);
    if (rng_chance(r, 0.3)) {
        l->burst.enter = percent(r, 2);
        l->burst.loss = 0.5 + percent(r, 50);
        l->burst.ns = scale(r, 10 * SIM_US, 14);
    }
    if (rng_chance(r, 0.4))
        l->duplicate = percent(r, 3);
    if (rng_chance(r, 0.4))
        l->reorder = percent(r, 10);
    if (rng_chance(r, 0.4))
        l->corrupt = percent(r, 2);
    if (rng_chance(r, 0.1)) {
        l->narrow.from = SIM_START + scale(r, SIM_MS, 12);
        l->narrow.until = NEVER;
        l->narrow.mtu = 576 + (uint32_t)rng_below(r, 900);
        l->narrow.silent = rng_chance(r, 0.2);
        if (l->narrow.silent) /* and it is mended before anybody gives up */
            l->narrow.until = l->narrow.from + scale(r, 100 * SIM_MS, 6);
    }
}

static void draw_plan(struct rng *r, struct plan *p, uint64_t bytes)
{
    *p = (struct plan){.to_send = rng_below(r, bytes), .pattern = 1 + rng_next(r) / 2};
    if (rng_chance(r, 0.1))
        p->to_send = 0;
    if (rng_chance(r, 0.3))
        p->write_max = (uint32_t)scale(r, 1, 14);
    if (rng_chance(r, 0.2))
        p->read_max = (uint32_t)scale(r, 1, 14);
    if (rng_chance(r, 0.3))
        p->think_ns = scale(r, 10 * SIM_US, 10);
    /* A byte at a time with a rest after each: not for long. */
    if (p->write_max != 0 && p->to_send / p->write_max > 500)
        p->to_send = p->write_max * 500ull;
    if (rng_chance(r, 0.15)) {
        p->stall_at = 1 + rng_below(r, bytes);
        p->stall_ns = scale(r, 10 * SIM_MS, 12);
    }
    if (rng_chance(r, 0.15)) {
        p->pause_at = rng_below(r, p->to_send + 1);
        p->pause_ns = scale(r, 10 * SIM_MS, 13);
        p->keepalive = rng_chance(r, 0.5);
    }
    p->nodelay = rng_chance(r, 0.2);
    if (rng_chance(r, 0.06))
        p->ending = END_RUDE;
    if (rng_chance(r, 0.06)) {
        p->ending = END_ABORT;
        p->abort_at = rng_below(r, p->to_send + 1);
    }
}

static void draw_pairs(struct run *u)
{
    struct rng *r = &u->rng;
    const bool many = rng_chance(r, 0.2);
    const uint64_t spread = scale(r, SIM_MS, 10);

    u->pairs = many ? 6 + (unsigned)rng_below(r, PAIRS - 6) : 1 + (unsigned)rng_below(r, 4);
    for (unsigned i = 0; i < u->pairs; i++) {
        struct pair *p = &u->pair[i];
        struct stack *st = u->s->stack;
        const uint64_t bytes = scale(r, many ? 10 : 1000, many ? 10 : 8);

        *p = (struct pair){.at = u->s->now + rng_below(r, spread)};
        for (unsigned k = 0; k < 2; k++)
            draw_plan(r, &p->plan[k], bytes);
        for (unsigned k = 0; k < 2; k++) {
            const struct plan *other = &p->plan[!k];

            p->plan[k].resets = other->ending != END_FIN;
            /* A reset may be lost, and who only waits would never know. */
            p->plan[k].keepalive |= p->plan[k].resets;
            /* What nobody reads is lost a minute after close(), as with Linux. */
            p->plan[k].patient =
                other->stall_ns != 0 || other->read_max != 0 || other->pause_ns != 0;
        }
        p->simultaneous = rng_chance(r, 0.05);
        p->mortal = u->dies_at != NEVER && rng_chance(r, 0.5);
        socket_init(&p->end[0], &st[0], p->mortal ? u->mortal : u->client, i);
        socket_init(&p->end[1], &st[1], u->server, 1 + PAIRS + i);
        /* A cookie is no state: an ACK that was lost, or came when the queue for accept() was full,
         * leaves one end alone with the connection, and what it says next may be an RST's cause. A
         * late one, with which a cookie is good once more, makes of the other end somebody who
         * knows nothing of what was said. */
        if (p->mortal || u->cookies)
            for (unsigned k = 0; k < 2; k++)
                p->plan[k].resets = p->plan[k].keepalive = true;
        p->plan[0].lonely = p->plan[1].lonely = u->cookies;
        if (!p->simultaneous)
            u->claims++;
    }
}

static void draw_crashes(struct rng *r, struct crashes *c)
{
    if (rng_chance(r, 0.3))
        return;
    c->chance = 0.0005 * (double)(1 + rng_below(r, 20));
    c->again = rng_chance(r, 0.5) ? 0.3 : 0;
    c->down_ns = rng_chance(r, 0.5) ? scale(r, 100 * SIM_US, 8) : 0;
    if (rng_chance(r, 0.4))
        c->which = 1u << rng_below(r, SIM_COMPONENTS);
    if (rng_chance(r, 0.2))
        c->storm = 1 + (unsigned)rng_below(r, 6);
    c->until_ns = SIM_START + 20 * SIM_S;
}

static void configure(struct stack_config *cfg, void *arg)
{
    struct rng *r = arg;

    cfg->tcp_congestion = rng_chance(r, 0.5);
    cfg->interface[0].offload = rng_chance(r, 0.3);
    cfg->interface[0].frame_size = 4096u << rng_below(r, 3);
    cfg->tcp_timestamps = rng_chance(r, 0.8);
    cfg->tcp_sack = rng_chance(r, 0.9);
    cfg->tcp_window_scaling = rng_chance(r, 0.9);
    cfg->tcp_rcvbuf = 4096u << rng_below(r, 7);
    cfg->tcp_sndbuf = 4096u << rng_below(r, 7);
    cfg->tcp_autotune = rng_chance(r, 0.5);
    cfg->tcp_ecn = (uint8_t)rng_below(r, 3);
    cfg->tcp_syncookies = rng_chance(r, 0.5) ? CONFIG_COOKIES_ON : CONFIG_COOKIES_OFF;
    if (rng_chance(r, 0.15))
        cfg->tcp_syncookies = CONFIG_COOKIES_ALWAYS;
    cfg->tcp_mtu_probing = (uint8_t)rng_below(r, 3);
    cfg->tcp_pacing = rng_chance(r, 0.7);
    cfg->tcp_dsack = rng_chance(r, 0.8);
    cfg->tcp_slow_start_after_idle = rng_chance(r, 0.7);
    cfg->app_tcp_slots = 2 * PAIRS + 2;
    cfg->tcp_chains = 64u << rng_below(r, 3);
    cfg->queue_slots = 64u << rng_below(r, 3);
}

/* --- the run --- */

static bool gone(const struct sim_socket *k)
{
    return k->stage == STAGE_DONE || k->stage == STAGE_NONE;
}

static void open_pair(struct run *u, unsigned i)
{
    struct sim *s = u->s;
    struct pair *p = &u->pair[i];
    const uint16_t port = (uint16_t)(SIMULTANEOUS_PORT + 2 * (u->round * PAIRS + i));

    p->end[0].plan = p->plan[0];
    p->end[0].expect = p->plan[1].pattern;
    p->end[0].expected = p->plan[1].to_send;
    if (!p->simultaneous) {
        /* An accepted connection is known by its port, which could come again too soon. */
        if (p->plan[0].resets || p->plan[1].resets)
            p->end[0].bind_port = (uint16_t)(BOUND_PORT + u->round * PAIRS + i);
        socket_connect(&p->end[0], &s->stack[1], PORT);
        return;
    }
    p->end[1].plan = p->plan[1];
    p->end[1].expect = p->plan[0].pattern;
    p->end[1].expected = p->plan[0].to_send;
    p->end[1].peer = &p->end[0];
    p->end[0].bind_port = port;
    p->end[1].bind_port = port + 1;
    socket_connect(&p->end[0], &s->stack[1], port + 1);
    socket_connect(&p->end[1], &s->stack[0], port);
    p->met = true;
}

/* Which connect() does an accepted connection belong to? Then it gets its plan. */
static void meet(struct run *u, unsigned c)
{
    struct sim_socket *k = &u->claim[c];
    const uint16_t port = k->down->remote.port;

    for (unsigned i = 0; i < u->pairs; i++) {
        struct pair *p = &u->pair[i];
        const struct sim_socket *o = &p->end[0];

        if (p->met || p->simultaneous || o->stage == STAGE_NONE)
            continue;
        if (o->bind_port != 0 ? o->bind_port != port
                              : o->down->local.port != port || o->down->generation != o->generation)
            continue;
        p->met = true;
        u->claim_taken[c] = true;
        k->plan = p->plan[1];
        k->expect = p->plan[0].pattern;
        k->expected = p->plan[0].to_send;
        k->peer = &p->end[0];
        return;
    }
    if (u->cookies || u->round != 0) {
        /* Of a former round, reset before it was accepted; or a late ACK of a connection that is
         * over, whose cookie was good. Somebody else waits for this call of accept(). */
        socket_close(k, true);
        u->claim_taken[c] = true;
        u->claims++;
    }
}

/* The program whose hour has come, with all that it had open. */
static bool die(struct run *u)
{
    if (u->s->now < u->dies_at)
        return false;
    u->dies_at = NEVER;
    sim_kill_app(&u->s->stack[0], u->mortal);
    for (unsigned i = 0; i < u->pairs; i++) {
        struct pair *p = &u->pair[i];

        if (p->mortal) {
            if (p->at != NEVER && p->simultaneous) /* the other end has not begun, either */
                socket_die(&p->end[1]);
            p->at = NEVER;
            socket_die(&p->end[0]);
        }
    }
    return true;
}

/* accept() */
static bool claim(struct run *u)
{
    for (unsigned c = 0; c < PAIRS; c++) {
        if (!gone(&u->claim[c]))
            continue;
        u->claim[c].peer = NULL;
        u->claim[c].expect = 0;
        u->claim_taken[c] = false;
        socket_claim(&u->claim[c], &u->listener);
        u->claims_made++;
        return true;
    }
    return false;
}

static bool step(struct run *u)
{
    struct sim *s = u->s;
    bool did = die(u);

    if (u->listener.stage == STAGE_LISTEN && !socket_replied(&u->listener))
        return false;
    if (u->claims_made < u->claims && s->now >= u->claim_at && claim(u)) {
        if (rng_chance(&u->rng, 0.3))
            u->claim_at = s->now + rng_below(&u->rng, 20 * SIM_MS);
        did = true;
    }
    for (unsigned i = 0; i < u->pairs; i++) {
        struct pair *p = &u->pair[i];

        if (p->at != NEVER && s->now >= p->at) {
            open_pair(u, i);
            p->at = NEVER;
            did = true;
        }
        for (unsigned k = 0; k < 2; k++) {
            struct sim_socket *e = &p->end[k];

            did |= socket_step(e, &u->rng);
            if (e->stage == STAGE_DONE && e->refused) {
                if (!u->refusals)
                    sim_fail(s, "a connect() was refused");
                e->refused = false;
                /* The first attempt may have met the other end already, which then learns from a
                 * reset that it is gone. */
                if (p->simultaneous)
                    for (unsigned j = 0; j < 2; j++)
                        p->end[j].plan.resets = p->end[j].plan.keepalive = true;
                socket_connect(e, &s->stack[!k], e->to.port);
                did = true;
            }
        }
    }
    did |= socket_step(&u->listener, &u->rng);
    for (unsigned c = 0; c < PAIRS; c++) {
        did |= socket_step(&u->claim[c], &u->rng);
        if (u->claim[c].stage == STAGE_OPTION && !u->claim_taken[c]) {
            meet(u, c);
            did |= u->claim_taken[c];
        }
    }
    return did;
}

static uint64_t next_time(const struct run *u)
{
    uint64_t next = sim_next(u->s);

    if (u->claims_made < u->claims && u->claim_at > u->s->now && u->claim_at < next)
        next = u->claim_at;
    if (u->dies_at < next)
        next = u->dies_at;
    for (unsigned i = 0; i < u->pairs; i++) {
        const struct pair *p = &u->pair[i];

        if (p->at > u->s->now && p->at < next)
            next = p->at;
        for (unsigned k = 0; k < 2; k++) {
            const uint64_t at = socket_next(&p->end[k]);

            next = at < next ? at : next;
        }
    }
    for (unsigned c = 0; c < PAIRS; c++) {
        const uint64_t at = socket_next(&u->claim[c]);

        next = at < next ? at : next;
    }
    return next;
}

/* Every connect() has been played to its end, and so has every connection that was accepted. */
static bool finished(const struct run *u)
{
    for (unsigned i = 0; i < u->pairs; i++) {
        const struct pair *p = &u->pair[i];

        if (p->at != NEVER || p->end[0].stage != STAGE_DONE || p->end[0].refused ||
            (p->simultaneous && (p->end[1].stage != STAGE_DONE || p->end[1].refused)))
            return false;
        /* A connection that was reset early may never have been accepted. */
        if (!p->met && !p->plan[0].resets && !p->plan[1].resets)
            return false;
    }
    for (unsigned c = 0; c < PAIRS; c++)
        if (u->claim_taken[c] && u->claim[c].stage != STAGE_DONE)
            return false;
    return true;
}

static void stuck(struct run *u, const char *why)
{
    if (u->s->failed)
        return;
    sim_fail(u->s, "%s", why);
    if (sim_quiet)
        return;
    for (unsigned i = 0; i < u->pairs + PAIRS; i++) {
        const struct sim_socket *k = i < u->pairs ? &u->pair[i].end[0] : &u->claim[i - u->pairs];

        if (!gone(k))
            fprintf(stderr,
                    "    stack %u slot %u: stage %u state %u, sent %lu of %lu, received %lu of "
                    "%lu%s%s\n",
                    k->st->number, k->slot, k->stage, k->down->state, (unsigned long)k->sent,
                    (unsigned long)k->plan.to_send, (unsigned long)k->received,
                    (unsigned long)k->expected, k->shut ? ", shut down" : "",
                    k->eof ? ", saw the end" : "");
    }
}

/* Turns until `over` says so, or nothing can happen any more. */
static void turns(struct run *u, bool (*over)(const struct run *u), uint64_t limit)
{
    struct sim *s = u->s;
    unsigned idle = 0, spins = 0;
    const uint64_t turn_limit = s->turns + 3000000;

    while (!s->failed) {
        const unsigned n = sim_turn(s);
        const bool did = step(u);

        if (s->turns > turn_limit)
            stuck(u, "they work for ever and get nowhere");
        idle = n == 0 && !did ? idle + 1 : 0;
        /* A component that is done may have made work for one that had its turn before. */
        if (idle < 2)
            continue;
        if (over(u))
            return;
        const uint64_t next = next_time(u);
        if (next == NEVER || next > limit) {
            stuck(u, next == NEVER ? "nothing will ever happen again" : "no end in sight");
            return;
        }
        if (next > s->now) {
            s->now = next;
            spins = 0;
        } else if (++spins > 1000) {
            stuck(u, sim_late(s));
        } else {
            s->now += 10 * SIM_US;
        }
        idle = 0; /* what one component did at the new time is for others, at the same time */
    }
}

static bool all_closed(const struct run *u)
{
    for (unsigned c = 0; c < PAIRS; c++)
        if (!gone(&u->claim[c]))
            return false;
    return u->listener.stage == STAGE_DONE;
}

/* Nothing is under way and nothing ticks. */
static bool at_rest(const struct run *u)
{
    return next_time(u) == NEVER;
}

static void close_all(struct run *u)
{
    u->claims = u->claims_made;
    for (unsigned c = 0; c < PAIRS; c++)
        if (u->claim[c].stage == STAGE_WAIT)
            socket_cancel(&u->claim[c]);
        else if (!gone(&u->claim[c]) && u->claim[c].stage != STAGE_CLOSE)
            socket_close(&u->claim[c], true); /* its connect() was reset before they met */
    socket_close(&u->listener, false);
}

static void count_bytes(const struct run *u, struct result *result)
{
    for (unsigned i = 0; i < PAIRS; i++)
        result->bytes +=
            u->pair[i].end[0].received + u->pair[i].end[1].received + u->claim[i].received;
}

/* Other connections, in the same slots, while the last of the former ones may still be dying. */
static void next_round(struct run *u)
{
    u->round++;
    u->claims = u->claims_made = 0;
    for (unsigned c = 0; c < PAIRS; c++) {
        struct sim_socket *k = &u->claim[c];

        k->received = 0;
        u->claims_made += k->stage == STAGE_WAIT;
        if (!gone(k) && k->stage != STAGE_WAIT && k->stage != STAGE_CLOSE)
            socket_close(k, true);
    }
    draw_pairs(u);
}

static void populate(struct run *u)
{
    struct sim *s = u->s;

    u->client = sim_add_app(&s->stack[0]);
    u->server = sim_add_app(&s->stack[1]);
    u->dies_at = NEVER;
    if (rng_chance(&u->rng, 0.25)) {
        u->mortal = sim_add_app(&s->stack[0]);
        u->dies_at = s->now + scale(&u->rng, SIM_MS, 12);
    }
    for (unsigned i = 0; i < PAIRS; i++)
        socket_init(&u->claim[i], &s->stack[1], u->server, 1 + i);
    socket_init(&u->listener, &s->stack[1], u->server, 0);
    u->claim_at = s->now + (rng_chance(&u->rng, 0.3) ? scale(&u->rng, SIM_MS, 10) : 0);
    draw_pairs(u);
    /* The queue of those who wait for accept() may overflow. */
    socket_listen(&u->listener, PORT, rng_chance(&u->rng, 0.2) ? 1 : 16);
}

void scenario_run(uint64_t seed, const char *trace, struct result *result)
{
    static struct sim s;
    static struct run u;
    struct rng config;

    memset(&u, 0, sizeof u);
    u.s = &s;
    u.rng.s = seed * 77 + 5;
    config.s = seed * 13 + 1;
    sim_create(&s, seed, SIM_STACKS, configure, &config);
    s.trace = trace != NULL ? trace_open(trace, SIM_STACKS) : NULL;
    draw_link(&u.rng, &s.stack[0].in.link);
    s.stack[1].in.link = s.stack[0].in.link;
    if (rng_chance(&u.rng, 0.3))
        draw_link(&u.rng, &s.stack[1].in.link);
    if (!scenario_clean && rng_chance(&u.rng, 0.7)) {
        u.refusals = true;
        draw_trouble(&u.rng, &s.stack[0].in.link);
        draw_trouble(&u.rng, &s.stack[1].in.link);
    }
    if (!scenario_clean)
        draw_crashes(&u.rng, &s.crash);
    u.refusals |= s.crash.chance > 0;
    u.cookies = s.stack[1].cfg.tcp_syncookies == CONFIG_COOKIES_ALWAYS;
    populate(&u);

    const unsigned rounds = rng_chance(&u.rng, 0.1) ? 1 + (unsigned)rng_below(&u.rng, ROUNDS) : 1;
    turns(&u, finished, SIM_START + 7200 * SIM_S);
    while (!s.failed && u.round + 1 < rounds) {
        count_bytes(&u, result);
        next_round(&u);
        turns(&u, finished, s.now + 7200 * SIM_S);
    }
    judge_clean(&s);
    if (!s.failed) {
        close_all(&u);
        turns(&u, all_closed, s.now + 1000 * SIM_S);
    }
    if (!s.failed) {
        s.crash = (struct crashes){0};
        memset(s.stack[0].crash_in, 0, sizeof s.stack[0].crash_in);
        memset(s.stack[1].crash_in, 0, sizeof s.stack[1].crash_in);
        turns(&u, at_rest, s.now + 1000 * SIM_S);
    }
    if (!s.failed)
        judge_rest(&s);
    count_bytes(&u, result);
    if (s.failed && !sim_quiet)
        judge_explain(&s);
    result->crashes = s.crashes;
    result->digest = s.digest;
    result->failed = s.failed;
    trace_close(s.trace);
    sim_destroy(&s);
}
