/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip and pf together, without crashes: what passes, what is dropped and counted, what is answered.
 */
/* link: eft_ip eft_pf */
#include "tests/unit/ip_flow.h"

static uint8_t l4[4096];
static uint8_t out[70000];

/* ---- receiving ---- */

static void tcp_segment_reaches_tcp(void **state)
{
    struct packet p;
    struct ipv4 h = to_us(PROTO_TCP);

    (void)state;
    const size_t n = make_ipv4(b, &h, l4, make_tcp(l4, 1000, 80, 7, 100));
    memset(b + n, 0xee, 6); /* padding */
    const uint32_t frame = world_frame_gso(w, 0, b, n + 6, CSUM_GOOD, 50);
    world_run(w);
    assert_true(world_take(&w->tcp.from_ip, &p));
    assert_int_equal(p.hdr_len, 40);
    assert_int_equal(p.l3, 0);
    assert_int_equal(p.l4, 20);
    assert_int_equal(p.protocol, PROTO_TCP);
    assert_int_equal(p.payload_len, 100);
    assert_int_equal(p.pieces, 1);
    assert_int_equal(p.origin, DRIVER(0));
    assert_int_equal(p.chain, frame);
    assert_int_equal(p.csum, CSUM_GOOD);
    assert_int_equal(p.gso_size, 50);
    assert_int_equal(p.src.word[0], PEER);
    assert_int_equal(p.dst.word[0], OURS);
    assert_int_equal(world_bytes(w, &p, out, sizeof out), n - ETH_LEN);
    assert_memory_equal(out, b + ETH_LEN, n - ETH_LEN);
    must_not_return(); /* it is tcp's to give back */
    assert_int_equal(world_count(w, IP_C_TO_TCP), 1);
}

static void blocked_packets_go_nowhere(void **state)
{
    struct packet p;
    struct ipv4 h = to_us(PROTO_TCP);

    (void)state;
    uint32_t frame = world_frame(w, 0, b, make_ipv4(b, &h, l4, make_tcp(l4, 1000, 666, 7, 9)));
    world_run(w);
    assert_false(world_take(&w->tcp.from_ip, &p));
    must_return(frame);
    h.protocol = PROTO_UDP;
    frame = world_frame(w, 0, b, make_ipv4(b, &h, l4, make_udp(l4, 1000, 666, 7, 9)));
    world_run(w);
    assert_false(world_take(&w->udp.from_ip, &p));
    must_return(frame);
    assert_int_equal(world_count(w, IP_C_DROP_BLOCKED_IN), 2);
}

static void nothing_passes_while_pf_is_away(void **state)
{
    struct packet p;
    struct ipv4 h = to_us(PROTO_TCP);

    (void)state;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_tcp(l4, 1000, 80, 7, 9)));
    for (unsigned i = 0; i < 10; i++)
        component_turn(w->ip, w->now);
    assert_false(world_take(&w->tcp.from_ip, &p));
    assert_false(ip_ops.pending(w->ip)); /* and it does not spin */
    world_run(w);
    assert_true(world_take(&w->tcp.from_ip, &p));
}

static void udp_trailer_is_cut(void **state)
{
    struct packet p;
    struct ipv4 h = to_us(PROTO_UDP);

    (void)state;
    make_udp(l4, 9, 53, 1, 20); /* of 30 bytes in the packet */
    world_frame(w, 0, b, make_ipv4(b, &h, l4, UDP_LEN + 30));
    world_run(w);
    assert_true(world_take(&w->udp.from_ip, &p));
    assert_int_equal(p.hdr_len, 28);
    assert_int_equal(p.payload_len, 20);
}

