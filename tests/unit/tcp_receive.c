/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The receiving side: when ACKs leave and what they say (RFC 5681 4.2, 2018, 2883), where a stream
 * ends, and peers that behave badly.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

static uint8_t d[16000];

/* Text of the peer's stream. */
static void text(uint32_t at, uint32_t len)
{
    stream(d, at, len);
    inject(TH_ACK, their(at), our(0), d, len);
    sock_step(&k);
}

static void fin(uint32_t at)
{
    inject(TH_ACK | TH_FIN, their(at), our(0), NULL, 0);
}

static void blocks(unsigned n, const uint32_t (*want)[2])
{
    assert_int_equal(last.sacks, n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(last.sack[i].start, their(want[i][0]));
        assert_int_equal(last.sack[i].end, their(want[i][1]));
    }
}
#define BLOCKS(...)                                                                                \
    do {                                                                                           \
        static const uint32_t want[][2] = {__VA_ARGS__};                                           \
        blocks(sizeof want / sizeof want[0], want);                                                \
    } while (0)

/* --- when ACKs leave --- */

static void quick_at_the_start_only(void **state)
{
    (void)state;
    established_state();
    for (unsigned i = 0; i < 16; i++) {
        text(100 * i, 100);
        assert_int_equal(sent, 1);
    }
    text(1600, 100);
    assert_int_equal(sent, 0);
}

static void every_second_full_segment(void **state)
{
    (void)state;
    established_state();
    for (unsigned i = 0; i < 16; i++)
        text(500 * i, 500);
    unsigned acks = 0;
    for (unsigned i = 16; i < 26; i++) {
        text(500 * i, 500);
        acks += sent;
    }
    assert_int_equal(acks, 5);
}

/* Segments that the driver merged: two or more of them are acknowledged at once. */
static void merged_segments(void **state)
{
    (void)state;
    established_state();
    for (unsigned i = 0; i < 16; i++)
        text(100 * i, 100);
    stream(d, 1600, 300);
    deliver_segment((struct tcp_seg){.flags = TH_ACK,
                                     .seq = their(1600),
                                     .ack = our(0),
                                     .wnd = PEER_WINDOW,
                                     .len = 300,
                                     .gso = 100},
                    d, false);
    look();
    assert_int_equal(sent, 1); /* three full ones */
    text(1900, 100);
    assert_int_equal(sent, 0);
}

/* The application answers: its answers carry the ACKs. */
static void answers_carry_acks(void **state)
{
    (void)state;
    established_state();
    text(0, 100);
    assert_int_equal(sent, 1);
    app_writes(50);
    assert_int_equal(last.len, 50);
    inject(TH_ACK, their(100), our(50), NULL, 0);
    text(100, 100);
    assert_int_equal(sent, 0); /* not quick any more */
    app_writes(50);
    assert_int_equal(sent, 1);
    assert_int_equal(last.ack, their(200));
    /* Silence for longer than the timeout: quick again, as after a start. */
    inject(TH_ACK, their(200), our(100), NULL, 0);
    later(10 * SEC);
    text(200, 100);
    assert_int_equal(sent, 1);
}

/* What a loss makes of the sender's window, it learns from each ACK. */
static void quick_after_a_gap(void **state)
{
    (void)state;
    established_state();
    text(0, 100);
    app_writes(50);
    inject(TH_ACK, their(100), our(50), NULL, 0);
    text(200, 100);
    assert_int_equal(sent, 1);
    text(100, 100);
    assert_int_equal(sent, 1);
    text(300, 100);
    assert_int_equal(sent, 1);
}

static void fin_at_once(void **state)
{
    (void)state;
    established_state();
    text(0, 100);
    app_writes(50);
    inject(TH_ACK, their(100), our(50), NULL, 0);
    fin(100);
    assert_int_equal(sent, 1);
    assert_int_equal(last.ack, their(101));
}

/* --- what ACKs say --- */

