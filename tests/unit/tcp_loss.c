/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Loss detection and recovery in virtual time: a scripted peer acknowledges, SACKs, reorders and
 * keeps silent. Segments are of 1000 bytes; the window begins at ten.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

enum { RTT = 20 }; /* ms */

static uint32_t sack_list[8]; /* from, to, from, to … */

static const struct tcp *tcp(void)
{
    return us->tcp->state;
}

/* An ACK with these blocks, echoing a timestamp of `age` ms ago. */
static void ack_blocks(uint32_t ack, unsigned blocks, uint32_t age)
{
    struct tcp_seg s = {.flags = TH_ACK,
                        .seq = their(0),
                        .ack = our(ack),
                        .wnd = PEER_WINDOW,
                        .sacks = blocks,
                        .tsecr = tcp_clock(us->tcp->state, conn()) - age};
    for (unsigned i = 0; i < blocks; i++)
        s.sack[i] = (struct tcp_range){our(sack_list[2 * i]), our(sack_list[2 * i + 1])};
    deliver_segment(s, NULL, false);
    look();
}

static void ack(uint32_t to)
{
    ack_blocks(to, 0, RTT);
}

static void sack(uint32_t to, uint32_t from1, uint32_t to1)
{
    sack_list[0] = from1;
    sack_list[1] = to1;
    ack_blocks(to, 1, RTT);
}

/* Established, round trip known, `n` bytes in the network since RTT. */
static void under_way(unsigned n)
{
    syn_rcvd_state();
    later(RTT * MSEC);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    sock_step(&k);
    assert_true(k.open);
    for (uint32_t i = 0; i < 4; i++) {
        app_writes(1000);
        later(RTT * MSEC);
        ack(1000 * (i + 1));
    }
    app_writes(n);
    assert_int_equal(conn()->snd_max, 4000 + n);
    later(RTT * MSEC);
}

static void silence(unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 10)
        later(10 * MSEC);
}

static bool saw(uint32_t seq)
{
    for (unsigned i = 0; i < sent; i++)
        if (sent_seg[i].len && sent_seg[i].seq == our(seq))
            return true;
    return false;
}

/* --- RACK --- */

static void hole_is_sent_again_after_three(void **state)
{
    (void)state;
    under_way(8000);
    sack(4000, 5000, 6000);
    sack(4000, 5000, 7000);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    sack(4000, 5000, 8000);
    assert_int_equal(counter(TCP_C_RETRANS), 1);
    assert_true(saw(4000));
    assert_true(conn()->recovering);
    ack(12000);
    assert_false(conn()->recovering);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
}

/* Fewer than three SACKed: after a quarter of the round trip, by the timer. */
static void hole_is_sent_again_after_the_window(void **state)
{
    (void)state;
    under_way(3000);
    sack(4000, 5000, 7000);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    later(RTT * MSEC / 4 - MSEC);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    later(2 * MSEC);
    assert_int_equal(counter(TCP_C_RETRANS), 1);
    assert_true(saw(4000));
}

static void reordering_costs_nothing(void **state)
{
    (void)state;
    under_way(3000);
    sack(4000, 5000, 6000);
    later(3 * MSEC); /* within the window of 5 ms */
    ack(7000);
    assert_true(conn()->rack.reordering);
    /* From now on more than three above the hole are no proof. */
    app_writes(8000);
    later(RTT * MSEC);
    sack(7000, 8000, 14000);
    later(3 * MSEC);
    ack(15000);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    assert_int_equal(counter(TCP_C_FAST_RECOVERIES), 0);
}

static void retransmission_is_lost_too(void **state)
{
    (void)state;
    under_way(8000);
    sack(4000, 5000, 8000);
    assert_true(saw(4000));
    later(RTT * MSEC / 2);
    app_writes(4000);
    sack(4000, 5000, 12000); /* these were sent before it: they say nothing about it */
    assert_false(saw(4000));
    later(RTT * MSEC);
    assert_true(conn()->snd_max > 12000);
    sack(4000, 5000, (uint32_t)conn()->snd_max); /* these after it */
    assert_true(saw(4000));
    assert_int_equal(counter(TCP_C_RETRANS), 2);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
}

