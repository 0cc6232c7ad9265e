/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Each state-changing operation of TCP, killed before every single store to shared memory, taken
 * over by a successor on the same memory, and carried to its end. Afterwards: streams equal byte
 * for byte, every request answered once, no ACK beyond what was committed, no window taken back, no
 * reset, no error, every frame, chain, block and record accounted for. A second pass kills the
 * successor, too, a little later.
 *
 *   crashpoint_run [--json FILE] [--expect-violations]
 */
#include "world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static jmp_buf crash;
static bool armed;
static uint64_t stores, crash_at, crash_again;
static const char *crash_file;
static int crash_line;

void shm_crashpoint(const char *file, int line)
{
    if (!armed)
        return;
    if (++stores == crash_at) {
        armed = false;
        crash_file = file;
        crash_line = line;
        longjmp(crash, 1);
    }
}

/* One turn of the victim; a crash in it is followed by a successor, which may be crashed, too. */
static unsigned victim_turn(struct side *s)
{
    static volatile unsigned n; /* survives the jump */
    if (setjmp(crash) == 0) {
        armed = true;
        n = world_tcp_turn(s);
        armed = false;
        return n;
    }
    crash_at = crash_again ? stores + crash_again : 0;
    crash_again = 0;
    if (setjmp(crash) == 0) {
        armed = true;
        world_successor(s, END_KILLED);
        armed = false;
    } else {
        crash_at = 0;
        world_successor(s, END_KILLED);
    }
    return 1;
}

enum special {
    PLAIN = 0,
    OPTIONS,          /* on a fresh slot, and while data flows */
    CANCEL_CLAIM,     /* about when a connection comes */
    CANCEL_CONNECT,   /* before the peer has answered, mostly */
    CLOSE_UNREAD,     /* and the peer hears of it */
    INHERIT,          /* in the middle of the streams; the old owner closes then */
    INHERIT_DEAD,     /* the same, and the old owner dies before its heir asks */
    INHERIT_LISTENER, /* and the old owner closes it */
};

struct scenario {
    const char *name;
    bool victim_connects;
    uint64_t victim_sends, peer_sends;
    unsigned lose_every, swap_every;
    bool victim_closes_first, slow_reader, offload, grow;
    enum special special;
};

static const struct scenario scenarios[] = {
    {.name = "connect", .victim_connects = true, .victim_sends = 10, .peer_sends = 10},
    {.name = "accept", .victim_sends = 10, .peer_sends = 10},
    {.name = "receive in order", .peer_sends = 24000},
    {.name = "receive out of order", .peer_sends = 40000, .swap_every = 3, .lose_every = 7},
    {.name = "receive slowly", .peer_sends = 40000, .slow_reader = true},
    {.name = "send", .victim_connects = true, .victim_sends = 40000, .lose_every = 9},
    {.name = "send with offload", .victim_sends = 24000, .victim_connects = true, .offload = true},
    {.name = "grow the receive ring", .peer_sends = 50000, .grow = true},
    {.name = "grow the receive ring out of order",
     .peer_sends = 50000,
     .grow = true,
     .swap_every = 3,
     .lose_every = 11},
    {.name = "grow the send ring", .victim_sends = 50000, .victim_connects = true, .grow = true},
    {.name = "grow the send ring while losing",
     .victim_sends = 50000,
     .grow = true,
     .offload = true,
     .lose_every = 9},
    {.name = "inherit rings that grow",
     .special = INHERIT,
     .victim_sends = 30000,
     .peer_sends = 30000,
     .grow = true},
    {.name = "close first",
     .victim_connects = true,
     .victim_sends = 100,
     .peer_sends = 100,
     .victim_closes_first = true},
    {.name = "close last", .victim_sends = 100, .peer_sends = 100},
    {.name = "options",
     .special = OPTIONS,
     .victim_connects = true,
     .victim_sends = 3000,
     .peer_sends = 100},
    {.name = "cancel a claim", .special = CANCEL_CLAIM, .victim_sends = 10, .peer_sends = 10},
    {.name = "cancel a connect",
     .special = CANCEL_CONNECT,
     .victim_connects = true,
     .victim_sends = 10,
     .peer_sends = 10},
    {.name = "close with unread data", .special = CLOSE_UNREAD, .peer_sends = 40000},
    {.name = "inherit", .special = INHERIT, .victim_sends = 20000, .peer_sends = 20000},
    {.name = "inherit while losing",
     .special = INHERIT,
     .victim_connects = true,
     .victim_sends = 20000,
     .peer_sends = 20000,
     .lose_every = 5,
     .swap_every = 3},
    {.name = "inherit from the dead",
     .special = INHERIT_DEAD,
     .victim_sends = 20000,
     .peer_sends = 20000},
    {.name = "inherit a listener",
     .special = INHERIT_LISTENER,
     .victim_sends = 10,
     .peer_sends = 10},
};

