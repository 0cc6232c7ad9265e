/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libsock's copies to and from rings: around the end, over a switch to a second block, by iovec;
 * descriptors that lie are refused.
 */
/* link: eft_sock */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sock_double.h"

static uint8_t region[1 << 20];

static uint8_t pattern(uint64_t off)
{
    return (uint8_t)(off * 31 + (off >> 8));
}

static struct ring two_blocks(uint64_t switch_at)
{
    struct ring r = {.base = region,
                     .d = {.switch_at = switch_at,
                           .block = {{.off = 65536, .size = 4096}, {.off = 131072, .size = 8192}}}};
    return r;
}

static void write_wraps(void **state)
{
    (void)state;
    struct ring r = {.base = region, .d = {.block = {{.off = 65536, .size = 4096}}}};
    uint8_t data[4096], back[4096];
    for (unsigned start = 0; start < 4096; start += 117) {
        uint64_t off = 0x123456000ull + start;
        for (unsigned i = 0; i < sizeof data; i++)
            data[i] = pattern(off + i);
        ring_write(&r, off, data, sizeof data);
        assert_int_equal(region[65536 + (start & 4095)], pattern(off));
        ring_read(&r, off, back, sizeof back);
        assert_memory_equal(data, back, sizeof data);
    }
}

static void bytes_from_switch_on_lie_in_the_second_block(void **state)
{
    (void)state;
    uint64_t at = 40960 + 1000;
    struct ring r = two_blocks(at);
    uint8_t data[3000], back[3000];
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = pattern(at - 1000 + i);
    memset(region, 0, sizeof region);
    ring_write(&r, at - 1000, data, sizeof data);
    assert_int_equal(region[65536 + ((at - 1) & 4095)], pattern(at - 1));
    assert_int_equal(region[131072 + (at & 8191)], pattern(at));
    assert_int_equal(region[65536 + (at & 4095)], 0);
    ring_read(&r, at - 1000, back, sizeof back);
    assert_memory_equal(data, back, sizeof data);
}

static void space_never_exceeds_a_block(void **state)
{
    (void)state;
    struct ring r = two_blocks(50000);
    /* The second block's size counts, when what is below the switch fits into the first. */
    assert_int_equal(ring_space(&r, 49000, 49000), 8192);
    assert_int_equal(ring_space(&r, 46000, 45904), 8192 - 96);
    assert_int_equal(ring_space(&r, 46000, 45903), 4096 - 97);
    assert_int_equal(ring_space(&r, 50000, 49000), 8192 - 1000);
    assert_int_equal(ring_space(&r, 49000, 40000), 0);
}

static void iovecs_are_walked_byte_by_byte(void **state)
{
    (void)state;
    struct ring r = {.base = region, .d = {.block = {{.off = 65536, .size = 4096}}}};
    uint8_t a[3], b[1], c[4092], out[4096];
    memset(a, 1, sizeof a);
    memset(b, 2, sizeof b);
    memset(c, 3, sizeof c);
    struct iovec iov[] = {{a, sizeof a}, {NULL, 0}, {b, sizeof b}, {c, sizeof c}};
    struct iov_pos p = {iov, 4, 0};
    assert_int_equal(iov_ring_write(&r, 4000, &p, 2), 2);
    assert_int_equal(iov_ring_write(&r, 4002, &p, 5000), 4094);
    ring_read(&r, 4000, out, sizeof out);
    assert_int_equal(out[2], 1);
    assert_int_equal(out[3], 2);
    assert_int_equal(out[4], 3);
    assert_int_equal(out[4095], 3);
    uint8_t x[5], y[4091];
    struct iovec in[] = {{x, sizeof x}, {y, sizeof y}};
    struct iov_pos q = {in, 2, 0};
    assert_int_equal(iov_ring_read(&r, 4000, &q, 4096), 4096);
    assert_int_equal(x[3], 2);
    assert_int_equal(y[0], 3);
}

static void descriptors_that_lie_are_refused(void **state)
{
    (void)state;
    struct down_slot d = {.select = 0};
    struct ring r;
    lib.up = (struct up_region *)region;
    lib.up_size = sizeof region;
    assert_false(ring_get(&r, &d, true, false)); /* no block */
    d.tx[0].block[0] = (struct ring_block){65536, 4096, 0};
    assert_true(ring_get(&r, &d, true, false));
    d.tx[0].block[0].size = 4095;
    assert_false(ring_get(&r, &d, true, false));
    d.tx[0].block[0] = (struct ring_block){sizeof region - 2048, 4096, 0};
    assert_false(ring_get(&r, &d, true, false));
    d.tx[0].block[0] = (struct ring_block){UINT64_MAX - 2048, 4096, 0};
    assert_false(ring_get(&r, &d, true, false));
    d.tx[0].block[0] = (struct ring_block){0, 4096, 0}; /* the header */
    assert_false(ring_get(&r, &d, true, false));
    /* The other copy is the valid one after the flip. */
    d.tx[1].block[0] = (struct ring_block){65536, 8192, 0};
    d.select = 1;
    assert_true(ring_get(&r, &d, true, false));
    assert_int_equal(ring_size(&r), 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_wraps),
        cmocka_unit_test(bytes_from_switch_on_lie_in_the_second_block),
        cmocka_unit_test(space_never_exceeds_a_block),
        cmocka_unit_test(iovecs_are_walked_byte_by_byte),
        cmocka_unit_test(descriptors_that_lie_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
