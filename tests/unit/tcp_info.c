/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What TCP_INFO tells, against a scripted peer in virtual time, where every number is known.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

static struct sock_info info(void)
{
    return tcp_info(us->tcp->state, conn());
}

/* The program asks: the answer is of that moment, in the table beside the slots. */
static void is_written_on_request(void **state)
{
    (void)state;
    established_state();
    const struct sock_info *at = tcp_app_info(us->tcp->state, k.app, k.slot);
    assert_int_equal(at->state, 1);
    uint8_t d[100];
    stream(d, 0, 100);
    inject(TH_ACK | TH_PUSH, their(0), our(0), d, 100);
    assert_int_equal(at->bytes_received, 0);
    later(30 * MSEC);
    sock_request(&k, OP_INFO, 0, 0);
    look();
    int result = -1;
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, 0);
    assert_int_equal(at->bytes_received, 100);
    assert_int_equal(at->last_data_recv, 30);
    assert_int_equal(at->data_segs_in, 1);
    assert_int_equal(at->segs_in, 2); /* since it is a connection: ACK, data */
}

static void beginning(void **state)
{
    (void)state;
    established_state();
    struct sock_info i = info();
    assert_int_equal(i.state, 1);
    assert_int_equal(i.ca_state, INFO_CA_OPEN);
    assert_int_equal(i.options, INFO_OPT_SACK);
    assert_int_equal(i.snd_mss, 1000);
    assert_int_equal(i.advmss, 1460);
    assert_int_equal(i.pmtu, 1500);
    assert_int_equal(i.snd_cwnd, 10);
    assert_int_equal(i.snd_ssthresh, INT32_MAX);
    assert_int_equal(i.reordering, 3);
    assert_int_equal(i.snd_wnd, PEER_WINDOW);
    assert_int_equal(i.max_pacing_rate, UINT64_MAX);
    assert_int_equal(i.bytes_acked, 0);
    assert_int_equal(i.busy_time, 0);
}

static void sending(void **state)
{
    (void)state;
    established_state();
    later(10 * MSEC);
    app_writes(3000);
    struct sock_info i = info();
    assert_int_equal(i.unacked, 3);
    assert_int_equal(i.bytes_sent, 3000);
    assert_int_equal(i.data_segs_out, 3);
    assert_int_equal(i.notsent_bytes, 0);
    later(8 * MSEC);
    inject(TH_ACK, their(0), our(2000), NULL, 0);
    i = info();
    assert_int_equal(i.unacked, 1);
    assert_int_equal(i.bytes_acked, 2000);
    assert_int_equal(i.delivered, 2);
    assert_int_equal(i.last_data_sent, 8);
    assert_int_equal(i.last_ack_recv, 0);
    later(5 * MSEC);
    inject(TH_ACK, their(0), our(3000), NULL, 0);
    later(50 * MSEC);
    i = info();
    assert_int_equal(i.last_ack_recv, 50);
    assert_int_equal(i.busy_time, 13000);
    assert_int_equal(i.rwnd_limited + i.sndbuf_limited, 0);
    assert_int_equal(i.bytes_retrans, 0);
}

/* The peer's window is closed for 300 ms. */
static void held_up_by_the_peer(void **state)
{
    (void)state;
    established_state();
    struct tcp_seg shut = {.flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = 0};
    deliver_segment(shut, NULL, false);
    look();
    app_writes(500);
    struct sock_info i = info();
    assert_int_equal(i.notsent_bytes, 500);
    assert_int_equal(i.snd_wnd, 0);
    later(300 * MSEC);
    inject(TH_ACK, their(0), our(0), NULL, 0); /* and opens */
    later(10 * MSEC);
    inject(TH_ACK, their(0), our(500), NULL, 0);
    later(1000 * MSEC);
    i = info();
    assert_int_equal(i.bytes_acked, 500);
    assert_int_equal(i.rwnd_limited, 300000);
    assert_int_equal(i.busy_time, 310000);
}

static void a_timeout(void **state)
{
    (void)state;
    established_state();
    app_writes(100);
    uint32_t rto = info().rto;
    assert_true(rto >= 200000);
    while (info().total_rto == 0)
        later(10 * MSEC);
    struct sock_info i = info();
    assert_int_equal(i.retransmits, 1);
    assert_int_equal(i.backoff, 1);
    assert_int_equal(i.total_retrans, 2); /* a probe came first */
    assert_int_equal(i.bytes_retrans, 200);
    assert_int_equal(i.bytes_sent, 300);
    assert_int_equal(i.ca_state, INFO_CA_LOSS);
    assert_int_equal(i.rto, 2 * rto);
    assert_int_equal(i.snd_cwnd, 1);
    assert_int_equal(i.retrans, 1);
    assert_int_equal(i.total_rto_time, 0);
    while (info().total_rto == 1)
        later(10 * MSEC);
    i = info();
    assert_int_equal(i.total_rto_recoveries, 1);
    assert_in_range(i.total_rto_time, 2 * rto / 1000, 2 * rto / 1000 + 10);
    later(5 * MSEC);
    const uint32_t run = info().total_rto_time;
    assert_int_equal(run, i.total_rto_time + 5);
    inject(TH_ACK, their(0), our(100), NULL, 0);
    later(50 * MSEC);
    i = info();
    assert_int_equal(i.retrans, 0);
    assert_int_equal(i.total_rto, 2);
    assert_int_equal(i.total_rto_recoveries, 1);
    assert_int_equal(i.total_rto_time, run);
    assert_int_equal(i.retransmits + i.backoff, 0);
    assert_int_equal(i.ca_state, INFO_CA_OPEN);
}

static void sacked(uint32_t ack, uint32_t from, uint32_t to)
{
    struct tcp_seg s = {
        .flags = TH_ACK, .seq = their(0), .ack = our(ack), .wnd = PEER_WINDOW, .sacks = 1};
    s.sack[0] = (struct tcp_range){our(from), our(to)};
    deliver_segment(s, NULL, false);
    look();
}

static void out_of_order_and_twice(void **state)
{
    (void)state;
    established_state();
    app_writes(6000);
    later(20 * MSEC);
    sacked(0, 1000, 3000);
    assert_int_equal(info().reord_seen, 0);
    inject(TH_ACK, their(0), our(3000), NULL, 0); /* the first was late */
    assert_int_equal(info().reord_seen, 1);
    assert_int_equal(info().dsack_dups, 0);
    sacked(3000, 0, 2000);
    assert_int_equal(info().dsack_dups, 2);
    inject(TH_ACK, their(0), our(6000), NULL, 0);
    assert_int_equal(info().reord_seen, 1);
}

static void closing(void **state)
{
    (void)state;
    established_state();
    inject(TH_ACK | TH_FIN, their(0), our(0), NULL, 0);
    assert_int_equal(info().state, 8); /* CLOSE-WAIT */
    sock_shutdown(&k);
    look();
    assert_int_equal(info().state, 9);
    assert_int_equal(info().bytes_acked, 0); /* a FIN is no byte */
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(is_written_on_request),  T(beginning), T(sending), T(held_up_by_the_peer), T(a_timeout),
        T(out_of_order_and_twice), T(closing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
