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

/* Two processes listen. The one in whose memory the early data of a connection lies leaves: the
 * other one has it all. */
static bool leave(struct play *p, bool dies)
{
    if (p->stage == 0 && sock_replied(&p->second, NULL) && p->b.open && p->b.sent > 0 &&
        sock_down(&p->listener)->pending != 0) {
        if (dies)
            host_app_gone(p->victim->tcp, p->second.app);
        else
            sock_close(&p->second, false);
        p->second.generation = 0;
        p->stage = 1;
    }
    if (p->stage == 1 && (dies || sock_down(&p->second)->state == SOCK_FREE)) {
        sock_claim(&p->a, &p->listener);
        p->stage = 2;
    }
    return p->stage == 2;
}

static bool leave_step(struct play *p)
{
    return leave(p, false);
}

static bool leave_dead_step(struct play *p)
{
    return leave(p, true);
}

/* Its program is dead, with a connection that waits; then a child asks for the listener. */
static bool heir_listens_step(struct play *p)
{
    if (p->stage == 0 && sock_down(&p->listener)->pending != 0 && p->b.open && p->b.sent > 0) {
        sock_up(&p->listener)->forked = p->listener.generation;
        host_app_gone(p->victim->tcp, p->listener.app);
        p->listener.closed = true;
        inherit_listener(p);
        p->stage = 1;
    }
    if (p->stage == 1 && sock_replied(&p->second, NULL)) {
        if (sock_down(&p->second)->state != SOCK_LISTEN)
            violation(p->w, "the heir does not listen");
        p->a.app = p->heirs_app;
        sock_claim(&p->a, &p->second);
        p->stage = 2;
    }
    return p->stage == 2;
}

/* Somebody else wants the port of a listener that waits for an heir: the wait is over. */
static void listen_instead(struct play *p)
{
    sock_up(&p->listener)->forked = p->listener.generation;
    host_app_gone(p->victim->tcp, p->listener.app);
    p->listener.closed = true;
    p->second = (struct sock){.s = p->victim, .app = p->heirs_app, .slot = 3};
    sock_listen(&p->second, 8080, 4);
}

static bool listen_instead_step(struct play *p)
{
    int result = 1;
    if (p->stage == 0 && sock_replied(&p->second, &result)) {
        if (result != 0)
            violation(p->w, "the port of the dead: %d", result);
        p->a.app = p->heirs_app;
        sock_connect(&p->b, p->victim, 8080);
        sock_claim(&p->a, &p->second);
        p->stage = 1;
    }
    return p->stage == 1;
}

/* The application of the first listener is let go. */
static bool first_gone(struct play *p)
{
    const struct tcp *t = p->victim->tcp->state;
    return p->a.closed && p->b.closed && t->app[p->listener.app] == NULL &&
           sock_down(&p->a)->state == SOCK_FREE && sock_down(&p->b)->state == SOCK_FREE;
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
    {.name = "leave a listener to another",
     .heir = true,
     .open = inherit_listener,
     .step = leave_step,
     .victim_sends = 100,
     .peer_sends = 3000},
    {.name = "die and leave a listener to another",
     .heir = true,
     .open = inherit_listener,
     .step = leave_dead_step,
     .victim_sends = 100,
     .peer_sends = 3000},
    {.name = "inherit a listener from the dead",
     .heir = true,
     .no_claim = true,
     .step = heir_listens_step,
     .done = first_gone,
     .victim_sends = 100,
     .peer_sends = 3000},
    {.name = "listen in the place of the dead",
     .heir = true,
     .late_connect = true,
     .open = listen_instead,
     .step = listen_instead_step,
     .done = first_gone,
     .victim_sends = 100,
     .peer_sends = 100},
    {.name = "accept for another process",
     .heir = true,
     .listener_apart = true,
     .late_claim = true,
     .victim_sends = 100,
     .peer_sends = 3000},
};

const struct op_group ops_inherit = {table, sizeof table / sizeof table[0]};
