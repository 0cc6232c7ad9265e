/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Congestion control by numbers: one connection whose window is always full, acknowledged segment
 * by segment in virtual time, against the formulas of the RFCs. No packets.
 */
/* link: eft_tcp */
#include "servers/tcp/engine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MSS = 1000 };
static struct stack_config cfg;
static struct tcp t;
static struct tcp_conn k;

static void begin(enum tcp_cc_algorithm algorithm, uint64_t rtt)
{
    config_tcp_defaults(&cfg);
    t = (struct tcp){.cfg = &cfg, .now = 1000 * SEC};
    memset(&k, 0, sizeof k);
    k.r.congestion = (uint8_t)algorithm;
    k.mss = MSS;
    tcp_rtt_init(&t, &k);
    tcp_rtt_sample(&t, &k, rtt);
    tcp_cc_init(&t, &k);
}

static uint64_t flight(void)
{
    return k.snd_max - k.tx_una;
}

static void fill(void)
{
    if (k.snd_max < k.tx_una + k.cwnd)
        k.snd_max = k.tx_una + k.cwnd;
    k.idle_since = t.now;
}

/* The next `bytes` are acknowledged. */
static void ack(uint64_t bytes)
{
    uint64_t before = flight();
    k.tx_una += bytes;
    tcp_cc_acked(&t, &k, bytes, before);
}

/* A full window for `ns`, an ACK per segment, evenly spread. */
static void run(uint64_t ns)
{
    uint64_t end = t.now + ns;
    while (t.now < end) {
        fill();
        t.now += k.srtt * MSS / k.cwnd;
        ack(MSS);
    }
}

static void lose(void)
{
    fill();
    tcp_cc_enter_recovery(&t, &k, flight());
    k.tx_una = k.snd_max; /* all is repaired */
    k.cwnd = k.ssthresh;
}

static double segments(void)
{
    return (double)k.cwnd / MSS;
}

static void within(double is, double should, double tolerance)
{
    if (is < should * (1 - tolerance) || is > should * (1 + tolerance))
        fail_msg("%.3f, not %.3f within %.1f %%", is, should, tolerance * 100);
}

static double cube(double v)
{
    return v * v * v;
}

/* --- CUBIC --- */

/* What Reno would have got to after so many round trips (RFC 9438 4.3); segments. */
static double reno(double w_max, double rounds)
{
    double alpha = 9.0 / 17, until = 0.3 * w_max / alpha;
    return rounds < until ? 0.7 * w_max + alpha * rounds : w_max + rounds - until;
}

/* RFC 9438 4.1, figures 1 and 2, up to K and behind it. The window aims at the curve of one round
 * trip ahead, so that it is on the curve; 2 % for the steps. */
static void cubic_follows_the_curve(void **state)
{
    static const struct {
        double w_max, k; /* segments; s: cbrt(0.3 w_max / 0.4) */
        unsigned rtt_ms;
    } row[] = {{100, 4.217163, 100},
               {1000, 9.085603, 100},
               {1000, 9.085603, 20},
               {5000, 15.536163, 20},
               {1000, 9.085603, 300}};
    (void)state;
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        begin(TCP_CC_CUBIC, row[i].rtt_ms * MSEC);
        k.cwnd = (uint64_t)(row[i].w_max * MSS);
        k.ssthresh = k.cwnd;
        lose();
        within(segments(), 0.7 * row[i].w_max, 0.001);
        uint64_t start = t.now;
        run(k.srtt);
        within(k.cc.state.cubic.k, row[i].k, 0.001);
        for (unsigned step = 1; step <= 15; step++) {
            run((uint64_t)(row[i].k * 1e9 / 10));
            double at = (double)(t.now - start) / 1e9;
            double curve = 0.4 * cube(at - row[i].k) + row[i].w_max;
            double least = reno(row[i].w_max, at * 1000 / row[i].rtt_ms);
            within(segments(), curve > least ? curve : least, 0.02);
        }
    }
}

/* 4.3: with short round trips Reno is faster, and CUBIC is as fast: 3 (1 - b) / (1 + b) segments
 * per round trip until the former window, one after it. */
