/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One stack against peers that do not play by the rules. A peer is a line of a table: a receiver
 * made of single frames, with its bad habit. The stack sends it a stream; the peer checks every
 * byte and what the sender may never do, whatever it is told: send beyond the window that was
 * offered, or grow its window by more than was acknowledged (RFC 5681 3.1 with RFC 3465: bytes
 * count, not ACKs). Every peer is met by a stack that lives, and by one whose components die.
 *
 *   sim_hostile [--trace FILE NAME]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "servers/wire/bytes.h"
#include "servers/wire/ipv4.h"
#include "sim.h"

enum { MSS = 1460, BYTES = 150000, PEER_PORT = 4444, WINDOW = 60000, IW = 10 };
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

struct habit {
    const char *name;
    unsigned acks;       /* for each segment, each for a part of it; 0: one */
    uint32_t ahead;      /* acknowledges so many bytes more than it has */
    uint32_t forgets;    /* bytes of in-order data after which it drops what it had SACKed */
    uint32_t lose_every; /* of the segments that it has not seen before */
    uint32_t takes_back; /* the window is smaller by this than what was offered, every other time */
    uint32_t shut_every; /* every so many segments the window is shut for a second */
    bool nonsense;       /* SACK blocks from nowhere */
    bool beyond;         /* acknowledges what was never sent, too */
    uint32_t mute_after; /* bytes; then it says nothing any more */
    int error;           /* that the program must see; 0: it may see none */
    bool holes;          /* the peer's own fault if it gets only a part */
};

static const struct habit habits[] = {
    {.name = "none"},
    {.name = "splits ACKs", .acks = 40},
    {.name = "splits ACKs and loses", .acks = 10, .lose_every = 23},
    {.name = "is optimistic", .ahead = 4 * MSS, .holes = true},
    {.name = "acknowledges the future", .beyond = true},
    {.name = "reneges", .forgets = 20000, .lose_every = 13},
    {.name = "shrinks its window", .takes_back = 20000},
    {.name = "shuts its window", .shut_every = 20},
    {.name = "SACKs nonsense", .nonsense = true},
    {.name = "SACKs nonsense and loses", .nonsense = true, .lose_every = 17},
    {.name = "falls silent", .mute_after = 30000, .error = ETIMEDOUT},
};

struct peer {
    const struct habit *habit;
    struct sim *s;
    struct rng rng;
    uint8_t mac[6], their_mac[6];
    uint32_t iss, irs;      /* ours; the stack's */
    bool known, open, over; /* ARP answered; SYN-ACK seen; their FIN acknowledged */
    bool have[BYTES];
    uint32_t nxt;   /* all below is here; counts from irs + 1 */
    uint32_t edge;  /* highest right edge that was ever offered */
    uint32_t acked; /* highest ACK that was sent */
    uint32_t seen;  /* highest byte that came */
    uint32_t forgot_at, segments, frames;
    uint64_t shut_until, syn_at;
};

/* --- frames --- */

static void answer_arp(struct peer *p, const uint8_t *f)
{
    uint8_t r[60] = {0};

    memcpy(p->their_mac, f + 22, 6);
    p->known = true;
    memcpy(r, f + 6, 6);
    memcpy(r + 6, p->mac, 6);
    memcpy(r + 12, f + 12, 10);
    r[21] = 2;
    memcpy(r + 22, p->mac, 6);
    memcpy(r + 28, f + 38, 4);
    memcpy(r + 32, f + 22, 10);
    wire_send(p->s, 1, r, sizeof r);
}

static void send_segment(struct peer *p, uint8_t flags, uint32_t ack, uint32_t window,
                         const uint32_t (*sack)[2], unsigned blocks)
{
    uint8_t f[SIM_ETH + IPV4_LEN + 60] = {0};
    struct view v = {.ip = f + SIM_ETH, .ip_len = IPV4_LEN, .tcp = f + SIM_ETH + IPV4_LEN};
    struct ipv4 h = {.ttl = 64, .protocol = PROTO_TCP, .total_len = sizeof f - SIM_ETH};
    uint8_t *opt = v.tcp + 20;

    memcpy(f, p->their_mac, 6);
    memcpy(f + 6, p->mac, 6);
    put16(f + 12, 0x0800);
    h.src = p->s->stack[1].cfg.interface[0].addr.v4;
    h.dst = p->s->stack[0].cfg.interface[0].addr.v4;
    ipv4_emit(v.ip, &h);
    if (flags & SYN) {
        static const uint8_t options[8] = {2, 4, MSS >> 8, MSS & 0xff, 1, 1, 4, 2};

        memcpy(opt, options, sizeof options);
        opt += sizeof options;
    } else if (blocks != 0) {
        *opt++ = 1;
        *opt++ = 1;
        *opt++ = 5;
        *opt++ = (uint8_t)(2 + 8 * blocks);
        for (unsigned i = 0; i < blocks; i++, opt += 8) {
            put32(opt, p->irs + 1 + sack[i][0]);
            put32(opt + 4, p->irs + 1 + sack[i][1]);
        }
    }
    v.tcp_len = (uint32_t)(opt - v.tcp);
    put16(v.tcp, PEER_PORT);
    put16(v.tcp + 2, 7777);
    put32(v.tcp + 4, flags & SYN ? p->iss : p->iss + 1);
    put32(v.tcp + 8, flags & ACK ? p->irs + 1 + ack : 0);
    v.tcp[12] = (uint8_t)(v.tcp_len / 4 << 4);
    v.tcp[13] = flags;
    put16(v.tcp + 14, (uint16_t)window);
    view_seal(&v);
    wire_send(p->s, 1, f, SIM_ETH + v.ip_len + v.tcp_len);
}

