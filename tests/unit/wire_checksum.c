/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The checksum against its definition.
 */
/* link: eft_wire */
#include "servers/wire/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* RFC 1071 section 1, word by word. */
static uint16_t naive(const uint8_t *p, size_t len)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += (uint32_t)p[i] << (i % 2 == 0 ? 8 : 0);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static uint16_t host(uint16_t csum)
{
    return __builtin_bswap16(csum);
}

static uint32_t seed = 1;
static uint8_t rnd(void)
{
    seed = seed * 1664525 + 1013904223;
    return (uint8_t)(seed >> 24);
}

static void sums_agree_with_definition(void **state)
{
    static uint8_t b[4096 + 64], copy[4096 + 64];

    (void)state;
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = rnd();
    for (size_t len = 0; len < 700; len++)
        for (size_t at = 0; at < 9; at++) {
            assert_int_equal(host(csum_fold(csum_partial(b + at, len, 0))), naive(b + at, len));
            memset(copy, 0, len + 16);
            assert_int_equal(host(csum_fold(csum_copy(copy + 3, b + at, len, 0))),
                             naive(b + at, len));
            assert_memory_equal(copy + 3, b + at, len);
            assert_int_equal(copy[len + 3], 0);
        }
    memset(b, 0xff, sizeof b); /* all carries */
    for (size_t len = 0; len < sizeof b; len += 61)
        assert_int_equal(host(csum_fold(csum_partial(b, len, 0))), naive(b, len));
}

static void sums_of_parts_add_up(void **state)
{
    uint8_t b[333];

    (void)state;
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = rnd();
    for (size_t cut = 0; cut <= sizeof b; cut++) {
        uint32_t sum = csum_partial(b, cut, 0);

        sum = csum_add_at(sum, csum_partial(b + cut, sizeof b - cut, 0), cut);
        assert_int_equal(host(csum_fold(sum)), naive(b, sizeof b));
    }
}

static void pseudo_header_v4_and_v6(void **state)
{
    const uint8_t v4[12] = {10, 0, 0, 1, 192, 168, 7, 9, 0, 17, 0x12, 0x34};
    uint8_t v6[40] = {0};
    struct ip_addr s = ip_addr_v4(0), d = ip_addr_v4(0);

    (void)state;
    memcpy(&s.word[0], v4, 4);
    memcpy(&d.word[0], v4 + 4, 4);
    assert_int_equal(host(csum_fold(csum_pseudo(&s, &d, 17, 0x1234))), naive(v4, sizeof v4));
    s.family = d.family = 6;
    for (unsigned i = 0; i < 32; i++)
        v6[i] = rnd();
    memcpy(s.v6, v6, 16);
    memcpy(d.v6, v6 + 16, 16);
    v6[33] = 1; /* length 0x10203 */
    v6[34] = 2;
    v6[35] = 3;
    v6[39] = 6;
    assert_int_equal(host(csum_fold(csum_pseudo(&s, &d, 6, 0x10203))), naive(v6, sizeof v6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_agree_with_definition),
        cmocka_unit_test(sums_of_parts_add_up),
        cmocka_unit_test(pseudo_header_v4_and_v6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
