/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Segments for a connection that lives: what one leaves behind meets the next, the application's
 * calls, time, and a successor. Input: records {kind, arguments}. Whatever the peer does, its text
 * at one sequence number is always the same, and what it damages has a wrong checksum. Invariants:
 * what the application reads is that text; a reset, or an error of the application's, has a cause;
 * the numbers of a connection hold their order; at the end nothing is left.
 */
#include "fuzz.h"
#include "tests/crashpoint/sock.c"
#include "tests/crashpoint/world.c"

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { TEXT_MAX = 1400, STEPS_MAX = 60, PEER_PORT = 5555, OUR_PORT = 8080 };
/* Kinds of records. All others are segments. */
enum { KINDS = 8, OP_TIME = 5, OP_APP = 6, OP_SUCCESSOR = 7 };

static struct world w;
static struct side *us;
static struct sock listener, k;
static uint32_t iss, irs; /* ours, the peer's */
static struct {
    uint32_t rcv_nxt, edge, una, snd_nxt; /* of TCP, as last seen */
} at;
static bool may_end; /* something happened that ends the connection */

static const struct tcp_conn *conn(void)
{
    const struct tcp *t = us->tcp->state;
    uint32_t i = t->app[k.app] ? t->app[k.app]->slot_conn[k.slot] : 0;
    const struct tcp_conn *c = i ? &t->conn[i - 1] : NULL;
    return c && c->ready && c->r.kind == TCP_KIND_CONN ? c : NULL;
}

static void check(void)
{
    const struct tcp *t = us->tcp->state;
    const struct tcp_conn *c = conn();
    MUST(w.violations == 0);
    if (c == NULL || c->r.state == TCP_CLOSED)
        return;
    const struct tcp_conn_shm *s = &t->shm[c->idx];
    int64_t last = (int64_t)c->rx_nxt;
    MUST(c->rx_read <= c->rx_nxt && c->rx_nxt <= c->rx_edge);
    MUST(c->rx_edge - c->rx_read <= (1ull << c->r.rx.shift[0]) + (1ull << c->r.rx.shift[1]));
    MUST(c->tx_free <= c->tx_una && c->tx_una <= c->snd_max);
    MUST((s->rx_nxt & OFF_MASK) == c->rx_nxt && s->tx_una == c->tx_una);
    MUST(c->snd_max <= s->snd_max && c->rx_edge <= s->rx_edge);
    for (unsigned i = 0; i < c->n_ooo; i++) {
        int64_t a = conn_rx_rel(c, c->ooo[i].start), b = conn_rx_rel(c, c->ooo[i].end);
        MUST(a > last && b > a && b <= (int64_t)c->rx_edge);
        last = b;
    }
    MUST(!c->rx_fin || c->n_ooo == 0);
    if (c->snd_max > c->tx_una && c->r.state != TCP_TIME_WAIT && !c->dirty)
        MUST(c->when[TIMER_REXMT] != NEVER);
    at.rcv_nxt = conn_rcv_nxt(c);
    at.edge = c->r.irs + 1 + (uint32_t)c->rx_edge;
    at.una = conn_seq(c, c->tx_una);
    at.snd_nxt = conn_seq(c, c->snd_max);
}

/* Lets TCP do what it has to; takes its ISN from the SYN-ACK. */
static void look(void)
{
    for (unsigned turn = 0; turn < 6; turn++) {
        world_tcp_turn(us);
        world_wire(&w);
        for (unsigned i = 0; i < w.n_wire[1]; i++) {
            const uint8_t *h = w.wire[1][i]->p.hdr;
            if ((h[13] & (TH_SYN | TH_ACK)) == (TH_SYN | TH_ACK))
                iss = be32(h + 4);
            free(w.wire[1][i]);
        }
        w.n_wire[1] = 0;
    }
    check();
}