static void newest_first(void **state)
{
    (void)state;
    established_state();
    text(1000, 100);
    text(3000, 100);
    text(5000, 100);
    BLOCKS({5000, 5100}, {3000, 3100}, {1000, 1100});
    text(3100, 100);
    BLOCKS({3000, 3200}, {5000, 5100}, {1000, 1100});
    text(7000, 100);
    text(9000, 100);
    BLOCKS({9000, 9100}, {7000, 7100}, {3000, 3200}, {5000, 5100});
}

static void three_blocks_beside_timestamps(void **state)
{
    (void)state;
    ts_on = 1;
    established_state();
    for (unsigned i = 1; i < 7; i++)
        text(2000 * i, 100);
    BLOCKS({12000, 12100}, {10000, 10100}, {8000, 8100});
    assert_true(last.has_ts);
}

static void duplicate_below(void **state)
{
    (void)state;
    established_state();
    text(0, 300);
    text(100, 100);
    BLOCKS({100, 200});
    text(250, 100); /* half of it is new */
    assert_int_equal(last.ack, their(350));
    BLOCKS({250, 300});
    text(350, 10); /* and is said once */
    assert_int_equal(last.sacks, 0);
}

static void duplicate_above(void **state)
{
    (void)state;
    established_state();
    text(1000, 500);
    text(1200, 100);
    BLOCKS({1200, 1300}, {1000, 1500});
    text(1400, 200);
    BLOCKS({1400, 1500}, {1000, 1600});
    text(0, 1100); /* what fills the hole reaches into what was there */
    assert_int_equal(last.ack, their(1600));
    BLOCKS({1000, 1100});
}

/* --- where the stream ends --- */

static void text_behind_a_fin(void **state)
{
    (void)state;
    established_state();
    fin(200);
    text(100, 300); /* 200 bytes of it lie behind the end */
    text(0, 100);
    assert_int_equal(conn()->r.state, TCP_CLOSE_WAIT);
    assert_int_equal(last.ack, their(201));
    sock_step(&k);
    assert_int_equal(k.received, 200);
    assert_true(k.eof);
}

static void fin_before_text(void **state)
{
    (void)state;
    established_state();
    text(100, 300);
    fin(200); /* there is text behind it: a lie */
    text(0, 100);
    assert_int_equal(last.ack, their(400));
    assert_int_equal(conn()->r.state, TCP_ESTABLISHED);
    fin(400);
    assert_int_equal(conn()->r.state, TCP_CLOSE_WAIT);
    sock_step(&k);
    assert_int_equal(k.received, 400);
}

static void fin_with_the_window_closed(void **state)
{
    (void)state;
    established_state();
    k.no_read = true;
    uint32_t at = 0;
    for (; last.wnd; at += 500)
        inject(TH_ACK, their(at), our(0), d, last.wnd < 500 ? last.wnd : 500);
    at = (uint32_t)conn()->rx_nxt;
    inject(TH_ACK | TH_URG, their(at), our(0), d, 1); /* a probe brings an ACK, and no byte */
    assert_int_equal(sent, 1);
    assert_int_equal(last.ack, their(at));
    fin(at);
    assert_int_equal(last.ack, their(at + 1));
    assert_int_equal(conn()->r.state, TCP_CLOSE_WAIT);
}

static void syn_ack_with_text(void **state)
{
    (void)state;
    syn_sent_state();
    stream(d, 0, 100);
    inject(TH_SYN | TH_ACK | TH_FIN, their_iss, our(0), d, 100);
    assert_int_equal(last.ack, their(101));
    assert_int_equal(conn()->r.state, TCP_CLOSE_WAIT);
    sock_step(&k);
    sock_step(&k);
    assert_int_equal(k.received, 100);
    assert_true(k.eof);
}

/* --- peers that behave badly --- */

/* More holes than there is room for: what has no room is dropped, and nothing that was SACKed is. A
 * burst of which a full queue took every other segment has room. */
static void too_many_holes(void **state)
{
    enum { MANY = TCP_OOO_RANGES + 32 };
    (void)state;
    established_state();
    assert_true(TCP_OOO_RANGES >= 64);
    unsigned dropped = 0;
    for (unsigned i = 0; i < MANY; i++) {
        text(10 + 20 * i, 10);
        dropped = (unsigned)counter(TCP_C_DROP_OOO_FULL);
        if (i < TCP_OOO_RANGES)
            assert_int_equal(dropped, 0);
    }
    assert_int_equal(dropped, MANY - TCP_OOO_RANGES);
    for (unsigned i = 0; i < 2 * MANY; i++)
        text(10 * i, 10);
    text(20 * MANY, 10);
    assert_int_equal(conn()->rx_nxt, 20 * MANY + 10);
    assert_int_equal(k.received, 20 * MANY + 10);
}

