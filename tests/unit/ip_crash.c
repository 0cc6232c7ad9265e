/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip and pf are killed before every single store to shared memory, in turn, and a successor goes
 * on. Whatever the moment: each frame comes back once, each chain is done once and never sent
 * after, each packet that passes arrives once, and nothing passes that pf blocks.
 */
/* link: eft_ip_cp eft_pf_cp */
#include "tests/unit/ip_world.h"

#include <setjmp.h>

#include <cmocka.h>

/* ---- the crash ---- */

static jmp_buf dead;
static bool armed;
static long countdown; /* stores until death; 0: immortal */
static const char *died_file;
static int died_line;
static unsigned deaths;
static bool concurrent; /* neighbours take from their queues between any two stores */
static uint32_t dice, dice_seed;

static void neighbours(void);

void shm_crashpoint(const char *file, int line)
{
    if (!armed)
        return;
    if (concurrent && (dice = dice * 1664525 + 1013904223) >> 27 == 0) {
        armed = false;
        neighbours();
        armed = true;
    }
    if (countdown == 0 || --countdown > 0)
        return;
    died_file = file;
    died_line = line;
    armed = false;
    longjmp(dead, 1);
}

/* ---- what came out ---- */

enum { FRAMES = 64, SEQS = 64 };
static struct {
    unsigned back;      /* returned by ip */
    unsigned delivered; /* to tcp or udp, which would return it */
} frame[FRAMES];
static unsigned tcp_in[SEQS], udp_in[SEQS], tcp_wire[SEQS], udp_wire[SEQS][8], echo_replies,
    unreachables, quoted, whole;
static bool udp_stalls, hasty; /* hasty: the successor works before anybody else does */
static struct world *w;
static struct component *target;
static long next_crash;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            fail_msg("%s, after a crash at %s:%d", #x, died_file ? died_file : "-", died_line);    \
    } while (0)

static void took_up(struct packet *p, struct chan_tx *ret, unsigned *tally, unsigned tag)
{
    if (p->origin == IP) {
        uint8_t all[8192];

        const size_t n = world_bytes(w, p, all, sizeof all);
        CHECK(n == 20 + 2000);
        for (unsigned i = 0; i < 1992; i++)
            CHECK(all[28 + i] == (uint8_t)(99 + i * 3));
        whole++;
        world_give_buffer(ret, p->chain, p->chain_generation);
        return;
    }
    CHECK(p->chain_generation < FRAMES);
    frame[p->chain_generation].delivered++;
    CHECK(tag < SEQS);
    tally[tag]++;
}

static void on_wire(struct packet *p)
{
    if (get16(p->hdr + 12) == ETH_ARP)
        return;
    const bool mf = (p->hdr[20] & 0x20) != 0;
    const unsigned off = (unsigned)(p->hdr[20] & 0x1f) << 8 | p->hdr[21];

    switch (p->hdr[23]) {
    case PROTO_TCP:
        CHECK(get16(p->hdr + 36) != 667);
        CHECK(world_tcp_done(w, p->chain) != p->chain_generation);
        tcp_wire[get32(p->hdr + 38) % SEQS]++;
        break;
    case PROTO_UDP: {
        const uint8_t *at = region_resolve(&w->map, &p->piece[0]);
        const unsigned buffer =
            (unsigned)((at - (uint8_t *)wiring_table(world_region(w, UDP), TABLE_UDP_POOL, NULL)) /
                       UDP_BUFFER_SIZE);
        CHECK(off != 0 || get16(p->hdr + 36) != 667);
        CHECK(world_udp_done(w, buffer) != 1);
        CHECK(mf || p->chain == buffer);
        udp_wire[buffer][off / 185]++;
        break;
    }
    case PROTO_ICMP:
        if (p->hdr[34] == ICMP_ECHO_REPLY) {
            uint8_t all[512];
            const size_t n = world_bytes(w, p, all, sizeof all);

            CHECK(n == 34 + 8 + 100);
            CHECK(csum_fold(csum_partial(all + 34, n - 34, 0)) == 0);
            echo_replies++;
        } else {
            unreachables++;
        }
        break;
    default:
        CHECK(false);
    }
}

