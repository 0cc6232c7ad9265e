/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The rules of the packet filter, as a table.
 */
/* link: eft_pf */
#include "servers/pf/rules.h"
#include "servers/wire/ipv4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint32_t addr(unsigned a, unsigned b, unsigned c, unsigned d)
{
    return __builtin_bswap32(a << 24 | b << 16 | c << 8 | d);
}

static struct stack_config cfg;

static void setup_rules(void)
{
    struct config_rule *r = cfg.rule;

    memset(&cfg, 0, sizeof cfg);
    /* 0: ssh in from 10/8 passes */
    *r++ = (struct config_rule){.action = RULE_PASS,
                                .direction = RULE_IN,
                                .interface = 255,
                                .protocol = PROTO_TCP,
                                .src = ip_addr_v4(addr(10, 0, 0, 0)),
                                .src_prefix = 8,
                                .dst_port_lo = 22,
                                .dst_port_hi = 22,
                                .src_port_hi = 65535};
    /* 1: any other ssh in is blocked */
    *r++ = (struct config_rule){.action = RULE_BLOCK,
                                .direction = RULE_IN,
                                .interface = 255,
                                .protocol = PROTO_TCP,
                                .dst_port_lo = 22,
                                .dst_port_hi = 22};
    /* 2: nothing leaves interface 1 for 192.168.0.0/17 */
    *r++ = (struct config_rule){.action = RULE_BLOCK,
                                .direction = RULE_OUT,
                                .interface = 1,
                                .dst = ip_addr_v4(addr(192, 168, 0, 0)),
                                .dst_prefix = 17};
    /* 3: udp 1000..2000 blocked both ways */
    *r++ = (struct config_rule){.action = RULE_BLOCK,
                                .direction = RULE_BOTH,
                                .interface = 255,
                                .protocol = PROTO_UDP,
                                .dst_port_lo = 1000,
                                .dst_port_hi = 2000};
    /* 4: one host may not send ICMP */
    *r++ = (struct config_rule){.action = RULE_BLOCK,
                                .direction = RULE_IN,
                                .interface = 255,
                                .protocol = PROTO_ICMP,
                                .src = ip_addr_v4(addr(10, 0, 0, 66)),
                                .src_prefix = 32};
    /* 5: an action that nobody knows blocks */
    *r++ =
        (struct config_rule){.action = 9, .direction = RULE_BOTH, .interface = 255, .protocol = 99};
    /* 6: a rule about source ports says nothing about packets without ports */
    *r++ = (struct config_rule){.action = RULE_BLOCK,
                                .direction = RULE_BOTH,
                                .interface = 255,
                                .src_port_lo = 7,
                                .src_port_hi = 7};
    cfg.rules = (uint32_t)(r - cfg.rule);
}