static void broadcast_is_for_udp_only(void **state)
{
    struct packet p;
    struct ipv4 h = to_us(PROTO_UDP);

    (void)state;
    h.dst = ipv4_of(10, 0, 0, 255);
    make_ipv4(b, &h, l4, make_udp(l4, 9, 67, 1, 20));
    memset(b, 0xff, 6);
    world_frame(w, 0, b, ETH_LEN + 48);
    world_run(w);
    assert_true(world_take(&w->udp.from_ip, &p));
    assert_true(p.flags & PACKET_BROADCAST);

    h.protocol = PROTO_TCP;
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_tcp(l4, 9, 80, 1, 0)));
    h = to_us(PROTO_TCP); /* to us alone, but in a broadcast frame */
    make_ipv4(b, &h, l4, make_tcp(l4, 9, 80, 1, 0));
    memset(b, 0xff, 6);
    world_frame(w, 0, b, ETH_LEN + 40);
    world_run(w);
    assert_false(world_take(&w->tcp.from_ip, &p));
    assert_int_equal(world_count(w, IP_C_DROP_BROADCAST), 2);
}

static void bad_frames_are_dropped_and_counted(void **state)
{
    static const struct {
        const char *what;
        enum ip_counter counter;
        uint32_t src, dst;
        int at; /* byte of the frame to change; -1 */
        uint8_t value;
        uint8_t protocol;
        int cut; /* length of the frame; 0: as made */
    } cases[] = {
        {"short", IP_C_DROP_ETH_SHORT, 0, 0, -1, 0, 6, 13},
        {"not our mac", IP_C_DROP_ETH_DST, 0, 0, 5, 9, 6, 0},
        {"multicast", IP_C_DROP_ETH_DST, 0, 0, 0, 1, 6, 0},
        {"ethertype", IP_C_DROP_ETH_TYPE, 0, 0, 12, 0x86, 6, 0},
        {"header cut", IP_C_DROP_IP_SHORT, 0, 0, -1, 0, 6, 30},
        {"version", IP_C_DROP_IP_VERSION, 0, 0, 14, 0x55, 6, 0},
        {"checksum", IP_C_DROP_IP_CHECKSUM, 0, 0, 22, 9, 6, 0},
        {"total length", IP_C_DROP_IP_TOTAL, 0, 0, -1, 0, 6, 50},
        {"not for us", IP_C_DROP_NOT_OURS, 0, ipv4_of(8, 8, 8, 8), -1, 0, 6, 0},
        {"from loopback", IP_C_DROP_MARTIAN, ipv4_of(127, 0, 0, 1), 0, -1, 0, 6, 0},
        {"from ourselves", IP_C_DROP_MARTIAN, OURS, 0, -1, 0, 6, 0},
        {"from a group", IP_C_DROP_MARTIAN, ipv4_of(224, 0, 0, 1), 0, -1, 0, 6, 0},
        {"from broadcast", IP_C_DROP_MARTIAN, ipv4_of(10, 0, 0, 255), 0, -1, 0, 6, 0},
        {"to loopback", IP_C_DROP_MARTIAN, 0, ipv4_of(127, 0, 0, 1), -1, 0, 6, 0},
        {"tcp offset 4", IP_C_DROP_L4_HEADER, 0, 0, 14 + 20 + 12, 0x40, 6, 0},
        {"tcp offset 15", IP_C_DROP_L4_HEADER, 0, 0, 14 + 20 + 12, 0xf0, 6, 0},
        {"udp length", IP_C_DROP_L4_HEADER, 0, 0, 14 + 20 + 5, 200, 17, 0},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ipv4 h = to_us(cases[i].protocol);
        struct packet p;

        if (cases[i].src != 0)
            h.src = cases[i].src;
        if (cases[i].dst != 0)
            h.dst = cases[i].dst;
        size_t n = cases[i].protocol == 6 ? make_tcp(l4, 1, 80, 5, 10) : make_udp(l4, 1, 53, 5, 22);
        n = make_ipv4(b, &h, l4, n);
        if (cases[i].at >= 0)
            b[cases[i].at] = cases[i].value;
        const uint64_t before = world_count(w, cases[i].counter);
        const uint32_t frame = world_frame(w, 0, b, cases[i].cut != 0 ? (size_t)cases[i].cut : n);
        world_run(w);
        if (world_count(w, cases[i].counter) != before + 1)
            fail_msg("%s: not counted", cases[i].what);
        must_return(frame);
        assert_false(world_take(&w->tcp.from_ip, &p));
        assert_false(world_take(&w->udp.from_ip, &p));
        assert_false(world_take(&w->driver[0].from_ip, &p));
    }
}

