/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How connections end: in each order, by resets, with the application.
 */
#include "play.h"

#include <errno.h>

static void expect_reset(struct play *p, struct sock *k)
{
    if (!k->failed || k->closed)
        return;
    if (k->failed != ECONNRESET && k->failed != EPIPE)
        violation(p->w, "side %u: the error is %u", k->s->number, k->failed);
    sock_close(k, false);
}

/* Closed with data that was not read: the peer hears of it. */
static bool unread_step(struct play *p)
{
    const struct down_slot *d = sock_down(&p->a);
    p->a.no_read = true;
    if (p->a.open && !p->a.closed && (d->rx_nxt & OFF_MASK) >= p->a.read_at + 4000)
        sock_close(&p->a, false);
    expect_reset(p, &p->b);
    return true;
}

static bool abort_step(struct play *p)
{
    if (p->b.open && !p->a.closed && p->a.sent >= 4000)
        sock_close(&p->a, true);
    expect_reset(p, &p->b);
    return true;
}

static bool reset_step(struct play *p)
{
    if (p->b.open && !p->b.closed && p->b.received >= 4000)
        sock_close(&p->b, true);
    expect_reset(p, &p->a);
    return true;
}

/* In the middle of its streams the application dies: as the kernel does, what was written is sent,
 * then a FIN, or a reset when something was not read. */
static bool death_step(struct play *p)
{
    if (p->stage == 0 && p->a.open && p->a.sent >= p->a.to_send / 2) {
        host_app_gone(p->victim->tcp, p->a.app);
        p->a.closed = true;
        p->stage = 1;
    }
    if ((p->b.failed || p->b.eof) && !p->b.closed)
        sock_close(&p->b, false);
    return true;
}

static bool death_done(struct play *p)
{
    const struct tcp *t = p->victim->tcp->state;
    return p->stage == 1 && t->app[p->a.app] == NULL && p->b.closed &&
           sock_down(&p->b)->state == SOCK_FREE;
}

static const struct op table[] = {
    {.name = "close last", .victim_sends = 100, .peer_sends = 100},
    {.name = "close first",
     .victim_connects = true,
     .victim_sends = 100,
     .peer_sends = 100,
     .close = CLOSE_VICTIM_FIRST},
    {.name = "close together", .victim_sends = 100, .peer_sends = 100, .close = CLOSE_TOGETHER},
    {.name = "half close",
     .victim_connects = true,
     .victim_sends = 3000,
     .peer_sends = 6000,
     .close = CLOSE_VICTIM_HALF},
    {.name = "half closed by the peer",
     .victim_sends = 6000,
     .peer_sends = 3000,
     .close = CLOSE_PEER_HALF},
    {.name = "FIN out of order",
     .victim_sends = 100,
     .peer_sends = 6000,
     .close = CLOSE_PEER_HALF,
     .faults = {.swap_every = 1}},
    {.name = "FIN lost",
     .victim_connects = true,
     .victim_sends = 100,
     .close = CLOSE_VICTIM_FIRST,
     .faults = {.black_fin = true}},
    {.name = "close with unread data",
     .peer_sends = 40000,
     .step = unread_step,
     .close = CLOSE_BY_STEP,
     .may_fail = true,
     .may_resend = true,
     .resets = true},
    {.name = "abort",
     .victim_connects = true,
     .victim_sends = 8000,
     .peer_sends = 60000,
     .step = abort_step,
     .close = CLOSE_BY_STEP,
     .may_fail = true,
     .may_resend = true,
     .resets = true},
    {.name = "reset by the peer",
     .victim_connects = true,
     .victim_sends = 60000,
     .step = reset_step,
     .close = CLOSE_BY_STEP,
     .may_fail = true,
     .may_resend = true,
     .resets = true},
    {.name = "death of the application",
     .heir = true,
     .listener_apart = true,
     .victim_sends = 20000,
     .peer_sends = 20000,
     .step = death_step,
     .done = death_done,
     .close = CLOSE_BY_STEP,
     .may_fail = true,
     .may_resend = true,
     .resets = true},
};

const struct op_group ops_close = {table, sizeof table / sizeof table[0]};
