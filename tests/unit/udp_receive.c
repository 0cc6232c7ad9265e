/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Datagrams to sockets: whose they are, rings that are full or lie, errors, what nobody wants.
 */
/* link: eft_harness eft_udp */
#include "udp_socket.h"

static void test_receive(void **state)
{
    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    ip_send(&w, peer(9), ours(5000), "hello", 5, 0);
    ip_send(&w, peer(9), ours(5000), "", 0, 0);
    ip_send(&w, peer(9), ours(5000), "odd", 3, SEND_NO_SUM);
    ip_send(&w, peer(9), ours(5000), "bad", 3, SEND_BAD_SUM);
    ip_send(&w, peer(9), ours(5000), "device", 6, SEND_BAD_SUM | SEND_PARTIAL);
    settle(&w);
    expect(0, 0, 9, "hello");
    expect(0, 0, 9, "");
    expect(0, 0, 9, "odd");
    expect(0, 0, 9, "device");
    expect_nothing(0, 0);
    assert_int_equal(driver_collect(&w), 5);
    assert_int_equal(counter(&w, UDP_DROP_CHECKSUM), 1);
}

static void test_receive_most_specific_wins(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        open_slot(&w, 0, i);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), BIND_REUSEADDR), 0);
    assert_int_equal(do_bind(&w, 0, 1, ours(5000), BIND_REUSEADDR), 0);
    assert_int_equal(do_bind(&w, 0, 2, port(5000), BIND_REUSEADDR), 0);
    assert_int_equal(do_connect(&w, 0, 2, peer(77)), 0);
    assert_int_equal(down_slot(&w, 0, 2)->local.addr.v4, htonl(OUR_ADDRESS));
    ip_send(&w, peer(77), ours(5000), "connected", 9, 0);
    ip_send(&w, peer(78), ours(5000), "bound", 5, 0);
    settle(&w);
    expect(0, 2, 77, "connected");
    expect(0, 1, 78, "bound");
    for (uint32_t i = 0; i < 3; i++)
        expect_nothing(0, i);
    /* Dissolved: nobody's in particular, and its address goes with the connection. */
    assert_int_equal(do_connect(&w, 0, 2, (struct sock_name){0}), 0);
    assert_true(ip_addr_any(&down_slot(&w, 0, 2)->local.addr));
    ip_send(&w, peer(77), ours(5000), "again", 5, 0);
    settle(&w);
    expect(0, 1, 77, "again");
}

static void test_receive_reuseport_spreads_flows(void **state)
{
    unsigned got[4] = {0};
    struct dgram h;

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        open_slot(&w, i % 3, i);
        assert_int_equal(do_bind(&w, i % 3, i, port(5000), BIND_REUSEPORT), 0);
    }
    for (uint16_t p = 1; p <= 200; p++) {
        ip_send(&w, peer(p), ours(5000), "x", 1, 0);
        ip_send(&w, peer(p), ours(5000), "x", 1, 0);
        settle(&w);
        driver_collect(&w);
        for (uint32_t i = 0; i < 4; i++) {
            unsigned n = 0;
            while (app_read(&w, i % 3, i, &h, NULL, 0) >= 0)
                n++;
            assert_true(n == 0 || n == 2); /* one flow, one socket */
            got[i] += n;
        }
    }
    for (uint32_t i = 0; i < 4; i++)
        assert_in_range(got[i], 40, 180);
    assert_int_equal(got[0] + got[1] + got[2] + got[3], 400);
}

static void test_broadcast_reaches_all(void **state)
{
    const struct sock_name all = name_v4(0x0a0000ff, 5000);
    struct dgram h;
    char b[8];

    (void)state;
    for (unsigned a = 0; a < 3; a++) {
        open_slot(&w, a, 0);
        assert_int_equal(do_bind(&w, a, 0, port(5000), BIND_REUSEADDR), 0);
    }
    ip_send(&w, peer(9), all, "all", 3, SEND_BROADCAST);
    ip_send(&w, peer(9), name_v4(0x0a0000ff, 5001), "none", 4, SEND_BROADCAST);
    settle(&w);
    for (unsigned a = 0; a < 3; a++)
        assert_int_equal(app_read(&w, a, 0, &h, b, sizeof b), 3);
    assert_int_equal(driver_collect(&w), 2);
    assert_int_equal(counter(&w, UDP_UNREACHABLE), 0); /* never about a broadcast */
}