/* What tcp published and something else changed: its own chain is done, and no other one. */
static void damaged_slots_of_tcp_complete_their_chains(void **state)
{
    struct packet p;

    (void)state;
    introduce(PEER, peer_mac);
    for (uint32_t i = 0; i < 5; i++)
        world_tcp_send(w, PEER, 1, i, i, 7, 10, 0);
    struct packet *slot[5];
    for (unsigned i = 0; i < 5; i++)
        slot[i] = chan_tx_slot(&w->tcp.to_ip, w->tcp.to_ip.tail - 5 + i);
    memset(&slot[0]->hdr_len, 0xff, sizeof *slot[0] - sizeof slot[0]->head); /* not a packet */
    slot[1]->protocol = PROTO_UDP;                                           /* not tcp's */
    slot[2]->chain = 4;                                                      /* another's */
    slot[3]->chain_generation = 99;                                          /* not yet, or never */
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p)); /* the good one, which the driver holds */
    assert_false(world_take(&w->driver[0].from_ip, &p));
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(world_tcp_done(w, i), 7);
    assert_int_equal(world_tcp_done(w, 4), 0);
    assert_int_equal(world_count(w, IP_C_DROP_SEND_GARBAGE), 4);
}

/* Segments that are gone with a reset of the queue: so are their chains. */
static void a_reset_completes_what_was_in_the_queue(void **state)
{
    struct packet p;

    (void)state;
    introduce(PEER, peer_mac);
    world_tcp_send(w, PEER, 1, 1, 0, 7, 10, 0);
    w->tcp.to_ip.out->tail += 1ull << 32; /* a wild store */
    world_run(w);
    world_tcp_send(w, PEER, 1, 2, 1, 7, 10, 0); /* notices the reset, and is lost with it */
    world_run(w);
    assert_false(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(world_tcp_done(w, 0), 7);
    assert_int_equal(world_tcp_done(w, 1), 7);
    world_tcp_send(w, PEER, 1, 3, 2, 7, 10, 0);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(world_tcp_done(w, 2), 0);
}

static void garbage_slots_of_a_driver_do_no_harm(void **state)
{
    const struct driver_rx bad[] = {{.frame = 128, .len = 60},
                                    {.frame = 0xffffffff, .len = 60},
                                    {.frame = 0, .off = 2048, .len = 1},
                                    {.frame = 0, .off = 0xffffffff, .len = 2},
                                    {.frame = 0, .off = 60, .len = 0xffffffff},
                                    {.frame = 0, .len = 60, .csum = 77}};
    struct packet p;

    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        void *slot;

        assert_int_equal(chan_tx_reserve(&w->driver[0].to_ip, 0, 0, 0, &slot), CHAN_OK);
        memcpy((uint8_t *)slot + 16, (const uint8_t *)&bad[i] + 16, sizeof bad[i] - 16);
        chan_tx_commit(&w->driver[0].to_ip);
    }
    chan_tx_publish(&w->driver[0].to_ip);
    world_run(w);
    assert_int_equal(world_count(w, IP_C_DROP_SLOT), sizeof bad / sizeof bad[0]);
    assert_false(world_take(&w->tcp.from_ip, &p));
}

/* ---- sending ---- */

static void tcp_segment_gets_its_header(void **state)
{
    struct packet p;
    struct ipv4 h;

    (void)state;
    introduce(PEER, peer_mac);
    world_tcp_send(w, PEER, 1000, 9, 0, 1, 20000, 1460);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(p.hdr_len, 54);
    assert_int_equal(p.gso_size, 1460); /* whole: the driver cuts it */
    assert_int_equal(p.payload_len, 20000);
    assert_int_equal(ipv4_parse(&h, p.hdr + 14, 40, 20040), IPV4_OK);
    assert_int_equal(h.total_len, 20040);
    assert_int_equal(h.src, OURS);
    assert_int_equal(h.dst, PEER);
    assert_int_equal(h.ttl, 64);
    assert_true(h.df);
    /* Through the gateway, which is the peer. */
    world_tcp_send(w, ipv4_of(8, 8, 8, 8), 1000, 9, 1, 1, 20, 0);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_memory_equal(p.hdr, peer_mac, 6);
    assert_int_equal(p.dst.word[0], ipv4_of(8, 8, 8, 8));
}

