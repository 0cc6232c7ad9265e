/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ECN in virtual time: who agrees to it, which segments are marked, the receiver's latch, the
 * sender's reaction, and what of it outlives a restart.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

enum { ASK = TH_ECE | TH_CWR };

static void mode_off(struct stack_config *cfg)
{
    cfg->tcp_ecn = CONFIG_ECN_OFF;
}

static void mode_passive(struct stack_config *cfg)
{
    cfg->tcp_ecn = CONFIG_ECN_PASSIVE;
}

static void mode_on(struct stack_config *cfg)
{
    cfg->tcp_ecn = CONFIG_ECN_ON;
}

static void mode_on_cookies(struct stack_config *cfg)
{
    cfg->tcp_ecn = CONFIG_ECN_ON;
    cfg->tcp_syncookies = CONFIG_COOKIES_ALWAYS;
}

static void mode_on_offload(struct stack_config *cfg)
{
    cfg->tcp_ecn = CONFIG_ECN_ON;
    cfg->interface[0].offload = true;
}

#define BEGIN(name, mode)                                                                          \
    static int name(void **state)                                                                  \
    {                                                                                              \
        adjust = mode;                                                                             \
        return begin(state);                                                                       \
    }
BEGIN(begin_off, mode_off)
BEGIN(begin_passive, mode_passive)
BEGIN(begin_on, mode_on)
BEGIN(begin_cookies, mode_on_cookies)
BEGIN(begin_offload, mode_on_offload)

static bool agreed(void)
{
    return conn()->r.flags & TCPF_ECN;
}

/* The peer's segment; text of `len` bytes at `at`, in a packet marked `ecn`. */
static void peer(uint8_t flags, uint32_t at, uint32_t ack, unsigned len, uint8_t ecn)
{
    uint8_t d[1000];
    stream(d, at, len);
    deliver_segment((struct tcp_seg){.flags = (uint8_t)(TH_ACK | flags),
                                     .seq = their(at),
                                     .ack = our(ack),
                                     .wnd = PEER_WINDOW,
                                     .len = len,
                                     .ecn = ecn},
                    d, false);
    look();
}

/* --- agreeing --- */

/* The peer connects with these flags in its SYN. */
static void peer_connects(uint8_t flags)
{
    listen_state();
    sock_claim(&k, &listener);
    inject(TH_SYN | flags, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags & ~TH_ECE, TH_SYN | TH_ACK);
    assert_int_equal(last.ecn, ECN_NOT_ECT); /* 6.1.1: no SYN-ACK is marked */
    our_iss = last.seq;
}

static void handshake_ends(void)
{
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    sock_step(&k);
    assert_true(k.open);
}

static void asked_and_off(void **state)
{
    (void)state;
    peer_connects(ASK);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    handshake_ends();
    assert_false(agreed());
    app_writes(1000);
    assert_int_equal(last.ecn, ECN_NOT_ECT);
}

static void asked_and_answered(void **state)
{
    (void)state;
    peer_connects(ASK);
    assert_int_equal(last.flags, TH_SYN | TH_ACK | TH_ECE);
    handshake_ends();
    assert_true(agreed());
}

static void not_asked(void **state)
{
    static const uint8_t other[] = {0, TH_ECE, TH_CWR};
    (void)state;
    listen_state();
    for (unsigned i = 0; i < 3; i++) {
        their_port = (uint16_t)(6000 + i);
        inject(TH_SYN | other[i], their_iss, 0, NULL, 0);
        assert_int_equal(last.flags, TH_SYN | TH_ACK);
    }
}

static void we_do_not_ask(void **state)
{
    (void)state;
    syn_sent_state(); /* asserts that the SYN is a plain one */
    inject(TH_SYN | TH_ACK | TH_ECE, their_iss, our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_false(agreed());
}

static void we_ask(void)
{
    look();
    sock_connect(&k, &w.side[1], 5555);
    look();
    assert_int_equal(sent, 1);
    assert_int_equal(last.flags, TH_SYN | ASK);
    assert_int_equal(last.ecn, ECN_NOT_ECT);
    our_iss = last.seq;
    our_port = last.local.port;
}

static void we_ask_and_are_answered(void **state)
{
    (void)state;
    we_ask();
    inject(TH_SYN | TH_ACK | TH_ECE, their_iss, our(0), NULL, 0);
    assert_true(agreed());
}

/* Also what a broken peer does, which sends back the flags it was sent (6.1.1). */
static void we_ask_in_vain(void **state)
{
    static const uint8_t other[] = {0, TH_CWR, ASK};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        k = (struct sock){.s = us, .app = listener.app, .slot = 1 + i};
        we_ask();
        inject(TH_SYN | TH_ACK | other[i], their_iss, our(0), NULL, 0);
        assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
        assert_false(agreed());
    }
}