static void send_segment(const struct tcp_seg *seg, const uint8_t *options, unsigned n, bool damage)
{
    struct wire_packet *m = calloc(1, sizeof *m);
    struct tcp_seg s = *seg;
    MUST(m != NULL);
    s.local = (struct sock_name){.addr = w.side[1].cfg.interface[0].addr, .port = PEER_PORT};
    s.remote = (struct sock_name){.addr = us->cfg.interface[0].addr, .port = OUR_PORT};
    m->p.src = s.local.addr;
    m->p.dst = s.remote.addr;
    m->p.payload_len = s.len;
    m->p.gso_size = (uint16_t)s.gso;
    for (uint32_t i = 0; i < s.len; i++)
        m->data[i] = pattern(k.seed_rx, (uint64_t)(int32_t)(s.seq + i - irs - 1));
    unsigned len = tcp_segment_emit(m->p.hdr, &s);
    while (n % 4 || len + n > 60)
        n--;
    memcpy(m->p.hdr + len, options, n);
    len += n;
    m->p.hdr_len = (uint16_t)len;
    m->p.hdr[12] = (uint8_t)(len / 4 << 4);
    memset(m->p.hdr + 16, 0, 2);
    uint32_t sum = csum_pseudo(&s.local.addr, &s.remote.addr, 6, len + s.len);
    uint16_t field = csum_fold(csum_partial(m->data, s.len, csum_partial(m->p.hdr, len, sum)));
    memcpy(m->p.hdr + 16, &field, 2);
    if (damage)
        m->data[0] ^= 0x55;
    deliver(us, m);
    chan_tx_publish(&us->to_tcp);
    free(m);
}

static uint32_t near(uint8_t what, struct fuzz_in *in)
{
    uint32_t delta = (uint32_t)(int32_t)(int16_t)fuzz_uint(in, 2);
    switch (what % 6) {
    case 0:
        return at.rcv_nxt;
    case 1:
        return at.rcv_nxt + delta % 2000;
    case 2:
        return at.rcv_nxt + delta;
    case 3:
        return at.edge + delta % 4;
    case 4:
        return at.rcv_nxt - 1;
    default:
        return delta * 65521;
    }
}

static void segment(uint8_t kind, struct fuzz_in *in)
{
    uint8_t where = fuzz_u8(in), options[40] = {0}, n;
    struct tcp_seg s = {.flags = fuzz_u8(in)};
    s.seq = near(where, in);
    s.ack = (where & 64 ? at.una : at.snd_nxt) + (where & 128 ? (uint32_t)fuzz_uint(in, 2) : 0);
    s.wnd = (uint16_t)fuzz_uint(in, 2);
    s.len = kind & 64 ? (uint32_t)fuzz_uint(in, 2) % TEXT_MAX : 0;
    s.gso = kind & 32 ? 100 : 0;
    if (!(kind & 16))
        s.flags = TH_ACK;
    n = kind & 8 ? fuzz_u8(in) % 41 : 0;
    for (unsigned i = 0; i < n; i++)
        options[i] = fuzz_u8(in);
    bool damage = (kind & 128) && s.len != 0;
    /* By chance it hits RCV.NXT exactly: then it is a reset. */
    if ((s.flags & TH_RST) && !damage)
        k.may_fail = may_end = true;
    send_segment(&s, options, n, damage);
    look();
}

static void application(struct fuzz_in *in)
{
    uint8_t what = fuzz_u8(in);
    switch (what % 5) {
    case 0:
        k.to_send += fuzz_uint(in, 2) % 8000;
        break;
    case 1:
        k.no_read = !k.no_read;
        break;
    case 2:
        if (what & 128)
            sock_shutdown(&k);
        break;
    case 3:
        sock_request(&k, OP_SETOPT, what & 64 ? OPT_NODELAY : OPT_QUICKACK, what >> 7);
        break;
    default:
        break;
    }
    if (k.open && !k.closed)
        sock_step(&k);
    look();
}

