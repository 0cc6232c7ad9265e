/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The round-trip time: samples in, timeout out (RFC 6298, RFC 7323 appendix G), and HyStart++ (RFC
 * 9406), which lives on the samples. No packets.
 */
/* link: eft_tcp */
#include "servers/tcp/engine.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MSS = 1000 };
static struct stack_config cfg;
static struct tcp t;
static struct tcp_conn k;

static int begin(void **state)
{
    (void)state;
    memset(&cfg, 0, sizeof cfg);
    config_tcp_defaults(&cfg);
    t = (struct tcp){.cfg = &cfg, .now = 1000 * SEC};
    memset(&k, 0, sizeof k);
    k.mss = MSS;
    tcp_rtt_init(&t, &k);
    tcp_cc_init(&t, &k);
    return 0;
}

/* A round trip with `n` samples of `rtt`. */
static void round_trip(uint64_t rtt, unsigned n)
{
    k.snd_max = k.tx_una + 100 * MSS;
    t.now += rtt;
    for (unsigned i = 0; i < n; i++)
        tcp_rtt_sample(&t, &k, rtt);
    k.tx_una = k.snd_max;
}

/* --- RFC 6298 --- */

static void before_a_sample(void **state)
{
    (void)state;
    assert_int_equal(tcp_rtt_timeout(&t, &k), SEC); /* 2.1 */
    assert_int_equal(k.srtt, 0);
    assert_int_equal(k.min_rtt, 0);
}

static void first_sample(void **state)
{
    (void)state;
    round_trip(100 * MSEC, 1);
    assert_int_equal(k.srtt, 100 * MSEC); /* 2.2 */
    assert_int_equal(k.rttvar, 50 * MSEC);
    assert_int_equal(tcp_rtt_timeout(&t, &k), 300 * MSEC);
}

static void second_sample(void **state)
{
    (void)state;
    round_trip(100 * MSEC, 1);
    round_trip(180 * MSEC, 1);
    assert_int_equal(k.rttvar, (50 * 3 + 80) * MSEC / 4); /* 2.3 */
    assert_int_equal(k.srtt, (100 * 7 + 180) * MSEC / 8);
    assert_int_equal(tcp_rtt_timeout(&t, &k), k.srtt + 4 * k.rttvar);
    round_trip(20 * MSEC, 1);
    assert_int_equal(k.srtt, (110 * 7 + 20) * MSEC / 8);
}

/* The least is that of the variance term: a path of 300 ms has 500 ms, as with Linux. */
static void least_is_of_the_variance(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        round_trip(300 * MSEC, 1);
    assert_true(k.rttvar < MSEC);
    assert_int_equal(tcp_rtt_timeout(&t, &k), 500 * MSEC);
    cfg.tcp_rto_min_ms = 5;
    round_trip(300 * MSEC, 1);
    assert_int_equal(tcp_rtt_timeout(&t, &k), 305 * MSEC);
}

static void backoff_doubles_up_to_the_most(void **state)
{
    (void)state;
    round_trip(100 * MSEC, 1);
    for (k.backoff = 0; k.backoff < 8; k.backoff++)
        assert_int_equal(tcp_rtt_timeout(&t, &k), 300 * MSEC << k.backoff);
    k.backoff = 9;
    assert_int_equal(tcp_rtt_timeout(&t, &k), 120 * SEC); /* 153.6 */
    k.backoff = 100;
    assert_int_equal(tcp_rtt_timeout(&t, &k), 120 * SEC);
    cfg.tcp_rto_max_ms = 2000;
    assert_int_equal(tcp_rtt_timeout(&t, &k), 2 * SEC);
    k.backoff = 0;
    round_trip(10 * SEC, 1);
    assert_int_equal(k.rto, 2 * SEC);
}

/* Appendix G: with many samples per round trip the memory is as long as with one. After a step from
 * 100 to 200 ms RFC 6298 is at 1 - (7/8)^n of it after n round trips; 5 % of the step. */
static void many_samples_weigh_as_one(void **state)
{
    static const unsigned per_round[] = {1, 2, 10, 50};
    for (unsigned i = 0; i < sizeof per_round / sizeof per_round[0]; i++) {
        double rest = 1;
        begin(state);
        for (unsigned n = 0; n < 20; n++)
            round_trip(100 * MSEC, per_round[i]);
        assert_int_equal(k.srtt, 100 * MSEC);
        for (unsigned n = 0; n < 10; n++) {
            round_trip(200 * MSEC, per_round[i]);
            rest *= 7.0 / 8;
            double should = 200 - 100 * rest, is = (double)k.srtt / MSEC;
            if (is < should - 5 || is > should + 5)
                fail_msg("%u samples, round %u: %.1f ms, not %.1f", per_round[i], n, is, should);
        }
    }
}

static void least_of_the_last_minutes(void **state)
{
    (void)state;
    round_trip(20 * MSEC, 3);
    round_trip(10 * MSEC, 3);
    round_trip(30 * MSEC, 3);
    assert_int_equal(k.min_rtt, 10 * MSEC);
    t.now += 160 * SEC;
    round_trip(30 * MSEC, 3);
    assert_int_equal(k.min_rtt, 10 * MSEC);
    t.now += 160 * SEC;
    round_trip(40 * MSEC, 3);
    assert_int_equal(k.min_rtt, 30 * MSEC); /* the path became longer, five minutes ago */
    round_trip(5 * MSEC, 1);
    assert_int_equal(k.min_rtt, 5 * MSEC);
}

