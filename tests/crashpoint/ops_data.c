/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How data moves: sending, receiving, loss, windows, timers.
 */
#include "play.h"

static bool slow_reader_step(struct play *p)
{
    p->a.no_read = p->w->step % 16 != 0;
    return true;
}

/* The peer reads nothing for a while: the window closes, and is probed. */
static bool closed_window_step(struct play *p)
{
    if (p->stage == 0 && p->b.open) {
        p->since_now = p->w->now;
        p->b.no_read = true;
        p->stage = 1;
    }
    if (p->stage == 1 && p->w->now > p->since_now + 3 * SEC) {
        p->b.no_read = false;
        p->stage = 2;
    }
    return true;
}

/* The other way round: the peer probes our closed window. */
static bool probed_step(struct play *p)
{
    if (p->stage == 0 && p->a.open) {
        p->since_now = p->w->now;
        p->stage = 1;
    }
    p->a.no_read = p->stage == 1 && p->w->now < p->since_now + 3 * SEC;
    return true;
}

static bool keepalive_step(struct play *p)
{
    static const uint32_t opt[] = {OPT_KEEPIDLE, OPT_KEEPINTVL, OPT_KEEPALIVE};
    enum { N = sizeof opt / sizeof opt[0] };
    if (!p->a.open)
        return true;
    if (p->stage < N && sock_replied(&p->a, NULL)) {
        sock_request(&p->a, OP_SETOPT, opt[p->stage], 1);
        p->stage++;
        p->since_now = p->w->now;
    }
    /* Nobody says a word for some seconds. */
    p->a.no_write = p->b.no_write = p->stage < N || p->w->now < p->since_now + 4 * SEC;
    return true;
}

static bool nodelay_step(struct play *p)
{
    if (p->stage == 0 && p->a.open) {
        sock_request(&p->a, OP_SETOPT, OPT_NODELAY, 1);
        p->stage = 1;
    }
    return true;
}

/* Questions in the middle of the streams. */
static bool info_step(struct play *p)
{
    int result = 1;
    const struct tcp *t = p->victim->tcp->state;
    if (p->stage % 2 == 0) {
        if (p->stage < 8 && p->a.open && p->a.sent >= 2000 * p->stage) {
            sock_request(&p->a, OP_INFO, 0, 0);
            p->stage++;
        }
    } else if (sock_replied(&p->a, &result)) {
        const struct sock_info *i = tcp_app_info(t, p->a.app, p->a.slot);
        if (result != 0 || i->state != 1 || i->bytes_acked > p->a.sent ||
            i->bytes_received < p->a.received)
            violation(p->w, "TCP_INFO: %d, state %u, %lu and %lu bytes", result, i->state,
                      (unsigned long)i->bytes_acked, (unsigned long)i->bytes_received);
        p->stage++;
    }
    return true;
}

/* All was read, and nobody says a word until the memory is given back; then the streams go on. */
static bool reclaim_step(struct play *p)
{
    const struct tcp *t = p->victim->tcp->state;
    if (p->stage == 0 && p->a.open && p->a.received >= 5000) {
        p->b.no_write = true;
        p->since_now = p->w->now;
        p->stage = 1;
    }
    if (p->stage == 1 && p->w->now > p->since_now + 3 * SEC / 2 && t->reclaim_at == NEVER) {
        p->b.no_write = false;
        p->stage = 2;
    }
    return true;
}

static void reclaim(struct stack_config *cfg)
{
    cfg->tcp_reclaim_s = 1;
}

static void ecn(struct stack_config *cfg)
{
    cfg->tcp_ecn = CONFIG_ECN_ON;
}

static void offload(struct stack_config *cfg)
{
    cfg->interface[0].offload = 1;
    cfg->interface[0].frame_size = 65536;
}

static void no_sack(struct stack_config *cfg)
{
    cfg->tcp_sack = 0;
}

static const struct op table[] = {
    {.name = "send", .victim_connects = true, .victim_sends = 40000},
    {.name = "send with losses",
     .victim_connects = true,
     .victim_sends = 40000,
     .faults = {.lose_every = 9}},
    {.name = "send with losses, no SACK",
     .victim_connects = true,
     .victim_sends = 30000,
     .adjust = no_sack,
     .faults = {.lose_every = 9}},
    {.name = "send small pieces",
     .victim_connects = true,
     .victim_sends = 60,
     .write_max = 7,
     .step = nodelay_step},
    {.name = "send and ask how it is",
     .victim_sends = 12000,
     .peer_sends = 12000,
     .write_max = 2000,
     .step = info_step},
    {.name = "send, marked",
     .victim_connects = true,
     .victim_sends = 40000,
     .adjust = ecn,
     .faults = {.mark_every = 7}},
    {.name = "send with offload",
     .victim_sends = 24000,
     .victim_connects = true,
     .adjust = offload},
    {.name = "send while chains stay",
     .victim_sends = 60000,
     .victim_connects = true,
     .chain_delay = 9,
     .faults = {.lose_every = 9, .swap_every = 4}},
    {.name = "retransmission timeout",
     .victim_connects = true,
     .victim_sends = 12000,
     .faults = {.black_from = 4, .black_to = 9}},
    {.name = "tail loss",
     .victim_connects = true,
     .victim_sends = 6000,
     .faults = {.black_from = 4, .black_to = 6}},
    {.name = "path MTU", .victim_connects = true, .victim_sends = 12000, .faults = {.mtu = 1000}},
    {.name = "closed window",
     .victim_connects = true,
     .victim_sends = 40000,
     .step = closed_window_step},
    {.name = "keepalive",
     .victim_connects = true,
     .victim_sends = 100,
     .peer_sends = 100,
     .step = keepalive_step},
    {.name = "receive in order", .peer_sends = 24000},
    {.name = "receive out of order",
     .peer_sends = 40000,
     .faults = {.swap_every = 3, .lose_every = 7}},
    {.name = "receive, marked",
     .peer_sends = 40000,
     .adjust = ecn,
     .faults = {.mark_every = 5, .swap_every = 9}},
    {.name = "receive, give memory back",
     .peer_sends = 24000,
     .adjust = reclaim,
     .step = reclaim_step,
     .counts = TCP_C_PAGES_FORGOTTEN},
    {.name = "receive duplicates", .peer_sends = 24000, .faults = {.repeat_every = 2}},
    {.name = "receive overlaps",
     .peer_sends = 24000,
     .faults = {.overlap_every = 2, .swap_every = 5}},
    {.name = "receive damage",
     .peer_sends = 40000,
     .step = slow_reader_step,
     .faults = {.damage_every = 2, .swap_every = 3, .lose_every = 7}},
    {.name = "receive slowly", .peer_sends = 40000, .step = slow_reader_step},
    {.name = "receive with a closed window", .peer_sends = 40000, .step = probed_step},
    {.name = "both ways", .victim_sends = 24000, .peer_sends = 24000},
};

const struct op_group ops_data = {table, sizeof table / sizeof table[0]};
