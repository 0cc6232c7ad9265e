/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Handshakes of a listener: the bound on those under way, SYN cookies, TCP_DEFER_ACCEPT.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

enum { UNDER_WAY = 4 };

static void narrow(struct stack_config *cfg)
{
    cfg->tcp_syn_backlog_max = UNDER_WAY;
}

static void no_cookies(struct stack_config *cfg)
{
    cfg->tcp_syn_backlog_max = UNDER_WAY;
    cfg->tcp_syncookies = CONFIG_COOKIES_OFF;
}

static void cookies_only(struct stack_config *cfg)
{
    cfg->tcp_syncookies = CONFIG_COOKIES_ALWAYS;
}

static int begin_narrow(void **state)
{
    adjust = narrow;
    return begin(state);
}

static int begin_no_cookies(void **state)
{
    adjust = no_cookies;
    return begin(state);
}

static int begin_cookies_only(void **state)
{
    adjust = cookies_only;
    return begin(state);
}

static void syn(uint16_t from, uint16_t mss, uint8_t wscale)
{
    their_port = from;
    deliver_segment((struct tcp_seg){.flags = TH_SYN,
                                     .seq = their_iss,
                                     .wnd = PEER_WINDOW,
                                     .mss = mss,
                                     .sack_ok = true,
                                     .has_wscale = true,
                                     .wscale = wscale},
                    NULL, false);
    look();
}

/* So many that nothing is kept of one more. */
static void fill_backlog(void)
{
    listen_state();
    for (unsigned i = 0; i < UNDER_WAY; i++)
        syn((uint16_t)(1000 + i), 1000, 3);
    assert_int_equal(world_records(us, true), 1 + UNDER_WAY);
}

static void cookie_state(uint16_t mss, uint8_t wscale)
{
    fill_backlog();
    syn(7000, mss, wscale);
    assert_int_equal(sent, 1);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    assert_int_equal(last.ack, their(0));
    assert_int_equal(counter(TCP_C_COOKIES_SENT), 1);
    our_iss = last.seq;
}

static void third_ack(uint32_t tsecr)
{
    deliver_segment(
        (struct tcp_seg){
            .flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = PEER_WINDOW, .tsecr = tsecr},
        NULL, false);
    look();
}

static const struct tcp_conn *accepted(void)
{
    sock_claim(&k, &listener);
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    sock_step(&k);
    assert_true(k.open);
    return conn();
}

static void flood_keeps_nothing(void **state)
{
    (void)state;
    fill_backlog();
    for (unsigned i = 0; i < 20000; i++) {
        their_iss += 12345;
        syn((uint16_t)(2000 + i), 1460, 7);
        assert_int_equal(sent, 1);
    }
    assert_int_equal(world_records(us, true), 1 + UNDER_WAY);
    assert_int_equal(counter(TCP_C_COOKIES_SENT), 20000);
    /* Those that were under way before are not disturbed. */
    their_iss = 0xfffffff0;
    their_port = 1001;
    inject(TH_SYN, their_iss, 0, NULL, 0);
    our_iss = last.seq;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&listener)->pending, 1);
}

/* Faster than a connection of 100 Mbit/s can use sequence numbers up. */
static void the_same_names_begin_higher(void **state)
{
    (void)state;
    listen_state();
    syn(7000, 1460, 7);
    const uint32_t first = last.seq;
    inject(TH_RST, their(0), 0, NULL, 0);
    later(10 * MSEC);
    their_iss += 1000;
    syn(7000, 1460, 7);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    assert_int_equal(last.seq - first, 10 * MSEC / 64);
}

static void no_cookies_drops(void **state)
{
    (void)state;
    fill_backlog();
    syn(7000, 1460, 7);
    assert_int_equal(sent, 0);
    assert_int_equal(counter(TCP_C_DROP_BACKLOG), 1);
    assert_int_equal(world_records(us, true), 1 + UNDER_WAY);
}

