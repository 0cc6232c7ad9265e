/* SPDX-License-Identifier: BSD-2-Clause */
/* link: eft_chan_cp eft_harness_cp */
/*
 * Queues: order, full, reset, and exactly once over a crash of a relay at every store that it
 * makes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "libchan/edge/packet.h"
#include "libchan/edge/pf_ip.h"
#include "tests/harness/memory.h"

#define IP SERVER_ID(SERVER_IP, 0)
#define PF SERVER_ID(SERVER_PF, 0)

static jmp_buf crashed;
static long crash_at = -1, stores;

void shm_crashpoint(const char *file, int line)
{
    (void)file;
    (void)line;
    if (crash_at >= 0 && stores++ == crash_at)
        longjmp(crashed, 1);
}

static struct stack_config cfg;
static struct region_map *map;

static int setup(void **state)
{
    (void)state;
    map = calloc(1, sizeof *map);
    memory_config(&cfg);
    cfg.queue_slots = 8; /* questions and verdicts: 16 */
    memory_create(map, &cfg);
    crash_at = -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    memory_destroy(map);
    free(map);
    return 0;
}

static struct region *region_of(server_id id)
{
    return &map->entry[REGION_OF_SERVER(id)];
}

/* ip -> pf -> ip: pf is the relay, with the real edges. */
static void ends(struct chan_tx *question, struct chan_rx *verdict)
{
    assert_int_equal(
        chan_tx_attach(question, region_of(IP), region_of(PF), EDGE_IP_PF, IP, PF, 1, NULL), 0);
    assert_int_equal(
        chan_rx_attach(verdict, region_of(IP), region_of(PF), EDGE_PF_IP, IP, PF, NULL), 0);
}

static void relay_ends(struct chan_rx *in, struct chan_tx *out, uint64_t epoch)
{
    assert_int_equal(chan_rx_attach(in, region_of(PF), region_of(IP), EDGE_IP_PF, PF, IP, NULL), 0);
    assert_int_equal(
        chan_tx_attach(out, region_of(PF), region_of(IP), EDGE_PF_IP, PF, IP, epoch, NULL), 0);
}

static bool ask(struct chan_tx *tx, uint32_t chain)
{
    struct packet p = {.chain = chain};
    void *slot;

    if (chan_tx_reserve(tx, 0, chain, 0, &slot) != CHAN_OK)
        return false;
    packet_put(slot, &p);
    chan_tx_commit(tx);
    chan_tx_publish(tx);
    return true;
}

/* Two outputs for each input, so that a crash may fall between them. */
static void relay(struct chan_rx *in, struct chan_tx *out, unsigned quota)
{
    const void *slot;

    while (quota-- > 0 && (slot = chan_rx_peek(in)) != NULL) {
        struct packet p;
        void *to;

        assert_true(packet_copy(&p, slot));
        for (uint16_t sub = 0; sub < 2; sub++) {
            const int rc = chan_tx_reserve(out, in->number, chan_rx_index(in), sub, &to);

            if (rc == CHAN_FULL)
                goto done; /* the first output is there already: it will be a duplicate then */
            if (rc == CHAN_DUP)
                continue;
            const struct pf_verdict v = {.rules_generation = p.chain, .rule = sub};
            shm_copy((struct slot_head *)to + 1, (const struct slot_head *)&v + 1,
                     sizeof v - sizeof v.head);
            chan_tx_commit(out);
        }
        chan_rx_next(in);
    }
done:
    chan_tx_publish(out);
    chan_rx_release(in);
}

static void order_and_provenance(void **state)
{
    struct chan_tx question, out;
    struct chan_rx verdict, in;
    const struct pf_verdict *v;

    (void)state;
    ends(&question, &verdict);
    relay_ends(&in, &out, 1);
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(ask(&question, i));
        relay(&in, &out, 8);
        for (uint16_t sub = 0; sub < 2; sub++) {
            v = chan_rx_peek(&verdict);
            assert_non_null(v);
            assert_int_equal(v->head.src_index, i);
            assert_int_equal(v->head.src_sub, sub);
            assert_int_equal(v->rules_generation, i);
            chan_rx_next(&verdict);
        }
        assert_null(chan_rx_peek(&verdict));
        chan_rx_release(&verdict);
    }
}