/* Super-segment: SACK of a part cuts the record. */
static void part_of_a_super_segment(void **state)
{
    (void)state;
    under_way(4000);
    ((struct tcp_conn *)conn())->gso = 10000;
    ack(8000);
    app_writes(9000);
    assert_int_equal(conn()->sent.n, 1);
    later(RTT * MSEC);
    sack(8000, 10000, 16000);
    assert_int_equal(counter(TCP_C_RETRANS), 2);
    assert_int_equal(sent_seg[0].seq, our(8000));
    assert_int_equal(sent_seg[0].len, 2000);
    /* What is above is not lost: it was sent with what arrived, and comes after it. */
    ack(17000);
    assert_int_equal(conn()->sent.n, 0);
    assert_int_equal(tcp()->sent.used, 0);
}

static void nonsense_blocks(void **state)
{
    (void)state;
    under_way(8000);
    sack(4000, 5000, 90000); /* never sent */
    sack(4000, 1000, 6000);  /* begins below */
    sack(4000, 6000, 5000);  /* backwards */
    assert_int_equal(conn()->sent.sacked_bytes, 0);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    /* Odd ones: no more records than segments, some. */
    for (uint32_t i = 4001; i < 12000; i += 2)
        sack(4000, i, i + 1);
    assert_true(conn()->sent.n <= 64 + 2 * 30 + 3);
    ack((uint32_t)conn()->snd_max);
    assert_int_equal(tcp()->sent.used, 0);
}

/* --- tail loss probes --- */

static void tail_loss(void **state)
{
    (void)state;
    under_way(6000);
    ack(6000); /* four of them left; the last is lost */
    assert_int_equal(counter(TCP_C_TAIL_PROBES), 0);
    later(2 * RTT * MSEC + MSEC);
    assert_int_equal(counter(TCP_C_TAIL_PROBES), 1);
    assert_true(saw(9000));
    later(RTT * MSEC);
    sack(6000, 9000, 10000); /* the probe found a hole */
    later(RTT * MSEC / 4 + MSEC);
    assert_true(conn()->recovering);
    assert_true(counter(TCP_C_RETRANS) >= 2);
    ack(10000);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
}

static void probe_with_new_data(void **state)
{
    (void)state;
    under_way(4000);
    ((struct tcp_conn *)conn())->cwnd = 4000; /* more waits than may go */
    app_writes(1000);
    assert_int_equal(sent, 0);
    later(2 * RTT * MSEC + MSEC);
    assert_int_equal(counter(TCP_C_TAIL_PROBES), 1);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    assert_true(saw(8000));
}

/* One segment: its ACK may be delayed. */
static void probe_waits_for_a_delayed_ack(void **state)
{
    (void)state;
    under_way(1000);
    later(100 * MSEC);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    later(200 * MSEC);
    assert_int_equal(counter(TCP_C_TAIL_PROBES), 1);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
    /* The timeout only after that. */
    later(150 * MSEC);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
    later(500 * MSEC);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 1);
}

/* RFC 8985 7.4: the probe itself repaired the loss, and what came later is acknowledged. */
static void probe_repairs(void **state)
{
    (void)state;
    under_way(4000);
    ack(7000);
    later(400 * MSEC);
    assert_int_equal(counter(TCP_C_TAIL_PROBES), 1);
    uint64_t before = conn()->cwnd;
    ack(8000);
    app_writes(2000);
    later(RTT * MSEC);
    ack(10000);
    assert_int_equal(counter(TCP_C_PROBE_RECOVERIES), 1);
    assert_true(conn()->cwnd < before);
}