static void test_unreachable(void **state)
{
    struct packet p;
    uint8_t data[64];

    (void)state;
    ip_send(&w, peer(9), ours(5000), "?", 1, 0);
    ip_send(&w, peer(9), ours(5000), "?", 1, SEND_BAD_SUM);
    settle(&w);
    assert_true(ip_take(&w, &p, data, true));
    assert_int_equal(p.flags, PACKET_UNREACHABLE);
    assert_int_equal(p.hdr_len, 28);
    assert_int_equal(p.hdr[0], 0x45);
    assert_int_equal(p.dst.v4, htonl(PEER));
    assert_false(ip_take(&w, &p, data, true));
    assert_int_equal(driver_collect(&w), 2);
}

static void test_ring_full_drops_and_counts(void **state)
{
    static uint8_t big[1400];
    struct dgram h;
    unsigned n = 0;

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    for (unsigned i = 0; i < 60; i++) {
        ip_send(&w, peer(9), ours(5000), big, sizeof big, 0);
        settle(&w);
        driver_collect(&w);
    }
    while (app_read(&w, 0, 0, &h, NULL, 0) >= 0)
        n++;
    assert_int_equal(n, 65536 / DGRAM_SPACE(1400));
    assert_int_equal(counter(&w, UDP_DROP_FULL), 60 - n);
    ip_send(&w, peer(9), ours(5000), "after", 5, 0);
    settle(&w);
    expect(0, 0, 9, "after");
}

static void test_receive_over_the_end_of_the_ring(void **state)
{
    uint8_t data[1300], got[1300];
    struct dgram h;

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    for (unsigned i = 0; i < 200; i++) {
        for (unsigned k = 0; k < sizeof data; k++)
            data[k] = (uint8_t)(i * 7 + k);
        ip_send(&w, peer(9), ours(5000), data, 1 + i * 6, 0);
        settle(&w);
        driver_collect(&w);
        assert_int_equal(app_read(&w, 0, 0, &h, got, sizeof got), 1 + (int)i * 6);
        assert_memory_equal(got, data, 1 + i * 6);
    }
}

static void test_rcvbuf_grows_without_loss(void **state)
{
    uint8_t data[1000], got[1000];
    struct dgram h;
    unsigned sent = 0, read = 0;

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    for (; sent < 100; sent++) {
        if (sent == 20)
            assert_int_equal(do_setopt(&w, 0, 0, OPT_RCVBUF, 200000), 0);
        memset(data, (int)sent, sizeof data);
        ip_send(&w, peer(9), ours(5000), data, sizeof data, 0);
        settle(&w);
        driver_collect(&w);
        if (sent == 50)
            udp_restart(&w, 3);
    }
    for (; app_read(&w, 0, 0, &h, got, sizeof got) >= 0; read++) {
        memset(data, (int)read, sizeof data);
        assert_memory_equal(got, data, sizeof data);
    }
    assert_int_equal(read, 100);
    /* The old block is given back with the next datagram. */
    ip_send(&w, peer(9), ours(5000), "x", 1, 0);
    settle(&w);
    const struct down_slot *d = down_slot(&w, 0, 0);
    assert_int_equal(d->rx[d->select >> 1 & 1].block[0].size, 262144);
    assert_int_equal(d->rx[d->select >> 1 & 1].block[1].size, 0);
    expect(0, 0, 9, "x");
}

static void test_merged_datagrams_are_split(void **state)
{
    uint8_t data[1000], got[400];
    struct dgram h;

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i / 3);
    ip_send_frame(&w, peer(9), ours(5000), data, sizeof data, SEND_PARTIAL, 400);
    settle(&w);
    assert_int_equal(app_read(&w, 0, 0, &h, got, sizeof got), 400);
    assert_memory_equal(got, data, 400);
    assert_int_equal(app_read(&w, 0, 0, &h, got, sizeof got), 400);
    assert_memory_equal(got, data + 400, 400);
    assert_int_equal(app_read(&w, 0, 0, &h, got, sizeof got), 200);
    assert_memory_equal(got, data + 800, 200);
    assert_int_equal(driver_collect(&w), 1);
}

