/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What changes hands: connections and listeners, after a fork.
 */
#include "play.h"

/* In the middle of the streams; the old owner closes then, or is dead before its heir asks. */
static bool inherit(struct play *p, bool dead)
{
    struct sock *a = &p->a, *h = &p->heir;
    switch (p->stage) {
    case 0:
        if (!a->open || a->sent < a->to_send / 3 || a->received < p->b.to_send / 3)
            return true;
        *h = *a;
        h->app = p->heirs_app;
        h->slot = 5;
        h->open = false;
        if (dead) {
            sock_up(a)->forked = a->generation;
            host_app_gone(p->victim->tcp, a->app);
            a->closed = true;
        }
        sock_inherit(h, a);
        p->v = h;
        p->stage = 1;
        return true;
    case 1:
        if (h->open) {
            if (!a->closed)
                sock_close(a, false);
            p->stage = 2;
        }
        return true;
    default:
        return true;
    }
}

bool inherit_step(struct play *p)
{
    return inherit(p, false);
}

static bool inherit_dead_step(struct play *p)
{
    return inherit(p, true);
}

static bool dead_done(struct play *p)
{
    const struct tcp *t = p->victim->tcp->state;
    return p->v->closed && p->b.closed && t->app[p->a.app] == NULL &&
           sock_down(p->v)->state == SOCK_FREE && sock_down(&p->b)->state == SOCK_FREE;
}

/* The heir asks for the listener, then claims; the old owner closes it meanwhile. */
static void inherit_listener(struct play *p)
{
    p->second = (struct sock){.s = p->victim, .app = p->heirs_app, .slot = 3};
    sock_inherit(&p->second, &p->listener);
}

static bool inherit_listener_step(struct play *p)
{
    if (p->stage == 0 && sock_replied(&p->second, NULL)) {
        if (sock_down(&p->second)->state != SOCK_LISTEN)
            violation(p->w, "the heir does not listen");
        p->a.app = p->heirs_app;
        sock_close(&p->listener, false);
        sock_claim(&p->a, &p->second);
        p->stage = 1;
    }
    return p->stage == 1;
}

static const struct op table[] = {
    {.name = "inherit",
     .heir = true,
     .step = inherit_step,
     .victim_sends = 20000,
     .peer_sends = 20000},
    {.name = "inherit while losing",
     .heir = true,
     .step = inherit_step,
     .victim_connects = true,
     .victim_sends = 20000,
     .peer_sends = 20000,
     .faults = {.lose_every = 5, .swap_every = 3}},
    {.name = "inherit from the dead",
     .heir = true,
     .listener_apart = true,
     .step = inherit_dead_step,
     .done = dead_done,
     .victim_sends = 20000,
     .peer_sends = 20000},
    {.name = "inherit a listener",
     .heir = true,
     .open = inherit_listener,
     .step = inherit_listener_step,
     .victim_sends = 10,
     .peer_sends = 10},
    {.name = "accept for another process",
     .heir = true,
     .listener_apart = true,
     .late_claim = true,
     .victim_sends = 100,
     .peer_sends = 3000},
};

const struct op_group ops_inherit = {table, sizeof table / sizeof table[0]};
