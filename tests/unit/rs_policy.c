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
    static const uint64_t delay[] = {0, 0, 0, 1 * MS, 10 * MS, 100 * MS, 1 * S, 1 * S, 1 * S};
    struct policy p = up_policy();

    (void)state;
    for (unsigned i = 0; i < sizeof delay / sizeof delay[0]; i++)
        assert_int_equal(life(&p, i % 2 ? END_FAULT : END_HANG, 5 * MS), delay[i]);
}

static void life_takes_faults_back(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < 5; i++)
        life(&p, END_FAULT, 5 * MS);
    assert_int_equal(life(&p, END_FAULT, POLICY_FORGIVE_NS), 10 * MS);    /* would be 100 */
    assert_int_equal(life(&p, END_FAULT, 2 * POLICY_FORGIVE_NS), 1 * MS); /* would be 100 */
    assert_int_equal(life(&p, END_FAULT, 2 * POLICY_FORGIVE_NS), 0);
    /* One that lives for so long between its faults is neither slowed down nor does it lose more.
     */
    for (int i = 0; i < 1000; i++) {
        policy_step(&p, POLICY_READY, END_NONE, now);
        now += POLICY_FORGIVE_NS;
        struct policy_action a = policy_step(&p, POLICY_DEATH, END_FAULT, now);
        assert_int_equal(a.at, now);
        assert_int_equal(a.start, 0);
    }
}

static void time_without_being_ready_does_not_forgive(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < 3; i++)
        life(&p, END_FAULT, 5 * MS);
    now += 2 * POLICY_SETTLED_NS; /* hung in its start */
    struct policy_action a = policy_step(&p, POLICY_DEATH, END_HANG, now);
    assert_int_equal(a.at - now, 1 * MS);
}

static void kills_between_faults_do_not_forgive(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(life(&p, END_FAULT, 5 * MS), 0);
    assert_int_equal(life(&p, END_KILLED, 5 * MS), 0);
    assert_int_equal(life(&p, END_FAULT, 5 * MS), 1 * MS);
}

/* --- steps --- */

/* The start that the policy wants after so many faults. */
static struct policy_action after(struct policy *p, unsigned faults)
{
    struct policy_action a = {0};

    for (unsigned i = 0; i < faults; i++) {
        policy_step(p, POLICY_READY, END_NONE, now);
        now += MS;
        a = policy_step(p, POLICY_DEATH, i % 2 ? END_FAULT : END_HANG, now);
    }
    return a;
}

static void faults_without_an_item_climb_the_ladder(void **state)
{
    struct policy p = up_policy();

    (void)state;
    assert_int_equal(after(&p, 4).start, 0);
    assert_int_equal(after(&p, 1).start, START_FRUGAL);
    assert_int_equal(after(&p, 2).start, START_FRUGAL);
    assert_int_equal(after(&p, 1).start, START_FRUGAL | START_COLD);
    /* for ever */
    const struct policy_action a = after(&p, 1000);
    assert_int_equal(a.what, POLICY_RESTART);
    assert_int_equal(a.start, START_FRUGAL | START_COLD);
    assert_int_equal(a.at - now, 1 * S);
}

static void faults_over_items_are_left_to_quarantine(void **state)
{
    struct policy p = up_policy();

    (void)state;
    p.item = true;
    assert_int_equal(after(&p, POLICY_FRUGAL - 1).start, 0); /* six items, and more */
    assert_int_equal(after(&p, 1).start, START_FRUGAL);
    assert_int_equal(after(&p, POLICY_COLD - POLICY_FRUGAL).start, START_FRUGAL | START_COLD);
}

static void previous_program_comes_before_state_is_given_up(void **state)
{
    struct policy p = up_policy();

    (void)state;
    p.updated = true;
    assert_false(after(&p, 2).previous);
    const struct policy_action a = after(&p, 1);
    assert_true(a.previous);
    assert_int_equal(a.start, 0);
    p.updated = false; /* it runs, and there is no other */
    assert_false(after(&p, 1).previous);
}

static void kills_climb_nothing(void **state)
{
    struct policy p = up_policy();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        policy_step(&p, POLICY_READY, END_NONE, now);
        assert_int_equal(policy_step(&p, POLICY_DEATH, END_KILLED, now).start, 0);
    }
}

static void a_settled_life_begins_anew(void **state)
{
    struct policy p = up_policy();

    (void)state;
    assert_int_equal(after(&p, 20).start, START_FRUGAL | START_COLD);
    policy_step(&p, POLICY_READY, END_NONE, now);
    now += POLICY_SETTLED_NS;
    const struct policy_action a = policy_step(&p, POLICY_DEATH, END_FAULT, now);
    assert_int_equal(a.start, 0);
    assert_int_equal(a.at, now);
    assert_int_equal(after(&p, 3).start, 0);
}

static void a_kill_does_not_undo_a_step(void **state)
{
    struct policy p = up_policy();

    (void)state;
    assert_int_equal(after(&p, 20).start, START_FRUGAL | START_COLD);
    assert_int_equal(policy_step(&p, POLICY_DEATH, END_KILLED, now).start, 0); /* it could live */
    assert_int_equal(after(&p, 1).start, START_FRUGAL | START_COLD);
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
        cmocka_unit_test(life_takes_faults_back),
        cmocka_unit_test(time_without_being_ready_does_not_forgive),
        cmocka_unit_test(kills_between_faults_do_not_forgive),
        cmocka_unit_test(faults_without_an_item_climb_the_ladder),
        cmocka_unit_test(faults_over_items_are_left_to_quarantine),
        cmocka_unit_test(previous_program_comes_before_state_is_given_up),
        cmocka_unit_test(kills_climb_nothing),
        cmocka_unit_test(a_settled_life_begins_anew),
        cmocka_unit_test(a_kill_does_not_undo_a_step),
        cmocka_unit_test(first_start_is_given_up),
        cmocka_unit_test(never_gives_up_once_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
