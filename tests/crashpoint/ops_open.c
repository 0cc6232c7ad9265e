/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How connections begin: connect, accept, claims, options, listeners that go, slots used again.
 */
#include "play.h"

#include <errno.h>

static void connect_again(struct play *p)
{
    if (p->op->victim_connects)
        sock_connect(&p->a, p->peer, 8080);
    else
        sock_claim(&p->a, &p->listener);
}

/* A claim or a connect is withdrawn; if that succeeds it is made again. */
static bool cancel_step(struct play *p)
{
    int result = 1;
    switch (p->stage) {
    case 0:
        if (p->w->step < p->since + (p->op->victim_connects ? 1 : 3))
            return false;
        sock_request(&p->a, OP_CANCEL, 0, 0);
        p->stage = 1;
        return false;
    case 1:
        if (!sock_replied(&p->a, &result))
            return false;
        if (result == 0 && sock_down(&p->a)->state >= SOCK_ESTABLISHED) {
            p->stage = 3; /* too late: it is what was asked for */
            return true;
        }
        if (result != -ECANCELED)
            violation(p->w, "the cancellation ended with %d", result);
        sock_up(&p->a)->released = p->a.generation;
        sock_kick(&p->a);
        p->stage = 2;
        return false;
    case 2:
        if (sock_down(&p->a)->state != SOCK_FREE)
            return false;
        connect_again(p);
        p->stage = 3;
        return true;
    default:
        return true;
    }
}

static void open_fresh(struct play *p)
{
    sock_fresh(&p->a);
}

/* Options on a fresh slot, and while data flows. */
static bool options_step(struct play *p)
{
    static const struct {
        uint32_t name, value;
    } opt[] = {{OPT_KEEPCNT, 7}, {OPT_KEEPIDLE, 77}, {OPT_NODELAY, 1}, {OPT_TOS, 0x10}};
    enum { N = sizeof opt / sizeof opt[0] };
    int result = 1;
    if (p->stage > N + 1 || !sock_replied(&p->a, &result))
        return p->stage > 1;
    if (result != 0)
        violation(p->w, "request %u ended with %d", p->stage, result);
    const struct tcp *t = p->victim->tcp->state;
    uint32_t i = t->app[p->a.app]->slot_conn[p->a.slot];
    if (p->stage == 1) { /* the first one made the record */
        sock_up(&p->a)->remote =
            (struct sock_name){.addr = p->peer->cfg.interface[0].addr, .port = 8080};
        sock_request(&p->a, OP_CONNECT, 0, 0);
        p->stage = 2;
        return true;
    }
    if (!t->walked) /* a successor that has not come to this record */
        return p->stage > 1;
    if (p->stage == N + 1) {
        const struct tcp_record *r = i ? &t->conn[i - 1].r : NULL;
        if (r == NULL || r->keepcnt != 7 || r->keepidle != 77 || r->tos != 0x10 ||
            !(r->flags & TCPF_NODELAY))
            violation(p->w, "options were lost");
        p->stage++;
    } else if (p->a.open || p->stage == 0) {
        unsigned n = p->stage ? p->stage - 1 : 0;
        sock_request(&p->a, OP_SETOPT, opt[n].name, opt[n].value);
        p->stage++;
    }
    return p->stage > 1;
}

/* Closed while a connection waits that nobody has claimed: the peer is told, at the latest when it
 * sends. */
static bool listener_goes_step(struct play *p)
{
    if (p->stage == 0 && sock_down(&p->listener)->pending != 0 &&
        (p->b.open || p->op->peer_sends == 0)) {
        sock_close(&p->listener, false);
        p->stage = 1;
    }
    if (p->b.failed && !p->b.closed) {
        if (p->b.failed != ECONNRESET)
            violation(p->w, "the peer's error is %u", p->b.failed);
        sock_close(&p->b, false);
    }
    return false;
}

static bool listener_gone(struct play *p)
{
    return p->stage == 1 && p->b.closed && sock_down(&p->listener)->state == SOCK_FREE &&
           sock_down(&p->b)->state == SOCK_FREE;
}

/* A SYN that finds a server which has just begun to look at what its predecessor left. */
static bool another_step(struct play *p)
{
    struct sock *c = &p->also_a, *d = &p->also_b;
    if (p->stage == 0) {
        *c = (struct sock){.s = p->victim, .app = p->a.app, .slot = 2, .to_send = 5, .seed_tx = 7};
        *d = (struct sock){.s = p->peer, .app = p->b.app, .slot = 2, .seed_rx = 7};
        sock_claim(c, &p->listener);
        p->stage = 1;
    }
    if (p->stage == 1 && p->a.received > 6000) {
        sock_connect(d, p->victim, 8080);
        p->stage = 2;
    }
    if (p->stage != 2)
        return true;
    sock_step(c);
    sock_step(d);
    if (c->open && c->sent == c->to_send && !c->closed)
        sock_close(c, false);
    if (d->eof && !d->closed)
        sock_close(d, false);
    return true;
}

static bool another_done(struct play *p)
{
    const struct sock *all[] = {&p->a, &p->b, &p->also_a, &p->also_b};
    for (unsigned i = 0; i < 4; i++)
        if (!all[i]->closed || sock_down(all[i])->state != SOCK_FREE)
            return false;
    if (p->also_b.received != 5)
        violation(p->w, "the other stream is incomplete");
    return true;
}

