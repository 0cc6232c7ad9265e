/* SPDX-License-Identifier: BSD-2-Clause
 *
 * State x event of TCP: named <state>_<event>. A scripted peer sends single segments to one TCP
 * server and looks at what comes back.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

/* --- LISTEN --- */

static void listen_ack(void **state)
{
    (void)state;
    listen_state();
    inject(TH_ACK, 100, 200, NULL, 0);
    assert_int_equal(last.flags, TH_RST);
    assert_int_equal(last.seq, 200);
}

static void listen_rst(void **state)
{
    (void)state;
    listen_state();
    inject(TH_RST, 100, 0, NULL, 0);
    assert_int_equal(sent, 0);
}

static void closed_port_syn(void **state)
{
    (void)state;
    inject(TH_SYN, 100, 0, NULL, 0);
    assert_int_equal(last.flags, TH_RST | TH_ACK);
    assert_int_equal(last.ack, 101);
    assert_int_equal(last.seq, 0);
}

static void listen_backlog_full(void **state)
{
    (void)state;
    sock_listen(&listener, 8080, 0);
    look();
    for (unsigned i = 0; i < 3; i++) {
        their_port = (uint16_t)(6000 + i);
        inject(TH_SYN, their_iss, 0, NULL, 0);
        if (sent) {
            our_iss = last.seq;
            inject(TH_ACK, their(0), our(0), NULL, 0);
        }
    }
    /* Backlog 0 admits one, as Linux does. */
    assert_int_equal(sock_down(&listener)->pending, 1);
    assert_true(counter(TCP_C_DROP_BACKLOG) > 0);
}

/* --- SYN-RECEIVED --- */

static void syn_rcvd_syn_again(void **state)
{
    (void)state;
    syn_rcvd_state();
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    assert_int_equal(last.seq, our_iss);
}

static void syn_rcvd_rst(void **state)
{
    (void)state;
    syn_rcvd_state();
    inject(TH_RST, their(0), 0, NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_CLAIM); /* the claim waits for another */
    assert_int_equal(world_records(us, true), 2);
}

static void syn_rcvd_bad_ack(void **state)
{
    (void)state;
    syn_rcvd_state();
    inject(TH_ACK, their(0), our(7), NULL, 0);
    assert_int_equal(last.flags, TH_RST);
    assert_int_equal(last.seq, our(7));
    assert_int_equal(sock_down(&k)->state, SOCK_CLAIM);
}

static void syn_rcvd_ack_with_data(void **state)
{
    uint8_t d[100];
    (void)state;
    syn_rcvd_state();
    stream(d, 0, 100);
    inject(TH_ACK | TH_PUSH, their(0), our(0), d, 100);
    assert_int_equal(last.ack, their(100));
    sock_step(&k);
    sock_step(&k);
    assert_int_equal(k.received, 100);
}

static void syn_rcvd_timeout(void **state)
{
    (void)state;
    syn_rcvd_state();
    unsigned again = 0;
    for (unsigned i = 0; i < 400; i++) {
        later(SEC);
        again += sent;
    }
    assert_int_equal(again, 5); /* tcp_synack_retries */
    assert_int_equal(world_records(us, true), 2);
}

/* --- SYN-SENT --- */

static void syn_sent_syn_ack(void **state)
{
    int result = 1;
    (void)state;
    syn_sent_state();
    assert_false(sock_replied(&k, NULL));
    inject(TH_SYN | TH_ACK, their_iss, our(0), NULL, 0);
    assert_int_equal(last.flags, TH_ACK);
    assert_int_equal(last.ack, their(0));
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

static void syn_sent_rst(void **state)
{
    int result = 0;
    (void)state;
    syn_sent_state();
    inject(TH_RST, their_iss, our(0), NULL, 0); /* without an ACK it is not believed */
    assert_false(sock_replied(&k, NULL));
    inject(TH_RST | TH_ACK, 0, our(0), NULL, 0);
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -ECONNREFUSED);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNREFUSED);
    sock_close(&k, false);
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
    assert_int_equal(world_records(us, true), 0);
}

