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
    w->now += HANG_PERIOD_NS;
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
    unsigned n = looks_until(&w, HANG_KILL, 100, HANG_PERIOD_NS, 0);
    assert_int_equal(n, HANG_CPU_NS / HANG_PERIOD_NS);
}

static void endless_loop_without_work_is_killed(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.work = false; /* asleep is 0: it is in a turn */
    w.s.state = 'R';
    assert_int_equal(look(&w), HANG_RING);
    assert_true(looks_until(&w, HANG_KILL, 100, HANG_PERIOD_NS, 0) > 0);
}

static void blocked_is_killed(void **state)
{
    struct world w = busy_world();

    (void)state;
    assert_int_equal(look(&w), HANG_RING);
    unsigned n = looks_until(&w, HANG_KILL, 100, 0, 0);
    assert_int_equal(n, HANG_WALL_NS / HANG_PERIOD_NS);
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
    /* ready to run for ten seconds, with one percent of a processor */
    assert_int_equal(look(&w), HANG_RING);
    w.s.state = 'R';
    assert_int_equal(looks_until(&w, HANG_KILL, 200, HANG_PERIOD_NS / 100, 0), 0);
    /* the same, seen between two waits */
    w = busy_world();
    assert_int_equal(look(&w), HANG_RING);
    assert_int_equal(looks_until(&w, HANG_KILL, 200, HANG_PERIOD_NS / 100, HANG_PERIOD_NS), 0);
}

static void a_turn_clears_the_suspicion(void **state)
{
    struct world w = busy_world();

    (void)state;
    w.s.state = 'R';
    assert_int_equal(look(&w), HANG_RING);
    assert_int_equal(looks_until(&w, HANG_KILL, 2, HANG_PERIOD_NS, 0), 0);
    w.s.turns++;
    assert_int_equal(look(&w), HANG_FINE);
    assert_int_equal(look(&w), HANG_RING); /* from the beginning */
    assert_int_equal(looks_until(&w, HANG_KILL, 100, HANG_PERIOD_NS, 0),
                     HANG_CPU_NS / HANG_PERIOD_NS);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
