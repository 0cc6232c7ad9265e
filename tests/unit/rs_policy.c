/* SPDX-License-Identifier: BSD-2-Clause
 *
 * When a dead server is started again.
 */
/* link: eft_rs */
#include "recovery/rs/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS 1000000ull
#define S  1000000000ull

static uint64_t now = 100 * S;

/* Dies `after` ns after having been ready; returns the delay of the restart. */
static uint64_t life(struct policy *p, enum rs_end end, uint64_t after)
{
    policy_step(p, POLICY_READY, END_NONE, now);
    now += after;
    struct policy_action a = policy_step(p, POLICY_DEATH, end, now);
    assert_int_equal(a.what, POLICY_RESTART);
    assert_true(a.at >= now);
    return a.at - now;
}

static struct policy up_policy(void)
{
    struct policy p = {0};

    policy_step(&p, POLICY_UP, END_NONE, now);
    return p;
}

static void kill_restarts_at_once(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(life(&p, END_KILLED, 50 * MS), 0);
}

static void kill_before_ready_restarts_at_once(void **state)
{
    struct policy p = up_policy();

    (void)state;
    struct policy_action a = policy_step(&p, POLICY_DEATH, END_KILLED, now);
    assert_int_equal(a.what, POLICY_RESTART);
    assert_int_equal(a.at, now);
}

static void kills_without_end_are_slowed_down(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < POLICY_KILLS; i++)
        assert_int_equal(life(&p, END_KILLED, 1 * MS), 0);
    assert_int_equal(life(&p, END_KILLED, 1 * MS), 10 * MS);
}

static void faults_are_delayed_more_and_more(void **state)
{
    static const uint64_t delay[] = {0, 1 * MS, 10 * MS, 100 * MS, 1 * S, 1 * S, 1 * S};
    struct policy p = up_policy();

    (void)state;
    for (unsigned i = 0; i < sizeof delay / sizeof delay[0]; i++)
        assert_int_equal(life(&p, i % 2 ? END_FAULT : END_HANG, 5 * MS), delay[i]);
}

static void a_settled_life_forgives(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < 4; i++)
        life(&p, END_FAULT, 5 * MS);
    assert_int_equal(life(&p, END_FAULT, POLICY_SETTLED_NS), 0);
    assert_int_equal(life(&p, END_FAULT, POLICY_SETTLED_NS - 1), 1 * MS);
}

static void time_without_being_ready_does_not_forgive(void **state)
{
    struct policy p = up_policy();

    (void)state;
    life(&p, END_FAULT, 5 * MS);
    now += 2 * POLICY_SETTLED_NS; /* hung in its start */
    struct policy_action a = policy_step(&p, POLICY_DEATH, END_HANG, now);
    assert_int_equal(a.at - now, 1 * MS);
}

static void kills_between_faults_do_not_forgive(void **state)
{
    struct policy p = up_policy();

    (void)state;
    assert_int_equal(life(&p, END_FAULT, 5 * MS), 0);
    assert_int_equal(life(&p, END_KILLED, 5 * MS), 0);
    assert_int_equal(life(&p, END_FAULT, 5 * MS), 1 * MS);
}

static void first_start_is_given_up(void **state)
{
    struct policy p = {0};

    (void)state;
    for (int i = 0; i < POLICY_FIRST_TRIES - 1; i++)
        assert_int_equal(policy_step(&p, POLICY_DEATH, END_FAULT, now).what, POLICY_RESTART);
    assert_int_equal(policy_step(&p, POLICY_DEATH, END_FAULT, now).what, POLICY_GIVE_UP);
}

static void never_gives_up_once_up(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(policy_step(&p, POLICY_DEATH, END_FAULT, now).what, POLICY_RESTART);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill_restarts_at_once),
        cmocka_unit_test(kill_before_ready_restarts_at_once),
        cmocka_unit_test(kills_without_end_are_slowed_down),
        cmocka_unit_test(faults_are_delayed_more_and_more),
        cmocka_unit_test(a_settled_life_forgives),
        cmocka_unit_test(time_without_being_ready_does_not_forgive),
        cmocka_unit_test(kills_between_faults_do_not_forgive),
        cmocka_unit_test(first_start_is_given_up),
        cmocka_unit_test(never_gives_up_once_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
