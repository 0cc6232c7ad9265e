/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The hang detector: convicts what hangs, and nobody else.
 */
/* link: eft_rs */
#include "recovery/rs/hang.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct world {
    struct hang h;
    struct hang_sample s;
    uint64_t now;
};

static enum hang_verdict look(struct world *w)
{
    w->now += hang_suspected(&w->h) ? HANG_CLOSE_NS : HANG_PERIOD_NS;
    return hang_step(&w->h, &w->s, w->now);
}

/* Looks until a verdict other than HANG_FINE, at most n times; `cpu` and `delay` grow per look. */
static unsigned looks_until(struct world *w, enum hang_verdict v, unsigned n, uint64_t cpu,
                            uint64_t delay)
{
    for (unsigned i = 1; i <= n; i++) {
        w->s.cpu_ns += cpu;
        w->s.run_delay_ns += delay;
        if (look(w) == v)
            return i;
    }
    return 0;
}

static struct world busy_world(void)
{
    struct world w = {.s = {.work = true, .state = 'S', .turns = 7}};

    assert_int_equal(look(&w), HANG_FINE); /* the first look only remembers */
    return w;
}

static void idle_is_fine(void **state)
{
    struct world w = {.s = {.asleep = true, .state = 'S'}};

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(look(&w), HANG_FINE);
}

static void working_is_fine(void **state)
{
    struct world w = {.s = {.work = true, .state = 'R'}};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        w.s.turns++;
        w.s.cpu_ns += HANG_PERIOD_NS;
        assert_int_equal(look(&w), HANG_FINE);
    }
}

static void waiting_for_a_neighbour_is_rung_and_fine(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.asleep = true;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(look(&w), HANG_RING);
        w.s.turns++; /* it woke, could do nothing, and sleeps again */
        assert_int_equal(look(&w), HANG_FINE);
    }
}

static void endless_loop_is_killed(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.state = 'R';
    assert_int_equal(look(&w), HANG_RING);
    unsigned n = looks_until(&w, HANG_KILL, 100, HANG_CLOSE_NS, 0);
    assert_int_equal(n, HANG_CPU_NS / HANG_CLOSE_NS);
    /* from the last turn on, at most two periods and what it is given */
    assert_true(2 * HANG_PERIOD_NS + n * HANG_CLOSE_NS <= 100000000);
}

static void endless_loop_without_work_is_killed(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.work = false; /* asleep is 0: it is in a turn */
    w.s.state = 'R';
    assert_int_equal(look(&w), HANG_RING);
    assert_true(looks_until(&w, HANG_KILL, 100, HANG_CLOSE_NS, 0) > 0);
}

static void blocked_is_killed(void **state)
{
    struct world w = busy_world();

    (void)state;
    assert_int_equal(look(&w), HANG_RING);
    unsigned n = looks_until(&w, HANG_KILL, 100, 0, 0);
    assert_int_equal(n, HANG_SLEEP_NS / HANG_CLOSE_NS);
    assert_true(2 * HANG_PERIOD_NS + n * HANG_CLOSE_NS <= 100000000);
}

static void waiting_for_the_kernel_is_given_time(void **state)
{
    struct world w = busy_world();

    (void)state;
    assert_int_equal(look(&w), HANG_RING);
    w.s.state = 'D';
    assert_int_equal(looks_until(&w, HANG_KILL, 1000, 0, 0), HANG_KERNEL_NS / HANG_CLOSE_NS);
}

static void whom_a_debugger_has_stopped_is_left_alone(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.state = 't';
    assert_int_equal(looks_until(&w, HANG_KILL, 1000, 0, 0), 0);
    w.s.state = 'S'; /* it lets go: the clock begins */
    assert_int_equal(looks_until(&w, HANG_KILL, 1000, 0, 0), HANG_SLEEP_NS / HANG_CLOSE_NS);
}

static void stopped_with_work_is_killed_at_once(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.state = 'T';
    assert_int_equal(look(&w), HANG_KILL);
}

static void stopped_without_work_is_left_alone(void **state)
{
    struct world w = {.s = {.asleep = true, .state = 'T'}};

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(look(&w), HANG_FINE);
}

static void busy_machine_is_no_hang(void **state)
{
    struct world w = busy_world();

    (void)state;
    /* ready to run for a second, with one percent of a processor */
    assert_int_equal(look(&w), HANG_RING);
    w.s.state = 'R';
    assert_int_equal(looks_until(&w, HANG_KILL, 200, HANG_CLOSE_NS / 100, 0), 0);
    /* the same, seen between two waits */
    w = busy_world();
    assert_int_equal(look(&w), HANG_RING);
    assert_int_equal(looks_until(&w, HANG_KILL, 200, HANG_CLOSE_NS / 100, HANG_CLOSE_NS), 0);
}

static void a_turn_clears_the_suspicion(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.state = 'R';
    assert_int_equal(look(&w), HANG_RING);
    assert_int_equal(looks_until(&w, HANG_KILL, 5, HANG_CLOSE_NS, 0), 0);
    w.s.turns++;
    assert_int_equal(look(&w), HANG_FINE);
    assert_int_equal(look(&w), HANG_RING); /* from the beginning */
    assert_int_equal(looks_until(&w, HANG_KILL, 100, HANG_CLOSE_NS, 0),
                     HANG_CPU_NS / HANG_CLOSE_NS);
}

/* --- turns, and nothing moves --- */