static void what_cannot_be_sent_is_completed(void **state)
{
    struct packet p;

    (void)state;
    introduce(PEER, peer_mac);
    world_tcp_send(w, PEER, 667, 1, 0, 1, 10, 0); /* blocked */
    world_tcp_send(w, PEER, 1, 1, 1, 1, 2000, 0); /* too big and not to be cut */
    world_tcp_send(w, OURS, 1, 1, 2, 1, 10, 0);   /* ourselves */
    world_tcp_send(w, ipv4_of(10, 0, 0, 255), 1, 1, 3, 1, 10, 0);
    world_run(w);
    assert_false(world_take(&w->driver[0].from_ip, &p));
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(world_tcp_done(w, i), 1);
    assert_int_equal(world_count(w, IP_C_DROP_BLOCKED_OUT), 1);
    assert_int_equal(world_count(w, IP_C_DROP_TOO_BIG), 1);
    assert_int_equal(world_count(w, IP_C_DROP_NO_ROUTE), 2);
    assert_true(world_take(&w->tcp.from_ip, &p));
    assert_int_equal(p.icmp_code, ICMP_TOO_BIG);
    assert_int_equal(p.mss, 1500);
    assert_true(world_take(&w->tcp.from_ip, &p));
    assert_int_equal(p.icmp_code, ICMP_NET);
    /* A chain that is done already is not sent. */
    world_tcp_send(w, PEER, 1, 1, 0, 1, 10, 0);
    world_run(w);
    assert_false(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(world_count(w, IP_C_DROP_SEND_STALE), 1);
}

static void tcp_may_name_only_what_applications_wrote(void **state)
{
    struct packet p;

    (void)state;
    introduce(PEER, peer_mac);
    world_tcp_send(w, PEER, 1000, 0, 0, 1, 10, 0);
    struct packet *s = chan_tx_slot(&w->tcp.to_ip, 0);
    s->piece[0].region = REGION_OF_SERVER(UDP);
    world_tcp_send(w, PEER, 1000, 0, 1, 1, 10, 0);
    s = chan_tx_slot(&w->tcp.to_ip, 1);
    s->hdr_len = 200;
    world_tcp_send(w, PEER, 1000, 0, 2, 1, 10, 0);
    s = chan_tx_slot(&w->tcp.to_ip, 2);
    s->payload_len = s->piece[0].len = 0xfffffff0;
    world_run(w);
    assert_false(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(world_count(w, IP_C_DROP_SEND_GARBAGE), 3);
}

static void datagram_without_source_and_large_one(void **state)
{
    struct packet p;
    struct ipv4 h;
    uint16_t id = 0;
    size_t at = 0;

    (void)state;
    introduce(PEER, peer_mac);
    world_udp_send(w, 0, PEER, 9, 0, 1, 100, 0);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    size_t n = world_bytes(w, &p, out, sizeof out);
    /* The pseudo-header sum is there for the driver to go on with. */
    uint16_t partial;
    memcpy(&partial, out + 34 + 6, 2);
    assert_int_equal(partial, csum_fold_partial(csum_pseudo(&p.src, &p.dst, PROTO_UDP, 108)));
    assert_int_equal(p.csum, CSUM_PARTIAL);
    assert_int_equal(p.src.word[0], OURS);

    world_udp_send(w, 0, PEER, 9, 1, 1, 5000, 0);
    world_run(w);
    static uint8_t whole[6000];
    for (unsigned i = 0; world_take(&w->driver[0].from_ip, &p); i++) {
        n = world_bytes(w, &p, out, sizeof out);
        assert_int_equal(ipv4_parse(&h, out + 14, n - 14, n - 14), IPV4_OK);
        assert_in_range(n - 14, 1, 1500);
        assert_int_equal(h.offset, at);
        if (i == 0)
            id = h.id;
        assert_int_equal(h.id, id);
        memcpy(whole + at, out + 34, n - 34);
        at += n - 34;
        assert_int_equal(h.mf, at < 5008);
        assert_int_equal(p.chain == 1, !h.mf);
    }
    assert_int_equal(at, 5008);
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(whole[8 + i], (uint8_t)(31 + i * 7));
    uint32_t sum = csum_pseudo(&p.src, &p.dst, PROTO_UDP, 5008);
    assert_int_equal(csum_fold(csum_partial(whole, 5008, sum)), 0);
    world_run(w);
    assert_int_equal(world_udp_done(w, 1), 1);

    world_udp_send(w, 0, PEER, 9, 2, 1, 5000, PACKET_DONT_FRAGMENT);
    world_run(w);
    assert_false(world_take(&w->driver[0].from_ip, &p));
    assert_true(world_take(&w->udp.from_ip, &p));
    assert_int_equal(p.icmp_code, ICMP_TOO_BIG);
    world_udp_send(w, ipv4_of(1, 2, 3, 4), PEER, 9, 3, 1, 50, 0); /* not our address */
    world_run(w);
    assert_int_equal(world_count(w, IP_C_DROP_SEND_SOURCE), 1);
    assert_int_equal(world_udp_done(w, 3), 1);
}

/* ---- full queues ---- */

static void full_driver_queue_holds_verdicts(void **state)
{
    struct packet p;
    unsigned n = 0;

    (void)state;
    introduce(PEER, peer_mac);
    for (uint32_t round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < 60; i++)
            world_tcp_send(w, PEER, 1, round * 60 + i, i, round + 1, 0, 0);
        world_run(w);
    }
    assert_false(ip_ops.pending(w->ip)); /* it sleeps until the driver rings */
    assert_int_equal(((struct chan_out *)(uintptr_t)w->driver[0].from_ip.out)->want, 1);
    for (;;) {
        while (world_take(&w->driver[0].from_ip, &p)) {
            assert_int_equal(get32(p.hdr + p.l4 + 4), n);
            n++;
        }
        if (!ip_ops.pending(w->ip))
            break;
        world_run(w);
    }
    assert_int_equal(n, 240);
}

/* Room for some of its fragments is no reason to look again and again. */
static void fragments_wait_for_room_for_all(void **state)
{
    struct packet p;
    unsigned n = 0;

    (void)state;
    introduce(PEER, peer_mac);
    for (uint32_t i = 0; i < 126; i++) {
        world_tcp_send(w, PEER, 1, i, i % 64, i / 64 + 1, 0, 0);
        if (i % 60 == 59)
            world_run(w);
    }
    world_run(w);
    world_udp_send(w, OURS, PEER, 9, 0, 1, 4000, 0);
    world_run(w);
    assert_false(ip_ops.pending(w->ip));
    for (unsigned turn = 0; turn < 4; turn++) {
        while (world_take(&w->driver[0].from_ip, &p))
            n++;
        world_run(w);
    }
    assert_int_equal(n, 126 + 3);
}

static void full_udp_queue_drops_and_tcp_queue_waits(void **state)
{
    struct packet p;
    struct frame_return r;
    struct ipv4 q = to_us(PROTO_UDP);
    unsigned delivered = 0, returned = 0;

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 60; i++)
            world_frame(w, 0, b, make_ipv4(b, &q, l4, make_udp(l4, 1, 2, i, 4)));
        world_run(w);
        while (world_take_return(&w->driver[0].returned, &r))
            returned++;
    }
    while (world_take(&w->udp.from_ip, &p))
        delivered++;
    assert_int_equal(delivered, 128);
    assert_int_equal(returned, 180 - 128);
    assert_int_equal(world_count(w, IP_C_DROP_UDP_FULL), 180 - 128);

    q.protocol = PROTO_TCP;
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 50; i++)
            world_frame(w, 0, b, make_ipv4(b, &q, l4, make_tcp(l4, 1, 2, round * 50 + i, 4)));
        world_run(w);
    }
    assert_false(ip_ops.pending(w->ip));
    for (delivered = 0;;) {
        while (world_take(&w->tcp.from_ip, &p))
            assert_int_equal(get32(p.hdr + p.l4 + 4), delivered++);
        if (!ip_ops.pending(w->ip))
            break;
        world_run(w);
    }
    assert_int_equal(delivered, 150);
    must_not_return();
}

