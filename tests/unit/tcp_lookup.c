/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The lookup index: found, not found, grown, and killed before every store while it grows. Ports:
 * chosen in a few looks with most of them in use.
 */
/* link: eft_tcp_cp eft_harness_cp */
#include "tests/crashpoint/sock.c"
#include "tests/crashpoint/world.c"

#include <errno.h>
#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

static jmp_buf crash;
static bool armed;
static uint64_t stores, crash_at;

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
    if (armed && ++stores == crash_at) {
        armed = false;
        longjmp(crash, 1);
    }
}

static struct world w;
static struct side *us;
static unsigned connections; /* of the table */

static struct tcp *engine(void)
{
    return us->tcp->state;
}

static void adjust(struct stack_config *cfg)
{
    cfg->tcp_connections = connections;
}

static void begin(unsigned n)
{
    connections = n;
    world_create(&w, adjust);
    us = &w.side[0];
    world_tcp_turn(us);
    assert_true(engine()->walked);
}

static struct sock_name local_name(uint16_t port)
{
    return (struct sock_name){.addr = us->cfg.interface[0].addr, .port = port};
}

static struct sock_name remote_name(uint32_t i)
{
    return (struct sock_name){.addr = ip_addr_v4(htonl(0x0a010000u + (i >> 4))),
                              .port = (uint16_t)(1024 + (i & 15))};
}

/* A connection that needs no application: TIME-WAIT, for a long time. */
static struct tcp_conn *open_named(struct sock_name local, struct sock_name remote)
{
    struct tcp *t = engine();
    struct tcp_conn *k = tcp_conn_new(t);
    assert_non_null(k);
    k->r.kind = TCP_KIND_CONN;
    k->r.state = TCP_TIME_WAIT;
    k->r.expiry = t->now + 3600 * SEC;
    k->r.local = local;
    k->r.remote = remote;
    tcp_record_commit(t, k);
    tcp_lookup_add(t, k);
    return k;
}

static struct tcp_conn *find(uint32_t i)
{
    const struct sock_name l = local_name(80), r = remote_name(i);
    return tcp_lookup_find(engine(), &l, &r);
}

/* What has been done: [gone, there) are open; one more may be half open or half gone. */
static volatile uint32_t there, gone;

static void open_next(void)
{
    open_named(local_name(80), remote_name(there));
    there = there + 1;
}

static void close_next(void)
{
    struct tcp_conn *k = find(gone);
    assert_non_null(k);
    gone = gone + 1;
    tcp_conn_free(engine(), k);
}

static void all_found(void)
{
    for (uint32_t i = gone; i < there; i++) {
        const struct tcp_conn *k = find(i);
        const struct sock_name r = remote_name(i);
        assert_non_null(k);
        assert_memory_equal(&k->r.remote, &r, sizeof r);
    }
}

static void walk(void)
{
    for (unsigned turns = 0; !engine()->walked; turns++) {
        assert_true(turns < 1000);
        world_tcp_turn(us);
    }
}

static void grows_with_every_connection_found(void **state)
{
    enum { MANY = 20000 };
    (void)state;
    begin(MANY);
    there = gone = 0;
    unsigned grown = 0;
    while (there < MANY) {
        const unsigned before = engine()->index_shift;
        open_next();
        grown += engine()->index_shift != before;
        assert_non_null(find(there - 1));
        if (there % 501 == 0)
            all_found();
    }
    all_found();
    assert_int_equal(engine()->index_shift, TCP_INDEX_FIRST + grown);
    assert_int_equal(grown, 6); /* 512 to 32768 */
    assert_true(engine()->index_shift < engine()->index_most);
    assert_null(find(MANY));
    while (gone < there)
        close_next();
    assert_int_equal(engine()->index_used, 0);
    for (uint64_t i = 0; i <= engine()->index_now.mask; i++)
        assert_int_equal(engine()->index_now.entry[i].word, 0);
    world_destroy(&w);
}

/* However the peer chooses its ports: a line or two of entries are looked at, on average. */
static void no_addresses_are_bad_ones(void **state)
{
    enum { MANY = 3000 };
    (void)state;
    begin(4096);
    there = gone = 0;
    while (there < MANY)
        open_next();
    const struct tcp_table *x = &engine()->index_now;
    uint64_t distance = 0;
    for (uint64_t i = 0; i <= x->mask; i++)
        if (x->entry[i].word != 0)
            distance += (i - (x->entry[i].word >> 32)) & x->mask;
    assert_true(distance <= 3ull * MANY);
    world_destroy(&w);
}