static struct world ticking_world(void)
{
    struct world w = {
        .s = {.work = true, .waiting = true, .state = 'R', .turns = 7, .moved = 1000}};

    assert_int_equal(look(&w), HANG_FINE);
    return w;
}

/* Looks with so many turns in between, until it is killed. */
static unsigned ticks_until_killed(struct world *w, unsigned n, unsigned turns)
{
    for (unsigned i = 1; i <= n; i++) {
        w->s.turns += turns;
        if (look(w) == HANG_KILL)
            return i;
    }
    return 0;
}

static void livelock_that_ticks_is_killed(void **state)
{
    struct world w = ticking_world();
    const uint64_t begin = w.now;

    (void)state;
    assert_true(ticks_until_killed(&w, 100, 50) > 0);
    assert_true(w.now - begin <= 100000000);
}

static void it_sleeps_with_work_and_is_killed(void **state)
{
    struct world w = ticking_world();

    (void)state;
    w.s.asleep = true;
    w.s.work = true;
    assert_true(ticks_until_killed(&w, 100, 1) > 0); /* one turn for each ring */
}

static void few_turns_are_no_livelock(void **state)
{
    struct world w = ticking_world();

    (void)state;
    for (unsigned i = 0; i < HANG_STUCK_TURNS; i++) {
        w.s.turns++;
        assert_int_not_equal(look(&w), HANG_KILL);
        w.s.cpu_ns++;
        for (unsigned k = 0; k < 20; k++) { /* a long wait for a processor in between */
            w.s.run_delay_ns += HANG_CLOSE_NS;
            assert_int_not_equal(look(&w), HANG_KILL);
        }
    }
}

static void excuses_stop_the_clock(void **state)
{
    struct world w = ticking_world();

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        w.s.excused = i % 10 == 9;
        assert_int_equal(ticks_until_killed(&w, 1, 1), 0);
    }
    w.s.excused = true;
    assert_int_equal(ticks_until_killed(&w, 1000, 50), 0);
    w.s.excused = false;
    assert_true(ticks_until_killed(&w, 100, 50) > 0);
}

static void movement_of_any_queue_is_life(void **state)
{
    struct world w = ticking_world();

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        w.s.moved += i % 4 == 0;
        assert_int_equal(ticks_until_killed(&w, 1, 50), 0);
    }
}

/* A server that lives, on a machine that gives it anything between nothing and everything: whenever
 * it runs it takes turns, each turn takes what waits; neighbours bring work at any time. An hour of
 * it, and no conviction. */
static void soak_on_a_crowded_machine(void **state)
{
    uint64_t seed = 0x9e3779b97f4a7c15ull;
    unsigned rings = 0;

    (void)state;
    for (unsigned server = 0; server < 20; server++) {
        struct world w = {.s = {.asleep = true, .state = 'S'}};
        uint64_t queue = 0, wait = 0; /* looks until it gets a processor again */

        for (uint64_t end = w.now + 180000000000ull; w.now < end;) {
            const uint64_t last = w.now;
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            const unsigned dice = seed >> 33;

            if (dice % 4 == 0)
                queue++;
            const enum hang_verdict v = look(&w);
            const uint64_t passed = w.now - last;
            assert_int_not_equal(v, HANG_KILL);
            rings += v == HANG_RING;
            const bool wants = queue > 0 || v == HANG_RING || !w.s.asleep;
            if (wait == 0 && wants && dice / 4 % 8 == 0)
                wait = dice / 32 % 64; /* up to a third of a second */
            if (wants && wait > 0) {
                wait--;
                w.s.state = 'R';
                w.s.asleep = false;
                /* what it gets now and then is less than a turn; the wait is accounted late */
                w.s.cpu_ns += passed / 50;
                if (wait == 0)
                    w.s.run_delay_ns += passed;
            } else if (wants) {
                w.s.turns += 1 + dice / 32 % 50;
                w.s.moved += queue;
                queue = 0;
                w.s.state = dice & 1 ? 'R' : 'S';
                w.s.asleep = true;
                w.s.cpu_ns += passed / 2;
            }
            w.s.waiting = queue > 0;
            w.s.work = w.s.waiting || !w.s.asleep;
        }
    }
    assert_true(rings > 1000); /* it was not for want of suspicion */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_is_fine),
        cmocka_unit_test(working_is_fine),
        cmocka_unit_test(waiting_for_a_neighbour_is_rung_and_fine),
        cmocka_unit_test(endless_loop_is_killed),
        cmocka_unit_test(endless_loop_without_work_is_killed),
        cmocka_unit_test(blocked_is_killed),
        cmocka_unit_test(stopped_with_work_is_killed_at_once),
        cmocka_unit_test(stopped_without_work_is_left_alone),
        cmocka_unit_test(busy_machine_is_no_hang),
        cmocka_unit_test(a_turn_clears_the_suspicion),
        cmocka_unit_test(waiting_for_the_kernel_is_given_time),
        cmocka_unit_test(whom_a_debugger_has_stopped_is_left_alone),
        cmocka_unit_test(livelock_that_ticks_is_killed),
        cmocka_unit_test(it_sleeps_with_work_and_is_killed),
        cmocka_unit_test(few_turns_are_no_livelock),
        cmocka_unit_test(excuses_stop_the_clock),
        cmocka_unit_test(movement_of_any_queue_is_life),
        cmocka_unit_test(soak_on_a_crowded_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