static void cookie_keeps_the_options(void **state)
{
    uint8_t d[400];
    (void)state;
    ts_on = 1;
    cookie_state(1400, 9);
    uint32_t ours = last.tsval;
    later(300 * MSEC);
    third_ack(ours);
    assert_int_equal(counter(TCP_C_COOKIES_GOOD), 1);
    const struct tcp_conn *c = accepted();
    assert_int_equal(c->r.mss, 1400);
    assert_int_equal(c->r.snd_wscale, 9);
    assert_int_equal(c->r.flags & (TCPF_SACK | TCPF_WSCALE | TCPF_TIMESTAMPS),
                     TCPF_SACK | TCPF_WSCALE | TCPF_TIMESTAMPS);
    assert_int_equal(c->snd_wnd, (uint64_t)PEER_WINDOW << 9);
    /* It is a connection like any other, both ways. */
    stream(d, 0, sizeof d);
    deliver_segment((struct tcp_seg){.flags = TH_ACK,
                                     .seq = their(0),
                                     .ack = our(0),
                                     .wnd = PEER_WINDOW,
                                     .len = sizeof d,
                                     .tsecr = ours},
                    d, false);
    look();
    assert_int_equal(last.ack, their(sizeof d));
    assert_true(seq_le(ours, last.tsval)); /* PAWS at the peer */
    sock_step(&k);
    assert_int_equal(k.received, sizeof d);
    app_writes(1000);
    assert_int_equal(last.seq, our(0));
    assert_int_equal(last.len, 1000);
}

static void cookie_without_timestamps(void **state)
{
    (void)state;
    cookie_state(536, 9);
    assert_false(last.sack_ok || last.has_wscale || last.has_ts);
    third_ack(0);
    const struct tcp_conn *c = accepted();
    assert_int_equal(c->r.mss, 536);
    assert_int_equal(c->r.flags & (TCPF_SACK | TCPF_WSCALE | TCPF_TIMESTAMPS), 0);
    assert_int_equal(c->snd_wnd, PEER_WINDOW);
}

/* Never more than the peer takes. */
static void cookie_rounds_the_size_down(void **state)
{
    (void)state;
    cookie_state(1459, 0);
    third_ack(0);
    assert_int_equal(accepted()->r.mss, 1440);
}

/* The third ACK was lost: what comes first is data. */
static void cookie_with_data(void **state)
{
    uint8_t d[100];
    (void)state;
    cookie_state(1460, 0);
    stream(d, 0, sizeof d);
    inject(TH_ACK | TH_PUSH, their(0), our(0), d, sizeof d);
    assert_int_equal(last.ack, their(sizeof d));
    accepted();
    sock_step(&k);
    assert_int_equal(k.received, sizeof d);
}

static void cookie_outlives_a_crash(void **state)
{
    (void)state;
    ts_on = 1;
    cookie_state(1400, 5);
    uint32_t ours = last.tsval;
    world_successor(us, END_NONE);
    for (unsigned i = 0; i < 8; i++)
        look();
    third_ack(ours);
    assert_int_equal(counter(TCP_C_COOKIES_GOOD), 1);
    const struct tcp_conn *c = accepted();
    assert_int_equal(c->r.snd_wscale, 5);
    assert_int_equal(c->r.mss, 1400);
}

static void cookie_grows_old(void **state)
{
    (void)state;
    cookie_state(1400, 5);
    later(119 * SEC); /* two minutes, and it was made at the end of one */
    their_port = 7001;
    syn(7001, 1400, 5); /* cookies are out still */
    their_port = 7000;
    third_ack(0);
    assert_int_equal(counter(TCP_C_COOKIES_GOOD), 0);
    assert_int_equal(last.flags, TH_RST);
    assert_int_equal(last.seq, our(0));
}

