/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ICMP, and the path MTU: black holes, and what is remembered of a destination.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

/* About a segment of ours, of `dropped` bytes with its IP header. */
static void icmp(uint8_t type, uint8_t code, uint16_t mtu, uint16_t dropped, uint32_t seq)
{
    struct packet p = {
        .icmp_type = type, .icmp_code = code, .mss = mtu, .protocol = 6, .chain = TCP_NO_CHAIN};
    void *slot;
    p.hdr_len = 28;
    p.hdr[0] = 0x45;
    p.hdr[2] = (uint8_t)(dropped >> 8);
    p.hdr[3] = (uint8_t)dropped;
    p.hdr[9] = 6;
    memcpy(p.hdr + 12, us->cfg.interface[0].addr.v6, 4);
    memcpy(p.hdr + 16, w.side[1].cfg.interface[0].addr.v6, 4);
    p.hdr[20] = (uint8_t)(our_port >> 8);
    p.hdr[21] = (uint8_t)our_port;
    p.hdr[22] = (uint8_t)(their_port >> 8);
    p.hdr[23] = (uint8_t)their_port;
    for (unsigned i = 0; i < 4; i++)
        p.hdr[24 + i] = (uint8_t)(seq >> (24 - 8 * i));
    assert_int_equal(chan_tx_reserve(&us->to_tcp, 0, us->to_tcp.tail, 0, &slot), CHAN_OK);
    packet_put(slot, &p);
    chan_tx_commit(&us->to_tcp);
    chan_tx_publish(&us->to_tcp);
    look();
}

static void icmp_too_big(uint16_t next_mtu, uint16_t dropped, uint32_t seq)
{
    icmp(3, 4, next_mtu, dropped, seq);
}

/* The peer takes 1460 bytes a segment. */
static void accept_wide(void)
{
    sock_claim(&k, &listener);
    deliver_segment(
        (struct tcp_seg){.flags = TH_SYN, .seq = their_iss, .wnd = PEER_WINDOW, .mss = 1460}, bytes,
        false);
    look();
    our_iss = last.seq;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    sock_step(&k);
    assert_true(k.open);
}

static void wide_state(unsigned write)
{
    listen_state();
    accept_wide();
    assert_int_equal(conn()->mss, 1460);
    if (write)
        app_writes(write);
}

static void again(uint16_t port)
{
    their_port = port;
    k = (struct sock){.s = us, .app = listener.app, .slot = k.slot + 1};
    accept_wide();
}

static void smaller_at_once(void **state)
{
    (void)state;
    wide_state(3000);
    uint64_t cwnd = conn()->cwnd;
    icmp_too_big(1300, 1500, our(0));
    assert_int_equal(conn()->mss, 1260);
    assert_true(sent >= 3);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
    assert_true(conn()->cwnd + 1460 >= cwnd); /* no sign of congestion */
    inject(TH_ACK, their(0), our(3000), NULL, 0);
    assert_int_equal(conn()->tx_una, 3000);
}

static void not_larger(void **state)
{
    (void)state;
    wide_state(3000);
    icmp_too_big(9000, 1500, our(0));
    assert_int_equal(conn()->mss, 1460);
    assert_int_equal(counter(TCP_C_PMTU_LESS), 0);
}

static void forged(void **state)
{
    (void)state;
    wide_state(3000);
    icmp_too_big(68, 1500, our(5000)); /* quotes what is not under way */
    assert_int_equal(conn()->mss, 1460);
    icmp_too_big(68, 1500, our(0)); /* does, by chance: the floor holds */
    assert_int_equal(conn()->mss, 552 - 40);
}

static void router_of_old(void **state)
{
    static const struct {
        uint16_t dropped, mtu;
    } row[] = {{1500, 1492}, {1492, 1480}, {1480, 1400}, {1400, 1280}, {1280, 1006}, {1006, 552}};
    (void)state;
    wide_state(3000);
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        icmp_too_big(0, row[i].dropped, our(0));
        assert_int_equal(conn()->mss, row[i].mtu - 40);
    }
    icmp_too_big(0, 552, our(0));
    assert_int_equal(conn()->mss, 512);
}

