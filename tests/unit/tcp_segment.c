/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Parsing and emitting TCP headers.
 */
/* link: eft_tcp */
#include "servers/tcp/segment.h"
#include "servers/wire/checksum.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct tcp_seg example(uint8_t flags)
{
    return (struct tcp_seg){
        .local = {.addr = ip_addr_v4(htonl(0x0a000001)), .port = 4000},
        .remote = {.addr = ip_addr_v4(htonl(0x0a000002)), .port = 80},
        .seq = 0xfffffff0,
        .ack = 0x12345678,
        .wnd = 54321,
        .flags = flags,
    };
}

/* The packet as its receiver sees it, checksum complete. */
static struct packet packet_of(const struct tcp_seg *s)
{
    struct packet p = {.src = s->local.addr, .dst = s->remote.addr, .protocol = 6};
    p.hdr_len = (uint16_t)tcp_segment_emit(p.hdr, s);
    uint16_t sum = csum_fold(csum_partial(p.hdr, p.hdr_len, 0));
    memcpy(p.hdr + 16, &sum, 2);
    return p;
}

static void emit_parse_syn(void **state)
{
    struct tcp_seg s = example(TH_SYN), r;
    (void)state;
    s.mss = 1460;
    s.sack_ok = s.has_ts = s.has_wscale = true;
    s.wscale = 7;
    s.tsval = 0xdeadbeef;
    struct packet p = packet_of(&s);
    assert_int_equal(p.hdr_len, 40);
    /* MSS, SACK-permitted, timestamps, NOP, window scale, as Linux orders them. */
    static const uint8_t kinds[] = {2, 4, 8};
    assert_int_equal(p.hdr[20], kinds[0]);
    assert_int_equal(p.hdr[24], kinds[1]);
    assert_int_equal(p.hdr[26], kinds[2]);
    assert_int_equal(p.hdr[36], 1);
    assert_int_equal(p.hdr[37], 3);
    assert_int_equal(tcp_segment_parse(&r, &p), 0);
    assert_int_equal(r.seq, s.seq);
    assert_int_equal(r.ack, s.ack);
    assert_int_equal(r.wnd, s.wnd);
    assert_int_equal(r.mss, 1460);
    assert_true(r.sack_ok && r.has_ts && r.has_wscale);
    assert_int_equal(r.wscale, 7);
    assert_int_equal(r.tsval, 0xdeadbeef);
    assert_int_equal(r.local.port, 80);
    assert_int_equal(r.remote.port, 4000);
}

static void emit_parse_sack(void **state)
{
    (void)state;
    for (unsigned ts = 0; ts < 2; ts++) {
        for (unsigned n = 1; n <= 4 - ts; n++) {
            struct tcp_seg s = example(TH_ACK), r;
            s.has_ts = ts;
            s.sacks = n;
            for (unsigned i = 0; i < n; i++)
                s.sack[i] = (struct tcp_range){1000 * i, 1000 * i + 500};
            struct packet p = packet_of(&s);
            assert_true(p.hdr_len <= TCP_HEADER_MAX);
            assert_int_equal(tcp_segment_parse(&r, &p), 0);
            assert_int_equal(r.sacks, n);
            assert_memory_equal(r.sack, s.sack, n * sizeof s.sack[0]);
        }
    }
}

/* Options that are not what they should be: which are still taken. */
static void parse_options(void **state)
{
    (void)state;
    static const struct {
        uint8_t len, bytes[12];
        uint16_t mss;
        int wscale; /* -1: none */
        bool sack_ok;
    } table[] = {
        {4, {2, 4, 5, 0xb4}, 1460, -1, false},
        {4, {2, 3, 5, 0xb4}, 0, -1, false},                  /* wrong length: passed over */
        {4, {2, 0, 5, 0xb4}, 0, -1, false},                  /* length 0 ends the options */
        {4, {2, 5, 5, 0xb4}, 0, -1, false},                  /* leaves the header */
        {8, {1, 1, 1, 1, 3, 3, 14, 0}, 0, 14, false},        /* NOPs */
        {4, {3, 3, 200, 0}, 0, 14, false},                   /* RFC 7323 2.3: at most 14 */
        {8, {0, 0, 0, 0, 2, 4, 5, 0xb4}, 0, -1, false},      /* behind the end */
        {8, {253, 4, 1, 2, 2, 4, 5, 0xb4}, 1460, -1, false}, /* unknown kind */
        {8, {4, 2, 1, 1, 2, 4, 5, 0xb4}, 1460, -1, true},
        {4, {1, 1, 1, 2}, 0, -1, false}, /* a kind without a length */
    };
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct tcp_seg s = example(TH_SYN), r;
        struct packet p = packet_of(&s);
        p.csum = CSUM_GOOD;
        memcpy(p.hdr + 20, table[i].bytes, table[i].len);
        p.hdr_len = (uint16_t)(20 + table[i].len);
        p.hdr[12] = (uint8_t)(p.hdr_len / 4 << 4);
        assert_int_equal(tcp_segment_parse(&r, &p), 0);
        assert_int_equal(r.mss, table[i].mss);
        assert_int_equal(r.has_wscale ? r.wscale : -1, table[i].wscale);
        assert_int_equal(r.sack_ok, table[i].sack_ok);
    }
}

static void parse_bad_headers(void **state)
{
    (void)state;
    struct tcp_seg s = example(TH_ACK), r;
    struct packet good = packet_of(&s), p = good;
    p.hdr[12] = 4 << 4; /* shorter than a header */
    assert_int_equal(tcp_segment_parse(&r, &p), -EBADMSG);
    p = good;
    p.hdr[12] = 6 << 4; /* longer than what is there */
    assert_int_equal(tcp_segment_parse(&r, &p), -EBADMSG);
    p = good;
    p.hdr_len = 19;
    assert_int_equal(tcp_segment_parse(&r, &p), -EBADMSG);
    p = good;
    p.hdr[0] = p.hdr[1] = 0; /* port 0 */
    assert_int_equal(tcp_segment_parse(&r, &p), -EBADMSG);
    p = good;
    p.hdr[5] ^= 1;
    assert_int_equal(tcp_segment_parse(&r, &p), -EILSEQ);
    p.csum = CSUM_GOOD; /* the device has seen to it */
    assert_int_equal(tcp_segment_parse(&r, &p), 0);
}

/* Any bytes at all: no crash, and never more options than fit. */
static void parse_random(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252ull;
    for (unsigned n = 0; n < 200000; n++) {
        struct packet p = {.protocol = 6, .csum = CSUM_GOOD};
        struct tcp_seg r;
        for (unsigned i = 0; i < 64; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            p.hdr[i] = (uint8_t)x;
        }
        p.hdr_len = (uint16_t)(x >> 8 & 63);
        if (tcp_segment_parse(&r, &p) == 0)
            assert_true(r.sacks <= TCP_SACK_BLOCKS && r.wscale <= 14);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(emit_parse_syn), cmocka_unit_test(emit_parse_sack),
        cmocka_unit_test(parse_options),  cmocka_unit_test(parse_bad_headers),
        cmocka_unit_test(parse_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