/* The same for a listener whose program dies, and left no child. */
static bool listener_dies_step(struct play *p)
{
    if (p->stage == 0 && sock_down(&p->listener)->pending != 0 &&
        (p->b.open || p->op->peer_sends == 0)) {
        host_app_gone(p->victim->tcp, p->listener.app);
        p->listener.closed = true;
        p->stage = 1;
    }
    return listener_goes_step(p);
}

static bool listener_dead(struct play *p)
{
    const struct tcp *t = p->victim->tcp->state;
    return p->stage == 1 && p->b.closed && t->app[p->listener.app] == NULL &&
           sock_down(&p->b)->state == SOCK_FREE;
}

static void open_deferred(struct play *p)
{
    sock_request(&p->listener, OP_SETOPT, OPT_DEFER_ACCEPT, 10);
    sock_claim(&p->a, &p->listener);
    p->since_now = p->w->now;
}

/* Nobody is called before the peer has said something. */
static bool deferred_step(struct play *p)
{
    p->b.no_write = p->w->now < p->since_now + SEC / 2;
    if (p->b.no_write && p->a.open && p->victim->tcp->epoch == 1)
        violation(p->w, "a connection that has said nothing was accepted");
    return true;
}

static void cookies(struct stack_config *cfg)
{
    cfg->tcp_syncookies = CONFIG_COOKIES_ALWAYS;
}

static void cookies_without_options(struct stack_config *cfg)
{
    cookies(cfg);
    cfg->tcp_timestamps = cfg->tcp_sack = cfg->tcp_window_scaling = 0;
}

static void no_scaling(struct stack_config *cfg)
{
    cfg->tcp_timestamps = cfg->tcp_sack = cfg->tcp_window_scaling = 0;
}

static const struct op table[] = {
    {.name = "connect", .victim_connects = true, .victim_sends = 10, .peer_sends = 10},
    {.name = "connect, SYN lost",
     .victim_connects = true,
     .victim_sends = 10,
     .peer_sends = 10,
     .faults = {.black_syn = true}},
    {.name = "connect without options",
     .victim_connects = true,
     .victim_sends = 10,
     .peer_sends = 10,
     .adjust = no_scaling},
    {.name = "accept", .victim_sends = 10, .peer_sends = 10},
    {.name = "accept, SYN-ACK lost",
     .victim_sends = 10,
     .peer_sends = 10,
     .faults = {.black_syn = true}},
    {.name = "accept by a cookie",
     .victim_sends = 10,
     .peer_sends = 3000,
     .adjust = cookies,
     .counts = TCP_C_COOKIES_GOOD},
    {.name = "accept by a cookie, SYN-ACK lost",
     .victim_sends = 10,
     .peer_sends = 10,
     .adjust = cookies_without_options,
     .counts = TCP_C_COOKIES_GOOD,
     .faults = {.black_syn = true}},
    {.name = "accept what waits, by a cookie",
     .late_claim = true,
     .victim_sends = 10,
     .peer_sends = 3000,
     .adjust = cookies,
     .counts = TCP_C_COOKIES_GOOD},
    {.name = "accept with the first data",
     .open = open_deferred,
     .step = deferred_step,
     .victim_sends = 10,
     .peer_sends = 3000},
    {.name = "accept what waits", .late_claim = true, .victim_sends = 10, .peer_sends = 3000},
    {.name = "accept while receiving",
     .peer_sends = 12000,
     .step = another_step,
     .done = another_done,
     .two = true},
    {.name = "options",
     .victim_connects = true,
     .open = open_fresh,
     .step = options_step,
     .victim_sends = 3000,
     .peer_sends = 100},
    {.name = "cancel a claim", .step = cancel_step, .victim_sends = 10, .peer_sends = 10},
    {.name = "cancel a connect",
     .step = cancel_step,
     .victim_connects = true,
     .victim_sends = 10,
     .peer_sends = 10,
     .resets = true},
    {.name = "close a listener",
     .no_claim = true,
     .peer_sends = 100,
     .step = listener_goes_step,
     .done = listener_gone,
     .close = CLOSE_BY_STEP,
     .may_fail = true,
     .may_resend = true,
     .resets = true},
    {.name = "die while a connection waits",
     .no_claim = true,
     .peer_sends = 100,
     .step = listener_dies_step,
     .done = listener_dead,
     .close = CLOSE_BY_STEP,
     .may_fail = true,
     .may_resend = true,
     .resets = true},
    {.name = "use slots again (accept)", .rounds = 3, .victim_sends = 2000, .peer_sends = 5000},
    {.name = "use slots again (connect)",
     .victim_connects = true,
     .rounds = 3,
     .victim_sends = 5000,
     .peer_sends = 2000},
    {.name = "reopen in TIME-WAIT",
     .rounds = 2,
     .peer_port = 5555,
     .victim_sends = 100,
     .peer_sends = 100,
     .close = CLOSE_VICTIM_FIRST},
};

const struct op_group ops_open = {table, sizeof table / sizeof table[0]};