static void remembered_for_the_next(void **state)
{
    (void)state;
    wide_state(3000);
    icmp_too_big(1300, 1500, our(0));
    inject(TH_ACK, their(0), our(3000), NULL, 0);
    again(6000);
    assert_int_equal(conn()->mss, 1260);
    later(601 * SEC);
    again(6001);
    assert_int_equal(conn()->mss, 1460);
    /* Only for this destination. */
    struct ip_addr other = ip_addr_v4(0x01020304);
    assert_int_equal(tcp_pmtu_get(us->tcp->state, &other), 0);
}

static unsigned timeouts(unsigned n)
{
    unsigned before = (unsigned)counter(TCP_C_TIMEOUTS), s = 0;
    while (counter(TCP_C_TIMEOUTS) < before + n && s++ < 3000)
        later(100 * MSEC);
    return (unsigned)counter(TCP_C_TIMEOUTS) - before;
}

static void black_hole(void **state)
{
    (void)state;
    wide_state(4380);
    assert_int_equal(timeouts(2), 2);
    assert_int_equal(conn()->mss, 1460);
    assert_int_equal(timeouts(1), 1);
    assert_int_equal(conn()->mss, 1024);
    assert_int_equal(counter(TCP_C_BLACK_HOLES), 1);
    assert_int_equal(last.seq, our(0));
    assert_int_equal(last.len, 1024);
    assert_int_equal(timeouts(1), 1);
    assert_int_equal(conn()->mss, 512);
    assert_int_equal(timeouts(1), 1);
    assert_int_equal(conn()->mss, 512);
    inject(TH_ACK, their(0), our(4380), NULL, 0);
    assert_int_equal(conn()->tx_una, 4380);
    again(6000);
    assert_int_equal(conn()->mss, 512);
}

/* What is small was not too large. */
static void small_segments_prove_nothing(void **state)
{
    (void)state;
    wide_state(100);
    assert_int_equal(timeouts(4), 4);
    assert_int_equal(conn()->mss, 1460);
}

static void off(struct stack_config *cfg)
{
    cfg->tcp_mtu_probing = CONFIG_MTU_OFF;
}

static int begin_off(void **state)
{
    adjust = off;
    return begin(state);
}

static int begin_default(void **state)
{
    adjust = NULL;
    return begin(state);
}

static void black_hole_off(void **state)
{
    (void)state;
    wide_state(4380);
    assert_int_equal(timeouts(5), 5);
    assert_int_equal(conn()->mss, 1460);
}

static void syn_sent_unreachable(void **state)
{
    int result = 0;
    (void)state;
    syn_sent_state();
    icmp(3, 1, 0, 0, our_iss + 99); /* quotes what was not sent */
    assert_false(sock_replied(&k, NULL));
    icmp(3, 1, 0, 0, our_iss);
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -EHOSTUNREACH);
}

static void established_icmp(void **state)
{
    (void)state;
    established_state();
    app_writes(3000);
    uint32_t mss = conn()->mss;
    icmp(3, 3, 0, 0, our(0)); /* soft once synchronised */
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    icmp_too_big(100, 0, our(0)); /* forged: the floor holds */
    assert_int_equal(conn()->mss, 552 - 40);
    assert_true(conn()->mss < mss);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

#define T(f, b) cmocka_unit_test_setup_teardown(f, b, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(smaller_at_once, begin_default),
        T(not_larger, begin_default),
        T(forged, begin_default),
        T(router_of_old, begin_default),
        T(remembered_for_the_next, begin_default),
        T(black_hole, begin_default),
        T(small_segments_prove_nothing, begin_default),
        T(black_hole_off, begin_off),
        T(syn_sent_unreachable, begin_default),
        T(established_icmp, begin_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