static void test_icmp_errors(void **state)
{
    (void)state;
    open_slot(&w, 0, 0);
    open_slot(&w, 0, 1);
    assert_int_equal(do_connect(&w, 0, 0, peer(77)), 0);
    assert_int_equal(do_bind(&w, 0, 1, port(5000), 0), 0);
    const struct sock_name local = ours(down_slot(&w, 0, 0)->local.port);
    ip_icmp(&w, local, peer(77), 3, 1); /* host unreachable: soft */
    ip_icmp(&w, local, peer(78), 3, 3); /* another peer */
    ip_icmp(&w, ours(5000), peer(9), 3, 3);
    settle(&w);
    assert_int_equal(down_slot(&w, 0, 0)->error_seq, 0);
    assert_int_equal(down_slot(&w, 0, 1)->error_seq, 0);
    ip_icmp(&w, local, peer(77), 3, 3);
    settle(&w);
    assert_int_equal(down_slot(&w, 0, 0)->error_seq, 1);
    assert_int_equal(down_slot(&w, 0, 0)->error, ECONNREFUSED);
    assert_int_equal(do_setopt(&w, 0, 1, OPT_RECVERR, 1), 0);
    ip_icmp(&w, ours(5000), peer(9), 3, 3);
    settle(&w);
    assert_int_equal(down_slot(&w, 0, 1)->error_seq, 1);
}

static void test_hostile_reader(void **state)
{
    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    up_slot(&w, 0, 0)->rx_read = 1ull << 50;
    ip_send(&w, peer(9), ours(5000), "x", 1, 0);
    settle(&w);
    assert_int_equal(down_slot(&w, 0, 0)->rx_nxt, 0);
    assert_int_equal(driver_collect(&w), 1);
    up_slot(&w, 0, 0)->rx_read = 0;
    ip_send(&w, peer(9), ours(5000), "y", 1, 0);
    settle(&w);
    expect(0, 0, 9, "y");
}

static void test_garbage_from_ip(void **state)
{
    uint64_t x = 88172645463325252ull;
    void *slot;

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    for (unsigned i = 0; i < 5000; i++) {
        uint8_t raw[384];
        for (unsigned k = 0; k < sizeof raw; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            raw[k] = (x & 3) == 0 ? (uint8_t)(x >> 8) : (uint8_t)((x >> 8) & 0x1f);
        }
        assert_int_equal(chan_tx_reserve(&w.to_udp, 0, i, 0, &slot), CHAN_OK);
        memcpy((uint8_t *)slot + 16, raw + 16, sizeof raw - 16);
        chan_tx_commit(&w.to_udp);
        chan_tx_publish(&w.to_udp);
        settle(&w);
        /* frames of garbage are garbage too: do not look at them */
        while (chan_rx_peek(&w.back) != NULL)
            chan_rx_next(&w.back);
        chan_rx_release(&w.back);
        while (chan_rx_peek(&w.back_ip) != NULL)
            chan_rx_next(&w.back_ip);
        chan_rx_release(&w.back_ip);
        while (chan_rx_peek(&w.from_udp) != NULL)
            chan_rx_next(&w.from_udp);
        chan_rx_release(&w.from_udp);
    }
    ip_send(&w, peer(9), ours(5000), "sane", 4, 0);
    settle(&w);
    struct dgram h;
    char b[2048];
    int n, last = -1;
    while ((n = app_read(&w, 0, 0, &h, b, sizeof b)) >= 0)
        last = n;
    assert_int_equal(last, 4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_receive),
        T(test_receive_most_specific_wins),
        T(test_receive_reuseport_spreads_flows),
        T(test_broadcast_reaches_all),
        T(test_unreachable),
        T(test_ring_full_drops_and_counts),
        T(test_receive_over_the_end_of_the_ring),
        T(test_rcvbuf_grows_without_loss),
        T(test_merged_datagrams_are_split),
        T(test_icmp_errors),
        T(test_hostile_reader),
        T(test_garbage_from_ip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
