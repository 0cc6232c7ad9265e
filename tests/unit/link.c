/* SPDX-License-Identifier: BSD-2-Clause */
/* link: eft_link */
/*
 * The wire of the link emulator in virtual time: what is lost is what was asked for, the same for
 * the same seed whatever the timing; releases are exact to the nanosecond.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/tools/link.h"

#define MS 1000000ull

static struct link wire;

static int setup(void **state)
{
    (void)state;
    return link_open(&wire, 1);
}
static int teardown(void **state)
{
    (void)state;
    link_close(&wire);
    return 0;
}
static void again(uint64_t seed)
{
    link_close(&wire);
    assert_int_equal(link_open(&wire, seed), 0);
}

static uint16_t ip_sum(const uint8_t *ip)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < 20; i += 2)
        sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* An IPv4 packet with a correct header, or an ARP one (protocol 0); `id` tells it from others. */
static struct link_frame *frame(uint32_t len, uint8_t protocol, uint32_t id)
{
    struct link_frame *f = link_frame(&wire);

    assert_non_null(f);
    memset(f->data, 0, len);
    f->len = len;
    f->data[12] = 0x08;
    f->data[13] = protocol != 0 ? 0x00 : 0x06;
    if (protocol != 0) {
        uint8_t *ip = f->data + 14;

        ip[0] = 0x45;
        ip[8] = 64;
        ip[9] = protocol;
        const uint16_t sum = (uint16_t)~ip_sum(ip);
        ip[10] = (uint8_t)(sum >> 8);
        ip[11] = (uint8_t)sum;
    }
    memcpy(f->data + len - sizeof id, &id, sizeof id);
    return f;
}
static uint32_t id_of(const struct link_frame *f)
{
    uint32_t id;

    memcpy(&id, f->data + f->len - sizeof id, sizeof id);
    return id;
}
static void give(unsigned direction, uint32_t len, uint8_t protocol, uint32_t id, uint64_t now)
{
    assert_int_equal(link_arrive(&wire, direction, frame(len, protocol, id), now), 0);
}
/* The next release happens at `at` and not before, and is frame `id`. */
static void expect(uint64_t at, uint32_t id)
{
    struct link_frame *f;
    unsigned n;

    assert_int_equal(link_next(&wire), at);
    assert_null(link_release(&wire, at - 1, &n));
    f = link_release(&wire, at, &n);
    assert_non_null(f);
    assert_int_equal(id_of(f), id);
    link_free(&wire, f);
}
static struct link_frame *next_frame(unsigned *n)
{
    return link_release(&wire, LINK_NEVER - 1, n);
}

enum { MANY = 100000 };

/* Which of MANY packets came through, given `gap` ns apart with something else in between. */
static void pass(uint64_t seed, uint64_t gap, bool with_others, const char *name, double value,
                 bool *came)
{
    struct link_frame *f;
    unsigned n;

    again(seed);
    assert_true(link_set(&wire, name, value));
    memset(came, 0, MANY * sizeof *came);
    for (uint32_t i = 0; i < MANY; i++) {
        give(0, 100, 6, i, i * gap);
        if (with_others && i % 3 == 0) {
            give(0, 60, 0, UINT32_MAX, i * gap);
            give(0, 60, 1, UINT32_MAX, i * gap);
        }
        while ((f = link_release(&wire, i * gap, &n)) != NULL) {
            if (id_of(f) != UINT32_MAX)
                came[id_of(f)] = true;
            link_free(&wire, f);
        }
    }
}

static void decisions_are_by_seed_and_number(void **state)
{
    static bool a[MANY], b[MANY];
    unsigned differ = 0;

    (void)state;
    pass(7, 1000, false, "loss", 3, a);
    pass(7, 123456, true, "loss", 3, b);
    assert_memory_equal(a, b, sizeof a);
    pass(8, 1000, false, "loss", 3, b);
    for (unsigned i = 0; i < MANY; i++)
        differ += a[i] != b[i];
    assert_true(differ > MANY * 4 / 100); /* 2 * 3 % * 97 % if independent */
}

static void directions_lose_separately(void **state)
{
    unsigned n, both = 0;
    struct link_frame *f;

    (void)state;
    assert_true(link_set(&wire, "loss", 10));
    for (uint32_t i = 0; i < MANY; i++) {
        unsigned came = 0;

        give(0, 60, 6, i, i);
        give(1, 60, 6, i, i);
        for (; (f = link_release(&wire, i, &n)) != NULL; link_free(&wire, f))
            came++;
        both += came == 0;
    }
    /* 1 % if independent; sigma is 32. */
    assert_in_range(both, MANY / 100 - 160, MANY / 100 + 160);
}