static unsigned take_all(void)
{
    struct packet p;
    struct frame_return r;
    unsigned n = 0;

    for (unsigned i = 0; i < WORLD_PORTS; i++) {
        for (; world_take(&w->driver[i].from_ip, &p); n++)
            on_wire(&p);
        for (; world_take_return(&w->driver[i].returned, &r); n++) {
            CHECK(r.generation < FRAMES);
            frame[r.generation].back++;
        }
    }
    for (; world_take(&w->tcp.from_ip, &p); n++) {
        if (p.icmp_type != 0) {
            quoted += p.icmp_code == ICMP_PORT;
            continue;
        }
        CHECK(get16(p.hdr + 22) == 80);
        took_up(&p, &w->tcp.ret, tcp_in, get32(p.hdr + 24));
    }
    for (; !udp_stalls && world_take(&w->udp.from_ip, &p); n++) {
        if (p.icmp_type != 0)
            continue;
        CHECK(get16(p.hdr + 22) != 666);
        took_up(&p, &w->udp.ret, udp_in, get16(p.hdr + 20));
    }
    return n;
}

/* One packet to each that waits: what was full is not quite full any more. */
static void neighbours(void)
{
    struct packet p;

    if (world_take(&w->driver[0].from_ip, &p))
        on_wire(&p);
    if (world_take(&w->udp.from_ip, &p))
        took_up(&p, &w->udp.ret, udp_in, get16(p.hdr + 20));
}

/* ---- running ---- */

static unsigned turn(struct component *volatile c, volatile bool start)
{
    volatile unsigned n = 1;
    volatile bool again = false;

    while (setjmp(dead) != 0) {
        /* A successor. It may die, too. */
        c = target;
        start = true;
        deaths++;
        countdown = next_crash;
        next_crash = 0;
        concurrent = false;
        again = hasty;
        udp_stalls = false; /* what was full is not full any more: decisions could change */
        if (deaths % 2 == 0)
            take_all();
    }
    armed = c == target;
    if (start)
        world_start(w, c);
    if (!start || again)
        n = component_turn(c, w->now);
    armed = false;
    return n;
}

static void settle(void)
{
    for (unsigned idle = 0, i = 0; idle < 2; i++) {
        unsigned n = turn(w->ip, false);

        n += turn(w->pf, false);
        n += take_all();
        idle = n == 0 ? idle + 1 : 0;
        CHECK(i < 1000);
    }
}

static void begin(const struct stack_config *cfg, bool kill_pf, long first, long second)
{
    memset(frame, 0, sizeof frame);
    memset(tcp_in, 0, sizeof tcp_in);
    memset(udp_in, 0, sizeof udp_in);
    memset(tcp_wire, 0, sizeof tcp_wire);
    memset(udp_wire, 0, sizeof udp_wire);
    echo_replies = unreachables = quoted = whole = deaths = 0;
    udp_stalls = concurrent = false;
    dice = dice_seed;
    died_file = NULL;
    armed = false;
    w = world_new(cfg);
    target = kill_pf ? w->pf : w->ip;
    countdown = first;
    next_crash = second;
    turn(w->ip, true);
    turn(w->pf, true);
}

static void check_all_given_back(void)
{
    const struct ip_state *s = world_state(w);
    struct chan_tx *q = &(struct chan_tx){0};
    uint64_t n;
    const struct ip_pending *pending = wiring_table(world_region(w, IP), TABLE_IP_PENDING, &n);

    for (uint32_t g = 1; g <= w->frame_generation; g++)
        CHECK(frame[g].back + frame[g].delivered == 1);
    for (unsigned i = 0; i < 16; i++)
        CHECK(s->buffer[i].owner == BUFFER_FREE);
    for (unsigned i = 0; i < REASM_CONTEXTS; i++)
        CHECK(s->reasm[i].state == REASM_FREE);
    for (uint64_t i = 0; i < n; i++)
        CHECK(pending[i].seq == 0);
    world_tx(w, q, EDGE_IP_PF, IP, PF);
    CHECK(s->answered == q->tail);
    world_tx(w, q, EDGE_PF_IP, PF, IP);
    CHECK(s->answered == q->tail); /* one verdict for each question */
}

static void rules(struct stack_config *cfg)
{
    world_config(cfg);
    cfg->rules = 2;
    cfg->rule[0] = (struct config_rule){.action = RULE_BLOCK,
                                        .direction = RULE_IN,
                                        .interface = 255,
                                        .dst_port_lo = 666,
                                        .dst_port_hi = 666};
    cfg->rule[1] = (struct config_rule){.action = RULE_BLOCK,
                                        .direction = RULE_OUT,
                                        .interface = 255,
                                        .dst_port_lo = 667,
                                        .dst_port_hi = 667};
}