/* 6.1.1.1. The answer to the first may come yet: then marks are echoed, but none are asked for. */
static void unanswered_syn_goes_plain(void **state)
{
    (void)state;
    we_ask();
    later(1100 * MSEC);
    assert_int_equal(sent, 1);
    assert_int_equal(last.flags, TH_SYN);
    world_successor(us, END_NONE);
    look();
    assert_true(sent > 0);
    assert_int_equal(last.flags, TH_SYN);
    inject(TH_SYN | TH_ACK | TH_ECE, their_iss, our(0), NULL, 0);
    sock_step(&k);
    assert_true(k.open);
    app_writes(1000);
    assert_int_equal(last.len, 1000);
    assert_int_equal(last.ecn, ECN_NOT_ECT);
    peer(0, 0, 1000, 100, ECN_CE);
    assert_int_equal(last.flags, TH_ACK | TH_ECE);
}

static void peers_syn_goes_plain(void **state)
{
    (void)state;
    peer_connects(ASK);
    later(900 * MSEC);
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    handshake_ends();
    app_writes(1000);
    assert_int_equal(last.len, 1000);
    assert_int_equal(last.ecn, ECN_NOT_ECT);
}

static void both_ask(void **state)
{
    (void)state;
    we_ask();
    inject(TH_SYN | ASK, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_SYN | TH_ACK | TH_ECE);
    inject(TH_SYN | TH_ACK | TH_ECE, their_iss, our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_true(tcp_ecn_marks(conn()));
}

static void by_cookie(void **state)
{
    (void)state;
    listen_state();
    for (ts_on = 0; ts_on < 2; ts_on++) {
        their_port = (uint16_t)(7000 + ts_on);
        inject(TH_SYN | ASK, their_iss, 0, NULL, 0);
        assert_int_equal(counter(TCP_C_COOKIES_SENT), 1 + ts_on);
        assert_int_equal(last.flags, TH_SYN | TH_ACK | (ts_on ? TH_ECE : 0));
        our_iss = last.seq;
        deliver_segment((struct tcp_seg){.flags = TH_ACK,
                                         .seq = their(0),
                                         .ack = our(0),
                                         .wnd = PEER_WINDOW,
                                         .tsecr = last.tsval},
                        NULL, false);
        look();
        k = (struct sock){.s = us, .app = listener.app, .slot = 1 + ts_on};
        sock_claim(&k, &listener);
        look();
        assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
        assert_int_equal(agreed(), ts_on);
    }
    ts_on = 0;
}

/* --- what is marked --- */

static void established(void)
{
    peer_connects(ASK);
    handshake_ends();
    assert_true(agreed());
    assert_int_equal(last.ecn, ECN_NOT_ECT);
}

static void only_new_data_is_marked(void **state)
{
    (void)state;
    established();
    app_writes(1000);
    assert_int_equal(last.len, 1000);
    assert_int_equal(last.ecn, ECN_ECT0);
    assert_false(last.flags & ASK);
    peer(0, 0, 0, 100, ECN_ECT0); /* a pure ACK answers */
    assert_int_equal(last.len, 0);
    assert_int_equal(last.flags, TH_ACK);
    assert_int_equal(last.ecn, ECN_NOT_ECT);
    unsigned again = 0;
    for (unsigned i = 0; i < 200; i++) {
        later(10 * MSEC);
        for (unsigned j = 0; j < sent; j++) {
            again += sent_seg[j].len != 0;
            assert_int_equal(sent_seg[j].ecn, ECN_NOT_ECT);
        }
    }
    assert_true(again > 0);
    const struct sock_info i = tcp_info(us->tcp->state, conn());
    assert_int_equal(i.options & (INFO_OPT_ECN | INFO_OPT_ECN_SEEN),
                     INFO_OPT_ECN | INFO_OPT_ECN_SEEN);
}

static void probes_are_not_marked(void **state)
{
    (void)state;
    established();
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(0)}, NULL, false);
    look();
    k.to_send = 1000;
    sock_step(&k);
    look();
    unsigned probes = 0;
    for (unsigned i = 0; i < 30; i++) {
        later(100 * MSEC);
        for (unsigned j = 0; j < sent; j++, probes++)
            assert_int_equal(sent_seg[j].ecn, ECN_NOT_ECT);
    }
    assert_true(probes > 0);
}

