/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Nobody waits for those who are stuck or greedy: chains behind others that do not complete, turns
 * while many applications ask for much, numbers that have gone round.
 */
/* link: eft_tcp_cp eft_harness_cp */
#include "tcp_peer.h"

enum { TURN_MOST = 16 * WORK_QUOTA + WORK_QUOTA };

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
}

static struct tcp *engine(void)
{
    return us->tcp->state;
}

/* A neighbour that does not answer keeps twenty packets; the one behind them is sent. */
static void chains_behind_stuck_ones_complete(void **state)
{
    (void)state;
    established_state();
    sock_request(&k, OP_SETOPT, OPT_NODELAY, 1);
    look();
    w.chain_delay = 1u << 30;
    for (unsigned i = 0; i < 21; i++) {
        app_writes(10);
        inject(TH_ACK, their(0), our(10 * (i + 1)), bytes, 0);
    }
    assert_int_equal(engine()->chains_used, 21);
    const unsigned last_one = us->n_open - 1;
    us->chain_done[us->open[last_one].chain] = us->open[last_one].generation;
    later(10 * MSEC);
    assert_int_equal(engine()->chains_used, 20);
    assert_int_equal(sock_down(&k)->tx_free, sock_down(&k)->tx_base);
}

/* What an application may ask for in a turn is limited, and so is what all of them may. */
static void a_turn_ends(void **state)
{
    enum { APPS = 40, EACH = 200 };
    unsigned app[APPS], most = 0, turns = 0;
    (void)state;
    look();
    for (unsigned i = 0; i < APPS; i++)
        app[i] = world_add_app(us);
    world_tcp_turn(us);
    for (unsigned i = 0; i < APPS; i++) {
        struct up_region *up =
            (struct up_region *)(void *)us->map->entry[REGION_OF_APP(app[i], APP_UP)].base;
        for (unsigned n = 0; n < EACH; n++)
            up->work_tcp.slot[n] = n % us->layout.n_tcp;
        up->work_tcp.tail = EACH;
    }
    for (unsigned n = 1; n != 0; turns++) {
        n = world_tcp_turn(us);
        most = n > most ? n : most;
        assert_true(turns < 1000);
    }
    assert_true(most <= TURN_MOST);
    for (unsigned i = 0; i < APPS; i++) {
        const struct down_region *down = (const struct down_region *)(const void *)us->map
                                             ->entry[REGION_OF_APP(app[i], APP_DOWN_TCP)]
                                             .base;
        assert_int_equal(down->work_head, EACH); /* everybody's turn came */
    }
}

/* Somebody who listens and closes four thousand million times does not get another's group. */
static void group_numbers_go_round(void **state)
{
    const struct tcp_conn *l;
    struct sock other = {.s = us, .slot = 2};
    (void)state;
    listen_state();
    k = listener;
    l = conn();
    assert_non_null(l);
    engine()->group_last = l->r.group - 1;
    other.app = k.app;
    sock_listen(&other, 8081, 4);
    look();
    k = other;
    assert_non_null(conn());
    assert_int_not_equal(conn()->r.group, l->r.group);
    engine()->group_last = UINT32_MAX;
    other.slot = 3;
    sock_listen(&other, 8082, 4);
    look();
    k = other;
    assert_int_not_equal(conn()->r.group, TCP_GROUP_MOVERS);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(chains_behind_stuck_ones_complete),
        T(a_turn_ends),
        T(group_numbers_go_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
