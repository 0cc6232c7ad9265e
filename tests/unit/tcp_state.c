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

static void established_retransmits(void **state)
{
    (void)state;
    established_state();
    app_writes(100);
    assert_int_equal(last.len, 100);
    uint64_t wait = 0, before = 0;
    for (unsigned i = 0; i < 4; i++) { /* doubling */
        for (wait = 0; wait < 100; wait++) {
            later(100 * MSEC);
            if (sent)
                break;
        }
        assert_int_equal(last.seq, our(0));
        assert_int_equal(last.len, 100);
        if (before)
            assert_in_range(wait, 2 * before - 2, 2 * before + 3);
        before = wait;
    }
    inject(TH_ACK, their(0), our(100), NULL, 0);
    assert_int_equal(sock_down(&k)->tx_una, sock_up(&k)->tx_end);
    assert_int_equal(sock_down(&k)->tx_free, sock_up(&k)->tx_end);
}

static void established_gives_up(void **state)
{
    (void)state;
    established_state();
    app_writes(100);
    for (unsigned i = 0; i < 3000 && sock_down(&k)->state != SOCK_CLOSED; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
}

static void established_user_timeout(void **state)
{
    (void)state;
    established_state();
    sock_request(&k, OP_SETOPT, OPT_USER_TIMEOUT, 5000);
    look();
    app_writes(100);
    unsigned s = 0;
    for (; s < 60 && sock_down(&k)->state != SOCK_CLOSED; s++)
        later(SEC);
    assert_in_range(s, 5, 10);
}

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

static void established_zero_window(void **state)
{
    (void)state;
    established_state();
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = 0},
                    NULL, false);
    look();
    app_writes(100);
    assert_int_equal(sent, 0);
    unsigned probes = 0;
    for (unsigned i = 0; i < 200; i++) { /* never gives up while it is answered */
        later(5 * SEC);
        if (!sent)
            continue;
        probes += sent;
        assert_int_equal(last.seq, our(0) - 1);
        deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = 0},
                        NULL, false);
        look();
    }
    assert_in_range(probes, 8, 40);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(last.len, 100);
}