/* IP_TOS keeps its six bits, and only those. */
static void type_of_service_stays(void **state)
{
    (void)state;
    established();
    sock_request(&k, OP_SETOPT, OPT_TOS, 0xb9 | 3);
    look();
    assert_int_equal(conn()->r.tos, 0xb8);
    app_writes(1000);
    assert_int_equal(last.ecn, ECN_ECT0);
}

/* --- the receiver --- */

static void mark_is_echoed_until_cwr(void **state)
{
    (void)state;
    established();
    for (unsigned i = 0; i < 40; i++) /* past the quick ACKs */
        peer(0, 100 * i, 0, 100, ECN_ECT0);
    assert_int_equal(last.flags & TH_ECE, 0);
    sent = 0;
    peer(0, 4000, 0, 100, ECN_CE);
    assert_int_equal(sent, 1); /* at once */
    assert_int_equal(last.ack, their(4100));
    assert_int_equal(last.flags, TH_ACK | TH_ECE);
    for (unsigned i = 0; i < 10; i++) {
        peer(0, 4100 + 1000 * i, 0, 1000, ECN_ECT0);
        later(50 * MSEC);
        assert_true(last.flags & TH_ECE);
    }
    app_writes(1000); /* data says it too */
    assert_int_equal(last.len, 1000);
    assert_true(last.flags & TH_ECE);
    peer(TH_CWR, 14100, 1000, 100, ECN_ECT0);
    assert_int_equal(sent, 1);
    assert_int_equal(last.flags, TH_ACK);
    peer(TH_CWR, 14200, 1000, 100, ECN_CE); /* marked since */
    assert_int_equal(last.flags, TH_ACK | TH_ECE);
}

/* What is not in the window proves nothing (6.1.5), nor does a segment without text. */
static void mark_of_a_stranger(void **state)
{
    (void)state;
    established();
    peer(0, 0, 0, 100, ECN_CE);
    assert_true(conn()->ecn.echo);
    peer(TH_CWR, 100, 0, 0, ECN_NOT_ECT);
    assert_true(conn()->ecn.echo);
    peer(TH_CWR, 1u << 28, 0, 100, ECN_ECT0);
    assert_true(conn()->ecn.echo);
    peer(TH_CWR, 100, 0, 100, ECN_ECT0);
    assert_false(conn()->ecn.echo);
    peer(0, 200, 0, 0, ECN_CE);
    peer(0, 1u << 28, 0, 100, ECN_CE);
    assert_false(conn()->ecn.echo);
}

static void marks_without_agreement(void **state)
{
    (void)state;
    peer_connects(0);
    handshake_ends();
    app_writes(1000);
    peer(TH_ECE, 0, 0, 100, ECN_CE);
    assert_int_equal(last.flags & ASK, 0);
    assert_int_equal(conn()->cc.event, TCP_CC_NONE);
}

/* --- the sender --- */

static void one_reduction_per_window(void **state)
{
    (void)state;
    established();
    app_writes(20000);
    uint64_t before = conn()->cwnd, end = conn()->snd_max;
    assert_int_equal(end, before); /* a whole window is under way */
    peer(TH_ECE, 0, 1000, 0, ECN_NOT_ECT);
    uint64_t once = conn()->cwnd;
    assert_true(once < before);
    assert_int_equal(tcp_info(us->tcp->state, conn()).delivered_ce, 1);
    assert_int_equal(tcp_info(us->tcp->state, conn()).ca_state, INFO_CA_CWR);
    unsigned cwr = 0;
    for (uint32_t at = 2000; at <= end; at += 1000) {
        peer(TH_ECE, 0, at, 0, ECN_NOT_ECT);
        assert_int_equal(conn()->cwnd, once);
        for (unsigned i = 0; i < sent; i++) {
            if (!(sent_seg[i].flags & TH_CWR))
                continue;
            cwr++;
            assert_int_equal(sent_seg[i].seq, our((uint32_t)end)); /* the first new one */
            assert_int_equal(sent_seg[i].ecn, ECN_ECT0);
        }
    }
    assert_int_equal(cwr, 1);
    assert_true(conn()->snd_max > end);
    /* Behind it: the peer has heard, and saw another mark. */
    peer(TH_ECE, 0, (uint32_t)end + 1000, 0, ECN_NOT_ECT);
    assert_true(conn()->cwnd < once);
}