/* An odd number of verdicts fits when the reader took one: the second output of an input finds the
 * queue full, and the whole input is handled again later. */
static void input_is_handled_again_when_its_second_output_finds_no_room(void **state)
{
    struct chan_tx question, out;
    struct chan_rx verdict, in;
    const struct pf_verdict *v;
    uint32_t expected = 0;

    (void)state;
    ends(&question, &verdict);
    relay_ends(&in, &out, 1);
    for (uint32_t i = 0; i < 16; i++)
        assert_true(ask(&question, i));
    while (expected < 32) {
        relay(&in, &out, 16);
        v = chan_rx_peek(&verdict);
        assert_non_null(v);
        assert_int_equal(v->rules_generation * 2 + v->rule, expected);
        expected++;
        chan_rx_next(&verdict);
        chan_rx_release(&verdict);
    }
    assert_null(chan_rx_peek(&verdict));
}

static void full_queue_keeps_and_asks_to_be_rung(void **state)
{
    struct chan_tx question;
    struct chan_rx verdict, in;
    struct chan_tx out;
    uint32_t n = 0;

    (void)state;
    ends(&question, &verdict);
    relay_ends(&in, &out, 1);
    while (ask(&question, n))
        n++;
    assert_int_equal(n, 16);
    assert_int_equal(question.out->want, 1);
    assert_int_equal(question.full, 1);
    assert_non_null(chan_rx_peek(&in));
    chan_rx_next(&in);
    chan_rx_release(&in);
    assert_true(ask(&question, n));
    assert_int_equal(question.out->want, 0);
}

/* A successor of the producer must not believe a head that cannot be: it would think that slots
 * were consumed which nobody has seen. */
static void successor_does_not_believe_an_impossible_head(void **state)
{
    struct chan_tx question, out, successor;
    struct chan_rx verdict, in;

    (void)state;
    ends(&question, &verdict);
    relay_ends(&in, &out, 1);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(ask(&question, i));
        if (i < 10) {
            assert_non_null(chan_rx_peek(&in));
            chan_rx_next(&in);
            chan_rx_release(&in);
        }
    }
    in.in->head = 1ull << 50;
    assert_int_equal(
        chan_tx_attach(&successor, region_of(IP), region_of(PF), EDGE_IP_PF, IP, PF, 2, NULL), 0);
    assert_true(successor.head <= 10);
    assert_true(chan_tx_consumed(&successor) <= 10);
}

/* The property of the module: whatever store the relay dies before, its successor goes on so that
 * the reader sees every output once and in order. */
static void relay_crashes_at_every_store(void **state)
{
    volatile long points = 0;

    for (volatile long at = 0;; at++) {
        struct chan_tx question, out;
        struct chan_rx verdict, in;
        volatile uint64_t epoch = 1;
        volatile uint32_t asked = 0;
        volatile uint32_t expected = 0;
        volatile bool hit = false;
        const struct pf_verdict *v;

        setup(state);
        ends(&question, &verdict);
        while (expected < 2 * 24) {
            crash_at = -1;
            while (asked < 24 && ask(&question, asked))
                asked++;
            if (!hit) {
                crash_at = at;
                stores = 0;
            }
            if (setjmp(crashed) == 0) {
                relay_ends(&in, &out, epoch);
                for (unsigned turn = 0; turn < 3; turn++)
                    relay(&in, &out, 3);
            } else {
                hit = true;
                epoch++;
                crash_at = -1;
                continue; /* the successor attaches at the top */
            }
            crash_at = -1;
            while ((v = chan_rx_peek(&verdict)) != NULL) {
                assert_int_equal(v->rules_generation, expected / 2);
                assert_int_equal(v->rule, expected % 2);
                expected++;
                chan_rx_next(&verdict);
            }
            chan_rx_release(&verdict);
        }
        teardown(state);
        if (!hit)
            break;
        points++;
    }
    print_message("%ld crash points\n", points);
    assert_true(points > 30);
    setup(state);
}

