/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ICMP: echoes, errors that concern us, errors of ours.
 */
/* link: eft_ip eft_pf */
#include "tests/unit/ip_flow.h"

static uint8_t l4[4096];
static uint8_t out[70000];

static void echo_is_answered(void **state)
{
    static const size_t sizes[] = {0, 1, 56, 1400};
    struct packet p;
    struct ipv4 h;

    (void)state;
    introduce(PEER, peer_mac);
    for (unsigned i = 0; i < 4; i++) {
        struct ipv4 q = to_us(PROTO_ICMP);
        const size_t n = make_echo(l4, 7, (uint16_t)i, sizes[i]);
        const uint32_t frame = world_frame(w, 0, b, make_ipv4(b, &q, l4, n));

        world_run(w);
        must_return(frame);
        assert_true(world_take(&w->driver[0].from_ip, &p));
        const size_t len = world_bytes(w, &p, out, sizeof out);
        assert_int_equal(ipv4_parse(&h, out + ETH_LEN, len - ETH_LEN, len - ETH_LEN), IPV4_OK);
        assert_int_equal(h.src, OURS);
        assert_int_equal(h.dst, PEER);
        assert_int_equal(len, ETH_LEN + IPV4_LEN + n);
        assert_int_equal(out[ETH_LEN + IPV4_LEN], ICMP_ECHO_REPLY);
        assert_int_equal(csum_fold(csum_partial(out + ETH_LEN + IPV4_LEN, n, 0)), 0);
        assert_memory_equal(out + ETH_LEN + IPV4_LEN + 4, l4 + 4, n - 4);
    }
    world_run(w); /* completions */
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(world_state(w)->buffer[i].owner, BUFFER_FREE);
}

