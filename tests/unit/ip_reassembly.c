/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Fragments through ip and pf: orders, duplicates, overlaps, limits, time.
 */
/* link: eft_ip eft_pf */
#include "tests/unit/ip_world.h"

#include <setjmp.h>

#include <cmocka.h>

static struct world *w;
static uint8_t b[2048], out[70000];
static uint8_t datagram[65536];

static int setup(void **state)
{
    (void)state;
    w = world_acquainted();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_free(w);
    return 0;
}

static void fragment_from(uint32_t src, uint16_t id, size_t start, size_t end, bool more)
{
    const struct ipv4 h = {.protocol = PROTO_UDP,
                           .src = src,
                           .dst = OURS,
                           .id = id,
                           .mf = more,
                           .offset = (uint16_t)start};
    struct frame_return r;

    world_frame(w, 0, b, make_ipv4(b, &h, datagram + start, end - start));
    world_run(w);
    while (world_take_return(&w->driver[0].returned, &r))
        ;
}

static void fragment(uint16_t id, size_t start, size_t end, bool more)
{
    fragment_from(PEER, id, start, end, more);
}

static unsigned buffers_used(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 16; i++)
        n += world_state(w)->buffer[i].owner != BUFFER_FREE;
    return n;
}

/* The datagram of `len` bytes arrives at udp, and its buffer goes back. */
static void must_arrive(size_t len)
{
    struct packet p;

    assert_true(world_take(&w->udp.from_ip, &p));
    assert_int_equal(world_bytes(w, &p, out, sizeof out), IPV4_LEN + len);
    assert_memory_equal(out + IPV4_LEN, datagram, len);
    assert_int_equal(p.origin, IP);
    assert_int_equal(csum_fold(csum_partial(p.hdr, IPV4_LEN, 0)), 0);
    const unsigned used = buffers_used();
    assert_true(used > 0);
    world_give_buffer(&w->udp.ret, p.chain, p.chain_generation);
    world_give_buffer(&w->udp.ret, p.chain, p.chain_generation); /* twice: counted */
    const uint64_t bad = world_count(w, IP_C_BUFFER_RETURN_BAD);
    world_run(w);
    assert_int_equal(buffers_used(), used - 1);
    assert_int_equal(world_count(w, IP_C_BUFFER_RETURN_BAD), bad + 1);
    assert_false(world_take(&w->udp.from_ip, &p));
}

static void must_not_arrive(void)
{
    struct packet p;
    assert_false(world_take(&w->udp.from_ip, &p));
}

