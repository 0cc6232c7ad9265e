/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Parsers and emitters of headers, and routing.
 */
/* link: eft_wire */
#include "servers/wire/arp.h"
#include "servers/wire/checksum.h"
#include "servers/wire/eth.h"
#include "servers/wire/icmp.h"
#include "servers/wire/ipv4.h"
#include "servers/wire/route.h"
#include "servers/wire/udp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint32_t addr(unsigned a, unsigned b, unsigned c, unsigned d)
{
    return __builtin_bswap32(a << 24 | b << 16 | c << 8 | d);
}

static void ipv4_round_trip(void **state)
{
    const struct ipv4 in = {.tos = 4,
                            .ttl = 9,
                            .protocol = 17,
                            .total_len = 60,
                            .id = 77,
                            .mf = true,
                            .offset = 1480,
                            .src = addr(1, 2, 3, 4),
                            .dst = addr(5, 6, 7, 8)};
    uint8_t b[60] = {0};
    struct ipv4 h;

    (void)state;
    ipv4_emit(b, &in);
    assert_int_equal(ipv4_parse(&h, b, sizeof b, sizeof b), IPV4_OK);
    assert_int_equal(h.hdr_len, 20);
    assert_int_equal(h.tos, 4);
    assert_int_equal(h.ttl, 9);
    assert_int_equal(h.id, 77);
    assert_int_equal(h.offset, 1480);
    assert_true(h.mf && !h.df);
    assert_int_equal(h.src, in.src);
    assert_int_equal(h.dst, in.dst);
}

/* One header with something done to it. */
static enum ipv4_error mangled(int at, uint8_t value, const uint8_t *options, unsigned opt_len,
                               size_t have, size_t len)
{
    const struct ipv4 in = {.ttl = 9,
                            .protocol = 6,
                            .total_len = 100,
                            .src = addr(1, 2, 3, 4),
                            .dst = addr(5, 6, 7, 8)};
    uint8_t b[128] = {0};
    struct ipv4 h;

    ipv4_emit(b, &in);
    if (opt_len > 0) {
        memcpy(b + 20, options, opt_len);
        b[0] = (uint8_t)(0x40 | (20 + opt_len) / 4);
    }
    if (at >= 0)
        b[at] = value;
    if (at != 10) {
        const size_t hlen = (b[0] & 15u) * 4;
        put16(b + 10, 0);
        put_csum(b + 10, csum_fold(csum_partial(b, hlen, 0)));
    }
    return ipv4_parse(&h, b, have, len);
}

static void ipv4_refuses(void **state)
{
    static const uint8_t nops[4] = {1, 1, 1, 0};
    static const uint8_t zero_len[4] = {7, 0, 0, 0}, one_len[4] = {7, 1, 0, 0};
    static const uint8_t too_long[4] = {7, 5, 0, 0}, cut[4] = {1, 1, 1, 7};
    static const uint8_t lsrr[4] = {131, 3, 4, 0}, ssrr[4] = {137, 3, 4, 0};
    static const uint8_t timestamp[8] = {68, 8, 5, 0, 0, 0, 0, 0};

    (void)state;
    assert_int_equal(mangled(-1, 0, NULL, 0, 100, 100), IPV4_OK);
    assert_int_equal(mangled(-1, 0, NULL, 0, 100, 128), IPV4_OK); /* padding */
    assert_int_equal(mangled(-1, 0, NULL, 0, 19, 100), IPV4_SHORT);
    assert_int_equal(mangled(0, 0x65, NULL, 0, 100, 100), IPV4_VERSION);
    assert_int_equal(mangled(0, 0x44, NULL, 0, 100, 100), IPV4_VERSION);
    assert_int_equal(mangled(0, 0x4f, NULL, 0, 40, 100), IPV4_SHORT);
    assert_int_equal(mangled(10, 0x12, NULL, 0, 100, 100), IPV4_CHECKSUM);
    assert_int_equal(mangled(3, 19, NULL, 0, 100, 100), IPV4_TOTAL);
    assert_int_equal(mangled(3, 101, NULL, 0, 100, 100), IPV4_TOTAL);
    assert_int_equal(mangled(-1, 0, nops, 4, 100, 100), IPV4_OK);
    assert_int_equal(mangled(-1, 0, timestamp, 8, 100, 100), IPV4_OK);
    assert_int_equal(mangled(-1, 0, zero_len, 4, 100, 100), IPV4_OPTIONS);
    assert_int_equal(mangled(-1, 0, one_len, 4, 100, 100), IPV4_OPTIONS);
    assert_int_equal(mangled(-1, 0, too_long, 4, 100, 100), IPV4_OPTIONS);
    assert_int_equal(mangled(-1, 0, cut, 4, 100, 100), IPV4_OPTIONS);
    assert_int_equal(mangled(-1, 0, lsrr, 4, 100, 100), IPV4_OPTIONS);
    assert_int_equal(mangled(-1, 0, ssrr, 4, 100, 100), IPV4_OPTIONS);
}

static void ipv4_kinds_of_addresses(void **state)
{
    (void)state;
    assert_true(ipv4_never_source(addr(127, 0, 0, 1)));
    assert_true(ipv4_never_source(addr(0, 1, 2, 3)));
    assert_true(ipv4_never_source(addr(224, 0, 0, 1)));
    assert_true(ipv4_never_source(0xffffffff));
    assert_false(ipv4_never_source(addr(10, 0, 0, 255)));
    assert_true(ipv4_net_broadcast(addr(10, 0, 0, 255), addr(10, 0, 0, 1), 24));
    assert_false(ipv4_net_broadcast(addr(10, 0, 0, 254), addr(10, 0, 0, 1), 24));
    assert_false(ipv4_net_broadcast(addr(10, 0, 0, 1), addr(10, 0, 0, 0), 31));
    assert_false(ipv4_net_broadcast(addr(10, 0, 0, 1), addr(10, 0, 0, 1), 32));
    assert_int_equal(ipv4_mask(0), 0);
    assert_int_equal(ipv4_mask(32), 0xffffffff);
}

