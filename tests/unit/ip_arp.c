/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ARP: what is answered, asked, believed, and waited for.
 */
/* link: eft_ip eft_pf */
#include "tests/unit/ip_flow.h"

static void arp_request_is_answered(void **state)
{
    struct packet p;
    struct arp a;

    (void)state;
    const uint32_t frame = world_frame(w, 0, b,
                                       make_arp(b, (const uint8_t *)"\xff\xff\xff\xff\xff\xff",
                                                ARP_REQUEST, peer_mac, PEER, OURS));
    world_run(w);
    must_return(frame);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(p.hdr_len, ETH_LEN + ARP_LEN);
    assert_memory_equal(p.hdr, peer_mac, 6);
    assert_memory_equal(p.hdr + 6, our_mac, 6);
    assert_true(arp_parse(&a, p.hdr + ETH_LEN, ARP_LEN));
    assert_int_equal(a.op, ARP_REPLY);
    assert_int_equal(a.sender, OURS);
    assert_int_equal(a.target, PEER);
    assert_memory_equal(a.sender_mac, our_mac, 6);
    /* A probe (RFC 5227) is answered and not learnt from. */
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REQUEST, other_mac, 0, OURS));
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_memory_equal(p.hdr, other_mac, 6);
}

static unsigned arp_requests_for(uint32_t target, uint8_t to[6])
{
    struct packet p;
    struct arp a;
    unsigned n = 0;

    while (world_take(&w->driver[0].from_ip, &p))
        if (get16(p.hdr + 12) == ETH_ARP && arp_parse(&a, p.hdr + ETH_LEN, ARP_LEN) &&
            a.op == ARP_REQUEST && a.target == target) {
            memcpy(to, p.hdr, 6);
            n++;
        }
    return n;
}

static void unknown_neighbour_is_asked_then_packets_flow(void **state)
{
    struct packet p;
    uint8_t to[6];

    (void)state;
    const uint32_t most = 64;
    for (uint32_t i = 0; i <= most; i++) {
        world_tcp_send(w, PEER, 1000, i, i, 1, 10, 0);
        world_run(w);
    }
    assert_int_equal(arp_requests_for(PEER, to), 1);
    assert_true(mac_broadcast(to));
    /* The list holds so many for one neighbour: the oldest was dropped, and its chain is free. */
    assert_int_equal(world_count(w, IP_C_DROP_PENDING_FULL), 1);
    assert_int_equal(world_tcp_done(w, 0), 1);
    assert_int_equal(world_tcp_done(w, 1), 0);
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REPLY, peer_mac, PEER, OURS));
    world_run(w);
    for (uint32_t i = 1; i <= most; i++) {
        assert_true(world_take(&w->driver[0].from_ip, &p));
        assert_memory_equal(p.hdr, peer_mac, 6);
        assert_int_equal(get32(p.hdr + p.l4 + 4), i);
        assert_int_equal(p.chain, i);
        assert_int_equal(p.csum, CSUM_PARTIAL);
        assert_int_equal(p.pieces, 1);
    }
    assert_false(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(world_tcp_done(w, most), 0); /* the head has moved, ip has not looked */
    world_run(w);
    for (uint32_t i = 1; i <= most; i++)
        assert_int_equal(world_tcp_done(w, i), 1);
}

static void neighbour_that_never_answers(void **state)
{
    struct packet p;
    uint8_t to[6];

    (void)state;
    world_tcp_send(w, GHOST, 1000, 5, 0, 1, 10, 0);
    world_run(w);
    assert_int_equal(arp_requests_for(GHOST, to), 1);
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t due = ip_ops.deadline(w->ip);
        assert_true(due <= w->now + WORLD_SECOND);
        w->now = due;
        world_run(w);
        assert_int_equal(arp_requests_for(GHOST, to), 1);
        assert_int_equal(world_tcp_done(w, 0), 0);
    }
    w->now = ip_ops.deadline(w->ip);
    world_run(w);
    assert_int_equal(arp_requests_for(GHOST, to), 0);
    assert_int_equal(world_tcp_done(w, 0), 1);
    assert_int_equal(world_count(w, IP_C_DROP_NEIGHBOUR), 1);
    assert_true(world_take(&w->tcp.from_ip, &p)); /* tcp learns of it */
    assert_int_equal(p.icmp_type, ICMP_UNREACHABLE);
    assert_int_equal(p.icmp_code, ICMP_HOST);
    assert_int_equal(p.l4, 20);
    assert_int_equal(get32(p.hdr + 24), 5);
    assert_int_equal(ip_ops.deadline(w->ip), NEVER);
}