static void echo_with_bad_checksum_or_blocked_reply(void **state)
{
    struct packet p;
    struct ipv4 q = to_us(PROTO_ICMP);

    (void)state;
    introduce(PEER, peer_mac);
    introduce(OTHER, other_mac);
    size_t n = make_echo(l4, 7, 1, 60);
    l4[30] ^= 1;
    world_frame(w, 0, b, make_ipv4(b, &q, l4, n));
    q.src = OTHER; /* rule 2: no ICMP to it */
    world_frame(w, 0, b, make_ipv4(b, &q, l4, make_echo(l4, 7, 1, 60)));
    world_run(w);
    assert_false(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(world_count(w, IP_C_DROP_ICMP_CHECKSUM), 1);
    assert_int_equal(world_count(w, IP_C_DROP_BLOCKED_OUT), 1);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(world_state(w)->buffer[i].owner, BUFFER_FREE);
}

/* An ICMP error about a packet from `src`:80 to the peer. */
static size_t make_error(uint8_t *to, uint8_t type, uint8_t code, uint16_t mtu, uint8_t protocol,
                         uint32_t src, size_t quoted)
{
    const struct ipv4 h = {
        .ttl = 3, .protocol = protocol, .total_len = 1500, .src = src, .dst = PEER};
    const struct icmp i = {.type = type, .code = code, .mtu = mtu};

    memset(to, 0, 100);
    icmp_emit(to, &i);
    if (type == ICMP_UNREACHABLE)
        put16(to + 6, mtu);
    ipv4_emit(to + 8, &h);
    put16(to + 28, 80);
    put16(to + 30, 1000);
    put32(to + 32, 0x12345678);
    put_csum(to + 2, csum_fold(csum_partial(to, 8 + quoted, 0)));
    return 8 + quoted;
}

static void errors_about_ours_reach_the_sender(void **state)
{
    struct packet p;
    struct ipv4 q = to_us(PROTO_ICMP);

    (void)state;
    uint32_t frame =
        world_frame(w, 0, b, make_ipv4(b, &q, l4, make_error(l4, 3, 4, 1400, PROTO_TCP, OURS, 28)));
    world_run(w);
    must_return(frame);
    assert_true(world_take(&w->tcp.from_ip, &p));
    assert_int_equal(p.icmp_type, 3);
    assert_int_equal(p.icmp_code, 4);
    assert_int_equal(p.mss, 1400);
    assert_int_equal(p.hdr_len, 28);
    assert_int_equal(p.l4, 20);
    assert_int_equal(p.pieces, 0);
    assert_int_equal(p.src.word[0], OURS);
    assert_int_equal(p.dst.word[0], PEER);
    assert_int_equal(get32(p.hdr + 24), 0x12345678);

    world_frame(w, 0, b, make_ipv4(b, &q, l4, make_error(l4, 3, 3, 0, PROTO_UDP, OURS, 60)));
    world_run(w);
    assert_true(world_take(&w->udp.from_ip, &p));
    assert_int_equal(p.icmp_code, 3);

    /* Not from us; quote too short; wrong checksum; source quench. */
    world_frame(w, 0, b, make_ipv4(b, &q, l4, make_error(l4, 3, 3, 0, PROTO_TCP, PEER, 28)));
    world_frame(w, 0, b, make_ipv4(b, &q, l4, make_error(l4, 3, 3, 0, PROTO_TCP, OURS, 27)));
    size_t n = make_error(l4, 3, 3, 0, PROTO_TCP, OURS, 28);
    l4[20]++;
    world_frame(w, 0, b, make_ipv4(b, &q, l4, n));
    world_frame(w, 0, b, make_ipv4(b, &q, l4, make_error(l4, 4, 0, 0, PROTO_TCP, OURS, 28)));
    world_run(w);
    assert_false(world_take(&w->tcp.from_ip, &p));
    assert_int_equal(world_count(w, IP_C_DROP_ICMP_QUOTE), 2);
    assert_int_equal(world_count(w, IP_C_DROP_ICMP_CHECKSUM), 1);
    assert_int_equal(world_count(w, IP_C_DROP_ICMP_OTHER), 1);
}

static void unknown_protocol_is_reported_at_a_limited_rate(void **state)
{
    struct packet p;
    struct ipv4 q = to_us(99);
    unsigned n = 0;

    (void)state;
    introduce(PEER, peer_mac);
    w->now += WORLD_SECOND; /* a full bucket */
    for (unsigned i = 0; i < 100; i++) {
        world_frame(w, 0, b, make_ipv4(b, &q, "0123456789", 10));
        world_run(w);
        struct frame_return r;
        assert_true(world_take_return(&w->driver[0].returned, &r));
        for (; world_take(&w->driver[0].from_ip, &p); n++) {
            assert_int_equal(p.hdr[p.l4], ICMP_UNREACHABLE);
            assert_int_equal(p.hdr[p.l4 + 1], ICMP_PROTOCOL);
            assert_int_equal(csum_fold(csum_partial(p.hdr + p.l4, p.hdr_len - p.l4, 0)), 0);
        }
    }
    assert_in_range(n, 40, 50);
    assert_int_equal(world_count(w, IP_C_ICMP_LIMITED), 100 - n);
    assert_int_equal(world_count(w, IP_C_DROP_PROTOCOL), 100);
}

static void port_unreachable_for_udp(void **state)
{
    struct packet in, p;
    struct ipv4 q = to_us(PROTO_UDP);

    (void)state;
    introduce(PEER, peer_mac);
    w->now += WORLD_SECOND;
    world_frame(w, 0, b, make_ipv4(b, &q, l4, make_udp(l4, 4444, 5555, 1, 30)));
    world_run(w);
    assert_true(world_take(&w->udp.from_ip, &in));
    struct packet answer = {.hdr_len = in.hdr_len,
                            .l3 = 0,
                            .protocol = PROTO_UDP,
                            .flags = PACKET_UNREACHABLE,
                            .chain = TCP_NO_CHAIN};
    void *slot;
    memcpy(answer.hdr, in.hdr, in.hdr_len);
    assert_int_equal(chan_tx_reserve(&w->udp.to_ip, 0, 0, 0, &slot), CHAN_OK);
    packet_put(slot, &answer);
    chan_tx_commit(&w->udp.to_ip);
    chan_tx_publish(&w->udp.to_ip);
    world_run(w);
    assert_true(world_take(&w->driver[0].from_ip, &p));
    assert_int_equal(p.hdr[p.l4], ICMP_UNREACHABLE);
    assert_int_equal(p.hdr[p.l4 + 1], ICMP_PORT);
    assert_memory_equal(p.hdr + p.l4 + 8, in.hdr, in.hdr_len);
    assert_int_equal(p.dst.word[0], PEER);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(echo_is_answered),
        T(echo_with_bad_checksum_or_blocked_reply),
        T(errors_about_ours_reach_the_sender),
        T(unknown_protocol_is_reported_at_a_limited_rate),
        T(port_unreachable_for_udp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