static void establish(void)
{
    listener = (struct sock){.s = us, .app = world_add_app(us)};
    k = (struct sock){.s = us, .app = listener.app, .slot = 1};
    sock_listen(&listener, OUR_PORT, 4);
    look();
    sock_claim(&k, &listener);
    static const uint8_t options[] = {2, 4, 5, 0xb4, 1, 3, 3, 2, 4, 2, 1, 1};
    irs = 0xfffff000;
    send_segment(&(struct tcp_seg){.flags = TH_SYN, .seq = irs, .wnd = 30000}, options,
                 sizeof options, false);
    look();
    send_segment(&(struct tcp_seg){.flags = TH_ACK, .seq = irs + 1, .ack = iss + 1, .wnd = 30000},
                 NULL, 0, false);
    look();
    sock_step(&k);
    MUST(k.open);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    uint64_t minute;
    memset(&w, 0, sizeof w);
    may_end = false;
    world_create(&w, NULL);
    us = &w.side[0];
    look();
    establish();
    minute = w.now + 60 * SEC; /* nothing ends by a timeout within that */
    for (unsigned i = 0; i < STEPS_MAX && in.p < in.end; i++) {
        uint8_t kind = fuzz_u8(&in);
        if (conn() == NULL)
            break;
        switch (kind % KINDS) {
        case OP_TIME:
            w.now += fuzz_uint(&in, 2) * MSEC / 8;
            if (w.now > minute)
                w.now = minute;
            look();
            break;
        case OP_APP:
            application(&in);
            break;
        case OP_SUCCESSOR:
            world_successor(us, END_KILLED);
            look();
            break;
        default:
            segment(kind, &in);
        }
        if (k.open && !k.closed)
            sock_step(&k);
    }
    check();
    const struct down_slot *d = sock_down(&k);
    const struct tcp_conn *c = conn();
    bool over = c == NULL || c->r.state == TCP_CLOSED;
    /* LAST-ACK, CLOSING: over in order. */
    MUST(!over || may_end || k.shut);
    MUST(d->error == 0 || may_end);
    /* All that came in order, and nothing else, is there to be read. */
    k.no_read = false;
    for (unsigned i = 0; i < 4 && !k.closed; i++)
        sock_step(&k);
    MUST(w.violations == 0);
    host_app_gone(us->tcp, k.app);
    /* Retransmissions, TIME-WAIT: from one deadline to the next. */
    for (unsigned i = 0; i < 1000 && world_records(us, true); i++) {
        uint64_t due = tcp_ops.deadline(us->tcp);
        w.now = due > w.now && due != NEVER ? due : w.now + MSEC;
        look();
    }
    MUST(world_records(us, true) == 0);
    for (unsigned f = 0; f < WORLD_FRAMES; f++)
        MUST(!us->frame_out[f]);
    world_destroy(&w);
    for (unsigned i = 0; i < 2; i++) {
        host_free(w.side[i].tcp);
        free(w.side[i].map);
    }
    return 0;
}

/* --- seeds --- */

static size_t put(uint8_t *buf, size_t n, const uint8_t *from, size_t len)
{
    memcpy(buf + n, from, len);
    return n + len;
}

size_t fuzz_seed(unsigned n, uint8_t *buf)
{
    /* kind, where, flags, delta (2), window (2), length (2) */
    static const uint8_t in_order[] = {0x40, 0, 0x10, 0, 0, 0, 0x70, 0xe8, 3};
    static const uint8_t ahead[] = {0x40, 1, 0x10, 0xe8, 3, 0, 0x70, 0xf4, 1};
    static const uint8_t behind[] = {0x40, 2, 0x10, 0x9c, 0xff, 0, 0x70, 0x2c, 1};
    static const uint8_t damaged[] = {0xc0, 0, 0x10, 0, 0, 0, 0x70, 0xe8, 3};
    static const uint8_t at_edge[] = {0x40, 3, 0x10, 0xfe, 0xff, 0, 0x70, 9, 0};
    static const uint8_t fin[] = {0x10, 0, 0x11, 0, 0, 0, 0x70};
    static const uint8_t rst[] = {0x10, 1, 0x14, 5, 0, 0, 0x70};
    static const uint8_t syn[] = {0x10, 1, 0x02, 5, 0, 0, 0x70};
    static const uint8_t old_ack[] = {0x00, 0xc0, 0x10, 0, 0, 0, 0, 0, 0x70};
    static const uint8_t closed[] = {0x00, 0, 0x10, 0, 0, 0, 0};
    static const uint8_t sacks[] = {0x08, 0x40, 0x10, 0, 0, 0, 0x70, 12, 1, 1,
                                    5,    10,   0,    0, 0, 1, 0,    0,  0, 2};
    static const uint8_t writes[] = {OP_APP, 0, 0x88, 0x13}, holds[] = {OP_APP, 1},
                         ends[] = {OP_APP, 0x82}, wait[] = {OP_TIME, 0x40, 0x1f},
                         successor[] = {OP_SUCCESSOR};
#define P(x) at_ = put(buf, at_, x, sizeof x)
    size_t at_ = 0;
    switch (n) {
    case 0:
        P(in_order), P(ahead), P(behind), P(in_order), P(fin);
        break;
    case 1:
        P(ahead), P(damaged), P(successor), P(in_order), P(behind), P(ahead);
        break;
    case 2:
        P(writes), P(sacks), P(wait), P(sacks), P(old_ack), P(successor), P(writes), P(closed);
        break;
    case 3:
        P(holds), P(in_order), P(in_order), P(in_order), P(at_edge), P(wait), P(holds), P(fin);
        break;
    case 4:
        P(ends), P(ahead), P(fin), P(in_order), P(closed), P(fin), P(wait);
        break;
    case 5:
        P(syn), P(rst), P(writes), P(closed), P(wait), P(successor), P(wait), P(in_order);
        break;
    default:
        return 0;
    }
    return at_;
}
