/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip and pf with three rules, started, and what comes back to a driver. For the test programs of
 * ip; each has its own copy.
 */
#ifndef EFT_TESTS_UNIT_IP_FLOW_H
#define EFT_TESTS_UNIT_IP_FLOW_H

#include "tests/unit/ip_world.h"

#include <setjmp.h>

#include <cmocka.h>

static struct world *w;
static uint8_t b[4096];

static inline int setup(void **state)
{
    struct stack_config cfg;

    (void)state;
    world_config(&cfg);
    cfg.rules = 3;
    cfg.rule[0] = (struct config_rule){.action = RULE_BLOCK,
                                       .direction = RULE_IN,
                                       .interface = 255,
                                       .dst_port_lo = 666,
                                       .dst_port_hi = 666};
    cfg.rule[1] = (struct config_rule){.action = RULE_BLOCK,
                                       .direction = RULE_OUT,
                                       .interface = 255,
                                       .dst_port_lo = 667,
                                       .dst_port_hi = 667};
    cfg.rule[2] = (struct config_rule){.action = RULE_BLOCK,
                                       .direction = RULE_OUT,
                                       .interface = 255,
                                       .protocol = PROTO_ICMP,
                                       .dst = ip_addr_v4(OTHER),
                                       .dst_prefix = 32};
    w = world_new(&cfg);
    world_start(w, w->ip);
    world_start(w, w->pf);
    /* The announcements of the first start. */
    struct packet p;
    world_run(w);
    for (unsigned i = 0; i < WORLD_PORTS; i++) {
        assert_true(world_take(&w->driver[i].from_ip, &p));
        assert_int_equal(get16(p.hdr + 12), ETH_ARP);
        assert_false(world_take(&w->driver[i].from_ip, &p));
    }
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    world_free(w);
    return 0;
}

static inline void must_return(uint32_t frame)
{
    struct frame_return r;

    assert_true(world_take_return(&w->driver[0].returned, &r));
    assert_int_equal(r.frame, frame);
    assert_false(world_take_return(&w->driver[0].returned, &r));
}

static inline void must_not_return(void)
{
    struct frame_return r;
    assert_false(world_take_return(&w->driver[0].returned, &r));
}

/* The peer is known, and what that cost is out of the way. */
static inline void introduce(uint32_t addr, const uint8_t mac[6])
{
    struct packet p;
    struct frame_return r;

    world_introduce(w, addr, mac);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_true(world_take_return(&w->driver[0].returned, &r));
}

static inline struct ipv4 to_us(uint8_t protocol)
{
    return (struct ipv4){.protocol = protocol, .src = PEER, .dst = OURS};
}

#endif