/* --- HyStart++ --- */

/* A round of slow start: 16 segments acknowledged one by one, each with this RTT. By how many
 * segments the window grew. */
static double slow_round(uint64_t rtt)
{
    uint64_t before = k.cwnd;
    k.snd_max = k.tx_una + k.cwnd;
    t.now += rtt;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t flight = k.snd_max - k.tx_una;
        tcp_rtt_sample(&t, &k, rtt);
        k.tx_una += MSS;
        tcp_cc_acked(&t, &k, MSS, flight > k.cwnd ? flight : k.cwnd);
    }
    k.tx_una = k.snd_max;
    return (double)(k.cwnd - before) / MSS;
}

static void rise_slows_slow_start(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_true(slow_round(40 * MSEC) == 16);
    assert_true(slow_round(44 * MSEC) == 16); /* 5 ms would be an eighth */
    assert_int_equal(k.ssthresh, TCP_CC_NO_THRESHOLD);
    /* 44 + 5.5: the first seven samples are too few to say so. A quarter from then on. */
    double first = slow_round(50 * MSEC);
    assert_true(first >= 7 && first < 12);
    for (unsigned round = 1; round < 5; round++) {
        assert_int_equal(k.ssthresh, TCP_CC_NO_THRESHOLD);
        assert_true(slow_round(50 * MSEC) == 4);
    }
    slow_round(50 * MSEC); /* 4.2: five rounds, then congestion avoidance */
    assert_true(k.ssthresh < TCP_CC_NO_THRESHOLD);
    assert_true(k.ssthresh <= k.cwnd);
}

/* The queue grows while a round goes on: its end is slow though its beginning was not, and the next
 * round, which begins on an empty path again, is fast again. */
static void rise_is_seen_in_its_round(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        slow_round(40 * MSEC);
    uint64_t before = k.cwnd;
    k.snd_max = k.tx_una + k.cwnd;
    for (unsigned i = 0; i < 40; i++) { /* 1 ms more each */
        uint64_t flight = k.snd_max - k.tx_una;
        tcp_rtt_sample(&t, &k, 40 * MSEC + i * MSEC);
        k.tx_una += MSS;
        tcp_cc_acked(&t, &k, MSS, flight);
    }
    k.tx_una = k.snd_max;
    double grown = (double)(k.cwnd - before) / MSS;
    assert_true(grown >= 15 + 25 / 4 && grown <= 16 + 24 / 4); /* from the second eight on */
    assert_true(slow_round(40 * MSEC) >= 8 / 4 + 8);
    assert_true(slow_round(40 * MSEC) == 16);
}

static void jitter_does_not_end_slow_start(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        slow_round(40 * MSEC);
    slow_round(60 * MSEC);
    assert_true(slow_round(60 * MSEC) == 4);
    double back = slow_round(45 * MSEC); /* below the baseline: it was jitter */
    assert_true(back >= 1.75 && back <= 16);
    for (unsigned i = 0; i < 20; i++)
        assert_true(slow_round(45 * MSEC) == 16);
    assert_int_equal(k.ssthresh, TCP_CC_NO_THRESHOLD);
}

/* On a short path an eighth is noise: 4 ms at least. On a long one 16 ms are enough. */
static void rise_has_bounds(void **state)
{
    for (unsigned i = 0; i < 4; i++)
        slow_round(1 * MSEC);
    assert_true(slow_round(4 * MSEC) == 16);
    begin(state);
    for (unsigned i = 0; i < 4; i++)
        slow_round(400 * MSEC);
    assert_true(slow_round(417 * MSEC) < 16);
}

static void later_slow_starts_know_their_threshold(void **state)
{
    (void)state;
    k.ssthresh = 1000 * MSS;
    for (unsigned i = 0; i < 4; i++)
        slow_round(40 * MSEC);
    for (unsigned i = 0; i < 8; i++)
        assert_true(slow_round(100 * MSEC) == 16);
    assert_int_equal(k.ssthresh, 1000 * MSS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(before_a_sample, begin),
        cmocka_unit_test_setup(first_sample, begin),
        cmocka_unit_test_setup(second_sample, begin),
        cmocka_unit_test_setup(least_is_of_the_variance, begin),
        cmocka_unit_test_setup(backoff_doubles_up_to_the_most, begin),
        cmocka_unit_test_setup(many_samples_weigh_as_one, begin),
        cmocka_unit_test_setup(least_of_the_last_minutes, begin),
        cmocka_unit_test_setup(rise_slows_slow_start, begin),
        cmocka_unit_test_setup(rise_is_seen_in_its_round, begin),
        cmocka_unit_test_setup(jitter_does_not_end_slow_start, begin),
        cmocka_unit_test_setup(rise_has_bounds, begin),
        cmocka_unit_test_setup(later_slow_starts_know_their_threshold, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