static void probe_was_needless(void **state)
{
    (void)state;
    under_way(4000);
    ack(7000);
    later(400 * MSEC);
    uint64_t before = conn()->cwnd;
    ack(8000);
    sack_list[0] = 7000;
    sack_list[1] = 8000;
    ack_blocks(8000, 1, RTT); /* DSACK */
    app_writes(2000);
    later(RTT * MSEC);
    ack(10000);
    assert_int_equal(counter(TCP_C_PROBE_RECOVERIES), 0);
    assert_true(conn()->cwnd >= before);
}

/* --- PRR --- */

static void proportional_rate(void **state)
{
    (void)state;
    under_way(10000);
    uint64_t before = conn()->cwnd;
    app_writes(15000);
    sack(4000, 5000, 8000);
    assert_true(conn()->recovering);
    assert_true(conn()->ssthresh < before);
    unsigned out = 0;
    for (uint32_t i = 8000; i < 14000; i += 1000) {
        sack(4000, 5000, i + 1000);
        assert_true(sent <= 2);
        out += sent;
    }
    /* Not all at once, and not nothing: the window that remains is in use. */
    assert_true(out >= 3 && out <= 6);
    assert_true(tcp_loss_pipe(conn()) <= conn()->ssthresh);
    ack((uint32_t)conn()->snd_max);
    assert_false(conn()->recovering);
    assert_int_equal(conn()->cwnd, conn()->ssthresh);
}

/* --- undo --- */

static void undo_by_timestamp(void **state)
{
    (void)state;
    ts_on = 1;
    under_way(8000);
    uint64_t cwnd = conn()->cwnd, ssthresh = conn()->ssthresh;
    sack(4000, 5000, 8000);
    assert_true(conn()->recovering);
    later(2 * MSEC);
    /* The original was only late: the echo is older than the retransmission. */
    ack_blocks(8000, 0, RTT);
    assert_false(conn()->recovering);
    assert_int_equal(counter(TCP_C_SPURIOUS_RECOVERIES), 1);
    assert_true(conn()->cwnd >= cwnd);
    assert_int_equal(conn()->ssthresh, ssthresh);
}

static void undo_by_dsack(void **state)
{
    (void)state;
    under_way(8000);
    uint64_t cwnd = conn()->cwnd;
    sack(4000, 5000, 8000);
    assert_true(conn()->recovering);
    ack(12000);
    assert_false(conn()->recovering);
    assert_true(conn()->cwnd < cwnd);
    sack(12000, 4000, 5000); /* arrived twice */
    assert_int_equal(counter(TCP_C_SPURIOUS_RECOVERIES), 1);
    assert_int_equal(counter(TCP_C_DSACKS_IN), 1);
    assert_true(conn()->cwnd >= cwnd);
    assert_int_equal(conn()->rack.wider, 1);
}

/* --- timeouts --- */

static void timeout_takes_back_by_frto(void **state)
{
    (void)state;
    under_way(8000);
    uint64_t cwnd = conn()->cwnd;
    silence(600); /* the path stands still */
    assert_int_equal(counter(TCP_C_TIMEOUTS), 1);
    assert_true(conn()->lost_state);
    assert_int_equal(conn()->cwnd, 1000);
    app_writes(2000);
    ack(5000);               /* of the first: or of its retransmission */
    assert_true(saw(12000)); /* new data asks */
    assert_false(saw(5000));
    ack(7000); /* what was sent once arrived */
    assert_false(conn()->lost_state);
    assert_int_equal(counter(TCP_C_SPURIOUS_TIMEOUTS), 1);
    assert_true(conn()->cwnd >= cwnd);
    assert_int_equal(conn()->sent.lost_bytes, 0);
}

static void timeout_was_right(void **state)
{
    (void)state;
    under_way(8000);
    silence(600);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 1);
    app_writes(2000);
    ack(5000);
    assert_true(saw(12000));
    later(RTT * MSEC);
    sack(5000, 12000, 13000); /* only the new data arrived */
    assert_true(conn()->lost_state);
    assert_true(saw(5000));
    assert_int_equal(counter(TCP_C_SPURIOUS_TIMEOUTS), 0);
    for (unsigned i = 0; i < 20 && conn()->tx_una < 14000; i++) {
        later(RTT * MSEC);
        ack((uint32_t)(conn()->tx_una + 1000 < 12000 ? conn()->tx_una + 1000 : 14000));
    }
    assert_int_equal(conn()->tx_una, 14000);
    assert_false(conn()->lost_state);
}