/* A loss is said as well, and what goes again is neither marked nor does it say anything. */
static void loss_says_cwr(void **state)
{
    (void)state;
    established();
    app_writes(40000);
    unsigned fresh = 0, again = 0;
    for (uint32_t at = 2000; at <= 10000; at += 1000) {
        struct tcp_seg s = {
            .flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = PEER_WINDOW, .sacks = 1};
        s.sack[0] = (struct tcp_range){our(1000), our(at)};
        deliver_segment(s, NULL, false);
        look();
        for (unsigned i = 0; i < sent; i++) {
            if (sent_seg[i].seq == our(0)) {
                again++;
                assert_int_equal(sent_seg[i].ecn, ECN_NOT_ECT);
                assert_false(sent_seg[i].flags & TH_CWR);
            } else {
                assert_int_equal(sent_seg[i].ecn, ECN_ECT0);
                assert_int_equal(sent_seg[i].flags & TH_CWR, again && fresh == 0 ? TH_CWR : 0);
                fresh += again;
            }
        }
    }
    assert_int_equal(again, 1);
    assert_true(fresh > 0);
}

static void cwr_travels_alone(void **state)
{
    (void)state;
    established();
    app_writes(60000);
    assert_true(last.len > 1000); /* a super-segment */
    uint32_t end = (uint32_t)conn()->snd_max;
    peer(TH_ECE, 0, end, 0, ECN_NOT_ECT);
    assert_true(sent > 1);
    assert_int_equal(sent_seg[0].len, 1000);
    assert_true(sent_seg[0].flags & TH_CWR);
    for (unsigned i = 1; i < sent; i++)
        assert_false(sent_seg[i].flags & TH_CWR);
    assert_true(sent_seg[1].len > 1000);
}

/* --- a restart --- */

static void agreement_outlives_a_crash(void **state)
{
    (void)state;
    established();
    peer(0, 0, 0, 100, ECN_CE);
    assert_true(conn()->ecn.echo);
    world_successor(us, END_NONE);
    for (unsigned i = 0; i < 8; i++)
        look();
    assert_true(agreed());
    assert_false(conn()->ecn.echo); /* as ecn.c says */
    app_writes(1000);
    assert_int_equal(last.len, 1000);
    assert_int_equal(last.ecn, ECN_ECT0);
    peer(0, 100, 1000, 100, ECN_CE);
    assert_int_equal(last.flags, TH_ACK | TH_ECE);
    uint64_t before = conn()->cwnd;
    app_writes(20000);
    peer(TH_ECE, 200, 2000, 0, ECN_NOT_ECT);
    assert_true(conn()->cwnd < before);
}

#define T(f, b) cmocka_unit_test_setup_teardown(f, b, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(asked_and_off, begin_off),
        T(asked_and_answered, begin_passive),
        T(asked_and_answered, begin_on),
        T(not_asked, begin_on),
        T(we_do_not_ask, begin_off),
        T(we_do_not_ask, begin_passive),
        T(we_ask_and_are_answered, begin_on),
        T(we_ask_in_vain, begin_on),
        T(unanswered_syn_goes_plain, begin_on),
        T(peers_syn_goes_plain, begin_on),
        T(both_ask, begin_on),
        T(by_cookie, begin_cookies),
        T(only_new_data_is_marked, begin_on),
        T(probes_are_not_marked, begin_on),
        T(type_of_service_stays, begin_on),
        T(mark_is_echoed_until_cwr, begin_on),
        T(mark_of_a_stranger, begin_on),
        T(marks_without_agreement, begin_on),
        T(one_reduction_per_window, begin_on),
        T(loss_says_cwr, begin_on),
        T(cwr_travels_alone, begin_offload),
        T(agreement_outlives_a_crash, begin_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
