/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Records of what is under way, against an array with one entry per byte.
 */
/* link: eft_tcp */
#include "servers/tcp/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SPAN = 4000, MSS = 10 };

static struct tcp t;
static struct tcp_conn k;
static struct { /* by offset modulo SPAN */
    uint8_t state;
    bool again;
    uint64_t at;
} byte[SPAN];

static uint64_t rng = 1;

static uint64_t below(uint64_t n)
{
    rng += 0x9e3779b97f4a7c15ull;
    uint64_t z = rng;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % n;
}

static struct tcp_sent *at(uint32_t id)
{
    return sent_of(&t.sent, id);
}

/* Every relation of sent.h. */
static void check(bool times)
{
    uint64_t off = k.tx_una, sum[3] = {0}, before = 0;
    uint32_t n = 0, prev = SENT_NONE, lists = 0;
    for (uint32_t id = k.sent.seq.first; id != SENT_NONE; prev = id, id = at(id)->seq_next) {
        const struct tcp_sent *r = at(id);
        assert_int_equal(r->start, off);
        assert_int_equal(r->seq_prev, prev);
        assert_true(r->end > r->start);
        assert_ptr_equal(tcp_sent_find(&t, &k, r->start), r);
        assert_ptr_equal(tcp_sent_find(&t, &k, r->end - 1), r);
        if (prev && r->state == SENT_SACKED)
            assert_int_not_equal(at(prev)->state, SENT_SACKED);
        for (; off < r->end; off++) {
            assert_int_equal(byte[off % SPAN].state, r->state);
            if (r->state != SENT_SACKED && times) {
                assert_int_equal(byte[off % SPAN].at, r->at);
                assert_int_equal(byte[off % SPAN].again, r->again);
            }
        }
        sum[r->state] += r->end - r->start;
        n++;
    }
    assert_int_equal(off, k.snd_max);
    assert_int_equal(k.sent.seq.last, prev);
    assert_int_equal(n, k.sent.n);
    assert_int_equal(n, t.sent.used);
    assert_int_equal(sum[SENT_OUT], k.sent.out_bytes);
    assert_int_equal(sum[SENT_LOST], k.sent.lost_bytes);
    assert_int_equal(sum[SENT_SACKED], k.sent.sacked_bytes);
    for (uint32_t id = k.sent.out.first; id != SENT_NONE; id = at(id)->list_next, lists++) {
        assert_int_equal(at(id)->state, SENT_OUT);
        assert_true(at(id)->at >= before || !times);
        before = at(id)->at;
    }
    for (uint32_t id = k.sent.lost.first; id != SENT_NONE; id = at(id)->list_next, lists++)
        assert_int_equal(at(id)->state, SENT_LOST);
    for (uint32_t id = k.sent.seq.first; id != SENT_NONE; id = at(id)->seq_next)
        lists += at(id)->state == SENT_SACKED;
    assert_int_equal(lists, n);
    if (sum[SENT_SACKED] == 0)
        assert_int_equal(k.sent.sacked_segs, 0);
}

static void set(const struct tcp_sent *r, enum sent_state state)
{
    for (uint64_t i = r->start; i < r->end; i++)
        byte[i % SPAN].state = (uint8_t)state;
}

static struct tcp_sent *any(void)
{
    uint64_t span = k.snd_max - k.tx_una;
    return span ? tcp_sent_find(&t, &k, k.tx_una + below(span)) : NULL;
}