/* --- the receiver --- */

static unsigned sack_blocks(struct peer *p, uint32_t (*sack)[2])
{
    unsigned n = 0;

    if (p->habit->nonsense) {
        for (; n < 3; n++) {
            sack[n][0] = (uint32_t)rng_below(&p->rng, 2 * BYTES) - BYTES / 2;
            sack[n][1] = (uint32_t)rng_below(&p->rng, 2 * BYTES) - BYTES / 2;
        }
        return n;
    }
    for (uint32_t at = p->nxt; at < BYTES && at < p->seen && n < 3; at++)
        if (p->have[at] && (at == 0 || !p->have[at - 1])) {
            sack[n][0] = at;
            while (at < BYTES && p->have[at])
                at++;
            sack[n++][1] = at;
        }
    return n;
}

static void acknowledge(struct peer *p, uint32_t ack)
{
    const struct habit *h = p->habit;
    uint32_t window = WINDOW, sack[3][2];
    const unsigned blocks = sack_blocks(p, sack);

    if (h->takes_back != 0 && p->segments % 2 == 1)
        window -= h->takes_back;
    if (p->s->now < p->shut_until)
        window = 0;
    if (ack > p->acked)
        p->acked = ack;
    if (ack + window > p->edge)
        p->edge = ack + window;
    send_segment(p, ACK, ack, window, sack, blocks);
}

static void data(struct peer *p, const struct view *v)
{
    const struct habit *h = p->habit;
    const uint32_t at = get32(v->tcp + 4) - p->irs - 1, before = p->nxt;
    const bool fin = (v->tcp[13] & FIN) != 0;

    if (v->len == 0 && !fin) {
        /* A probe: what is old is answered (RFC 9293 3.10.7.4). */
        if ((int32_t)(at - p->nxt) < 0)
            acknowledge(p, p->nxt);
        return;
    }
    p->segments++;
    if (h->shut_every != 0 && p->segments % h->shut_every == 0)
        p->shut_until = p->s->now + SIM_S;
    if (at + v->len > p->edge + 1 || at > BYTES || v->len > BYTES - at) {
        sim_fail(p->s, "sent up to %u, and %u was offered", at + v->len, p->edge);
        return;
    }
    if (memcmp(v->payload, stream_at(1, at), v->len) != 0)
        sim_fail(p->s, "wrong bytes at %u", at);
    const bool fresh = at + v->len > p->seen;
    if (fresh)
        p->seen = at + v->len;
    /* What is SACKed is not under way any more. */
    if (h->lose_every == 0 && p->seen - p->acked > IW * MSS + p->acked + 4 * MSS)
        sim_fail(p->s, "%u bytes under way after %u acknowledged", p->seen - p->acked, p->acked);
    if (h->lose_every != 0 && fresh && p->segments % h->lose_every == 0)
        return;
    memset(p->have + at, 1, v->len);
    while (p->nxt < BYTES && p->have[p->nxt])
        p->nxt++;
    if (h->forgets != 0 && p->nxt - p->forgot_at > h->forgets) {
        p->forgot_at = p->nxt;
        memset(p->have + p->nxt, 0, BYTES - p->nxt);
    }
    const uint32_t end =
        fin && at + v->len == BYTES && (p->nxt == BYTES || h->holes) ? BYTES + 1 : p->nxt;
    if (end > BYTES)
        p->over = true;
    for (unsigned i = 1; i < h->acks; i++)
        if (before + (p->nxt - before) * i / h->acks > before)
            acknowledge(p, before + (p->nxt - before) * i / h->acks);
    if (h->beyond)
        send_segment(p, ACK, p->seen + 50000, WINDOW, NULL, 0);
    if (h->ahead != 0 && end <= BYTES)
        acknowledge(p, p->nxt + h->ahead < p->seen ? p->nxt + h->ahead : p->seen);
    else
        acknowledge(p, end);
}