/* What the application has read without saying so shows in the next ACK. */
static void ack_tells_what_is_read(void **state)
{
    (void)state;
    established_state();
    stream(d, 0, 4000);
    inject(TH_ACK, their(0), our(0), d, 2000);
    assert_int_equal(sent, 1);
    const uint32_t edge = last.ack + last.wnd;
    shm_store_release(&sock_up(&k)->rx_read, sock_up(&k)->rx_read + 2000);
    inject(TH_ACK, their(2000), our(0), d + 2000, 2000);
    assert_int_equal(sent, 1);
    assert_int_equal(last.ack + last.wnd, edge + 2000);
}

/* Single bytes, backwards, each twice. */
static void tiny_segments(void **state)
{
    (void)state;
    established_state();
    text(8, 1);
    for (unsigned i = 8; i-- > 0;) {
        text(i, 2);
        text(i, 2);
    }
    assert_int_equal(last.ack, their(9));
    assert_int_equal(k.received, 9);
}

/* Two that challenge each other: segments that we challenge, again and again, cost an answer each
 * half a second and no more. */
static void storm_of_acks(void **state)
{
    (void)state;
    established_state();
    unsigned n = 0;
    for (unsigned i = 0; i < 10000; i++) {
        inject(TH_ACK, their(0), our(1000), NULL, 0);
        n += sent;
        inject(TH_ACK, their(0) - 2, our(0), NULL, 0);
        n += sent;
        inject(TH_ACK, their(0) - 1, our(1000), NULL, 0);
        n += sent;
        if (i % 1000 == 999)
            later(100 * MSEC);
    }
    assert_in_range(n, 1, 5);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    /* A probe is answered all the same, with data or without: a loop it cannot be. */
    inject(TH_ACK, their(0) - 1, our(0), d, 1);
    assert_int_equal(sent, 1);
    inject(TH_ACK, their(0) - 1, our(0), NULL, 0);
    assert_int_equal(sent, 1);
    inject(TH_ACK, their(0) - 1, our(0), NULL, 0);
    assert_int_equal(sent, 1);
}

static void blind_segments(void **state)
{
    (void)state;
    established_state();
    text(0, 100);
    uint32_t x = 12345;
    for (unsigned i = 0; i < 20000; i++) {
        static const uint8_t flags[] = {TH_RST,
                                        TH_SYN,
                                        TH_RST | TH_ACK,
                                        TH_ACK,
                                        TH_SYN | TH_ACK,
                                        TH_FIN | TH_ACK,
                                        TH_FIN | TH_SYN | TH_RST | TH_URG,
                                        0};
        uint32_t seq = x = x * 1664525 + 1013904223, ack = x = x * 1664525 + 1013904223;
        if (seq == their(100))
            continue;
        /* Text in the window, by chance, with an ACK that is acceptable, by chance, would be
         * believed: that is what sequence numbers are for. This row hits neither. */
        inject(flags[i % 8], seq, ack, d, i % 3 ? 0 : 20);
    }
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_int_equal(conn()->rx_nxt, 100);
    assert_int_equal(conn()->n_ooo, 0);
    text(100, 100);
    assert_int_equal(k.received, 200);
}

static void sacks_from_nowhere(void **state)
{
    (void)state;
    established_state();
    app_writes(5000);
    uint32_t out = conn()->snd_max;
    static const uint32_t range[][2] = {
        {100000, 200000}, {0xf0000000, 0xf0000100}, {3000, 2000}, {0, 0}, {4000, 0x7fffffff}};
    for (unsigned i = 0; i < 5; i++) {
        deliver_segment((struct tcp_seg){.flags = TH_ACK,
                                         .seq = their(0),
                                         .ack = our(0),
                                         .wnd = PEER_WINDOW,
                                         .sacks = 1,
                                         .sack = {{our(range[i][0]), our(range[i][1])}}},
                        NULL, false);
        look();
    }
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    assert_int_equal(counter(TCP_C_FAST_RECOVERIES), 0);
    inject(TH_ACK, their(0), our(out), NULL, 0);
    assert_int_equal(conn()->tx_una, out);
}