/* Five standard deviations of a binomial: a correct wire fails once in a million seeds. */
static void loss_is_what_was_asked_for(void **state)
{
    static const double percent[] = {0.1, 1, 3, 50};
    static const unsigned slack[] = {50, 158, 270, 791};
    static bool came[MANY];

    (void)state;
    for (unsigned i = 0; i < sizeof percent / sizeof percent[0]; i++) {
        const unsigned expected = (unsigned)(MANY * percent[i] / 100);

        pass(42, 10, false, "ab-loss", percent[i], came);
        assert_in_range(wire.direction[0].count.lost, expected - slack[i], expected + slack[i]);
    }
    pass(42, 10, false, "loss", 0, came);
    assert_int_equal(wire.direction[0].count.lost, 0);
    pass(42, 10, false, "loss", 100, came);
    assert_int_equal(wire.direction[0].count.lost, MANY);
}

static void bursts_are_as_long_as_asked_for(void **state)
{
    unsigned bursts = 0, lost = 0, n;
    bool in = false;

    (void)state;
    assert_true(link_set(&wire, "burst-enter", 1));
    assert_true(link_set(&wire, "burst-leave", 25));
    for (uint32_t i = 0; i < MANY; i++) {
        give(0, 60, 6, i, i);
        struct link_frame *f = link_release(&wire, i, &n);
        if (f != NULL)
            link_free(&wire, f);
        bursts += f == NULL && !in;
        lost += f == NULL;
        in = f == NULL;
    }
    /* Gilbert-Elliott: a share enter / (enter + leave) in bursts of 1 / leave on average. */
    assert_in_range(lost, MANY * 0.0385 * 0.85, MANY * 0.0385 * 1.15);
    assert_in_range(lost * 100 / bursts, 370, 430);
}

static void delay_is_exact(void **state)
{
    (void)state;
    assert_true(link_set(&wire, "ab-delay-us", 20000));
    give(0, 100, 6, 1, 5);
    give(1, 100, 6, 2, 6);
    give(0, 100, 6, 3, 5 + 7 * MS);
    expect(6, 2);
    expect(5 + 20 * MS, 1);
    expect(5 + 27 * MS, 3);
    assert_int_equal(link_next(&wire), LINK_NEVER);
    assert_int_equal(wire.direction[0].count.late_max, 0);
}

static void rate_spaces_and_the_queue_drops_its_tail(void **state)
{
    (void)state;
    /* 976 bytes and 24 of the wire at 8 Mbit/s: a millisecond each. */
    assert_true(link_set(&wire, "rate-mbit", 8));
    assert_true(link_set(&wire, "queue", 3));
    assert_true(link_set(&wire, "delay-us", 500));
    for (uint32_t i = 0; i < 5; i++)
        give(0, 976, 6, i, 0);
    assert_int_equal(wire.direction[0].count.overflow, 2);
    give(0, 976, 6, 5, MS); /* the first has left by now */
    give(0, 976, 6, 6, MS);
    assert_int_equal(wire.direction[0].count.overflow, 3);
    assert_int_equal(wire.direction[0].count.queue_most, 3);
    expect(MS + MS / 2, 0);
    expect(2 * MS + MS / 2, 1);
    expect(3 * MS + MS / 2, 2);
    expect(4 * MS + MS / 2, 5);
    give(0, 476, 6, 7, 10 * MS); /* the wire was idle: no credit for that */
    expect(11 * MS, 7);
}

static void queue_counts_bytes(void **state)
{
    (void)state;
    assert_true(link_set(&wire, "rate-mbit", 8));
    assert_true(link_set(&wire, "queue-bytes", 2500));
    give(0, 976, 6, 0, 0);
    give(0, 976, 6, 1, 0);
    give(0, 976, 6, 2, 0); /* would be 2928 */
    give(0, 548, 6, 3, 0); /* 2500: fits */
    assert_int_equal(wire.direction[0].count.overflow, 1);
    expect(MS, 0);
    expect(2 * MS, 1);
    expect(2 * MS + 572000, 3);
}

static void jitter_keeps_the_order(void **state)
{
    uint32_t expected = 0;
    struct link_frame *f;
    unsigned n;

    (void)state;
    assert_true(link_set(&wire, "delay-us", 1000));
    assert_true(link_set(&wire, "jitter-us", 5000));
    for (uint32_t i = 0; i < 1000; i++) {
        give(0, 60, 6, i, i * 1000);
        assert_true(wire.direction[0].last >= MS && wire.direction[0].last < 8 * MS);
    }
    for (; (f = next_frame(&n)) != NULL; link_free(&wire, f))
        assert_int_equal(id_of(f), expected++);
    assert_int_equal(expected, 1000);
}