/* A bit of everything. */
static void everything(bool kill_pf, long first, long second)
{
    static uint8_t b[2048], l4[2048];
    struct ipv4 h = {.src = PEER, .dst = OURS, .id = 5};
    struct stack_config cfg;

    rules(&cfg);
    begin(&cfg, kill_pf, first, second);

    world_introduce(w, PEER, peer_mac);
    h.protocol = PROTO_TCP;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_tcp(l4, 9, 80, 1, 50)));
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_tcp(l4, 9, 666, 9, 50)));
    h.protocol = PROTO_UDP;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_udp(l4, 1, 53, 1, 50)));
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_udp(l4, 9, 666, 9, 50)));
    h.protocol = PROTO_ICMP;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_echo(l4, 1, 2, 100)));
    const struct ipv4 quote = {
        .ttl = 9, .protocol = PROTO_TCP, .total_len = 40, .src = OURS, .dst = PEER};
    const struct icmp error = {.type = ICMP_UNREACHABLE, .code = ICMP_PORT};
    memset(l4, 0, 64);
    icmp_emit(l4, &error);
    ipv4_emit(l4 + 8, &quote);
    put_csum(l4 + 2, csum_fold(csum_partial(l4, 48, 0)));
    world_frame(w, 0, b, make_ipv4(b, &h, l4, 48));
    h.protocol = 99;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, 20));
    world_frame(w, 0, b, 33); /* garbage */
    h.protocol = PROTO_UDP;
    make_udp(l4, 2, 53, 99, 1992);
    h.mf = true;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, 800));
    h.offset = 800;
    world_frame(w, 0, b, make_ipv4(b, &h, l4 + 800, 800));
    h.offset = 1600;
    h.mf = false;
    world_frame(w, 0, b, make_ipv4(b, &h, l4 + 1600, 400));
    h.id = 6; /* another one, whose end comes later */
    h.mf = true;
    h.offset = 800;
    world_frame(w, 0, b, make_ipv4(b, &h, l4 + 800, 800));
    h.offset = 0;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, 800));
    h.mf = false;
    h.protocol = PROTO_TCP;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_tcp(l4, 9, 80, 2, 50)));

    world_tcp_send(w, PEER, 1, 0, 0, 1, 100, 0);
    world_tcp_send(w, PEER, 667, 1, 1, 1, 100, 0);
    for (uint32_t i = 2; i < 6; i++) /* the list holds three */
        world_tcp_send(w, GHOST, 1, i, i, 1, 100, 0);
    world_tcp_send(w, OTHER, 1, 6, 6, 1, 100, 0);
    world_udp_send(w, 0, PEER, 1, 0, 1, 100, 0);
    world_udp_send(w, OURS, PEER, 1, 1, 1, 5000, 0);
    world_udp_send(w, 0, OTHER, 1, 2, 1, 4000, 0);
    world_udp_send(w, 0, PEER, 667, 3, 1, 100, 0);
    settle();

    make_udp(l4, 2, 53, 99, 1992);
    h.protocol = PROTO_UDP;
    h.offset = 1600;
    world_frame(w, 0, b, make_ipv4(b, &h, l4 + 1600, 400));
    settle();
    h.src = OTHER;
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REPLY, other_mac, OTHER, OURS));
    world_tcp_send(w, OTHER, 1, 7, 7, 1, 100, 0);
    settle();
    for (unsigned i = 0; i < 5; i++) {
        w->now += WORLD_SECOND;
        settle();
    }
    w->now += 30 * WORLD_SECOND;
    settle();

    check_all_given_back();
    for (unsigned i = 0; i < SEQS; i++) {
        CHECK(tcp_in[i] == (i == 1 || i == 2));
        CHECK(udp_in[i] == (i == 1));
        CHECK(tcp_wire[i] == (i == 0 || i == 6 || i == 7));
        for (unsigned k = 0; k < 8; k++)
            CHECK(udp_wire[i][k] == (i == 0 ? k == 0 : i == 1 ? k < 4 : i == 2 ? k < 3 : 0));
    }
    for (uint32_t i = 0; i < 8; i++)
        CHECK(world_tcp_done(w, i) == 1);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(world_udp_done(w, i) == 1);
    CHECK(echo_replies == 1);
    CHECK(quoted == 1);
    CHECK(whole == 2);
    CHECK(unreachables <= 1);
    world_free(w);
}

/* udp does not take what it is sent, until the crash: what the predecessor dropped for want of room
 * the successor could deliver. */