static void table(void **state)
{
    static const struct {
        uint8_t direction, interface, protocol, src[4], dst[4];
        uint16_t sport, dport;
        enum rule_action want;
        uint16_t rule;
    } cases[] = {
        {RULE_IN, 0, 6, {10, 255, 0, 1}, {1, 1, 1, 1}, 5, 22, RULE_PASS, 0},
        {RULE_IN, 0, 6, {11, 0, 0, 1}, {1, 1, 1, 1}, 5, 22, RULE_BLOCK, 1},
        {RULE_IN, 0, 6, {11, 0, 0, 1}, {1, 1, 1, 1}, 5, 23, RULE_PASS, RULE_NONE},
        {RULE_OUT, 0, 6, {11, 0, 0, 1}, {1, 1, 1, 1}, 5, 22, RULE_PASS, RULE_NONE},
        {RULE_IN, 0, 17, {11, 0, 0, 1}, {1, 1, 1, 1}, 5, 22, RULE_PASS, RULE_NONE},
        {RULE_OUT, 1, 6, {1, 1, 1, 1}, {192, 168, 127, 255}, 5, 80, RULE_BLOCK, 2},
        {RULE_OUT, 1, 6, {1, 1, 1, 1}, {192, 168, 128, 0}, 5, 80, RULE_PASS, RULE_NONE},
        {RULE_OUT, 0, 6, {1, 1, 1, 1}, {192, 168, 127, 255}, 5, 80, RULE_PASS, RULE_NONE},
        {RULE_IN, 1, 6, {1, 1, 1, 1}, {192, 168, 127, 255}, 5, 80, RULE_PASS, RULE_NONE},
        {RULE_IN, 0, 17, {1, 1, 1, 1}, {2, 2, 2, 2}, 5, 999, RULE_PASS, RULE_NONE},
        {RULE_IN, 0, 17, {1, 1, 1, 1}, {2, 2, 2, 2}, 5, 1000, RULE_BLOCK, 3},
        {RULE_OUT, 0, 17, {1, 1, 1, 1}, {2, 2, 2, 2}, 5, 2000, RULE_BLOCK, 3},
        {RULE_OUT, 0, 17, {1, 1, 1, 1}, {2, 2, 2, 2}, 5, 2001, RULE_PASS, RULE_NONE},
        {RULE_IN, 0, 1, {10, 0, 0, 66}, {2, 2, 2, 2}, 0, 0, RULE_BLOCK, 4},
        {RULE_IN, 0, 1, {10, 0, 0, 67}, {2, 2, 2, 2}, 0, 0, RULE_PASS, RULE_NONE},
        {RULE_IN, 0, 99, {10, 0, 0, 67}, {2, 2, 2, 2}, 0, 0, RULE_BLOCK, 5},
        {RULE_IN, 0, 6, {1, 1, 1, 1}, {2, 2, 2, 2}, 7, 80, RULE_BLOCK, 6},
        {RULE_IN, 0, 50, {1, 1, 1, 1}, {2, 2, 2, 2}, 0, 0, RULE_PASS, RULE_NONE},
    };

    (void)state;
    setup_rules();
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rule_subject s = {.direction = cases[i].direction,
                                 .interface = cases[i].interface,
                                 .protocol = cases[i].protocol,
                                 .ports = cases[i].protocol == 6 || cases[i].protocol == 17,
                                 .src_port = cases[i].sport,
                                 .dst_port = cases[i].dport,
                                 .src = ip_addr_v4(0),
                                 .dst = ip_addr_v4(0)};
        uint16_t rule;

        memcpy(&s.src.word[0], cases[i].src, 4);
        memcpy(&s.dst.word[0], cases[i].dst, 4);
        if (rules_match(&cfg, &s, &rule) != cases[i].want || rule != cases[i].rule)
            fail_msg("case %u: rule %u", i, rule);
    }
}

static struct packet question(void)
{
    const struct ipv4 h = {.ttl = 1,
                           .protocol = PROTO_TCP,
                           .total_len = 40,
                           .src = addr(10, 0, 0, 2),
                           .dst = addr(10, 0, 0, 1)};
    struct packet p = {
        .hdr_len = 40, .l3 = 0, .l4 = 20, .protocol = PROTO_TCP, .direction = RULE_IN};

    ipv4_emit(p.hdr, &h);
    put16(p.hdr + 20, 1234);
    put16(p.hdr + 22, 80);
    return p;
}

static void subject_is_what_the_headers_say(void **state)
{
    struct packet p = question();
    struct rule_subject s;

    (void)state;
    p.src = ip_addr_v4(addr(9, 9, 9, 9)); /* not the header: not believed */
    assert_true(rules_subject(&s, &p));
    assert_int_equal(s.src.word[0], addr(10, 0, 0, 2));
    assert_int_equal(s.src_port, 1234);
    assert_int_equal(s.dst_port, 80);

    p = question();
    p.protocol = PROTO_UDP; /* fields and header disagree */
    assert_false(rules_subject(&s, &p));
    p = question();
    p.l4 = 24;
    assert_false(rules_subject(&s, &p));
    p = question();
    p.hdr_len = 26; /* ports are there, more is not */
    assert_false(rules_subject(&s, &p));
    p = question();
    p.direction = RULE_BOTH;
    assert_false(rules_subject(&s, &p));
    p = question();
    p.hdr[6] = 0x20; /* a fragment */
    assert_false(rules_subject(&s, &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(subject_is_what_the_headers_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