static void established_keepalive(void **state)
{
    (void)state;
    established_state();
    sock_request(&k, OP_SETOPT, OPT_KEEPIDLE, 10);
    look();
    sock_request(&k, OP_SETOPT, OPT_KEEPINTVL, 2);
    look();
    sock_request(&k, OP_SETOPT, OPT_KEEPCNT, 3);
    look();
    sock_request(&k, OP_SETOPT, OPT_KEEPALIVE, 1);
    look();
    later(9 * SEC);
    assert_int_equal(sent, 0);
    later(2 * SEC);
    assert_int_equal(sent, 1);
    assert_int_equal(last.seq, our(0) - 1);
    for (unsigned i = 0; i < 10; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
}

/* With a user timeout it is time that counts, not probes (as Linux). */
static void established_keepalive_user_timeout(void **state)
{
    (void)state;
    established_state();
    static const uint32_t opt[][2] = {{OPT_KEEPIDLE, 10},
                                      {OPT_KEEPINTVL, 2},
                                      {OPT_KEEPCNT, 3},
                                      {OPT_USER_TIMEOUT, 30000},
                                      {OPT_KEEPALIVE, 1}};
    for (unsigned i = 0; i < 5; i++) {
        sock_request(&k, OP_SETOPT, opt[i][0], opt[i][1]);
        look();
    }
    for (unsigned i = 0; i < 28; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_in_range(counter(TCP_C_KEEPALIVES), 9, 10);
    for (unsigned i = 0; i < 5; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
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

/* --- requests --- */

static void privileged_port(void **state)
{
    int result = 0;
    (void)state;
    sock_listen(&listener, 80, 4);
    look();
    assert_true(sock_replied(&listener, &result));
    assert_int_equal(result, -EACCES);
    struct tcp *t = us->tcp->state;
    t->app_shm[listener.app].granted[80 / 64] |= 1ull << 80 % 64;
    sock_up(&listener)->released = listener.generation;
    sock_listen(&listener, 80, 4);
    look();
    assert_true(sock_replied(&listener, &result));
    assert_int_equal(result, 0);
}

static void port_in_use(void **state)
{
    int result = 0;
    (void)state;
    listen_state();
    sock_listen(&k, 8080, 4);
    look();
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -EADDRINUSE);
}

static void claim_cancelled(void **state)
{
    int result = 0;
    (void)state;
    listen_state();
    sock_claim(&k, &listener);
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_CLAIM);
    sock_request(&k, OP_CANCEL, 0, 0);
    look();
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -ECANCELED);
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
}

static void claim_with_a_wrong_token(void **state)
{
    int result = 0;
    (void)state;
    listen_state();
    struct sock other = {.s = us, .app = world_add_app(us), .slot = 2};
    look();
    sock_claim(&other, &listener);
    sock_up(&other)->token ^= 1;
    look();
    assert_true(sock_replied(&other, &result));
    assert_int_equal(result, -EBADF);
}

/* A listener shared after fork, early data, and a worker in another process. */
static void worker_claims_early_data(void **state)
{
    uint8_t d[700];
    int result = 1;
    (void)state;
    listen_state();
    struct sock worker = {.s = us, .app = world_add_app(us)}, *wk = &worker;
    struct up_slot *up = sock_fresh(wk);
    up->target_app = listener.app;
    up->target_slot = listener.slot;
    up->target_generation = listener.generation;
    up->token = sock_up(&listener)->share_token;
    sock_request(wk, OP_INHERIT, 0, 0);
    look();
    assert_true(sock_replied(wk, &result));
    assert_int_equal(result, 0);
    assert_int_equal(sock_down(wk)->state, SOCK_LISTEN);

    inject(TH_SYN, their_iss, 0, NULL, 0);
    our_iss = last.seq;
    stream(d, 0, 700);
    inject(TH_ACK, their(0), our(0), d, 300);
    inject(TH_ACK, their(500), our(0), d + 500, 200); /* out of order, moves along */
    assert_int_equal(sock_down(&listener)->pending, 1);
    assert_int_equal(sock_down(wk)->pending, 1);

    /* The first process goes; the connection stays. */
    sock_close(&listener, false);
    look();
    k = (struct sock){.s = us, .app = worker.app, .slot = 3};
    sock_claim(&k, wk);
    look();
    sock_step(&k);
    sock_step(&k);
    inject(TH_ACK, their(300), our(0), d + 300, 200);
    assert_int_equal(last.ack, their(700));
    sock_step(&k);
    assert_int_equal(k.received, 700);
}

static void inherited_connection(void **state)
{
    int result = 1;
    uint8_t d[50];
    (void)state;
    established_state();
    app_writes(100);
    struct sock heir = {.s = us, .app = world_add_app(us), .slot = 4};
    struct up_slot *up = sock_fresh(&heir);
    up->target_app = k.app;
    up->target_slot = k.slot;
    up->target_generation = k.generation;
    up->token = sock_up(&k)->share_token;
    sock_request(&heir, OP_INHERIT, 0, 0);
    look();
    assert_false(sock_replied(&heir, NULL)); /* 100 bytes are in the old owner's ring */
    inject(TH_ACK, their(0), our(100), NULL, 0);
    look();
    assert_true(sock_replied(&heir, &result));
    assert_int_equal(result, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    k = heir;
    sock_step(&k);
    stream(d, 0, 50);
    inject(TH_ACK, their(0), our(100), d, 50);
    sock_step(&k);
    assert_int_equal(k.received, 50);
    app_writes(10);
    assert_int_equal(last.seq, our(100));
    assert_int_equal(last.len, 10);
}

/* --- ICMP --- */

static void icmp(uint8_t type, uint8_t code, uint16_t mtu, uint32_t seq)
{
    struct packet p = {
        .icmp_type = type, .icmp_code = code, .mss = mtu, .protocol = 6, .chain = TCP_NO_CHAIN};
    void *slot;
    p.hdr_len = 28;
    p.hdr[0] = 0x45;
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

static void syn_sent_unreachable(void **state)
{
    int result = 0;
    (void)state;
    syn_sent_state();
    icmp(3, 1, 0, our_iss + 99); /* quotes what was not sent */
    assert_false(sock_replied(&k, NULL));
    icmp(3, 1, 0, our_iss);
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -EHOSTUNREACH);
}

static void established_icmp(void **state)
{
    (void)state;
    established_state();
    app_writes(3000);
    uint32_t mss = conn()->mss;
    icmp(3, 3, 0, our(0)); /* soft once synchronised */
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    icmp(3, 4, 100, our(0)); /* forged: the floor holds */
    assert_int_equal(conn()->mss, 552 - 40);
    assert_true(conn()->mss < mss);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
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
        T(established_retransmits),
        T(established_gives_up),
        T(established_user_timeout),
        T(established_fast_retransmit),
        T(established_nagle_and_nodelay),
        T(established_zero_window),
        T(established_keepalive),
        T(established_keepalive_user_timeout),
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
        T(privileged_port),
        T(port_in_use),
        T(claim_cancelled),
        T(claim_with_a_wrong_token),
        T(worker_claims_early_data),
        T(inherited_connection),
        T(syn_sent_unreachable),
        T(established_icmp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
