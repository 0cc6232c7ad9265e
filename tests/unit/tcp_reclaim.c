/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The memory of idle receive rings is given back, and never a byte that anybody still needs: the
 * host overwrites what it is told to forget.
 */
/* link: eft_tcp_cp eft_harness_cp */
#include "tcp_peer.h"

enum { PIECE = 1000, RING = 16384 };

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
}

static struct tcp *engine(void)
{
    return us->tcp->state;
}

static struct stack_config *config(void)
{
    return (struct stack_config *)(void *)us->map->entry[REGION_CONFIG].base;
}

static uint64_t forgotten(void)
{
    static uint64_t seen;
    uint64_t all = host_forgotten(us->tcp), n = all - seen;
    seen = all;
    return n;
}

static void peer_sends(uint64_t from, unsigned n)
{
    uint8_t payload[PIECE];
    stream(payload, from, n);
    inject(TH_ACK, their((uint32_t)from), our(0), payload, n);
}

static int begin_here(void **state)
{
    begin(state);
    config()->tcp_reclaim_s = 10;
    established_state();
    forgotten();
    return 0;
}

static void idle_ring_is_forgotten_once(void **state)
{
    (void)state;
    peer_sends(0, PIECE);
    sock_step(&k);
    later(9 * SEC);
    assert_int_equal(forgotten(), 0);
    later(11 * SEC);
    assert_int_equal(forgotten(), RING);
    assert_int_equal(engine()->reclaim_at, NEVER); /* an idle server sleeps */
    later(100 * SEC);
    assert_int_equal(forgotten(), 0);
    /* And goes on. */
    peer_sends(PIECE, PIECE);
    sock_step(&k);
    assert_int_equal(k.received, 2 * PIECE);
    later(11 * SEC);
    later(11 * SEC);
    assert_int_equal(forgotten(), RING);
}

static void what_was_not_read_stays(void **state)
{
    (void)state;
    k.no_read = true;
    peer_sends(0, PIECE);
    for (unsigned i = 0; i < 10; i++)
        later(11 * SEC);
    assert_int_equal(forgotten(), 0);
    k.no_read = false;
    sock_step(&k);
    assert_int_equal(k.received, PIECE);
    for (unsigned i = 0; i < 2; i++)
        later(11 * SEC);
    assert_int_equal(forgotten(), RING);
}

static void what_came_out_of_order_stays(void **state)
{
    (void)state;
    peer_sends(PIECE, PIECE);
    for (unsigned i = 0; i < 10; i++)
        later(11 * SEC);
    assert_int_equal(forgotten(), 0);
    peer_sends(0, PIECE);
    sock_step(&k);
    assert_int_equal(k.received, 2 * PIECE);
}

static void free_blocks_are_forgotten(void **state)
{
    (void)state;
    peer_sends(0, PIECE);
    sock_step(&k);
    inject(TH_RST, their(PIECE), our(0), NULL, 0);
    sock_close(&k, false);
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
    const struct ring_space *s = &engine()->app[k.app]->down_space;
    assert_int_equal(s->stale_pages, RING / 4096);
    later(11 * SEC);
    later(11 * SEC);
    assert_int_equal(s->stale_pages, 0);
    assert_int_equal(forgotten(), RING);
    assert_int_equal(engine()->reclaim_at, NEVER);
}

/* It does not know what was given back: all that is free, and each ring. */
static void a_successor_finds_out(void **state)
{
    (void)state;
    peer_sends(0, PIECE);
    sock_step(&k);
    world_successor(us, END_KILLED);
    look();
    forgotten();
    for (unsigned i = 0; i < 40; i++)
        later(SEC);
    const uint64_t all = us->layout.down_tcp_end - us->layout.down_tcp_blocks;
    assert_int_equal(forgotten(), all / 4096 * 4096);
    peer_sends(PIECE, PIECE);
    sock_step(&k);
    assert_int_equal(k.received, 2 * PIECE);
}

static void zero_is_never(void **state)
{
    (void)state;
    config()->tcp_reclaim_s = 0;
    engine()->reclaim_at = NEVER;
    peer_sends(0, PIECE);
    sock_step(&k);
    for (unsigned i = 0; i < 10; i++)
        later(100 * SEC);
    assert_int_equal(forgotten(), 0);
}

/* Runs of stale pages are found wherever they lie, each page once, and what is given out is not
 * among them. */
static void stale_pages_are_found(void **state)
{
    struct ring_space s;
    uint32_t page, n, seen = 0;
    (void)state;
    assert_int_equal(tcp_ring_space_init(&s, 5 * 4096, 700 * 4096), 0);
    assert_int_equal(tcp_ring_space_watch(&s, true), 0);
    assert_int_equal(s.stale_pages, 695);
    int64_t a = tcp_ring_alloc(&s, 12 + 6), b = tcp_ring_alloc(&s, 12);
    assert_int_equal(s.stale_pages, 695 - 65);
    while ((n = tcp_ring_take_stale(&s, 50, &page)) != 0) {
        assert_true(page >= 5 && page + n <= 700 && n <= 50);
        assert_true(page + n <= a || page >= a + 64);
        assert_true(page + n <= b || page >= b + 1);
        seen += n;
    }
    assert_int_equal(seen, 695 - 65);
    tcp_ring_release(&s, (uint32_t)a, 12 + 6);
    tcp_ring_release(&s, (uint32_t)b, 12);
    assert_int_equal(s.stale_pages, 65);
    for (seen = 0; (n = tcp_ring_take_stale(&s, 1000, &page)) != 0; seen += n)
        assert_true(page == (uint32_t)a || page == (uint32_t)b);
    assert_int_equal(seen, 65);
    tcp_ring_space_fini(&s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin_here, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(idle_ring_is_forgotten_once),
        T(what_was_not_read_stays),
        T(what_came_out_of_order_stays),
        T(free_blocks_are_forgotten),
        T(a_successor_finds_out),
        T(zero_is_never),
        cmocka_unit_test(stale_pages_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
