/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The timer wheel against a plain list that is searched: random operations, seeded.
 */
/* link: eft_tcp */
#include "servers/tcp/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ENTRIES = 300, STEPS = 60000 };

static struct wheel w;
static uint64_t list[ENTRIES]; /* the oracle: when, or WHEEL_NEVER */
static uint64_t seed;

static uint64_t random64(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static void begin(uint64_t now)
{
    assert_int_equal(wheel_init(&w, ENTRIES, now), 0);
    for (unsigned i = 0; i < ENTRIES; i++)
        list[i] = WHEEL_NEVER;
}

static uint64_t earliest(void)
{
    uint64_t at = WHEEL_NEVER;
    for (unsigned i = 0; i < ENTRIES; i++)
        at = list[i] < at ? list[i] : at;
    return at;
}

/* Everything due is popped, nothing else. Returns how often the budget ended. */
static unsigned pop_all(uint64_t now, unsigned budget_each)
{
    unsigned calls = 0;
    for (;;) {
        unsigned budget = budget_each;
        const uint32_t id = wheel_pop(&w, now, &budget);
        if (id != WHEEL_NONE) {
            assert_true(id < ENTRIES);
            assert_true(list[id] <= now);
            assert_int_equal(wheel_at(&w, id), WHEEL_NEVER);
            list[id] = WHEEL_NEVER;
        } else if (budget != 0 || wheel_next(&w) > now) {
            break;
        } else {
            calls++;
        }
    }
    assert_true(earliest() > now);
    return calls;
}

/* Spans from nanoseconds to decades, so that all levels are used. */
static uint64_t span(void)
{
    return random64() >> (random64() % 60 + 4);
}

static void as_a_list_does(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        seed = 1000 + round;
        print_message("seed %llu\n", (unsigned long long)seed);
        uint64_t now = round & 1 ? span() : 0;
        begin(now);
        for (unsigned step = 0; step < STEPS / 8; step++) {
            const uint32_t id = (uint32_t)(random64() % ENTRIES);
            switch (random64() % 8) {
            case 0:
            case 1:
            case 2:
                list[id] = now + span();
                if (list[id] < now || list[id] == WHEEL_NEVER)
                    list[id] = now;
                wheel_put(&w, id, list[id]);
                break;
            case 3: /* overdue */
                list[id] = now - (now > 5000 ? random64() % 5000 : 0);
                wheel_put(&w, id, list[id]);
                break;
            case 4:
            case 5:
                list[id] = WHEEL_NEVER;
                wheel_take(&w, id);
                break;
            case 6: { /* to the deadline, or not so far */
                const uint64_t next = wheel_next(&w);
                if (next != WHEEL_NEVER && next > now)
                    now = random64() % 2 ? next : now + (next - now) / 2;
                pop_all(now, random64() % 2 ? 3 : UINT32_MAX);
                break;
            }
            default: {
                const uint64_t most = UINT64_MAX - now, by = span();
                now += by < most / 2 ? by : most / 2;
                pop_all(now, random64() % 2 ? 1 : UINT32_MAX);
            }
            }
            assert_int_equal(wheel_at(&w, id), list[id]);
            assert_true(wheel_next(&w) <= earliest());
            assert_true((wheel_next(&w) == WHEEL_NEVER) == (earliest() == WHEEL_NEVER));
        }
        wheel_fini(&w);
    }
}

/* One entry two hours ahead: one wake-up, at its time, though it passes through many levels. */
static void an_idle_wheel_sleeps(void **state)
{
    (void)state;
    const uint64_t now = 12345678901ull, at = now + 7200 * 1000000000ull;
    begin(now);
    assert_int_equal(wheel_next(&w), WHEEL_NEVER);
    list[7] = at;
    wheel_put(&w, 7, at);
    assert_int_equal(wheel_next(&w), at);
    pop_all(now + 3600 * 1000000000ull, UINT32_MAX); /* others came and went meanwhile */
    assert_int_equal(wheel_next(&w), at);
    pop_all(at - 1, UINT32_MAX);
    assert_int_equal(wheel_next(&w), at);
    pop_all(at, UINT32_MAX);
    assert_int_equal(list[7], WHEEL_NEVER);
    assert_int_equal(wheel_next(&w), WHEEL_NEVER);
    wheel_put(&w, 7, at + 50);
    wheel_take(&w, 7);
    assert_int_equal(wheel_next(&w), WHEEL_NEVER);
    wheel_fini(&w);
}

/* A slot full of entries is taken apart a few at a time, and nobody is late for it. */
static void a_full_slot_is_no_pause(void **state)
{
    (void)state;
    const uint64_t far = 3600 * 1000000000ull;
    begin(0);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        list[i] = far + i * 1000000ull;
        wheel_put(&w, i, list[i]);
    }
    unsigned budget = 16;
    assert_int_equal(wheel_pop(&w, far, &budget), WHEEL_NONE);
    assert_int_equal(budget, 0);
    assert_true(wheel_next(&w) <= far); /* go on */
    assert_true(pop_all(far, 16) >= 2 * ENTRIES / 16 / 2);
    assert_true(wheel_next(&w) <= far + 1000000ull);
    for (uint64_t now = far; now < far + 400 * 1000000ull; now += 700000)
        pop_all(now, 16);
    assert_int_equal(earliest(), WHEEL_NEVER);
    wheel_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_list_does),
        cmocka_unit_test(an_idle_wheel_sleeps),
        cmocka_unit_test(a_full_slot_is_no_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