static void in_any_order(void **state)
{
    static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                          {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const size_t cut[4] = {0, 1000, 1008, 2001};

    (void)state;
    make_udp(datagram, 1, 2, 77, 2001 - UDP_LEN);
    for (unsigned o = 0; o < 6; o++) {
        for (unsigned i = 0; i < 3; i++) {
            const unsigned k = orders[o][i];
            must_not_arrive();
            fragment((uint16_t)o, cut[k], cut[k + 1], k < 2);
        }
        must_arrive(2001);
    }
    assert_int_equal(world_count(w, IP_C_FRAG_DONE), 6);
}

static void duplicates_are_ignored(void **state)
{
    (void)state;
    make_udp(datagram, 1, 2, 78, 2000 - UDP_LEN);
    fragment(1, 0, 1000, true);
    fragment(1, 0, 1000, true);
    fragment(1, 1000, 2000, false);
    must_arrive(2000);
    assert_int_equal(world_count(w, IP_C_FRAG_DUPLICATE), 1);
}

static void overlaps_end_the_datagram(void **state)
{
    static const size_t second[][2] = {{992, 1992}, {0, 1008}, {8, 16}};

    (void)state;
    make_udp(datagram, 1, 2, 78, 2000 - UDP_LEN);
    for (unsigned i = 0; i < 3; i++) {
        fragment((uint16_t)i, 0, 1000, true);
        fragment((uint16_t)i, second[i][0], second[i][1], true);
        assert_int_equal(world_count(w, IP_C_DROP_FRAG_OVERLAP), i + 1);
        assert_int_equal(buffers_used(), 0);
    }
    fragment(9, 1000, 2000, false); /* the end is known … */
    fragment(9, 1600, 2400, true);  /* … and this is beyond it */
    fragment(10, 1000, 2000, true);
    fragment(10, 800, 960, false); /* an end before what is there */
    must_not_arrive();
    assert_int_equal(world_count(w, IP_C_DROP_FRAG_OVERLAP), 5);
}

static void malformed_fragments(void **state)
{
    (void)state;
    fragment(1, 0, 1001, true);       /* not a multiple of 8 */
    fragment(2, 65528, 65529, true);  /* the same at the end */
    fragment(3, 65528, 65532, false); /* ping of death: 20 + 65532 */
    fragment(4, 8, 8, true);          /* nothing in it */
    assert_int_equal(world_count(w, IP_C_DROP_FRAG_BAD), 4);
    assert_int_equal(buffers_used(), 0);
    must_not_arrive();
}

static void largest_datagram(void **state)
{
    const size_t len = 65535 - IPV4_LEN;

    (void)state;
    make_udp(datagram, 1, 2, 79, len - UDP_LEN);
    for (size_t at = 0; at < len; at += 1480)
        fragment(1, at, at + 1480 < len ? at + 1480 : len, at + 1480 < len);
    must_arrive(len);
}

static void too_many_fragments(void **state)
{
    (void)state;
    for (size_t i = 0; i <= REASM_FRAGMENTS; i++)
        fragment(1, i * 16, i * 16 + 8, true); /* holes */
    assert_int_equal(world_count(w, IP_C_DROP_FRAG_MANY), 1);
    assert_int_equal(buffers_used(), 0);
}

static void time_runs_out(void **state)
{
    struct packet p;

    (void)state;
    make_udp(datagram, 1, 2, 80, 2000 - UDP_LEN);
    fragment(1, 0, 1000, true);
    fragment(2, 1000, 2000, false); /* without the first no report is made */
    w->now += 29 * WORLD_SECOND;
    world_run(w);
    assert_int_equal(buffers_used(), 2);
    assert_int_equal(ip_ops.deadline(w->ip), w->now + WORLD_SECOND);
    w->now += WORLD_SECOND;
    world_run(w);
    assert_int_equal(buffers_used(), 0);
    assert_int_equal(world_count(w, IP_C_DROP_FRAG_TIMEOUT), 2);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(p.hdr[p.l4], ICMP_EXCEEDED);
    assert_int_equal(p.hdr[p.l4 + 1], ICMP_REASSEMBLY);
    assert_memory_equal(p.hdr + p.l4 + 8 + 20, datagram, 8);
    assert_false(world_take(&w->driver[0].from_ip, &p));
    fragment(1, 1000, 2000, false);
    must_not_arrive();
}

static void memory_is_bounded(void **state)
{
    (void)state;
    make_udp(datagram, 1, 2, 81, 2000 - UDP_LEN);
    for (unsigned i = 0; i < 200; i++) {
        fragment_from(ipv4_of(10, 0, 0, 10 + i % 50), (uint16_t)i, 0, 1000, true);
        w->now += 1000;
        assert_in_range(buffers_used(), 1, 12); /* three quarters of 16 */
    }
    /* The newest still gets through. */
    fragment_from(PEER, 1, 0, 1000, true);
    fragment_from(PEER, 1, 1000, 2000, false);
    must_arrive(2000);
}

static void pf_judges_the_whole(void **state)
{
    struct stack_config cfg;
    struct packet p;

    (void)state;
    world_free(w);
    world_config(&cfg);
    cfg.rules = 1;
    cfg.rule[0] = (struct config_rule){.action = RULE_BLOCK,
                                       .direction = RULE_IN,
                                       .interface = 255,
                                       .dst_port_lo = 666,
                                       .dst_port_hi = 666};
    w = world_new(&cfg);
    world_start(w, w->ip);
    world_start(w, w->pf);
    make_udp(datagram, 1, 666, 82, 2000 - UDP_LEN);
    /* The port is in the first 8 bytes, which come last. */
    fragment(1, 8, 1000, true);
    fragment(1, 1000, 2000, false);
    fragment(1, 0, 8, true);
    assert_false(world_take(&w->udp.from_ip, &p));
    assert_int_equal(world_count(w, IP_C_DROP_BLOCKED_IN), 1);
    assert_int_equal(buffers_used(), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(in_any_order),        T(duplicates_are_ignored), T(overlaps_end_the_datagram),
        T(malformed_fragments), T(largest_datagram),       T(too_many_fragments),
        T(time_runs_out),       T(memory_is_bounded),      T(pf_judges_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