/* A peer that has no room for another hole drops what is above the left edge: whatever was found
 * first, that one goes first. */
static void left_edge_before_all_others(void **state)
{
    (void)state;
    under_way(6000);
    struct tcp *t = us->tcp->state;
    struct tcp_conn *c = (struct tcp_conn *)conn();
    tcp_sent_mark_lost(t, c, tcp_sent_find(t, c, 6000));
    tcp_sent_mark_lost(t, c, tcp_sent_find(t, c, 5000));
    ack(5000);
    assert_int_equal(sent_seg[0].seq, our(5000));
    ack(6000);
    silence(600); /* and after a timeout */
    assert_int_equal(last.seq, our(6000));
}

/* A timeout, and the left edge had been SACKed: the peer has thrown it away. */
static void reneging(void **state)
{
    (void)state;
    under_way(4000);
    sack(4000, 5000, 8000);
    later(RTT * MSEC);
    ack(5000); /* the hole is filled, and yet no more is acknowledged */
    assert_int_equal(conn()->sent.sacked_bytes, 3000);
    silence(1000);
    assert_int_equal(conn()->sent.sacked_bytes, 0);
    for (unsigned i = 0; i < 10 && conn()->tx_una < 8000; i++) {
        ack((uint32_t)conn()->tx_una + 1000);
        later(RTT * MSEC);
    }
    assert_int_equal(conn()->sent.n, 0);
}

/* --- without SACK --- */

static void newreno(void **state)
{
    (void)state;
    ((struct stack_config *)tcp()->cfg)->tcp_sack = 0;
    under_way(8000);
    assert_false(conn()->r.flags & TCPF_SACK);
    app_writes(4000);
    ack(4000);
    ack(4000);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    ack(4000);
    assert_true(saw(4000));
    assert_int_equal(counter(TCP_C_RETRANS), 1);
    ack(6000); /* partial: the next hole (RFC 6582) */
    assert_true(saw(6000));
    assert_int_equal(counter(TCP_C_RETRANS), 2);
    assert_true(conn()->recovering);
    uint64_t end = conn()->recover;
    ack((uint32_t)end);
    assert_false(conn()->recovering);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 0);
}

/* RFC 3042: the first two duplicates say that two segments have left the network. */
static void limited_transmit(void **state)
{
    (void)state;
    ((struct stack_config *)tcp()->cfg)->tcp_sack = 0;
    under_way(8000);
    app_writes(20000);
    const uint32_t end = (uint32_t)conn()->snd_max;
    assert_true(end < 32000); /* the window is full */
    for (uint32_t i = 0; i < 2; i++) {
        ack(4000);
        assert_int_equal(sent, 1);
        assert_int_equal(last.seq, our(end + 1000 * i));
    }
    ack(4000);
    assert_int_equal(counter(TCP_C_RETRANS), 1);
    assert_int_equal(last.seq, our(4000));
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(hole_is_sent_again_after_three),
        T(hole_is_sent_again_after_the_window),
        T(reordering_costs_nothing),
        T(retransmission_is_lost_too),
        T(part_of_a_super_segment),
        T(nonsense_blocks),
        T(tail_loss),
        T(probe_with_new_data),
        T(probe_waits_for_a_delayed_ack),
        T(probe_repairs),
        T(probe_was_needless),
        T(proportional_rate),
        T(undo_by_timestamp),
        T(undo_by_dsack),
        T(timeout_takes_back_by_frto),
        T(timeout_was_right),
        T(left_edge_before_all_others),
        T(reneging),
        T(newreno),
        T(limited_transmit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