static bool peer_step(struct peer *p)
{
    struct wire_frame *f = wire_take(p->s, 1);
    struct view v;

    if (f == NULL) {
        if (!p->known || p->open || p->s->now < p->syn_at)
            return false;
        send_segment(p, SYN, 0, WINDOW, NULL, 0);
        p->syn_at = p->s->now + SIM_S;
        return true;
    }
    p->frames++;
    if (f->data[12] == 8 && f->data[13] == 6) {
        if (get16(f->data + 20) == 1)
            answer_arp(p, f->data);
    } else if (!view_tcp(&v, f->data, f->len)) {
        sim_fail(p->s, "a frame of another kind");
    } else if ((v.tcp[13] & RST) != 0) {
        if (p->habit->error == 0)
            sim_fail(p->s, "reset");
        p->over = true;
    } else if (p->habit->mute_after == 0 || p->nxt < p->habit->mute_after) {
        if ((v.tcp[13] & SYN) != 0) {
            p->irs = get32(v.tcp + 4);
            p->open = true;
            p->edge = WINDOW;
            acknowledge(p, 0);
        } else {
            data(p, &v);
        }
    }
    free(f);
    return true;
}

/* --- a run --- */

static void configure(struct stack_config *cfg, void *arg)
{
    (void)arg;
    cfg->tcp_retries = 5;
}

static bool meet(const struct habit *habit, bool crashes, const char *trace)
{
    static struct sim s;
    static struct peer p;
    struct rng rng = {.s = 1};
    struct sim_socket listener, k;
    unsigned idle = 0;
    int error = 0;

    sim_create(&s, 7, 1, configure, NULL);
    s.trace = trace != NULL ? trace_open(trace, SIM_STACKS) : NULL;
    s.stack[0].in.link.delay_ns = s.stack[1].in.link.delay_ns = 5 * SIM_MS;
    if (crashes)
        s.crash = (struct crashes){
            .chance = 0.02, .again = 0.2, .down_ns = 3 * SIM_MS, .until_ns = NEVER};
    p = (struct peer){
        .habit = habit, .s = &s, .rng = {.s = 3}, .mac = {2, 0, 0, 0, 0, 2}, .iss = 0xfffffff0};
    const unsigned app = sim_add_app(&s.stack[0]);
    socket_init(&listener, &s.stack[0], app, 0);
    socket_init(&k, &s.stack[0], app, 1);
    k.plan = (struct plan){.to_send = BYTES, .pattern = 1};
    k.expect = 2;
    socket_listen(&listener, 7777, 4);
    while (!s.failed && !(p.over || error != 0)) {
        unsigned n = sim_turn(&s);

        if (k.stage == STAGE_NONE && socket_replied(&listener))
            socket_claim(&k, &listener);
        if (k.stage == STAGE_OPEN && k.down->error != 0)
            error = (int)k.down->error;
        else
            n += socket_step(&k, &rng);
        n += peer_step(&p);
        idle = n == 0 ? idle + 1 : 0;
        if (idle < 2)
            continue;
        uint64_t next = sim_next(&s);
        if (p.known && !p.open && p.syn_at > s.now && p.syn_at < next)
            next = p.syn_at;
        if (!p.known) /* nobody has asked for it: any address will do */
            p.known = true, memset(p.their_mac, 0xff, 6), next = s.now;
        if (next == NEVER || s.now > SIM_START + 3600 * SIM_S)
            sim_fail(&s, "stuck: %u of %u bytes", p.nxt, BYTES);
        s.now = next > s.now ? next : s.now + 10 * SIM_US;
        idle = 0;
        if (p.shut_until != 0 && s.now >= p.shut_until) {
            p.shut_until = 0;
            acknowledge(&p, p.nxt);
        }
    }
    if (!s.failed && error != habit->error)
        sim_fail(&s, "error %d, expected %d", error, habit->error);
    if (!s.failed && error == 0 && !habit->holes && p.nxt != BYTES)
        sim_fail(&s, "%u of %u bytes", p.nxt, BYTES);
    printf("%-26s %2lu crashes %s: %.3f s, %u frames\n", habit->name, (unsigned long)s.crashes,
           s.failed ? "FAILED" : "ok", (double)(s.now - SIM_START) / 1e9, p.frames);
    trace_close(s.trace);
    sim_destroy(&s);
    return !s.failed;
}

int main(int argc, char **argv)
{
    bool ok = true;

    if (argc != 1 && (argc != 4 || strcmp(argv[1], "--trace") != 0)) {
        fprintf(stderr, "usage: %s [--trace FILE NAME]\n", argv[0]);
        return 2;
    }
    for (unsigned i = 0; i < sizeof habits / sizeof habits[0]; i++) {
        if (argc == 4) {
            if (strcmp(habits[i].name, argv[3]) == 0)
                ok &= meet(&habits[i], false, argv[2]);
            continue;
        }
        ok &= meet(&habits[i], false, NULL);
        ok &= meet(&habits[i], true, NULL);
    }
    return !ok;
}