static void arp_round_trip_and_refusals(void **state)
{
    struct arp in = {.op = ARP_REPLY,
                     .sender_mac = {2, 0, 0, 0, 0, 9},
                     .sender = addr(1, 2, 3, 4),
                     .target = addr(4, 3, 2, 1)};
    uint8_t b[ARP_LEN];
    struct arp out;

    (void)state;
    arp_emit(b, &in);
    assert_true(arp_parse(&out, b, sizeof b));
    assert_int_equal(out.op, in.op);
    assert_memory_equal(out.sender_mac, in.sender_mac, 6);
    assert_memory_equal(out.target_mac, in.target_mac, 6);
    assert_int_equal(out.sender, in.sender);
    assert_int_equal(out.target, in.target);
    assert_false(arp_parse(&out, b, ARP_LEN - 1));
    b[7] = 3; /* operation */
    assert_false(arp_parse(&out, b, sizeof b));
    in.sender_mac[0] = 3; /* a group */
    arp_emit(b, &in);
    assert_false(arp_parse(&out, b, sizeof b));
    memset(in.sender_mac, 0, 6);
    arp_emit(b, &in);
    assert_false(arp_parse(&out, b, sizeof b));
    in.sender_mac[5] = 1;
    arp_emit(b, &in);
    b[5] = 16; /* address length */
    assert_false(arp_parse(&out, b, sizeof b));
}

static void udp_length_must_fit(void **state)
{
    const struct udp in = {.src_port = 1, .dst_port = 2, .len = 20};
    uint8_t b[20];
    struct udp u;

    (void)state;
    udp_emit(b, &in);
    assert_true(udp_parse(&u, b, sizeof b, 20));
    assert_false(u.has_csum);
    assert_true(udp_parse(&u, b, sizeof b, 25));
    assert_false(udp_parse(&u, b, sizeof b, 19));
    assert_false(udp_parse(&u, b, 7, 20));
    put16(b + 4, 7);
    assert_false(udp_parse(&u, b, sizeof b, 20));
}

static void icmp_kinds(void **state)
{
    const uint8_t too_big[8] = {3, 4, 0, 0, 0, 0, 5, 0xdc};
    struct icmp i;

    (void)state;
    assert_true(icmp_parse(&i, too_big, 8));
    assert_int_equal(i.mtu, 1500);
    assert_false(icmp_parse(&i, too_big, 7));
    assert_false(icmp_is_error(ICMP_ECHO));
    assert_true(icmp_is_error(ICMP_UNREACHABLE));
    assert_true(icmp_is_error(200)); /* unknown ones count as errors */
}

static void route_longest_prefix(void **state)
{
    static struct stack_config cfg = {.interfaces = 2, .routes = 4};
    static const struct {
        uint8_t dst[4];
        int rc, interface;
        uint8_t hop[4];
    } cases[] = {
        {{10, 1, 2, 3}, 0, 1, {10, 1, 2, 3}},
        {{10, 1, 2, 128}, 0, 0, {10, 9, 9, 9}},
        {{10, 200, 0, 1}, 0, 0, {10, 200, 0, 1}},
        {{8, 8, 8, 8}, 0, 1, {10, 1, 2, 254}},
    };

    (void)state;
    cfg.interface[0].addr = ip_addr_v4(addr(10, 0, 0, 1));
    cfg.interface[1].addr = ip_addr_v4(addr(10, 1, 2, 1));
    cfg.interface[1].mtu = 9000;
    cfg.route[0] = (struct config_route){.dst = ip_addr_v4(addr(10, 1, 2, 128)),
                                         .prefix = 25,
                                         .gateway = ip_addr_v4(addr(10, 9, 9, 9))};
    cfg.route[1] =
        (struct config_route){.dst = ip_addr_v4(addr(10, 1, 2, 0)), .prefix = 24, .interface = 1};
    cfg.route[2] = (struct config_route){.dst = ip_addr_v4(addr(10, 0, 0, 0)), .prefix = 8};
    cfg.route[3] = (struct config_route){
        .dst = ip_addr_v4(0), .interface = 1, .gateway = ip_addr_v4(addr(10, 1, 2, 254))};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ip_addr dst = ip_addr_v4(0);
        struct route r;

        memcpy(&dst.word[0], cases[i].dst, 4);
        assert_int_equal(route_lookup(&cfg, &dst, &r), cases[i].rc);
        assert_int_equal(r.interface, cases[i].interface);
        assert_memory_equal(&r.next_hop.word[0], cases[i].hop, 4);
        assert_true(ip_addr_equal(&r.source, &cfg.interface[r.interface].addr));
    }
    cfg.routes = 3;
    struct ip_addr far = ip_addr_v4(addr(8, 8, 8, 8));
    struct route r;
    assert_int_equal(route_lookup(&cfg, &far, &r), -ENETUNREACH);
    assert_int_equal(route_local(&cfg, &cfg.interface[1].addr), 1);
    assert_int_equal(route_local(&cfg, &far), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ipv4_round_trip),         cmocka_unit_test(ipv4_refuses),
        cmocka_unit_test(ipv4_kinds_of_addresses), cmocka_unit_test(arp_round_trip_and_refusals),
        cmocka_unit_test(udp_length_must_fit),     cmocka_unit_test(icmp_kinds),
        cmocka_unit_test(route_longest_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