static uint32_t driver_is_asked(void)
{
    return w->driver[0].from_ip.out->want;
}

static void completions_wake_whom_they_concern(void **state)
{
    struct packet p;

    (void)state;
    introduce(PEER, peer_mac);
    world_run(w);
    world_tcp_send(w, PEER, 1, 1, 0, 1, 10, 0);
    world_run(w);
    assert_int_equal(driver_is_asked(), 0); /* tcp looks by itself */
    assert_true(world_take(&w->driver[0].from_ip, &p));
    world_run(w);
    world_udp_send(w, 0, PEER, 9, 0, 1, 10, 0);
    world_run(w);
    assert_int_equal(driver_is_asked(), 1);
    assert_false(ip_ops.pending(w->ip));
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_true(ip_ops.pending(w->ip)); /* the driver moved before we slept */
    world_run(w);
    assert_int_equal(world_udp_done(w, 0), 1);
    assert_int_equal(driver_is_asked(), 0);
    assert_false(ip_ops.pending(w->ip));
}

/* ---- a broken pf ---- */

static void verdicts_must_answer_questions(void **state)
{
    struct packet p;
    struct ipv4 q = to_us(PROTO_TCP);
    struct chan_tx pf;

    (void)state;
    world_tx(w, &pf, EDGE_PF_IP, PF, IP);
    const uint32_t frame = world_frame(w, 0, b, make_ipv4(b, &q, l4, make_tcp(l4, 1, 2, 3, 4)));
    component_turn(w->ip, w->now);
    const struct {
        uint64_t index;
        struct pf_verdict v;
    } forged[] = {{7, {.verdict = RULE_PASS, .rules_generation = 1}},  /* no such question */
                  {0, {.verdict = RULE_PASS, .rules_generation = 0}}}; /* old rules: blocks */
    for (unsigned i = 0; i < 2; i++) {
        void *slot;
        assert_int_equal(chan_tx_reserve(&pf, 0, forged[i].index, 0, &slot), CHAN_OK);
        memcpy((uint8_t *)slot + 16, (const uint8_t *)&forged[i].v + 16, 16);
        chan_tx_commit(&pf);
    }
    chan_tx_publish(&pf);
    component_turn(w->ip, w->now);
    component_turn(w->ip, w->now);
    assert_false(world_take(&w->tcp.from_ip, &p));
    must_return(frame);
    assert_int_equal(world_count(w, IP_C_VERDICT_BAD), 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(tcp_segment_reaches_tcp),
        T(blocked_packets_go_nowhere),
        T(nothing_passes_while_pf_is_away),
        T(udp_trailer_is_cut),
        T(broadcast_is_for_udp_only),
        T(bad_frames_are_dropped_and_counted),
        T(garbage_slots_of_a_driver_do_no_harm),
        T(damaged_slots_of_tcp_complete_their_chains),
        T(a_reset_completes_what_was_in_the_queue),
        T(tcp_segment_gets_its_header),
        T(what_cannot_be_sent_is_completed),
        T(tcp_may_name_only_what_applications_wrote),
        T(datagram_without_source_and_large_one),
        T(full_driver_queue_holds_verdicts),
        T(fragments_wait_for_room_for_all),
        T(full_udp_queue_drops_and_tcp_queue_waits),
        T(completions_wake_whom_they_concern),
        T(verdicts_must_answer_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