static void chosen_ones_come_later(void **state)
{
    unsigned n, behind = 0;
    uint32_t most = 0;
    struct link_frame *f;

    (void)state;
    assert_true(link_set(&wire, "delay-us", 10000));
    assert_true(link_set(&wire, "reorder", 2));
    for (uint32_t i = 0; i < MANY; i++)
        give(0, 60, 6, i, i * MS);
    for (uint64_t at; (at = link_next(&wire)) != LINK_NEVER; link_free(&wire, f)) {
        f = next_frame(&n);
        const uint64_t late = at - id_of(f) * MS - 10 * MS; /* none, or half of the delay */

        assert_true(late == 0 || late == 5 * MS);
        if (id_of(f) < most) {
            behind++;
            assert_int_equal(late, 5 * MS);
        } else {
            most = id_of(f);
        }
    }
    /* The last few have nobody to be passed by. */
    assert_in_range(behind, wire.direction[0].count.reordered - 5,
                    wire.direction[0].count.reordered);
    assert_in_range(behind, MANY * 2 / 100 - 221, MANY * 2 / 100 + 221);
}

static void duplicates_are_two_of_a_kind(void **state)
{
    unsigned n, came = 0;
    struct link_frame *f;

    (void)state;
    assert_true(link_set(&wire, "ba-dup", 100));
    for (uint32_t i = 0; i < 100; i++)
        give(1, 60, 6, i, i);
    for (; (f = next_frame(&n)) != NULL; link_free(&wire, f))
        assert_int_equal(id_of(f), came++ / 2);
    assert_int_equal(came, 200);
}

static void corruption_turns_one_bit_of_ip(void **state)
{
    unsigned n;

    (void)state;
    assert_true(link_set(&wire, "corrupt", 100));
    for (uint32_t i = 0; i < 1000; i++) {
        struct link_frame *whole = frame(60, 6, i), *f;
        unsigned bits = 0;

        give(0, 60, 6, i, i);
        f = next_frame(&n);
        assert_memory_equal(f->data, whole->data, 14);
        for (unsigned b = 0; b < 60; b++)
            bits += (unsigned)__builtin_popcount(f->data[b] ^ whole->data[b]);
        assert_int_equal(bits, 1);
        link_free(&wire, f);
        link_free(&wire, whole);
    }
    give(0, 60, 0, 0, 1000); /* nobody could tell */
    assert_int_equal(wire.direction[0].count.corrupted, 1000);
}

static void a_long_queue_marks_what_can_be_marked(void **state)
{
    static const uint8_t tos[] = {0x02, 0x00, 0x01, 0x03, 0xb9};
    static const uint8_t after[] = {0x03, 0x00, 0x03, 0x03, 0xbb};
    unsigned n;

    (void)state;
    assert_true(link_set(&wire, "rate-mbit", 8));
    assert_true(link_set(&wire, "mark", 1));
    give(0, 976, 6, 0, 0);
    for (unsigned i = 0; i < sizeof tos; i++) {
        struct link_frame *f = frame(976, 6, i);
        uint8_t *ip = f->data + 14;

        ip[1] = tos[i];
        ip[10] = ip[11] = 0;
        const uint16_t sum = (uint16_t)~ip_sum(ip);
        ip[10] = (uint8_t)(sum >> 8);
        ip[11] = (uint8_t)sum;
        assert_int_equal(link_arrive(&wire, 0, f, 0), 0);
    }
    link_free(&wire, next_frame(&n));
    for (unsigned i = 0; i < sizeof tos; i++) {
        struct link_frame *f = next_frame(&n);

        assert_int_equal(f->data[15], after[i]);
        assert_int_equal(ip_sum(f->data + 14), 0xffff);
        link_free(&wire, f);
    }
    assert_int_equal(wire.direction[0].count.marked, 4);
}

static void conditions_have_names(void **state)
{
    (void)state;
    assert_true(link_set(&wire, "loss", 1));
    assert_true(link_set(&wire, "ba-loss", 2));
    assert_true(wire.direction[0].with.loss == 1 && wire.direction[1].with.loss == 2);
    assert_false(link_set(&wire, "lose", 1));
    assert_false(link_set(&wire, "ab-", 1));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(decisions_are_by_seed_and_number),
        T(directions_lose_separately),
        T(loss_is_what_was_asked_for),
        T(bursts_are_as_long_as_asked_for),
        T(delay_is_exact),
        T(rate_spaces_and_the_queue_drops_its_tail),
        T(queue_counts_bytes),
        T(jitter_keeps_the_order),
        T(chosen_ones_come_later),
        T(duplicates_are_two_of_a_kind),
        T(corruption_turns_one_bit_of_ip),
        T(a_long_queue_marks_what_can_be_marked),
        T(conditions_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
