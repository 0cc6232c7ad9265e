/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A frame, a packet to send, a question or a verdict that brings ip or pf down each time: it alone
 * is dropped after the third time, its frame or chain comes back, and it is kept for inspection.
 */
/* link: eft_ip_cp eft_pf_cp */
#include "tests/unit/ip_world.h"

#include <setjmp.h>

#include <cmocka.h>

#include "tests/unit/poison.h"

static struct world *w;
static struct component *target;

static void successor(enum rs_end end)
{
    target->predecessor = end;
    target->neighbours = 0;
    memset(target->state, 0, target->ops->size);
    quarantine_blame(target->block, end, 0, w->now);
    world_start(w, target);
}

static void work(void)
{
    world_run(w);
}

static void faults_on(struct component *c, unsigned input)
{
    target = c;
    poison_run(c->block, input, work, successor);
    assert_int_equal(poison.faults, 3);
    poison_copy(world_region(w, c->id));
}

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

static unsigned returned(void)
{
    struct frame_return r;
    unsigned n = 0;

    while (world_take_return(&w->driver[0].returned, &r))
        n++;
    return n;
}

static unsigned arrived(void)
{
    struct packet p;
    unsigned n = 0;

    while (world_take(&w->tcp.from_ip, &p))
        n++;
    return n;
}

static void segment_comes(uint32_t seq)
{
    uint8_t frame[2048], l4[1024];
    const struct ipv4 h = {.protocol = PROTO_TCP, .src = PEER, .dst = OURS};

    world_frame(w, 0, frame, make_ipv4(frame, &h, l4, make_tcp(l4, 80, 81, seq, 100)));
}

/* Number of an input of ip, as the directory has it. */
static unsigned input_of(const struct component *c, enum edge e, server_id from)
{
    struct chan_rx rx;

    assert_int_equal(
        chan_rx_attach(&rx, world_region(w, c->id), world_region(w, from), e, c->id, from, NULL),
        0);
    return rx.number;
}

static void frame_is_dropped(void **state)
{
    (void)state;
    segment_comes(1);
    segment_comes(2);
    faults_on(w->ip, input_of(w->ip, EDGE_DRIVER_IP, DRIVER(0)));
    assert_int_equal(world_count(w, IP_C_DROP_QUARANTINE), 1);
    assert_int_equal(returned(), 1);
    assert_int_equal(arrived(), 1);
}

static void verdict_is_dropped(void **state)
{
    (void)state;
    segment_comes(1);
    segment_comes(2);
    faults_on(w->ip, input_of(w->ip, EDGE_PF_IP, PF));
    assert_int_equal(world_count(w, IP_C_DROP_QUARANTINE), 1);
    assert_int_equal(returned(), 1);
    assert_int_equal(arrived(), 1);
}

static void packet_to_send_is_dropped(void **state)
{
    struct packet p;

    (void)state;
    world_tcp_send(w, PEER, 81, 1000, 3, 1, 100, 0);
    world_tcp_send(w, PEER, 81, 1100, 4, 1, 100, 0);
    faults_on(w->ip, input_of(w->ip, EDGE_TCP_IP, TCP));
    assert_int_equal(world_count(w, IP_C_DROP_QUARANTINE), 1);
    assert_int_equal(world_tcp_done(w, 3), 1); /* tcp gets its bytes back, and sends them again */
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(p.chain, 4);
    assert_false(world_take(&w->driver[0].from_ip, &p));
}

static void question_is_blocked(void **state)
{
    (void)state;
    segment_comes(1);
    segment_comes(2);
    faults_on(w->pf, input_of(w->pf, EDGE_IP_PF, IP));
    assert_int_equal(returned(), 1); /* never open: what cannot be judged does not pass */
    assert_int_equal(arrived(), 1);
}

/* A packet at each place where one can wait: all go back to where they came from. */
static void cold_start_drops_all_and_leaks_nothing(void **state)
{
    struct packet p;

    (void)state;
    segment_comes(1);
    world_tcp_send(w, PEER, 81, 1000, 3, 1, 100, 0);
    component_turn(w->ip, w->now); /* both are questions now */
    segment_comes(2);
    world_tcp_send(w, PEER, 81, 1100, 4, 1, 100, 0);
    target = w->ip;
    w->ip->start = START_FRUGAL | START_COLD;
    w->ip->block->cold = 1;
    successor(END_FAULT);
    w->ip->start = 0;
    w->ip->block->cold = 0;
    world_run(w);
    assert_int_equal(returned(), 2);
    assert_int_equal(arrived(), 0);
    assert_int_equal(world_tcp_done(w, 3), 1);
    assert_int_equal(world_tcp_done(w, 4), 1);
    assert_false(wiring_block(world_region(w, IP))->dropped);
    while (world_take(&w->driver[0].from_ip, &p))
        assert_int_not_equal(get16(p.hdr + 12), ETH_IPV4);
    /* The neighbour is asked for again, and all is as before. */
    segment_comes(3);
    world_tcp_send(w, PEER, 81, 1200, 5, 1, 100, 0);
    world_introduce(w, PEER, peer_mac);
    world_run(w);
    assert_int_equal(arrived(), 1);
    bool sent = false;
    while (world_take(&w->driver[0].from_ip, &p))
        sent |= get16(p.hdr + 12) == ETH_IPV4 && p.chain == 5;
    assert_true(sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frame_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(verdict_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(packet_to_send_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(question_is_blocked, setup, teardown),
        cmocka_unit_test_setup_teardown(cold_start_drops_all_and_leaks_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