static bool offload_wanted, growth_wanted;

static void adjust(struct stack_config *cfg)
{
    if (growth_wanted) {
        cfg->tcp_sndbuf = cfg->tcp_rcvbuf = 4096;
        cfg->tcp_wmem_max = cfg->tcp_rmem_max = 65536;
        cfg->tcp_autotune = 1;
    }
    if (!offload_wanted)
        return;
    cfg->interface[0].offload = 1;
    cfg->interface[0].frame_size = 65536;
}

/* Blocks, records and chains of a side on which every socket is closed again, but for one listener
 * of the application `listener`. */
static void audit(struct side *s, unsigned listener)
{
    const struct tcp *t = s->tcp->state;
    uint64_t blocks[2] = {s->layout.up_udp_blocks - s->layout.up_tcp_blocks,
                          s->layout.down_tcp_end - s->layout.down_tcp_blocks};
    for (unsigned i = 0; i < s->apps; i++) {
        const struct tcp_app *a = t->app[i];
        if (a == NULL) /* has died, and was let go */
            continue;
        if (a->up_space.free_pages != blocks[0] / 4096 ||
            a->down_space.free_pages != blocks[1] / 4096)
            violation(s->w, "side %u: blocks are missing", s->number);
        if (a->refs != (i == listener))
            violation(s->w, "side %u: %u records name application %u", s->number, a->refs, i);
    }
    if (world_records(s, false) != (listener < s->apps))
        violation(s->w, "side %u: %u records are in use", s->number, world_records(s, false));
    if (t->chains_used != 0)
        violation(s->w, "side %u: %u chains are open", s->number, t->chains_used);
    for (uint32_t i = 0; i < t->n_chains; i++)
        if (t->chains[i].generation != s->chain_done[i])
            violation(s->w, "side %u: chain %u is not done", s->number, i);
    for (unsigned f = 0; f < WORLD_FRAMES; f++)
        if (s->frame_out[f])
            violation(s->w, "side %u: frame %u is lost", s->number, f);
    if (t->counter[TCP_C_RECOVERY_RESETS] || t->counter[TCP_C_APP_VIOLATIONS])
        violation(s->w, "side %u: a record failed its check", s->number);
}

/* One run. a: the victim's socket, b: the peer's; v: whose turn it is at the victim, a or its heir.
 */
struct play {
    const struct scenario *sc;
    struct world *w;
    struct side *victim, *peer;
    struct sock listener, second, a, heir, b, *v;
    unsigned stage, heirs_app;
    uint64_t since;
};

static void connect_again(struct play *p)
{
    if (p->sc->victim_connects)
        sock_connect(&p->a, p->peer, 8080);
    else
        sock_claim(&p->a, &p->listener);
}