static void step(void)
{
    struct tcp_sent *r = any();
    t.now += below(3);
    switch (below(8)) {
    case 0:
    case 1: {
        uint64_t len = 1 + below(5 * MSS);
        if (k.snd_max + len - k.tx_una > SPAN)
            break;
        assert_true(tcp_sent_ready(&t));
        tcp_sent_add(&t, &k, k.snd_max, k.snd_max + len);
        for (uint64_t i = 0; i < len; i++) {
            byte[(k.snd_max + i) % SPAN].state = SENT_OUT;
            byte[(k.snd_max + i) % SPAN].at = t.now;
            byte[(k.snd_max + i) % SPAN].again = false;
        }
        k.snd_max += len;
        /* Merged with the one before: the later time counts for all of it. */
        r = at(k.sent.seq.last);
        for (uint64_t i = r->start; i < r->end; i++)
            byte[i % SPAN].at = r->at;
        break;
    }
    case 2:
        if (r != NULL && r->end - r->start > 1)
            assert_non_null(tcp_sent_cut(&t, &k, r, r->start + 1 + below(r->end - r->start - 1)));
        if (r != NULL && r->state == SENT_SACKED) { /* nobody does that: put it together */
            r = at(r->seq_next);
            if (r != NULL && r->state == SENT_SACKED)
                tcp_sent_mark_sacked(&t, &k, r);
        }
        break;
    case 3:
        if (r != NULL && r->state != SENT_SACKED) {
            set(r, SENT_SACKED);
            r = tcp_sent_mark_sacked(&t, &k, r);
            assert_int_equal(r->state, SENT_SACKED);
        }
        break;
    case 4:
        if (r != NULL && r->state == SENT_OUT) {
            set(r, SENT_LOST);
            tcp_sent_mark_lost(&t, &k, r);
        }
        break;
    case 5:
        r = at(k.sent.lost.first);
        if (r != NULL) {
            for (uint64_t i = r->start; i < r->end; i++) {
                byte[i % SPAN].state = SENT_OUT;
                byte[i % SPAN].at = t.now;
                byte[i % SPAN].again = true;
            }
            tcp_sent_again(&t, &k, r);
        }
        break;
    default: {
        uint64_t to = k.tx_una + below(k.snd_max - k.tx_una + 1) / 4;
        while ((r = at(k.sent.seq.first)) != NULL && r->start < to)
            tcp_sent_trim(&t, &k, to < r->end ? to : r->end);
        k.tx_una = to;
    }
    }
}

static void begin(void)
{
    memset(&k, 0, sizeof k);
    k.mss = MSS;
    t.now = 1000;
}

static void random_operations(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 0; i < 60000; i++) {
        step();
        check(true);
    }
    tcp_sent_clear(&t, &k);
    assert_int_equal(t.sent.used, 0);
}

static void all_lost_and_back(void **state)
{
    (void)state;
    begin();
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 60; i++)
            step();
        bool sacked_too = below(2);
        for (uint64_t i = k.tx_una; i < k.snd_max; i++)
            if (byte[i % SPAN].state == SENT_OUT || sacked_too)
                byte[i % SPAN].state = SENT_LOST;
        tcp_sent_mark_all_lost(&t, &k, sacked_too);
        /* SACKed records know no single time. */
        check(false);
        if (k.sent.n)
            assert_true(!sacked_too || k.sent.lost.first == k.sent.seq.first);
        for (uint64_t i = k.tx_una; i < k.snd_max; i++)
            if (byte[i % SPAN].state == SENT_LOST)
                byte[i % SPAN].state = SENT_OUT;
        tcp_sent_unmark_lost(&t, &k);
        check(false);
        tcp_sent_clear(&t, &k);
        k.tx_una = k.snd_max;
        check(true);
    }
}

/* A program that writes single bytes: few records, and none that is lost too early. */
static void single_bytes(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 0; i < 2000; i++) {
        t.now++;
        assert_true(tcp_sent_ready(&t));
        tcp_sent_add(&t, &k, k.snd_max, k.snd_max + 1);
        k.snd_max++;
    }
    assert_true(k.sent.n <= 64 + 2000 / MSS + 1);
    assert_int_equal(k.sent.out_bytes, 2000);
    assert_int_equal(at(k.sent.seq.last)->at, t.now);
    assert_true(tcp_sent_few(&k));
    tcp_sent_clear(&t, &k);
}

static void slab_grows_and_is_used_again(void **state)
{
    (void)state;
    begin();
    k.mss = 1;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3 * SENT_CHUNK; i++) {
            assert_true(tcp_sent_ready(&t));
            tcp_sent_add(&t, &k, k.snd_max, k.snd_max + 1);
            k.snd_max++;
        }
        assert_int_equal(t.sent.chunks, 4); /* record 0 is none */
        while (k.sent.n)
            tcp_sent_trim(&t, &k, at(k.sent.seq.first)->end);
        k.tx_una = k.snd_max;
        assert_int_equal(t.sent.used, 0);
    }
    tcp_sent_fini(&t.sent);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rng = strtoull(argv[1], NULL, 0);
    printf("seed %lu\n", (unsigned long)rng);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
        cmocka_unit_test(all_lost_and_back),
        cmocka_unit_test(single_bytes),
        cmocka_unit_test(slab_grows_and_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
