/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Blocks of ring memory: the allocator, and where an offset lies in a ring.
 */
/* link: eft_tcp */
#include "servers/tcp/ring.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { FIRST = 11, END = 1000 };

static void all_is_given_out_and_comes_back(void **state)
{
    struct ring_space s;
    uint32_t page[END];
    unsigned n = 0;
    (void)state;
    assert_int_equal(tcp_ring_space_init(&s, FIRST * 4096, END * 4096), 0);
    assert_int_equal(s.free_pages, END - FIRST);
    for (int64_t p; (p = tcp_ring_alloc(&s, 12)) >= 0; n++)
        page[n] = (uint32_t)p;
    assert_int_equal(n, END - FIRST);
    assert_int_equal(s.free_pages, 0);
    while (n-- > 0)
        tcp_ring_release(&s, page[n], 12);
    /* All merged again: the largest block that fits is there. */
    assert_int_equal(s.free_pages, END - FIRST);
    assert_true(tcp_ring_alloc(&s, 12 + 8) >= 0);
    tcp_ring_space_fini(&s);
}

/* Random requests against a map of pages. */
static void blocks_never_overlap(void **state)
{
    struct ring_space s;
    static uint8_t used[END];
    struct {
        uint32_t page;
        unsigned shift;
    } held[200];
    unsigned n = 0;
    uint64_t x = 42, free_pages = END - FIRST;
    (void)state;
    assert_int_equal(tcp_ring_space_init(&s, FIRST * 4096, END * 4096), 0);
    for (unsigned round = 0; round < 20000; round++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        if (n > 0 && (n == 200 || x >> 60 < 7)) {
            unsigned i = (unsigned)(x >> 33) % n;
            for (uint32_t p = 0; p < 1u << (held[i].shift - 12); p++)
                used[held[i].page + p] = 0;
            tcp_ring_release(&s, held[i].page, held[i].shift);
            free_pages += 1u << (held[i].shift - 12);
            held[i] = held[--n];
        } else {
            unsigned shift = 12 + (unsigned)(x >> 33) % 6;
            int64_t page = tcp_ring_alloc(&s, shift);
            if (page < 0)
                continue;
            uint32_t len = 1u << (shift - 12);
            assert_int_equal((uint32_t)page % len, 0);
            assert_true(page >= FIRST && page + len <= END);
            for (uint32_t p = 0; p < len; p++) {
                assert_int_equal(used[page + p], 0);
                used[page + p] = 1;
            }
            held[n].page = (uint32_t)page;
            held[n++].shift = shift;
            free_pages -= len;
        }
        assert_int_equal(s.free_pages, free_pages);
    }
    /* A successor finds the same by reserving what the records say. */
    struct ring_space t;
    assert_int_equal(tcp_ring_space_init(&t, FIRST * 4096, END * 4096), 0);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(tcp_ring_reserve(&t, held[i].page, held[i].shift), 0);
    assert_int_equal(t.free_pages, free_pages);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(tcp_ring_reserve(&t, held[i].page, held[i].shift), -EEXIST);
    for (uint32_t p = FIRST; p < END; p++)
        assert_int_equal(tcp_ring_reserve(&t, p, 12), used[p] ? -EEXIST : 0);
    tcp_ring_space_fini(&s);
    tcp_ring_space_fini(&t);
}

static void bad_reservations_are_refused(void **state)
{
    struct ring_space s;
    (void)state;
    assert_int_equal(tcp_ring_space_init(&s, FIRST * 4096, END * 4096), 0);
    static const struct {
        uint32_t page;
        unsigned shift;
    } bad[] = {{0, 12},  {FIRST - 1, 12}, {END, 12},        {END - 1, 13},    {13, 13},
               {16, 11}, {16, 40},        {0x80000000, 12}, {0xffffffff, 12}, {512, 22}};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tcp_ring_reserve(&s, bad[i].page, bad[i].shift), -EEXIST);
    assert_int_equal(tcp_ring_alloc(&s, 11), -ENOSPC);
    assert_int_equal(tcp_ring_alloc(&s, 50), -ENOSPC);
    assert_int_equal(s.free_pages, END - FIRST);
    tcp_ring_space_fini(&s);
}

static void offsets_wrap_and_switch(void **state)
{
    uint64_t n;
    (void)state;
    struct tcp_ring r = {.switch_at = UINT64_MAX, .page = {16}, .shift = {12}};
    assert_int_equal(ring_offset(&r, 100, 100, &n), 16 * 4096 + 100);
    assert_int_equal(n, 4096 - 100);
    assert_int_equal(ring_offset(&r, 4096 + 4095, 0, &n), 16 * 4096 + 4095);
    assert_int_equal(n, 1);
    r = (struct tcp_ring){.switch_at = 5000, .page = {16, 32}, .shift = {12, 13}};
    assert_int_equal(ring_offset(&r, 4900, 4900, &n), 16 * 4096 + 804);
    assert_int_equal(n, 100);
    assert_int_equal(ring_offset(&r, 5000, 5000, &n), 32 * 4096 + 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_given_out_and_comes_back),
        cmocka_unit_test(blocks_never_overlap),
        cmocka_unit_test(bad_reservations_are_refused),
        cmocka_unit_test(offsets_wrap_and_switch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