static void entries_are_not_overwritten(void **state)
{
    struct packet p;
    uint8_t to[6];

    (void)state;
    introduce(PEER, peer_mac);
    /* Forged reply, and forged gratuitous request. */
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REPLY, other_mac, PEER, OURS));
    world_frame(w, 0, b,
                make_arp(b, (const uint8_t *)"\xff\xff\xff\xff\xff\xff", ARP_REQUEST, other_mac,
                         PEER, PEER));
    world_run(w);
    assert_int_equal(world_count(w, IP_C_ARP_DISPUTED), 2);
    assert_int_equal(arp_requests_for(PEER, to), 1);
    assert_memory_equal(to, peer_mac, 6); /* who we know is asked, once */
    world_tcp_send(w, PEER, 1000, 1, 0, 1, 0, 0);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_memory_equal(p.hdr, peer_mac, 6);
    /* It answers: all is as before. */
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REPLY, peer_mac, PEER, OURS));
    world_run(w);
    w->now += 10 * WORLD_SECOND;
    world_run(w);
    assert_int_equal(arp_requests_for(PEER, to), 0);
    /* Now it has really moved: it does not answer, the entry goes, and everybody is asked. */
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REPLY, other_mac, PEER, OURS));
    for (unsigned i = 0; i < 3; i++) {
        world_run(w);
        assert_int_equal(arp_requests_for(PEER, to), 1);
        assert_memory_equal(to, peer_mac, 6);
        w->now += WORLD_SECOND;
    }
    world_run(w);
    world_tcp_send(w, PEER, 1000, 2, 1, 1, 0, 0);
    world_run(w);
    assert_int_equal(arp_requests_for(PEER, to), 1);
    assert_true(mac_broadcast(to));
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REPLY, other_mac, PEER, OURS));
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_memory_equal(p.hdr, other_mac, 6);
}

static void unsolicited_replies_make_no_entry(void **state)
{
    uint8_t to[6];

    (void)state;
    world_frame(w, 0, b, make_arp(b, our_mac, ARP_REPLY, other_mac, PEER, OURS));
    world_run(w);
    assert_int_equal(world_count(w, IP_C_ARP_UNSOLICITED), 1);
    world_tcp_send(w, PEER, 1000, 1, 0, 1, 0, 0);
    world_run(w);
    assert_int_equal(arp_requests_for(PEER, to), 1);
}

static void our_address_is_defended(void **state)
{
    uint8_t to[6];

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        world_frame(w, 0, b,
                    make_arp(b, (const uint8_t *)"\xff\xff\xff\xff\xff\xff", ARP_REQUEST, other_mac,
                             OURS, OURS));
    world_run(w);
    assert_int_equal(world_count(w, IP_C_ARP_CONFLICT), 5);
    assert_int_equal(arp_requests_for(OURS, to), 1);
    assert_true(mac_broadcast(to));
}

static void old_entries_are_confirmed_while_used(void **state)
{
    struct packet p;
    uint8_t to[6];

    (void)state;
    introduce(PEER, peer_mac);
    w->now += 61 * WORLD_SECOND;
    world_tcp_send(w, PEER, 1000, 1, 0, 1, 0, 0);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p)); /* the request, to the known address */
    memcpy(to, p.hdr, 6);
    assert_memory_equal(to, peer_mac, 6);
    assert_true(world_take(&w->driver[0].from_ip, &p)); /* and the packet is not held up */
    assert_int_equal(get16(p.hdr + 12), ETH_IPV4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(arp_request_is_answered),
        T(unknown_neighbour_is_asked_then_packets_flow),
        T(neighbour_that_never_answers),
        T(entries_are_not_overwritten),
        T(unsolicited_replies_make_no_entry),
        T(our_address_is_defended),
        T(old_entries_are_confirmed_while_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