/* A claim or a connect is withdrawn; if that succeeds it is made again. False: not settled. */
static bool cancel_step(struct play *p)
{
    int result = 1;
    switch (p->stage) {
    case 0:
        if (p->w->step < p->since + (p->sc->victim_connects ? 1 : 3))
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

static bool unread_step(struct play *p)
{
    const struct down_slot *d = sock_down(&p->a);
    p->a.no_read = true;
    if (p->a.open && !p->a.closed && (d->rx_nxt & OFF_MASK) >= p->a.read_at + 4000)
        sock_close(&p->a, false);
    if (p->b.failed && !p->b.closed) {
        if (p->b.failed != ECONNRESET)
            violation(p->w, "the peer's error is %u", p->b.failed);
        sock_close(&p->b, false);
    }
    return true;
}

static bool inherit_step(struct play *p)
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
        if (p->sc->special == INHERIT_DEAD) {
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

/* True: the victim's socket may go on. */
static bool special_step(struct play *p)
{
    switch (p->sc->special) {
    case OPTIONS:
        return options_step(p);
    case CANCEL_CLAIM:
    case CANCEL_CONNECT:
        return cancel_step(p);
    case CLOSE_UNREAD:
        return unread_step(p);
    case INHERIT:
    case INHERIT_DEAD:
        return inherit_step(p);
    default:
        return true;
    }
}

/* The listener is there: connects and claims. False: not yet. */
static bool begin_connection(struct play *p)
{
    struct sock *from = &p->listener;
    if (p->sc->special == INHERIT_LISTENER) {
        from = &p->second;
        if (p->stage == 0) {
            *from = (struct sock){.s = p->victim, .app = p->heirs_app, .slot = 3};
            sock_inherit(from, &p->listener);
            p->stage = 1;
        }
        if (!sock_replied(from, NULL))
            return false;
        if (sock_down(from)->state != SOCK_LISTEN)
            violation(p->w, "the heir does not listen");
        p->a.app = p->heirs_app;
        sock_close(&p->listener, false);
    }
    p->since = p->w->step;
    sock_claim(p->sc->victim_connects ? &p->b : &p->a, from);
    if (p->sc->special == OPTIONS)
        sock_fresh(&p->a);
    else if (p->sc->victim_connects)
        sock_connect(&p->a, p->peer, 8080);
    if (!p->sc->victim_connects)
        sock_connect(&p->b, p->victim, 8080);
    return true;
}

static bool move_data(struct play *p)
{
    const struct scenario *sc = p->sc;
    bool busy = false;
    if (sc->slow_reader)
        p->a.no_read = p->w->step % 16 != 0;
    if (special_step(p))
        busy |= sock_step(p->v);
    busy |= sock_step(&p->b);
    struct sock *first = sc->victim_closes_first ? p->v : &p->b;
    struct sock *last = sc->victim_closes_first ? &p->b : p->v;
    if (sc->special == CLOSE_UNREAD)
        return busy;
    bool sent = first->sent == first->to_send;
    if (first->open && sent && !first->shut && first->received == last->to_send)
        sock_shutdown(first);
    if (last->eof && last->sent == last->to_send && !last->closed)
        sock_close(last, false);
    if (first->eof && !first->closed)
        sock_close(first, false);
    return busy;
}

static bool all_free(const struct play *p)
{
    const struct tcp *t = p->victim->tcp->state;
    if (p->sc->special == INHERIT_DEAD ? t->app[p->a.app] != NULL
                                       : sock_down(&p->a)->state != SOCK_FREE)
        return false;
    return sock_down(p->v)->state == SOCK_FREE && sock_down(&p->b)->state == SOCK_FREE;
}

/* Runs a scenario, with the victim's store number `at` its last (0: none). Stores made. */
static uint64_t run(const struct scenario *sc, uint64_t at, uint64_t again, unsigned *violations)
{
    static struct world w;
    static struct play p;
    offload_wanted = sc->offload;
    growth_wanted = sc->grow;
    stores = 0;
    crash_at = 0;
    crash_again = again;
    armed = false;
    w.quiet = *violations >= 20;
    w.lose_every = sc->lose_every;
    w.swap_every = sc->swap_every;
    w.resets = sc->special == CLOSE_UNREAD || sc->special == CANCEL_CONNECT;
    /* A reset that died with its sender is asked for by a retransmission. */
    w.lossless = !sc->lose_every && !sc->swap_every && sc->special != CLOSE_UNREAD;
    w.chain_delay = 2;
    world_create(&w, adjust);
    struct side *victim = &w.side[0], *peer = &w.side[1];
    unsigned va = world_add_app(victim), pa = world_add_app(peer);
    p = (struct play){.sc = sc, .w = &w, .victim = victim, .peer = peer, .v = &p.a};
    p.a = (struct sock){
        .s = victim, .app = va, .slot = 1, .to_send = sc->victim_sends, .seed_tx = 1, .seed_rx = 2};
    p.b = (struct sock){
        .s = peer, .app = pa, .slot = 1, .to_send = sc->peer_sends, .seed_tx = 2, .seed_rx = 1};
    p.b.may_fail = sc->special == CLOSE_UNREAD;
    p.listener.s = sc->victim_connects ? peer : victim;
    p.listener.app = sc->victim_connects ? pa : va;
    /* The one who dies has its listener elsewhere, or the connection would not be alone. */
    if (sc->special >= INHERIT)
        p.heirs_app = world_add_app(victim);
    if (sc->special == INHERIT_DEAD)
        p.listener.app = p.heirs_app;
    sock_listen(&p.listener, 8080, 4);
    crash_at = at;

    unsigned phase = 0, idle = 0;
    uint64_t limit = w.now + 600 * SEC;
    bool finished = false;
    while (!finished && w.now < limit && w.step < 200000 && w.violations == 0) {
        bool busy = false;
        if (phase == 0 && sock_replied(&p.listener, NULL)) {
            phase = begin_connection(&p) ? 1 : 0;
        } else if (phase == 1) {
            busy |= move_data(&p);
            if (p.v->closed && p.b.closed)
                phase = 2;
        } else if (phase == 2) {
            finished = all_free(&p);
        }
        busy |= victim_turn(victim) != 0;
        busy |= world_tcp_turn(peer) != 0;
        busy |= world_wire(&w) != 0;
        idle = busy ? 0 : idle + 1;
        world_time(&w, busy);
    }
    const struct sock *a = p.v, *b = &p.b;
    if (!finished && w.violations == 0)
        violation(&w, "it did not end: phase %u.%u, %lu of %lu and %lu of %lu bytes", phase,
                  p.stage, (unsigned long)a->received, (unsigned long)b->to_send,
                  (unsigned long)b->received, (unsigned long)a->to_send);
    if (finished) {
        if (sc->special != CLOSE_UNREAD && (a->received != b->to_send || b->received != a->to_send))
            violation(&w, "a stream is incomplete");
        /* All comes to rest, tombstones included. */
        for (unsigned i = 0; i < 2000; i++) {
            bool busy = victim_turn(victim) != 0;
            busy |= world_tcp_turn(peer) != 0;
            busy |= world_wire(&w) != 0;
            if (!busy && w.now > limit + 200 * SEC)
                break;
            world_time(&w, busy);
            if (!busy && tcp_ops.deadline(victim->tcp) == NEVER &&
                tcp_ops.deadline(peer->tcp) == NEVER)
                break;
        }
        const struct sock *l = sc->special == INHERIT_LISTENER ? &p.second : &p.listener;
        if (sock_down(l)->pending != 0)
            violation(&w, "the listener still shows a connection");
        audit(victim, l->s == victim ? l->app : APPS_MAX);
        audit(peer, l->s == peer ? l->app : APPS_MAX);
        const struct tcp *t = victim->tcp->state;
        if (sc->grow && at == 0 && t->counter[TCP_C_RINGS_GROWN] == 0)
            violation(&w, "the ring of the victim did not grow");
    }
    if (w.violations && *violations < 20 && at)
        fprintf(stderr, "  %s: killed before store %lu, %s:%d, again after %lu\n", sc->name,
                (unsigned long)at, crash_file ? crash_file : "?", crash_line, (unsigned long)again);
    *violations += w.violations != 0;
    world_destroy(&w);
    return stores;
}

int main(int argc, char **argv)
{
    const char *json = NULL;
    bool expect = false;
    unsigned violations = 0, operations = 0;
    uint64_t points = 0, seed = 12345;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            json = argv[++i];
        else if (strcmp(argv[i], "--expect-violations") == 0)
            expect = true;
        else
            return 2;
    }
    for (unsigned i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        const struct scenario *sc = &scenarios[i];
        unsigned before = violations;
        uint64_t n = run(sc, 0, 0, &violations);
        if (violations != before) {
            fprintf(stderr, "%s fails without a crash\n", sc->name);
            return 1;
        }
        for (uint64_t at = 1; at <= n; at++) {
            run(sc, at, 0, &violations);
            /* Once more, with a second kill while the successor recovers or goes on. */
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            run(sc, at, 1 + (seed >> 33) % 60, &violations);
            points += 2;
            if (expect && violations > 50)
                break;
        }
        operations++;
        printf("%-22s %5lu stores, %u violations\n", sc->name, (unsigned long)n,
               violations - before);
        fflush(stdout);
    }
    printf("%u operations, %lu crash points, %u violations\n", operations, (unsigned long)points,
           violations);
    if (json != NULL) {
        FILE *f = fopen(json, "w");
        if (f == NULL)
            return 1;
        fprintf(f, "{\"operations\":%u,\"points\":%lu,\"violations\":%u}\n", operations,
                (unsigned long)points, violations);
        fclose(f);
    }
    return expect ? violations == 0 : violations != 0;
}
