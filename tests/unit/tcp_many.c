/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A restart with many connections: those that are idle say nothing, those that are in use do not
 * wait until all records were looked at.
 */
/* link: eft_tcp_cp eft_harness_cp */
#include "tcp_peer.h"

enum { MANY = 1500 };

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
}

static struct tcp *engine(void)
{
    return us->tcp->state;
}

static void for_many(struct stack_config *cfg)
{
    cfg->tcp_connections = MANY + 16;
}

/* Many records lie before those of the test's sockets. */
static int begin_many(void **state)
{
    adjust = for_many;
    begin(state);
    for (unsigned i = 0; i < MANY; i++) {
        struct tcp_conn *o = tcp_conn_new(engine());
        assert_non_null(o);
        o->r.kind = TCP_KIND_CONN;
        o->r.state = TCP_TIME_WAIT;
        o->r.expiry = w.now + 3600 * SEC;
        o->r.local = (struct sock_name){.addr = us->cfg.interface[0].addr, .port = 80};
        o->r.remote = (struct sock_name){.addr = ip_addr_v4(htonl(0x0a020000u + i)), .port = 1024};
        tcp_record_commit(engine(), o);
        tcp_lookup_add(engine(), o);
    }
    return 0;
}

static unsigned walk(void)
{
    unsigned all = 0;
    while (!engine()->walked) {
        look();
        all += sent;
    }
    return all;
}

/* Whoever accepted has acknowledged the SYN with its SYN-ACK, and that is known. */
static void accepted_and_idle_is_silent(void **state)
{
    (void)state;
    established_state();
    world_successor(us, END_KILLED);
    assert_int_equal(walk(), 0);
    look();
    assert_int_equal(sent, 0);
    later(300 * MSEC);
    assert_int_equal(sent, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

/* Whoever connected has not, until its third segment has left. */
static void connected_and_idle_is_silent(void **state)
{
    (void)state;
    syn_sent_state();
    inject(TH_SYN | TH_ACK, their_iss, our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    world_successor(us, END_KILLED);
    assert_int_equal(walk(), 0);
    look();
    assert_int_equal(sent, 0);
}

/* What an application writes while the records are walked leaves at once. */
static void writing_goes_on_during_the_walk(void **state)
{
    (void)state;
    established_state();
    world_successor(us, END_KILLED);
    app_writes(100);
    assert_false(engine()->walked);
    assert_int_equal(last.len, 100);
    walk();
    /* The entry is taken once more then, to no effect. */
    look();
    assert_int_equal(sent, 0);
    uint8_t theirs[10];
    stream(theirs, 0, sizeof theirs);
    inject(TH_ACK, their(0), our(100), theirs, sizeof theirs);
    sock_step(&k);
    assert_int_equal(k.received, 10);
}

/* So does what its predecessor had taken note of and not sent. */
static void what_was_taken_last_goes_first(void **state)
{
    (void)state;
    established_state();
    k.to_send += 100;
    sock_step(&k);
    struct down_region *down =
        (struct down_region *)(void *)us->map->entry[REGION_OF_APP(k.app, APP_DOWN_TCP)].base;
    const struct up_region *up =
        (const struct up_region *)(const void *)us->map->entry[REGION_OF_APP(k.app, APP_UP)].base;
    down->work_head = up->work_tcp.tail; /* killed between this and the segment */
    world_successor(us, END_KILLED);
    look();
    assert_false(engine()->walked);
    assert_int_equal(last.len, 100);
}

/* A request must wait: a slot that seems free may have a record that was not seen yet. */
static void requests_wait_for_the_walk(void **state)
{
    (void)state;
    established_state();
    world_successor(us, END_KILLED);
    struct sock other = {.s = us, .app = k.app, .slot = 3};
    sock_connect(&other, &w.side[1], 5556);
    world_tcp_turn(us);
    assert_false(engine()->walked);
    assert_int_not_equal(sock_down(&other)->state, SOCK_CONNECTING);
    walk();
    look();
    assert_int_equal(sock_down(&other)->state, SOCK_CONNECTING);
}

/* A hint that leads to somebody else's record, or nowhere, is no hint. */
static void a_wrong_hint_is_passed_over(void **state)
{
    (void)state;
    established_state();
    const uint32_t right = sock_down(&k)->record;
    assert_int_equal(right, conn()->idx + 1);
    for (uint32_t wrong = 0; wrong < 3; wrong++) {
        struct down_slot *d = (struct down_slot *)(uintptr_t)sock_down(&k);
        d->record = wrong == 0 ? 1 : wrong == 1 ? UINT32_MAX : 0;
        world_successor(us, END_KILLED);
        app_writes(10);
        walk();
        look();
        assert_int_equal(last.len, 10);
        assert_int_equal(d->record, right); /* mended */
        inject(TH_ACK, their(0), our(10 * (wrong + 1)), NULL, 0);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin_many, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(accepted_and_idle_is_silent),     T(connected_and_idle_is_silent),
        T(writing_goes_on_during_the_walk), T(what_was_taken_last_goes_first),
        T(requests_wait_for_the_walk),      T(a_wrong_hint_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