enum { EVE = 380, UNTIL = 470 };

/* The operation: 380 connections are there; 90 more make the table grow and fill, and some go. */
static void operation(void)
{
    while (there < UNTIL) {
        open_next();
        if (there % 3 == 0)
            close_next();
    }
}

/* Killed before store number `at`, and the successor before `again` more. False: it came to its end
 * without a kill. */
static bool run(uint64_t at, uint64_t again)
{
    static volatile bool killed;
    begin(2048);
    there = gone = 0;
    while (there < EVE)
        open_next();
    killed = false;
    stores = 0;
    crash_at = at;
    if (setjmp(crash) == 0) {
        armed = true;
        operation();
        armed = false;
    } else {
        killed = true;
        crash_at = again ? stores + again : 0;
        if (setjmp(crash) == 0) {
            armed = true;
            world_successor(us, END_KILLED);
            walk();
            armed = false;
        }
        armed = false;
        crash_at = 0;
        world_successor(us, END_KILLED);
        /* Before anything was walked the index alone leads to each of them. */
        assert_false(engine()->walked);
        if (again == 0)
            all_found();
        walk();
        all_found();
        /* What was not committed is as if it had never been; what was, is found. */
        if (find(there) != NULL)
            there = there + 1;
        operation();
    }
    assert_true(engine()->index_used >= there - gone);
    while (there < 1000)
        open_next();
    all_found();
    assert_int_equal(w.violations, 0);
    world_destroy(&w);
    return killed;
}

static void killed_while_it_grows(void **state)
{
    (void)state;
    uint64_t points = 0;
    while (run(points + 1, 0))
        points++;
    print_message("%llu points\n", (unsigned long long)points);
    assert_true(points > 1000);
    for (uint64_t at = 1; at <= points; at += 7)
        assert_true(run(at, 1 + at % 13));
}

/* What the word says is nonsense: nothing is found until all records were walked, then all is. */
static void a_broken_word_costs_the_walk(void **state)
{
    (void)state;
    begin(2048);
    there = gone = 0;
    while (there < 600)
        open_next();
    engine()->state_shm->index ^= 4;
    world_successor(us, END_KILLED);
    assert_null(find(0));
    walk();
    all_found();
    open_next();
    close_next();
    all_found();
    world_destroy(&w);
}

/* --- ports --- */

static void a_free_port_is_near(void **state)
{
    enum { IN_USE = 60000, FIRST = 1024, MORE = 4000 };
    (void)state;
    begin(65536);
    struct tcp *t = engine();
    struct stack_config *cfg = (struct stack_config *)(uintptr_t)t->cfg;
    const struct sock_name remote = remote_name(7);
    cfg->port_first = FIRST;
    cfg->port_last = 65535;
    for (unsigned port = FIRST; port < FIRST + IN_USE; port++)
        open_named(local_name((uint16_t)port), remote);
    const unsigned before = t->spent;
    for (unsigned i = 0; i < MORE; i++) {
        struct sock_name local = local_name(0);
        t->now += 37 * MSEC;
        assert_int_equal(tcp_port_choose(t, NULL, &local, &remote), 0);
        assert_true(local.port >= FIRST);
        assert_null(tcp_lookup_find(t, &local, &remote));
        open_named(local, remote);
    }
    /* A unit is 64 looks. */
    print_message("%u looks each, %u to %u of 64512 ports in use\n",
                  (t->spent - before) * 64 / MORE, IN_USE, IN_USE + MORE);
    assert_true(t->spent - before < MORE * 2);
    /* The very last is found, too, and then there is none. */
    struct sock_name local = local_name(0);
    while (tcp_port_choose(t, NULL, &local, &remote) == 0)
        open_named(local, remote);
    assert_int_equal(t->index_used, 65536 - FIRST);
    world_destroy(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_with_every_connection_found),
        cmocka_unit_test(no_addresses_are_bad_ones),
        cmocka_unit_test(killed_while_it_grows),
        cmocka_unit_test(a_broken_word_costs_the_walk),
        cmocka_unit_test(a_free_port_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