/* It takes back what it had offered: what is under way is sent again until it fits. */
static void peer_shrinks_its_window(void **state)
{
    (void)state;
    established_state();
    app_writes(8000);
    assert_int_equal(conn()->snd_max, 8000);
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(1000), .wnd = 0},
                    NULL, false);
    look();
    for (unsigned i = 0; i < 20; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    for (unsigned i = 0; i < 20 && conn()->tx_una < 8000; i++) {
        inject(TH_ACK, their(0), our((uint32_t)conn()->snd_max), NULL, 0);
        later(SEC);
    }
    assert_int_equal(conn()->tx_una, 8000);
}

/* --- those that nobody holds --- */

static void one_orphan(struct stack_config *cfg)
{
    cfg->tcp_orphans_max = 1;
}

static int begin_one_orphan(void **state)
{
    adjust = one_orphan;
    return begin(state);
}

static int begin_default(void **state)
{
    adjust = NULL;
    return begin(state);
}

static void orphans_are_bounded(void **state)
{
    struct tcp *t = us->tcp->state;
    (void)state;
    established_state();
    sock_close(&k, false);
    look();
    assert_int_equal(last.flags & TH_FIN, TH_FIN);
    assert_int_equal(t->orphans, 1);
    uint16_t first = their_port++;
    k = (struct sock){.s = us, .app = listener.app, .slot = 2};
    sock_claim(&k, &listener);
    inject(TH_SYN, their_iss, 0, NULL, 0);
    uint32_t iss = our_iss;
    our_iss = last.seq;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    sock_step(&k);
    sock_close(&k, false);
    look();
    assert_int_equal(last.flags & TH_RST, TH_RST);
    assert_int_equal(counter(TCP_C_ORPHANS_RESET), 1);
    assert_int_equal(t->orphans, 1);
    /* A successor counts them again. */
    world_successor(us, END_KILLED);
    for (unsigned i = 0; i < 8; i++)
        look();
    t = us->tcp->state;
    assert_int_equal(t->orphans, 1);
    their_port = first;
    our_iss = iss;
    inject(TH_ACK | TH_FIN, their(0), our(1), NULL, 0);
    assert_int_equal(t->orphans, 0);
    assert_int_equal(world_records(us, true), 2); /* the listener, TIME-WAIT */
}

/* FIN-WAIT-2 of an orphan ends by itself. */
static void half_closed_by_us(void **state)
{
    struct tcp *t = us->tcp->state;
    (void)state;
    established_state();
    sock_close(&k, false);
    look();
    inject(TH_ACK, their(0), our(1), NULL, 0);
    later(59 * SEC);
    assert_int_equal(world_records(us, true), 2);
    later(2 * SEC);
    assert_int_equal(world_records(us, true), 1);
    assert_int_equal(t->orphans, 0);
}

#define T(f)        cmocka_unit_test_setup_teardown(f, begin_default, end)
#define ORPHANED(f) cmocka_unit_test_setup_teardown(f, begin_one_orphan, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(quick_at_the_start_only),
        T(every_second_full_segment),
        T(merged_segments),
        T(answers_carry_acks),
        T(quick_after_a_gap),
        T(fin_at_once),
        T(newest_first),
        T(three_blocks_beside_timestamps),
        T(duplicate_below),
        T(duplicate_above),
        T(text_behind_a_fin),
        T(fin_before_text),
        T(fin_with_the_window_closed),
        T(syn_ack_with_text),
        T(too_many_holes),
        T(ack_tells_what_is_read),
        T(tiny_segments),
        T(storm_of_acks),
        T(blind_segments),
        T(sacks_from_nowhere),
        T(peer_shrinks_its_window),
        ORPHANED(orphans_are_bounded),
        T(half_closed_by_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