static void overflow_of_udp(bool kill_pf, long first, long second, bool concurrently)
{
    static uint8_t b[256], l4[256];
    struct ipv4 h = {.src = PEER, .dst = OURS, .protocol = PROTO_UDP};
    struct stack_config cfg;
    unsigned got = 0;

    rules(&cfg);
    cfg.queue_slots = 16;
    begin(&cfg, kill_pf, first, second);
    udp_stalls = true;
    concurrent = concurrently;
    for (uint32_t i = 0; i < 40; i++)
        world_frame(w, 0, b, make_ipv4(b, &h, l4, make_udp(l4, (uint16_t)i, 53, i, 4)));
    settle();
    udp_stalls = false;
    settle();
    check_all_given_back();
    for (unsigned i = 0; i < 40; i++) {
        CHECK(udp_in[i] <= 1);
        got += udp_in[i];
    }
    if (concurrently) {
        world_free(w);
        return;
    }
    /* Delivered or counted as dropped; a crash may count one batch twice. */
    CHECK(got + world_count(w, IP_C_DROP_UDP_FULL) >= 40);
    CHECK(deaths > 0 || got == 16);
    world_free(w);
}

static void overflow(bool kill_pf, long first, long second)
{
    overflow_of_udp(kill_pf, first, second, false);
}

static void overflow_concurrent(bool kill_pf, long first, long second)
{
    overflow_of_udp(kill_pf, first, second, true);
}

/* More to send than the driver's queue holds, while the driver takes: slots are used again as soon
 * as the driver has passed them, but never before they are accounted for. */
static void sending(bool kill_pf, long first, long second)
{
    struct stack_config cfg;

    rules(&cfg);
    cfg.queue_slots = 16;
    begin(&cfg, kill_pf, first, second);
    world_introduce(w, PEER, peer_mac);
    settle();
    concurrent = true;
    for (uint32_t i = 0; i < 48; i++) {
        world_tcp_send(w, PEER, 1, i, i, 1, 100, 0);
        if (i % 16 == 15)
            for (unsigned k = 0; k < 12; k++) { /* the driver's own turns do not come */
                turn(w->ip, false);
                turn(w->pf, false);
            }
    }
    settle();
    check_all_given_back();
    for (uint32_t i = 0; i < 48; i++) {
        CHECK(tcp_wire[i] == 1);
        CHECK(world_tcp_done(w, i) == 1);
    }
    world_free(w);
}

typedef void scenario(bool kill_pf, long first, long second);

/* Crashes at every store, then at random pairs of stores. */
static void at_every_store(scenario *run, bool kill_pf, unsigned pairs)
{
    const long many = 1000000000;
    uint32_t seed = 12345;

    dice_seed = 2; /* with 1, udp never gets room in the middle of a batch */
    run(kill_pf, many, 0);
    const long stores = many - countdown;
    assert_true(stores > 20);
    assert_int_equal(deaths, 0);
    for (long k = 1; k <= stores; k++) {
        hasty = true;
        run(kill_pf, k, 0);
        assert_int_equal(deaths, 1);
    }
    for (unsigned i = 0; i < pairs; i++) {
        seed = seed * 1664525 + 1013904223;
        hasty = seed >> 31 != 0;
        dice_seed = seed;
        const long first = 1 + (long)((seed >> 8) % (uint32_t)stores);
        seed = seed * 1664525 + 1013904223;
        run(kill_pf, first, 1 + (long)((seed >> 8) % 120));
    }
    print_message("%ld stores\n", stores);
}

static void ip_dies_at_every_store(void **state)
{
    (void)state;
    at_every_store(everything, false, 1500);
}

static void pf_dies_at_every_store(void **state)
{
    (void)state;
    at_every_store(everything, true, 300);
}

static void ip_dies_while_udp_is_full(void **state)
{
    (void)state;
    at_every_store(overflow, false, 500);
}

static void ip_dies_while_udp_drains(void **state)
{
    (void)state;
    at_every_store(overflow_concurrent, false, 500);
}

static void ip_dies_while_the_driver_sends(void **state)
{
    (void)state;
    at_every_store(sending, false, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ip_dies_at_every_store),
        cmocka_unit_test(pf_dies_at_every_store),
        cmocka_unit_test(ip_dies_while_udp_is_full),
        cmocka_unit_test(ip_dies_while_udp_drains),
        cmocka_unit_test(ip_dies_while_the_driver_sends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
