/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One TCP server and a peer made of single segments: reaching states, looking at what comes back.
 * For the test programs of TCP; each has its own copy.
 */
#ifndef EFT_TESTS_UNIT_TCP_PEER_H
#define EFT_TESTS_UNIT_TCP_PEER_H

#include "tests/crashpoint/sock.c"
#include "tests/crashpoint/world.c"

#include <errno.h>
#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

static struct world w;
static struct side *us;
static struct sock listener, k;
static uint32_t their_iss, our_iss, their_nxt; /* their_nxt: next sequence number of the peer */
static uint16_t our_port, their_port;
static struct tcp_seg last;          /* what TCP sent last */
static unsigned sent;                /* since the last look */
static struct tcp_seg sent_seg[256]; /* these */
static uint8_t data_out[200000];     /* payload sent, by offset behind our ISS */
static uint32_t tsval, ts_on;
static void (*adjust)(struct stack_config *cfg); /* for begin(); NULL: as memory_config() has it */

enum { PEER_WINDOW = 30000 };

/* --- the peer --- */

static inline void look(void)
{
    sent = 0;
    for (unsigned turn = 0; turn < 8; turn++) {
        world_tcp_turn(us);
        world_wire(&w);
        for (unsigned i = 0; i < w.n_wire[1]; i++) {
            struct wire_packet *m = w.wire[1][i];
            struct packet p = m->p;
            p.csum = CSUM_GOOD;
            p.src = m->p.dst; /* as sent_seg from TCP: local is local */
            p.dst = m->p.src;
            assert_int_equal(tcp_segment_parse(&last, &p), 0);
            uint16_t port = last.local.port;
            last.local.port = last.remote.port;
            last.remote.port = port;
            if (last.len && last.seq - our_iss - 1 < sizeof data_out - last.len)
                memcpy(data_out + (last.seq - our_iss - 1), m->data, last.len);
            if (sent < sizeof sent_seg / sizeof sent_seg[0])
                sent_seg[sent] = last;
            sent++;
            free(m);
        }
        w.n_wire[1] = 0;
    }
}

static inline void deliver_segment(struct tcp_seg s, const void *payload, bool corrupt)
{
    struct wire_packet *m = calloc(1, sizeof *m);
    s.local = (struct sock_name){.addr = w.side[1].cfg.interface[0].addr, .port = their_port};
    s.remote = (struct sock_name){.addr = us->cfg.interface[0].addr, .port = our_port};
    if (ts_on) {
        s.has_ts = true;
        s.tsval = tsval;
    }
    m->p.src = s.local.addr;
    m->p.dst = s.remote.addr;
    m->p.payload_len = s.len;
    m->p.gso_size = (uint16_t)s.gso; /* merged; 0: one segment */
    m->p.tos = s.ecn;
    m->p.hdr_len = (uint16_t)tcp_segment_emit(m->p.hdr, &s);
    if (payload != NULL)
        memcpy(m->data, payload, s.len);
    uint16_t sum = csum_fold(csum_partial(m->data, s.len, csum_partial(m->p.hdr, m->p.hdr_len, 0)));
    memcpy(m->p.hdr + 16, &sum, 2);
    if (corrupt)
        m->data[s.len / 2] ^= 0x55;
    assert_true(deliver(us, m));
    chan_tx_publish(&us->to_tcp);
    free(m);
}

static inline void inject(uint8_t flags, uint32_t seq, uint32_t ack, const void *payload,
                          uint32_t len)
{
    deliver_segment((struct tcp_seg){.flags = flags,
                                     .seq = seq,
                                     .ack = ack,
                                     .wnd = PEER_WINDOW,
                                     .len = len,
                                     .mss = flags & TH_SYN ? 1000 : 0,
                                     .sack_ok = flags & TH_SYN,
                                     .has_ts = ts_on},
                    payload, false);
    look();
}

static inline void later(uint64_t ns)
{
    w.now += ns;
    look();
}

/* --- reaching states --- */

static inline uint32_t our(uint32_t off) /* our sequence number */
{
    return our_iss + 1 + off;
}

static inline uint32_t their(uint32_t off)
{
    return their_iss + 1 + off;
}

static inline int begin(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    memset(data_out, 0, sizeof data_out);
    w.chain_delay = 0;
    world_create(&w, adjust);
    us = &w.side[0];
    listener = (struct sock){.s = us, .app = world_add_app(us)};
    k = (struct sock){.s = us, .app = listener.app, .slot = 1};
    their_iss = 0xfffffff0; /* wraps soon */
    their_nxt = their_iss + 1;
    our_port = 8080;
    their_port = 5555;
    ts_on = 0;
    tsval = 1000;
    look();
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    int bad = (int)w.violations;
    for (unsigned f = 0; f < WORLD_FRAMES; f++)
        bad += us->frame_out[f];
    world_destroy(&w);
    for (unsigned i = 0; i < 2; i++) {
        host_free(w.side[i].tcp);
        free(w.side[i].map);
    }
    return bad;
}

static inline void listen_state(void)
{
    sock_listen(&listener, 8080, 4);
    look();
    assert_int_equal(sock_down(&listener)->state, SOCK_LISTEN);
}

static inline void syn_rcvd_state(void)
{
    listen_state();
    sock_claim(&k, &listener);
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(sent, 1);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    assert_int_equal(last.ack, their(0));
    our_iss = last.seq;
}

static inline void established_state(void)
{
    syn_rcvd_state();
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    sock_step(&k);
    assert_true(k.open);
}

static inline void syn_sent_state(void)
{
    look();
    sock_connect(&k, &w.side[1], 5555);
    look();
    assert_int_equal(sent, 1);
    assert_int_equal(last.flags, TH_SYN);
    our_iss = last.seq;
    our_port = last.local.port;
}

static inline const struct tcp_conn *conn(void)
{
    const struct tcp *t = us->tcp->state;
    uint32_t i = t->app[k.app]->slot_conn[k.slot];
    return i ? &t->conn[i - 1] : NULL;
}

static inline uint64_t counter(enum tcp_counter n)
{
    return ((const struct tcp *)us->tcp->state)->counter[n];
}

static inline void app_writes(unsigned n)
{
    k.to_send += n;
    sock_step(&k);
    look();
}

static const uint8_t bytes[4000];

static inline void stream(uint8_t *to, uint64_t from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = pattern(k.seed_rx, from + i);
}

#endif