static void impossible_tail_resets_the_edge(void **state)
{
    struct chan_tx question, out;
    struct chan_rx verdict, in;

    (void)state;
    ends(&question, &verdict);
    relay_ends(&in, &out, 1);
    ask(&question, 1);
    question.out->tail += 1ull << 40; /* a wild store in the producer's region */
    assert_null(chan_rx_peek(&in));
    assert_int_equal(in.resets, 1);
    assert_null(chan_rx_peek(&in)); /* until the producer follows */
    question.published = question.tail = question.out->tail;
    assert_false(ask(&question, 2)); /* notices, follows */
    assert_null(chan_rx_peek(&in));  /* adopts */
    assert_true(ask(&question, 3));
    const struct packet *p = chan_rx_peek(&in);
    assert_non_null(p);
    assert_int_equal(p->chain, 3);
    assert_false(question.head > question.tail);
}

/* A wild store that the producer itself does not know of: its next message ends it. */
static void foreign_tail_resets_the_edge(void **state)
{
    struct chan_tx question, out;
    struct chan_rx verdict, in;

    (void)state;
    ends(&question, &verdict);
    relay_ends(&in, &out, 1);
    ask(&question, 1);
    question.out->tail += 1ull << 32;
    assert_null(chan_rx_peek(&in));
    assert_int_equal(in.resets, 1);
    assert_true(ask(&question, 2)); /* lost, as all that the consumer may have misunderstood */
    assert_int_equal(question.resets, 1);
    assert_null(chan_rx_peek(&in)); /* adopts */
    assert_true(ask(&question, 3));
    const struct packet *p = chan_rx_peek(&in);
    assert_non_null(p);
    assert_int_equal(p->chain, 3);
}

static void impossible_head_resets_the_edge(void **state)
{
    struct chan_tx question, out;
    struct chan_rx verdict, in;

    (void)state;
    ends(&question, &verdict);
    relay_ends(&in, &out, 1);
    for (uint32_t i = 0; i < 16; i++)
        ask(&question, i);
    in.in->head = 1ull << 50;
    assert_false(
        ask(&question, 16)); /* full by its cache, looks, finds nonsense, asks for a reset */
    assert_null(chan_rx_peek(&in) ? chan_rx_peek(&in) : NULL);
    for (unsigned i = 0; i < 20;
         i++) { /* the consumer runs out of what it had cached and follows */
        if (chan_rx_peek(&in) != NULL)
            chan_rx_next(&in);
    }
    chan_rx_release(&in);
    assert_true(ask(&question, 17) || ask(&question, 17));
    const struct packet *p = chan_rx_peek(&in);
    assert_non_null(p);
    assert_int_equal(p->chain, 17);
}

static void garbage_packets_are_refused(void **state)
{
    struct packet good = {
        .hdr_len = 40, .l3 = 0, .l4 = 20, .pieces = 1, .payload_len = 5, .piece = {{.len = 5}}};
    struct packet bad, copy;

    (void)state;
    assert_true(packet_copy(&copy, &good));
    bad = good, bad.hdr_len = PACKET_HEADERS + 1;
    assert_false(packet_copy(&copy, &bad));
    bad = good, bad.l4 = 41;
    assert_false(packet_copy(&copy, &bad));
    bad = good, bad.pieces = 5;
    assert_false(packet_copy(&copy, &bad));
    bad = good, bad.payload_len = 6;
    assert_false(packet_copy(&copy, &bad));
    bad = good, bad.pieces = 2, bad.piece[0].len = 0xffffffff, bad.piece[1].len = 6;
    assert_false(packet_copy(&copy, &bad)); /* the sum must not wrap to 5 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(order_and_provenance, setup, teardown),
        cmocka_unit_test_setup_teardown(input_is_handled_again_when_its_second_output_finds_no_room,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(full_queue_keeps_and_asks_to_be_rung, setup, teardown),
        cmocka_unit_test_setup_teardown(successor_does_not_believe_an_impossible_head, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(relay_crashes_at_every_store, NULL, teardown),
        cmocka_unit_test_setup_teardown(impossible_tail_resets_the_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_tail_resets_the_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(impossible_head_resets_the_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_packets_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests_name("chan", tests, NULL, NULL);
}
