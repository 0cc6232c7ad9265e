/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See play.h.
 */
#include "play.h"

#include <stdio.h>
#include <string.h>

const struct op *play_op(unsigned n)
{
    static const struct op_group *const groups[] = {&ops_open, &ops_data, &ops_ring, &ops_close,
                                                    &ops_inherit};
    for (unsigned i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (n < groups[i]->n)
            return &groups[i]->op[n];
        n -= groups[i]->n;
    }
    return NULL;
}

static void new_sockets(struct play *p, unsigned victims_app, unsigned peers_app)
{
    const struct op *op = p->op;
    p->a = (struct sock){.s = p->victim,
                         .app = victims_app,
                         .slot = 1,
                         .to_send = op->victim_sends,
                         .seed_tx = 1 + 10 * p->round,
                         .seed_rx = 2 + 10 * p->round,
                         .write_max = op->write_max,
                         .may_fail = op->may_fail};
    p->b = (struct sock){.s = p->peer,
                         .app = peers_app,
                         .slot = 1,
                         .to_send = op->peer_sends,
                         .seed_tx = p->a.seed_rx,
                         .seed_rx = p->a.seed_tx,
                         .may_fail = op->may_fail};
    p->v = &p->a;
    p->stage = 0;
    p->bound = false;
}

/* The peer's connect, from a port of its own if the operation wants one. False: it is not made. */
static bool peer_connects(struct play *p)
{
    if (p->op->peer_port == 0) {
        sock_connect(&p->b, p->victim, 8080);
        return true;
    }
    struct up_slot *up = sock_up(&p->b);
    if (!p->bound) {
        sock_fresh(&p->b);
        up->local =
            (struct sock_name){.addr = p->peer->cfg.interface[0].addr, .port = p->op->peer_port};
        up->flags = BIND_REUSEADDR;
        sock_request(&p->b, OP_BIND, 0, 0);
        p->bound = true;
        return false;
    }
    if (!sock_replied(&p->b, NULL))
        return false;
    up->remote = (struct sock_name){.addr = p->victim->cfg.interface[0].addr, .port = 8080};
    sock_request(&p->b, OP_CONNECT, 0, 0);
    return true;
}

/* The listener is there: connects and claims. False: not yet. */
static bool begin_connection(struct play *p)
{
    const struct op *op = p->op;
    p->since = p->w->step;
    if (op->victim_connects) {
        sock_claim(&p->b, &p->listener);
        if (op->open != NULL)
            op->open(p);
        else
            sock_connect(&p->a, p->peer, 8080);
        return true;
    }
    if (!op->late_connect && !peer_connects(p))
        return false;
    if (op->open != NULL)
        op->open(p);
    else if (!op->no_claim && !op->late_claim)
        sock_claim(&p->a, &p->listener);
    return true;
}

static bool sent_all(const struct sock *k)
{
    return k->open && k->sent == k->to_send;
}

static void close_streams(struct play *p)
{
    struct sock *first = &p->b, *last = p->v;
    const enum play_close how = p->op->close;
    if (how == CLOSE_VICTIM_FIRST || how == CLOSE_VICTIM_HALF) {
        first = p->v;
        last = &p->b;
    }
    const bool half = how == CLOSE_PEER_HALF || how == CLOSE_VICTIM_HALF;
    if (how == CLOSE_TOGETHER) {
        if (sent_all(first) && sent_all(last) && !first->shut && first->received == last->to_send &&
            last->received == first->to_send) {
            sock_shutdown(first);
            sock_shutdown(last);
        }
        if (last->eof && last->shut && !last->closed)
            sock_close(last, false);
    } else {
        last->no_write = half && !last->eof;
        if (sent_all(first) && !first->shut && (half || first->received == last->to_send))
            sock_shutdown(first);
        if (last->eof && sent_all(last) && !last->closed)
            sock_close(last, false);
    }
    if (first->eof && first->shut && !first->closed)
        sock_close(first, false);
}

static bool move_data(struct play *p)
{
    bool busy = false;
    if (p->op->late_claim && p->a.generation == 0 && sock_down(&p->listener)->pending != 0)
        sock_claim(&p->a, &p->listener);
    if (p->op->step == NULL || p->op->step(p))
        if (p->v->generation != 0)
            busy |= sock_step(p->v);
    busy |= sock_step(&p->b);
    if (p->op->close != CLOSE_BY_STEP)
        close_streams(p);
    return busy;
}