static void cubic_is_reno_where_reno_is_faster(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 1 * MSEC);
    k.cwnd = k.ssthresh = 40 * MSS;
    lose();
    within(segments(), 28, 0.001);
    run(10 * MSEC);
    within(segments(), 28 + 10 * 9.0 / 17, 0.01);
    run(13 * MSEC); /* 12 / (9 / 17) round trips */
    within(segments(), 40, 0.02);
    double at = segments();
    run(20 * MSEC);
    within(segments(), at + 20, 0.02);
}

static void cubic_gives_way(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 20 * MSEC);
    k.cwnd = k.ssthresh = 1000 * MSS;
    lose();
    within(k.cc.state.cubic.w_max, 1000 * MSS, 0.001);
    within(segments(), 700, 0.001);
    lose(); /* below the plateau: 4.7 */
    within(k.cc.state.cubic.w_max, 700 * 0.85 * MSS, 0.001);
    within(segments(), 490, 0.001);
}

/* 4.10: slow start that ended by itself: the curve begins at its plateau. */
static void cubic_without_a_loss(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 100 * MSEC);
    k.cwnd = k.ssthresh = 500 * MSS;
    run(5 * SEC);
    within(segments(), 500 + 0.4 * 125, 0.02);
}

/* 4.8 */
static void cubic_after_a_timeout(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 100 * MSEC);
    k.cwnd = k.ssthresh = 1000 * MSS;
    fill();
    tcp_cc_timeout(&t, &k, flight());
    assert_int_equal(k.cwnd, MSS);
    within((double)k.ssthresh, 700 * MSS, 0.001);
    k.tx_una = k.snd_max;
    while (k.cwnd < k.ssthresh)
        run(k.srtt);
    run(2 * SEC);
    double k_s = k.cc.state.cubic.k;
    assert_true(k_s == 0);
    within(segments(), 700 + 0.4 * 8, 0.02);
}

/* 4.2, 5.8: time in which the window is not used does not move the window. */
static void cubic_stands_still_while_the_program_is_slow(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 100 * MSEC);
    k.cwnd = k.ssthresh = 1000 * MSS;
    lose();
    run(3 * SEC);
    ack(flight());
    uint64_t was = k.cwnd;
    for (unsigned i = 0; i < 600; i++) { /* a minute, ten segments at a time */
        k.snd_max = k.tx_una + 10 * MSS;
        k.idle_since = t.now;
        t.now += 100 * MSEC;
        ack(10 * MSS);
    }
    within((double)k.cwnd, (double)was, 0.02); /* the first round still counts as full */
    run(1 * SEC);
    /* Goes on where it stopped, at 4 s, on a curve of K = 9.0856 s. */
    within(segments(), 1000 + 0.4 * cube(4 - 9.0856), 0.02);
}

/* Neither the largest window nor a very long time overflow anything. */
static void cubic_at_the_limits(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 100 * MSEC);
    k.cwnd = k.ssthresh = TCP_CC_CWND_MAX / MSS * MSS;
    lose();
    uint64_t low = k.cwnd;
    run(k.srtt);
    assert_true(k.cwnd >= low);
    t.now += 60ull * 24 * 3600 * SEC;
    for (unsigned i = 0; i < 100; i++) {
        fill();
        uint64_t before = k.cwnd;
        ack(k.cwnd / 2);
        assert_true(k.cwnd >= before && k.cwnd <= before + before / 2);
    }
    assert_int_equal(k.cwnd, TCP_CC_CWND_MAX);
    assert_true(tcp_cc_pacing_rate(&t, &k) > 10 * TCP_CC_CWND_MAX);
    /* The smallest, too. */
    begin(TCP_CC_CUBIC, 100 * MSEC);
    k.cwnd = k.ssthresh = MSS;
    lose();
    assert_int_equal(k.ssthresh, 2 * MSS);
}

/* --- NewReno --- */

static void newreno_counts_bytes(void **state)
{
    (void)state;
    begin(TCP_CC_NEWRENO, 20 * MSEC);
    k.cwnd = k.ssthresh = 80 * MSS;
    for (unsigned round = 0; round < 10; round++) {
        uint64_t was = k.cwnd;
        fill();
        uint64_t half = k.cwnd / 2, rest = k.cwnd - half;
        ack(half); /* forty segments at once */
        fill();
        ack(rest);
        assert_int_equal(k.cwnd, was + MSS);
    }
    lose();
    assert_int_equal(k.cwnd, 45 * MSS);
}

