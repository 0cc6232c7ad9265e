/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Pacing in virtual time, against a scripted peer. Segments are of 1000 bytes; the first ten are
 * not paced.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

enum { CWND = 12000, WARM = 12 };

static uint64_t rtt = 20 * MSEC;
static uint64_t left_at[64]; /* when each packet with data left; ns */
static unsigned n_left;

static void paced(struct stack_config *cfg)
{
    cfg->tcp_pacing = 1;
}

static const struct tcp *tcp(void)
{
    return us->tcp->state;
}

static struct tcp_conn *c(void)
{
    return (struct tcp_conn *)conn();
}

static void ack(uint64_t to, uint16_t window)
{
    deliver_segment(
        (struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our((uint32_t)to), .wnd = window},
        NULL, false);
    look();
}

/* Established, the initial window behind it, all acknowledged, and long ago. */
static void warmed_up(void)
{
    syn_rcvd_state();
    later(rtt);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    sock_step(&k);
    for (uint32_t i = 0; i < WARM; i++) {
        app_writes(1000);
        assert_int_equal(sent, 1); /* one at a time does not wait */
        later(rtt);
        ack(1000 * (i + 1), PEER_WINDOW);
    }
    assert_int_equal(conn()->snd_max, WARM * 1000);
    c()->cwnd = CWND;
    c()->ssthresh = CWND; /* congestion avoidance: 120 % of the window in a round trip */
    c()->srtt = rtt;
}

static void note(void)
{
    for (unsigned i = 0; i < sent; i++)
        if (sent_seg[i].len)
            left_at[n_left++] = w.now;
}

/* Writes, and lets `ns` pass in steps of 0.1 ms. */
static void write_and_watch(unsigned bytes_n, uint64_t ns)
{
    n_left = 0;
    app_writes(bytes_n);
    note();
    for (uint64_t past = 0; past < ns; past += MSEC / 10) {
        later(MSEC / 10);
        note();
    }
}

static bool waits(void)
{
    return conn()->when[TIMER_PACE] != NEVER;
}

/* 12 segments in 20 ms, times 1.2: one in 1.39 ms. */
static void leaves_at_the_rate(void **state)
{
    (void)state;
    warmed_up();
    const uint64_t each = 1000 * SEC / tcp_cc_pacing_rate(tcp(), conn());
    assert_in_range(each, 1388000, 1390000);
    write_and_watch(10000, 18 * MSEC);
    assert_int_equal(n_left, 10);
    /* After a pause two segments at once, and the one whose turn it is. */
    assert_int_equal(left_at[2], left_at[0]);
    for (unsigned i = 3; i < n_left; i++)
        assert_in_range(left_at[i], left_at[0] + (i - 2) * each,
                        left_at[0] + (i - 2) * each + MSEC / 10);
    assert_false(waits());
}

/* Slow start: twice the window in a round trip. */
static void slow_start_is_faster(void **state)
{
    (void)state;
    warmed_up();
    c()->ssthresh = 100 * CWND;
    write_and_watch(10000, 18 * MSEC);
    assert_int_equal(n_left, 10);
    assert_in_range(left_at[9] - left_at[0], 5 * MSEC, 7 * MSEC);
}

static void initial_window_is_not_paced(void **state)
{
    (void)state;
    syn_rcvd_state();
    later(rtt);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    sock_step(&k);
    assert_true(conn()->min_rtt >= MSEC);
    app_writes(12000);
    assert_int_equal(sent, 10);
    assert_false(waits());
}

static void short_path_is_not_paced(void **state)
{
    (void)state;
    rtt = MSEC * 9 / 10;
    warmed_up();
    rtt = 20 * MSEC;
    assert_true(conn()->min_rtt < MSEC);
    app_writes(12000);
    assert_int_equal(sent, 12);
    assert_false(waits());
}

static void off_by_configuration(void **state)
{
    (void)state;
    ((struct stack_config *)tcp()->cfg)->tcp_pacing = 0;
    warmed_up();
    app_writes(12000);
    assert_int_equal(sent, 12);
    assert_false(waits());
}

/* A millisecond's bytes, or two segments. */
static void super_segments_are_short(void **state)
{
    (void)state;
    warmed_up();
    c()->gso = 60000;
    app_writes(12000);
    assert_int_equal(sent_seg[0].len, 2000);
    later(rtt);
    ack(WARM * 1000 + 12000, PEER_WINDOW);
    c()->cwnd = 100000; /* 6000 bytes in a millisecond */
    assert_int_equal(tcp_pace_most(tcp(), conn()), 6000);
    ((struct stack_config *)tcp()->cfg)->tcp_pacing = 0;
    assert_int_equal(tcp_pace_most(tcp(), conn()), 60000);
}

/* At a high rate no timer is set for each segment: a millisecond's worth goes at once. */
static void wakes_once_in_a_millisecond(void **state)
{
    (void)state;
    warmed_up();
    c()->cwnd = c()->ssthresh = 100000;
    app_writes(28000);
    assert_true(sent < 28);
    assert_true(waits());
    const uint64_t at = conn()->when[TIMER_PACE];
    assert_int_equal(at, w.now + MSEC);
    later(MSEC / 2);
    ack(WARM * 1000, PEER_WINDOW); /* does not put it off */
    assert_true(conn()->when[TIMER_PACE] <= at || sent > 0);
}