static bool all_free(struct play *p)
{
    if (p->op->done != NULL)
        return p->op->done(p);
    /* A port is used again when nothing of its former use is left. */
    if (p->op->peer_port && world_records(p->peer, false) != 0)
        return false;
    return p->v->closed && p->b.closed && sock_down(&p->a)->state == SOCK_FREE &&
           sock_down(p->v)->state == SOCK_FREE && sock_down(&p->b)->state == SOCK_FREE;
}

static bool turns(struct play *p, victim_turn_fn *turn)
{
    bool busy = turn(p->victim) != 0;
    busy |= world_tcp_turn(p->peer) != 0;
    busy |= world_wire(p->w) != 0;
    return busy;
}

/* All comes to rest, tombstones included; then nothing may be missing. */
static void finish(struct play *p, victim_turn_fn *turn, uint64_t limit)
{
    const struct sock *l = p->second.generation ? &p->second : &p->listener;
    for (unsigned i = 0; i < 2000; i++) {
        bool busy = turns(p, turn);
        if (!busy && (p->w->now > limit || (tcp_ops.deadline(p->victim->tcp) == NEVER &&
                                            tcp_ops.deadline(p->peer->tcp) == NEVER)))
            break;
        world_time(p->w, busy);
    }
    if (!l->closed && sock_down(l)->pending != 0)
        violation(p->w, "the listener still shows a connection");
    const struct tcp *t = p->victim->tcp->state;
    if (p->victim->tcp->epoch == 1) { /* is it what its name says? */
        const struct side *v = p->victim, *o = p->peer;
        if (t->counter[p->op->counts] == 0)
            violation(p->w, "counter %d is 0", p->op->counts);
        if (p->op->faults.mark_every && (!(v->echoed | o->echoed) || !(v->reduced | o->reduced)))
            violation(p->w, "no mark was echoed, or no window reduced");
    }
    world_audit(p->victim, l->s == p->victim && !l->closed ? l->app : APPS_MAX);
    world_audit(p->peer, l->s == p->peer && !l->closed ? l->app : APPS_MAX);
}

static bool lossless(const struct op *op)
{
    const struct wire_faults *f = &op->faults;
    return !op->may_resend && !f->lose_every && !f->swap_every && !f->repeat_every &&
           !f->damage_every && !f->overlap_every && !f->black_to && !f->black_syn &&
           !f->black_fin && !f->mtu;
}

unsigned play_run(const struct op *op, victim_turn_fn *turn, bool quiet, char *first)
{
    static struct world w;
    static struct play p;
    w.quiet = quiet;
    w.faults = op->faults;
    w.resets = op->resets;
    w.lossless = lossless(op) && !op->two;
    w.two = op->two;
    w.chain_delay = op->chain_delay ? op->chain_delay : 2;
    world_create(&w, op->adjust);
    p = (struct play){.op = op, .w = &w, .victim = &w.side[0], .peer = &w.side[1]};
    unsigned victims_app = world_add_app(p.victim), peers_app = world_add_app(p.peer);
    p.heirs_app = op->heir ? world_add_app(p.victim) : victims_app;
    p.listener.s = op->victim_connects ? p.peer : p.victim;
    p.listener.app = op->victim_connects  ? peers_app
                     : op->listener_apart ? p.heirs_app
                                          : victims_app;
    new_sockets(&p, victims_app, peers_app);
    sock_listen(&p.listener, 8080, 4);

    unsigned phase = 0;
    uint64_t limit = w.now + 900 * SEC;
    bool finished = false;
    while (!finished && w.now < limit && w.step < 200000 && w.violations == 0) {
        bool busy = false;
        if (phase == 0) {
            if (sock_replied(&p.listener, NULL))
                phase = begin_connection(&p) ? 1 : 0;
        } else {
            busy |= move_data(&p);
        }
        busy |= turns(&p, turn);
        if (phase == 1 && all_free(&p)) {
            finished = p.round + 1 >= op->rounds;
            if (op->close != CLOSE_BY_STEP &&
                (p.v->received != p.b.to_send || p.b.received != p.v->to_send))
                violation(&w, "a stream is incomplete");
            if (!finished) {
                p.round++;
                new_sockets(&p, victims_app, peers_app);
                phase = 0;
            }
        }
        world_time(&w, busy);
    }
    if (!finished && w.violations == 0)
        violation(&w, "it did not end: round %u stage %u, %lu of %lu and %lu of %lu bytes", p.round,
                  p.stage, (unsigned long)p.v->received, (unsigned long)p.b.to_send,
                  (unsigned long)p.b.received, (unsigned long)p.v->to_send);
    if (finished)
        finish(&p, turn, w.now + 400 * SEC);
    memcpy(first, w.first, sizeof w.first);
    world_destroy(&w);
    return w.violations;
}