/* --- what they share --- */

static void slow_start_doubles(void **state)
{
    (void)state;
    begin(TCP_CC_NEWRENO, 20 * MSEC);
    assert_int_equal(k.cwnd, 10 * MSS);
    for (unsigned round = 0; round < 5; round++) {
        uint64_t was = k.cwnd;
        fill();
        ack(was);
        assert_int_equal(k.cwnd, 2 * was);
    }
    k.ssthresh = k.cwnd + 500; /* not beyond the threshold */
    fill();
    ack(k.cwnd);
    assert_int_equal(k.cwnd, k.ssthresh);
}

static void window_that_is_not_used_does_not_grow(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 20 * MSEC);
    for (unsigned i = 0; i < 100; i++) {
        k.snd_max = k.tx_una + 4 * MSS;
        t.now += 20 * MSEC;
        ack(4 * MSS);
    }
    assert_int_equal(k.cwnd, 10 * MSS);
}

/* RFC 7661: kept for five minutes, halved after each five, and never below the initial one; back to
 * three quarters in slow start. */
static void window_that_is_not_used_is_forgotten(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 50 * MSEC);
    k.cwnd = k.ssthresh = 100 * MSS;
    for (unsigned i = 0; i < 4 * 301 * 20; i++) { /* 20 minutes */
        k.snd_max = k.tx_una + 4 * MSS;
        t.now += 50 * MSEC;
        ack(4 * MSS);
        unsigned minute = i / 20 / 60;
        if (minute < 5)
            assert_int_equal(k.cwnd, 100 * MSS);
        else if (minute >= 6 && minute < 10)
            assert_int_equal(k.cwnd, 50 * MSS);
        else if (minute >= 11 && minute < 15)
            assert_int_equal(k.cwnd, 25 * MSS);
    }
    assert_int_equal(k.cwnd, 10 * MSS);
    assert_int_equal(k.ssthresh, 100 * MSS);
}

static void one_reduction_per_window(void **state)
{
    (void)state;
    for (unsigned algorithm = 0; algorithm < TCP_CC_ALGORITHMS; algorithm++) {
        begin(algorithm, 20 * MSEC);
        k.cwnd = k.ssthresh = 100 * MSS;
        fill();
        assert_true(tcp_cc_ecn(&t, &k, flight()));
        uint64_t once = k.cwnd;
        assert_int_equal(once, algorithm == TCP_CC_CUBIC ? 70 * MSS : 50 * MSS);
        ack(10 * MSS);
        assert_false(tcp_cc_ecn(&t, &k, flight()));
        tcp_cc_enter_recovery(&t, &k, flight()); /* lost in the same window */
        assert_int_equal(k.cwnd, once);
        ack(flight());
        fill();
        assert_true(tcp_cc_ecn(&t, &k, flight()));
        assert_true(k.cwnd < once);
    }
}

static void timeouts_in_a_row_reduce_once(void **state)
{
    (void)state;
    begin(TCP_CC_NEWRENO, 20 * MSEC);
    k.cwnd = k.ssthresh = 100 * MSS;
    fill();
    tcp_cc_timeout(&t, &k, flight());
    assert_int_equal(k.ssthresh, 50 * MSS);
    k.backoff = 1;
    tcp_cc_timeout(&t, &k, flight());
    assert_int_equal(k.ssthresh, 50 * MSS);
    assert_int_equal(k.cwnd, MSS);
    /* In fast recovery it is one event, too. */
    begin(TCP_CC_NEWRENO, 20 * MSEC);
    k.cwnd = k.ssthresh = 100 * MSS;
    fill();
    tcp_cc_enter_recovery(&t, &k, flight());
    tcp_cc_timeout(&t, &k, flight());
    assert_int_equal(k.ssthresh, 50 * MSS);
    assert_int_equal(k.cwnd, MSS);
}