/* What waits is sent whatever else happens meanwhile, and nothing is left behind. */
static void window_limits_meanwhile(void **state)
{
    (void)state;
    warmed_up();
    app_writes(10000);
    assert_true(waits());
    const uint64_t at = conn()->snd_max;
    ack(at, 1000); /* one segment more */
    later(20 * MSEC);
    assert_int_equal(conn()->snd_max, at + 1000);
    assert_false(waits());
    ack(at + 1000, 0); /* none: the persist timer's turn */
    later(20 * MSEC);
    assert_false(waits());
    assert_int_equal(conn()->rexmt, REXMT_PERSIST);
    ack(at + 1000, PEER_WINDOW);
    write_and_watch(0, 20 * MSEC);
    assert_int_equal(conn()->snd_max, WARM * 1000 + 10000);
    assert_false(waits());
}

static void congestion_window_limits_meanwhile(void **state)
{
    (void)state;
    warmed_up();
    app_writes(10000);
    assert_true(waits());
    c()->cwnd = 1000;
    later(20 * MSEC);
    assert_false(waits());
    assert_true(conn()->snd_max < WARM * 1000 + 10000);
    assert_true(conn()->when[TIMER_REXMT] != NEVER);
    for (unsigned i = 0; i < 40 && conn()->tx_una < WARM * 1000 + 10000; i++) {
        ack(conn()->snd_max, PEER_WINDOW);
        later(rtt);
    }
    assert_int_equal(conn()->tx_una, WARM * 1000 + 10000);
    assert_false(waits());
}

/* Everything acknowledged before its turn came: the wheel is empty in the end. */
static void no_timer_is_left(void **state)
{
    (void)state;
    warmed_up();
    write_and_watch(10000, 20 * MSEC);
    ack(WARM * 1000 + 10000, PEER_WINDOW);
    for (unsigned i = 0; i < TIMERS; i++)
        assert_true(conn()->when[i] == NEVER);
    assert_true(wheel_at(&tcp()->wheel, conn()->idx) == WHEEL_NEVER);
}

/* Retransmissions wait like new data; the first one after a timeout does not. */
static void retransmissions_wait(void **state)
{
    (void)state;
    warmed_up();
    write_and_watch(10000, 20 * MSEC);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    struct tcp *t = us->tcp->state;
    c()->pace_at = w.now + 5 * MSEC;
    tcp_sent_mark_all_lost(t, c(), false);
    tcp_conn_dirty(t, c());
    look();
    assert_int_equal(sent, 0);
    assert_true(waits());
    later(5 * MSEC);
    assert_int_equal(sent, 1);
    assert_int_equal(last.seq, our(WARM * 1000));
    c()->pace_at = w.now + 10 * SEC;
    tcp_timer_set(t, c(), TIMER_REXMT, w.now);
    look();
    assert_int_equal(counter(TCP_C_TIMEOUTS), 1);
    assert_int_equal(sent, 1);
    assert_int_equal(last.seq, our(WARM * 1000));
}

/* What seemed lost arrives while its retransmission waits: nothing was lost. */
static void late_not_lost(void **state)
{
    (void)state;
    const uint32_t una = WARM * 1000;
    warmed_up();
    write_and_watch(10000, 20 * MSEC);
    const uint64_t cwnd = conn()->cwnd;
    c()->pace_at = w.now + 5 * MSEC;
    struct tcp_seg s = {
        .flags = TH_ACK, .seq = their(0), .ack = our(una), .wnd = PEER_WINDOW, .sacks = 1};
    s.sack[0] = (struct tcp_range){our(una + 1000), our(una + 4000)};
    deliver_segment(s, NULL, false);
    look();
    assert_true(conn()->recovering);
    assert_true(conn()->cwnd < cwnd);
    assert_int_equal(sent, 0);
    ack(una + 4000, PEER_WINDOW);
    assert_false(conn()->recovering);
    assert_int_equal(counter(TCP_C_SPURIOUS_RECOVERIES), 1);
    assert_true(conn()->cwnd >= cwnd);
    assert_true(conn()->rack.reordering);
    ack(una + 10000, PEER_WINDOW);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
}

/* ACKs and a FIN are not data. */
static void without_data_is_not_paced(void **state)
{
    (void)state;
    warmed_up();
    c()->pace_at = w.now + 10 * SEC;
    inject(TH_ACK | TH_PUSH, their(0), our(WARM * 1000), "x", 1);
    later(200 * MSEC);
    assert_int_equal(conn()->rx_acked, 1);
    c()->pace_at = w.now + 10 * SEC;
    sock_shutdown(&k);
    look();
    assert_true(last.flags & TH_FIN);
    assert_false(waits());
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(leaves_at_the_rate),
        T(slow_start_is_faster),
        T(initial_window_is_not_paced),
        T(short_path_is_not_paced),
        T(off_by_configuration),
        T(super_segments_are_short),
        T(wakes_once_in_a_millisecond),
        T(window_limits_meanwhile),
        T(congestion_window_limits_meanwhile),
        T(no_timer_is_left),
        T(retransmissions_wait),
        T(late_not_lost),
        T(without_data_is_not_paced),
    };
    adjust = paced;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