static void cookie_of_another(void **state)
{
    (void)state;
    cookie_state(1400, 5);
    our_iss += 1 << 20;
    third_ack(0); /* guessed */
    assert_int_equal(last.flags, TH_RST);
    our_iss -= 1 << 20;
    their_port++;
    third_ack(0); /* another port */
    their_port--;
    their_iss++;
    third_ack(0); /* another ISN */
    their_iss--;
    assert_int_equal(counter(TCP_C_COOKIES_BAD), 3);
    assert_int_equal(counter(TCP_C_COOKIES_GOOD), 0);
    third_ack(0);
    assert_int_equal(counter(TCP_C_COOKIES_GOOD), 1);
}

/* While none is out, an ACK is not even looked at. */
static void cookie_that_nobody_sent(void **state)
{
    (void)state;
    listen_state();
    third_ack(0);
    assert_int_equal(last.flags, TH_RST);
    assert_int_equal(counter(TCP_C_COOKIES_BAD), 0);
}

static void cookie_meets_a_full_backlog(void **state)
{
    (void)state;
    sock_listen(&listener, 8080, 0);
    look();
    for (unsigned i = 0; i < 2; i++) {
        syn((uint16_t)(7000 + i), 1400, 5);
        our_iss = last.seq;
        if (i == 0) {
            third_ack(0);
            continue;
        }
        assert_int_equal(sent, 0); /* as Linux: no SYN-ACK that could not be followed */
    }
    assert_int_equal(sock_down(&listener)->pending, 1);
    assert_int_equal(world_records(us, true), 2);
}

/* Simulates nobody: each handshake, in any order, must end alike. */
static void cookies_for_all(void **state)
{
    (void)state;
    listen_state();
    for (unsigned i = 0; i < 4; i++) {
        their_iss = 77777u * i;
        syn((uint16_t)(7000 + i), 1400, 5);
        assert_int_equal(world_records(us, true), 1 + i);
        our_iss = last.seq;
        third_ack(0);
        assert_int_equal(world_records(us, true), 2 + i);
    }
    assert_int_equal(sock_down(&listener)->pending, 4);
}

/* --- TCP_DEFER_ACCEPT --- */

static void deferred_state(void)
{
    listen_state();
    sock_request(&listener, OP_SETOPT, OPT_DEFER_ACCEPT, 10);
    look();
    inject(TH_SYN, their_iss, 0, NULL, 0);
    our_iss = last.seq;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&listener)->pending, 0);
}

static void deferred_until_data(void **state)
{
    uint8_t d[10];
    (void)state;
    deferred_state();
    for (unsigned i = 0; i < 9; i++) {
        later(SEC);
        assert_int_equal(sent, 0); /* the peer has our SYN-ACK */
    }
    stream(d, 0, sizeof d);
    inject(TH_ACK, their(0), our(0), d, sizeof d);
    assert_int_equal(sock_down(&listener)->pending, 1);
    assert_int_equal(last.ack, their(10));
}

static void deferred_for_so_long(void **state)
{
    (void)state;
    deferred_state();
    unsigned again = 0;
    for (unsigned i = 0; i < 11; i++) {
        later(SEC);
        again += sent;
    }
    assert_int_equal(again, 1);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&listener)->pending, 1);
}

#define T(f, b) cmocka_unit_test_setup_teardown(f, b, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(flood_keeps_nothing, begin_narrow),
        T(the_same_names_begin_higher, begin_narrow),
        T(no_cookies_drops, begin_no_cookies),
        T(cookie_keeps_the_options, begin_narrow),
        T(cookie_without_timestamps, begin_narrow),
        T(cookie_rounds_the_size_down, begin_narrow),
        T(cookie_with_data, begin_narrow),
        T(cookie_outlives_a_crash, begin_narrow),
        T(cookie_grows_old, begin_narrow),
        T(cookie_of_another, begin_narrow),
        T(cookie_that_nobody_sent, begin_narrow),
        T(cookie_meets_a_full_backlog, begin_cookies_only),
        T(cookies_for_all, begin_cookies_only),
        T(deferred_until_data, begin_narrow),
        T(deferred_for_so_long, begin_narrow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