static void undo_restores(void **state)
{
    (void)state;
    for (unsigned event = 0; event < 2; event++) {
        begin(TCP_CC_CUBIC, 100 * MSEC);
        k.cwnd = k.ssthresh = 1000 * MSS;
        lose();
        run(2 * SEC);
        struct tcp_cc was = k.cc;
        uint64_t cwnd = k.cwnd, ssthresh = k.ssthresh;
        fill();
        if (event == 0)
            tcp_cc_enter_recovery(&t, &k, flight());
        else
            tcp_cc_timeout(&t, &k, flight());
        assert_true(k.cwnd < cwnd);
        tcp_cc_undo(&t, &k);
        assert_int_equal(k.cwnd, cwnd);
        assert_int_equal(k.ssthresh, ssthresh);
        assert_memory_equal(&k.cc.state, &was.state, sizeof was.state);
        k.cwnd = 7 * MSS; /* only once */
        tcp_cc_undo(&t, &k);
        assert_int_equal(k.cwnd, 7 * MSS);
    }
}

/* RFC 5681 4.1 as Linux does it: a half for each timeout, and back up to 3/4 in slow start. */
static void idle_decays(void **state)
{
    (void)state;
    begin(TCP_CC_CUBIC, 50 * MSEC);
    k.cwnd = k.ssthresh = 100 * MSS;
    k.ssthresh = 60 * MSS;
    fill();
    ack(flight());
    uint64_t full = k.cwnd;
    t.now += k.rto + k.rto / 2;
    tcp_cc_idle(&t, &k);
    tcp_cc_idle(&t, &k); /* once for the same time */
    assert_int_equal(k.cwnd, full / 2);
    assert_int_equal(k.ssthresh, full / 4 * 3);
    t.now += 20 * k.rto;
    tcp_cc_idle(&t, &k);
    assert_int_equal(k.cwnd, 10 * MSS);
    assert_int_equal(k.ssthresh, full / 4 * 3);
    /* A small window does not grow by being idle. */
    k.cwnd = 3 * MSS;
    t.now += 20 * k.rto;
    tcp_cc_idle(&t, &k);
    assert_int_equal(k.cwnd, 3 * MSS);
}

static void pacing_rate(void **state)
{
    (void)state;
    memset(&k, 0, sizeof k);
    assert_int_equal(tcp_cc_pacing_rate(&t, &k), 0);
    begin(TCP_CC_CUBIC, 10 * MSEC);
    assert_int_equal(tcp_cc_pacing_rate(&t, &k), 2 * 10 * MSS * 100);
    k.ssthresh = k.cwnd;
    assert_int_equal(tcp_cc_pacing_rate(&t, &k), 12 * MSS * 100);
}

static void algorithm_by_number_and_name(void **state)
{
    (void)state;
    begin(TCP_CC_NEWRENO, 10 * MSEC);
    assert_string_equal(tcp_cc_name(TCP_CC_NEWRENO), "reno");
    assert_string_equal(tcp_cc_name(TCP_CC_CUBIC), "cubic");
    assert_null(tcp_cc_name(TCP_CC_ALGORITHMS));
    k.cwnd = 33 * MSS;
    assert_int_equal(tcp_cc_select(&k, TCP_CC_CUBIC), 0);
    assert_int_equal(k.r.congestion, TCP_CC_CUBIC);
    assert_int_equal(k.cwnd, 33 * MSS);
    assert_int_equal(tcp_cc_select(&k, TCP_CC_ALGORITHMS), -ENOENT);
    assert_int_equal(k.r.congestion, TCP_CC_CUBIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cubic_follows_the_curve),
        cmocka_unit_test(cubic_is_reno_where_reno_is_faster),
        cmocka_unit_test(cubic_gives_way),
        cmocka_unit_test(cubic_without_a_loss),
        cmocka_unit_test(cubic_after_a_timeout),
        cmocka_unit_test(cubic_stands_still_while_the_program_is_slow),
        cmocka_unit_test(cubic_at_the_limits),
        cmocka_unit_test(newreno_counts_bytes),
        cmocka_unit_test(slow_start_doubles),
        cmocka_unit_test(window_that_is_not_used_does_not_grow),
        cmocka_unit_test(window_that_is_not_used_is_forgotten),
        cmocka_unit_test(one_reduction_per_window),
        cmocka_unit_test(timeouts_in_a_row_reduce_once),
        cmocka_unit_test(undo_restores),
        cmocka_unit_test(idle_decays),
        cmocka_unit_test(pacing_rate),
        cmocka_unit_test(algorithm_by_number_and_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