static void syn_sent_bad_ack(void **state)
{
    (void)state;
    syn_sent_state();
    inject(TH_ACK, 77, our(5), NULL, 0);
    /* A reset for the former connection, and the SYN again, promptly. */
    assert_int_equal(sent, 2);
    assert_int_equal(last.flags, TH_SYN);
    assert_int_equal(last.seq, our_iss);
}

static void syn_sent_syn(void **state)
{
    (void)state;
    syn_sent_state();
    inject(TH_SYN, their_iss, 0, NULL, 0); /* both open at once */
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    assert_int_equal(last.seq, our_iss);
    assert_int_equal(last.ack, their(0));
    inject(TH_SYN | TH_ACK, their_iss, our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

static void syn_sent_timeout(void **state)
{
    int result = 0;
    unsigned syns = 1;
    (void)state;
    syn_sent_state();
    for (unsigned i = 0; i < 300 && !sock_replied(&k, &result); i++) {
        later(SEC);
        syns += sent;
    }
    assert_int_equal(result, -ETIMEDOUT);
    assert_int_equal(syns, 7);
}

static void syn_sent_cancel(void **state)
{
    int result = 0;
    (void)state;
    syn_sent_state();
    sock_request(&k, OP_CANCEL, 0, 0);
    look();
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -ECANCELED);
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
    assert_int_equal(world_records(us, true), 0);
}

/* --- ESTABLISHED: attacks --- */

static void established_rst(void **state)
{
    (void)state;
    established_state();
    inject(TH_RST, their(0) - 1, 0, NULL, 0); /* below the window */
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_int_equal(sent, 0);
    inject(TH_RST, their(1), 0, NULL, 0); /* inside: RFC 5961 challenges */
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_int_equal(last.flags, TH_ACK);
    inject(TH_RST, their(0), 0, NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNRESET);
}

static void established_syn(void **state)
{
    (void)state;
    established_state();
    inject(TH_SYN, their(10), 0, NULL, 0);
    assert_int_equal(last.flags, TH_ACK);
    assert_int_equal(last.ack, their(0));
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

static void established_challenges_are_limited(void **state)
{
    (void)state;
    established_state();
    unsigned n = 0;
    for (unsigned i = 0; i < 1000; i++) { /* ten seconds, half a second each, with jitter */
        inject(TH_RST, their(1 + i), 0, NULL, 0);
        n += sent;
        later(10 * MSEC);
    }
    assert_in_range(n, 14, 30);
    assert_int_equal(counter(TCP_C_ANSWERS_LIMITED), 1000 - n);
}

static void established_ack_of_the_future(void **state)
{
    (void)state;
    established_state();
    inject(TH_ACK, their(0), our(1000), NULL, 0);
    assert_int_equal(last.ack, their(0));
    assert_int_equal(conn()->tx_una, 0);
}

static void established_old_timestamp(void **state)
{
    (void)state;
    ts_on = 1;
    established_state();
    uint8_t d[10];
    stream(d, 0, 10);
    tsval = 900; /* before what the SYN said */
    inject(TH_ACK, their(0), our(0), d, 10);
    assert_int_equal(counter(TCP_C_DROP_PAWS), 1);
    assert_int_equal(sock_down(&k)->rx_nxt, k.read_at);
    tsval = 1001;
    inject(TH_ACK, their(0), our(0), d, 10);
    assert_int_equal(last.ack, their(10));
    assert_int_equal(last.tsecr, 1001);
}

/* --- ESTABLISHED: data --- */

static void established_out_of_order(void **state)
{
    uint8_t d[300];
    (void)state;
    established_state();
    stream(d, 0, 300);
    inject(TH_ACK, their(100), our(0), d + 100, 100);
    assert_int_equal(last.ack, their(0));
    assert_int_equal(last.sacks, 1);
    assert_int_equal(last.sack[0].start, their(100));
    assert_int_equal(last.sack[0].end, their(200));
    inject(TH_ACK, their(250), our(0), d + 250, 50);
    assert_int_equal(last.sacks, 2);
    assert_int_equal(last.sack[0].start, their(250)); /* the newest first */
    inject(TH_ACK, their(200), our(0), d + 200, 50);
    assert_int_equal(last.sacks, 1);
    inject(TH_ACK, their(0), our(0), d, 100);
    assert_int_equal(last.ack, their(300));
    assert_int_equal(last.sacks, 0);
    sock_step(&k);
    assert_int_equal(k.received, 300);
}

/* A retransmission that is corrupted must not touch what is there. */
static void established_corrupt_retransmission(void **state)
{
    uint8_t d[300];
    (void)state;
    established_state();
    k.no_read = true;
    stream(d, 0, 300);
    inject(TH_ACK, their(0), our(0), d, 100);
    inject(TH_ACK, their(200), our(0), d + 200, 100);
    deliver_segment(
        (struct tcp_seg){
            .flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = PEER_WINDOW, .len = 100},
        d, true);
    deliver_segment(
        (struct tcp_seg){
            .flags = TH_ACK, .seq = their(200), .ack = our(0), .wnd = PEER_WINDOW, .len = 100},
        d + 200, true);
    deliver_segment(
        (struct tcp_seg){
            .flags = TH_ACK, .seq = their(50), .ack = our(0), .wnd = PEER_WINDOW, .len = 250},
        d + 50, true);
    look();
    assert_int_equal(conn()->rx_nxt, 100);
    inject(TH_ACK, their(100), our(0), d + 100, 100);
    assert_int_equal(last.ack, their(300));
    k.no_read = false;
    sock_step(&k);
    assert_int_equal(k.received, 300);
    assert_true(counter(TCP_C_DROP_CHECKSUM) >= 1);
}

static void established_duplicate(void **state)
{
    uint8_t d[100];
    (void)state;
    established_state();
    stream(d, 0, 100);
    inject(TH_ACK, their(0), our(0), d, 100);
    inject(TH_ACK, their(0), our(0), d, 100);
    assert_int_equal(last.ack, their(100));
    assert_int_equal(last.sacks, 1); /* DSACK, RFC 2883 */
    assert_int_equal(last.sack[0].start, their(0));
}

static void established_window_closes_and_opens(void **state)
{
    static uint8_t d[16384];
    (void)state;
    established_state();
    k.no_read = true;
    stream(d, 0, sizeof d);
    uint32_t edge = 0, at = 0;
    for (; at < 16000; at += 500) {
        inject(TH_ACK, their(at), our(0), d + at, 500);
        if (sent == 0)
            continue;
        uint32_t e = last.ack - their(0) + last.wnd;
        assert_true(e >= edge);
        edge = e;
    }
    /* Beyond the edge nothing is taken, a probe is answered. */
    uint32_t nxt = (uint32_t)conn()->rx_nxt;
    inject(TH_ACK, their(edge), our(0), d, 1);
    assert_int_equal(conn()->rx_nxt, nxt);
    assert_int_equal(sent, 1);
    k.no_read = false;
    sock_step(&k);
    look();
    assert_true(last.wnd >= 8000);
}

static void established_delayed_ack(void **state)
{
    uint8_t d[100];
    (void)state;
    established_state();
    for (unsigned i = 0; i < 40; i++) { /* past the quick ACKs of the start */
        stream(d, 100 * i, 100);
        inject(TH_ACK, their(100 * i), our(0), d, 100);
        sock_step(&k);
    }
    stream(d, 4000, 100);
    later(100 * MSEC);
    inject(TH_ACK, their(4000), our(0), d, 100);
    assert_int_equal(sent, 0);
    later(39 * MSEC);
    assert_int_equal(sent, 0);
    later(2 * MSEC);
    assert_int_equal(sent, 1);
    assert_int_equal(last.ack, their(4100));
}

/* --- ESTABLISHED: sending --- */

static void sack(uint32_t ack, uint32_t from, uint32_t to)
{
    deliver_segment((struct tcp_seg){.flags = TH_ACK,
                                     .seq = their(0),
                                     .ack = our(ack),
                                     .wnd = PEER_WINDOW,
                                     .sacks = 1,
                                     .sack = {{our(from), our(to)}}},
                    NULL, false);
    look();
}

static void established_fast_retransmit(void **state)
{
    (void)state;
    established_state();
    app_writes(8000);
    assert_int_equal(conn()->snd_max, 8000);
    sack(0, 1000, 2000);
    sack(0, 1000, 3000);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    sack(0, 1000, 4000);
    assert_int_equal(counter(TCP_C_RETRANS), 1);
    assert_int_equal(last.seq, our(0));
    assert_int_equal(last.len, 1000);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
    inject(TH_ACK, their(0), our(8000), NULL, 0);
    assert_false(conn()->recovering);
}

static void established_nagle_and_nodelay(void **state)
{
    (void)state;
    established_state();
    app_writes(10);
    assert_int_equal(sent, 1);
    app_writes(10); /* waits for the ACK of the first */
    assert_int_equal(sent, 0);
    inject(TH_ACK, their(0), our(10), NULL, 0);
    assert_int_equal(last.len, 10);
    sock_request(&k, OP_SETOPT, OPT_NODELAY, 1);
    look();
    app_writes(10);
    assert_int_equal(sent, 1);
}

static void established_application_lies(void **state)
{
    (void)state;
    established_state();
    sock_up(&k)->tx_end += 1 << 20; /* more than the ring holds */
    sock_kick(&k);
    w.violations = 0;
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, EPROTO);
    assert_int_equal(counter(TCP_C_APP_VIOLATIONS), 1);
    assert_int_equal(sock_down(&listener)->state, SOCK_LISTEN);
}

/* --- closing --- */

static void established_fin(void **state)
{
    (void)state;
    established_state();
    inject(TH_FIN | TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(last.ack, their(1));
    assert_int_equal(conn()->r.state, TCP_CLOSE_WAIT);
    sock_step(&k);
    assert_true(k.eof);
    /* LAST-ACK */
    sock_close(&k, false);
    look();
    assert_int_equal(last.flags & TH_FIN, TH_FIN);
    assert_int_equal(world_records(us, true), 2); /* LAST-ACK, without the application */
    inject(TH_ACK, their(1), our(1), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
    assert_int_equal(world_records(us, true), 1);
}

static void established_fin_waits_for_gap(void **state)
{
    uint8_t d[100];
    (void)state;
    established_state();
    stream(d, 0, 100);
    inject(TH_FIN | TH_ACK, their(100), our(0), NULL, 0);
    assert_int_equal(conn()->r.state, TCP_ESTABLISHED);
    assert_int_equal(last.ack, their(0));
    inject(TH_ACK, their(0), our(0), d, 100);
    assert_int_equal(last.ack, their(101));
    assert_int_equal(conn()->r.state, TCP_CLOSE_WAIT);
}

static void fin_wait(void **state)
{
    (void)state;
    established_state();
    sock_shutdown(&k);
    look();
    assert_int_equal(last.flags & TH_FIN, TH_FIN);
    assert_int_equal(conn()->r.state, TCP_FIN_WAIT_1);
    inject(TH_ACK, their(0), our(1), NULL, 0);
    assert_int_equal(conn()->r.state, TCP_FIN_WAIT_2);
    uint8_t d[10];
    stream(d, 0, 10);
    inject(TH_ACK, their(0), our(1), d, 10); /* half closed: data still comes */
    sock_step(&k);
    assert_int_equal(k.received, 10);
    inject(TH_FIN | TH_ACK, their(10), our(1), NULL, 0);
    assert_int_equal(conn()->r.state, TCP_TIME_WAIT);
    assert_int_equal(last.ack, their(11));
}

static void fin_wait_1_fin(void **state)
{
    (void)state;
    established_state();
    sock_shutdown(&k);
    look();
    inject(TH_FIN | TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(conn()->r.state, TCP_CLOSING);
    inject(TH_ACK, their(1), our(1), NULL, 0);
    assert_int_equal(conn()->r.state, TCP_TIME_WAIT);
}

static void time_wait(void **state)
{
    (void)state;
    established_state();
    sock_close(&k, false);
    look();
    inject(TH_FIN | TH_ACK, their(0), our(1), NULL, 0);
    /* The application is rid of it; a tombstone stays. */
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
    assert_int_equal(world_records(us, true), 2);
    inject(TH_RST, their(1), 0, NULL, 0); /* RFC 1337 */
    assert_int_equal(world_records(us, true), 2);
    inject(TH_FIN | TH_ACK, their(0), our(1), NULL, 0); /* its ACK was lost */
    assert_int_equal(last.ack, their(1));
    later(59 * SEC);
    assert_int_equal(world_records(us, true), 2);
    later(2 * SEC);
    assert_int_equal(world_records(us, true), 1);
}

static void time_wait_syn(void **state)
{
    (void)state;
    established_state();
    sock_close(&k, false);
    look();
    inject(TH_FIN | TH_ACK, their(0), our(1), NULL, 0);
    uint32_t old = our_iss;
    inject(TH_SYN, their(5000), 0, NULL, 0); /* higher: a new connection */
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    assert_int_not_equal(last.seq, old);
}

static void close_with_unread_data(void **state)
{
    uint8_t d[10];
    (void)state;
    established_state();
    k.no_read = true;
    stream(d, 0, 10);
    inject(TH_ACK, their(0), our(0), d, 10);
    sock_close(&k, false);
    look();
    assert_int_equal(last.flags & TH_RST, TH_RST);
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
}

static void data_after_close(void **state)
{
    (void)state;
    established_state();
    sock_close(&k, false);
    look();
    inject(TH_ACK, their(0), our(1), bytes, 10);
    assert_int_equal(last.flags & TH_RST, TH_RST);
    assert_int_equal(world_records(us, true), 1);
}

static void application_dies(void **state)
{
    (void)state;
    established_state();
    app_writes(500);
    host_app_gone(us->tcp, k.app);
    look();
    /* As a kernel does: what was written is still sent, then a FIN; the listener is gone. */
    assert_int_equal(last.flags & TH_FIN, TH_FIN);
    assert_false(host_app_done(us->tcp, k.app));
    inject(TH_ACK, their(0), our(501), NULL, 0);
    look();
    assert_true(host_app_done(us->tcp, k.app));
    inject(TH_FIN | TH_ACK, their(0), our(501), NULL, 0);
    assert_int_equal(last.ack, their(1));
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(listen_ack),
        T(listen_rst),
        T(closed_port_syn),
        T(listen_backlog_full),
        T(syn_rcvd_syn_again),
        T(syn_rcvd_rst),
        T(syn_rcvd_bad_ack),
        T(syn_rcvd_ack_with_data),
        T(syn_rcvd_timeout),
        T(syn_sent_syn_ack),
        T(syn_sent_rst),
        T(syn_sent_bad_ack),
        T(syn_sent_syn),
        T(syn_sent_timeout),
        T(syn_sent_cancel),
        T(established_rst),
        T(established_syn),
        T(established_challenges_are_limited),
        T(established_ack_of_the_future),
        T(established_old_timestamp),
        T(established_out_of_order),
        T(established_corrupt_retransmission),
        T(established_duplicate),
        T(established_window_closes_and_opens),
        T(established_delayed_ack),
        T(established_fast_retransmit),
        T(established_nagle_and_nodelay),
        T(established_application_lies),
        T(established_fin),
        T(established_fin_waits_for_gap),
        T(fin_wait),
        T(fin_wait_1_fin),
        T(time_wait),
        T(time_wait_syn),
        T(close_with_unread_data),
        T(data_after_close),
        T(application_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
