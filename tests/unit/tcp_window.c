/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Windows that are shut, or say odd things: taken back over data under way, or wider than their
 * field.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

/* All is acknowledged that was, and there is no room for more. */
static void shut(void)
{
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = 0},
                    NULL, false);
    look();
}

/* It never gives up while it is answered. */
static void probes_are_answered(void)
{
    unsigned probes = 0;
    for (unsigned i = 0; i < 200; i++) {
        later(5 * SEC);
        if (!sent)
            continue;
        probes += sent;
        assert_int_equal(last.seq, our(0) - 1);
        shut();
    }
    assert_in_range(probes, 8, 40);
}

static void established_zero_window(void **state)
{
    (void)state;
    established_state();
    shut();
    app_writes(100);
    assert_int_equal(sent, 0);
    probes_are_answered();
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(last.len, 100);
}

/* A window of zero that comes after data was sent, by a peer that shrinks it or by a segment that
 * was overtaken: the retransmission timer finds no room, and must ask for some. */
static void established_window_taken_back(void **state)
{
    (void)state;
    established_state();
    app_writes(2000);
    assert_int_equal(sent, 2);
    shut();
    probes_are_answered();
    inject(TH_ACK, their(0), our(0), NULL, 0);
    for (unsigned i = 0; i < 30 && last.len == 0; i++)
        later(5 * SEC);
    assert_int_equal(last.seq, our(0));
    inject(TH_ACK, their(0), our(2000), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_int_equal(sock_down(&k)->tx_una, sock_up(&k)->tx_end & OFF_MASK);
}

/* Taken back to less than a segment: what it still takes is sent again. */
static void established_window_shrinks_below_a_segment(void **state)
{
    (void)state;
    established_state();
    app_writes(2000);
    assert_int_equal(sent, 2);
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = 300},
                    bytes, false);
    look();
    for (unsigned i = 0; i < 100 && counter(TCP_C_TIMEOUTS) == 0; i++)
        later(10 * MSEC);
    assert_true(last.seq == our(0) && last.len == 300);
    inject(TH_ACK, their(0), our(300), NULL, 0);
    assert_true(last.seq == our(300) && last.len == 700);
    inject(TH_ACK, their(0), our(2000), NULL, 0);
    assert_int_equal(conn()->tx_una, 2000);
    assert_int_equal(counter(TCP_C_TIMEOUTS), 1);
}

/* Nobody answers a window that is shut: that ends as any silence does. */
static void established_window_taken_back_and_silence(void **state)
{
    (void)state;
    established_state();
    k.may_fail = true;
    app_writes(2000);
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = 0},
                    bytes, false);
    for (unsigned i = 0; i < 2000 && sock_down(&k)->state == SOCK_ESTABLISHED; i++)
        later(5 * SEC);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
}

/* What counts as silence follows from the longest time between two probes. */
static void established_silence_is_shorter(void **state)
{
    (void)state;
    ((struct stack_config *)us->map->entry[REGION_CONFIG].base)->tcp_rto_max_ms = 1000;
    established_state();
    k.may_fail = true;
    app_writes(2000);
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = 0},
                    bytes, false);
    for (unsigned i = 0; i < 20 && sock_down(&k)->state == SOCK_ESTABLISHED; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
}

/* A ring wider than the window field can say, and no scaling: the window stays at 65535 while the
 * program reads, and an update would be the same segment again, a duplicate ACK for the peer. */
static void established_window_wider_than_its_field(void **state)
{
    (void)state;
    struct stack_config *cfg = (struct stack_config *)us->map->entry[REGION_CONFIG].base;
    cfg->tcp_rcvbuf = 1 << 18;
    cfg->tcp_window_scaling = 0;
    established_state();
    assert_int_equal(last.wnd, 65535);
    for (unsigned i = 0; i < 40; i++) {
        uint8_t data[1000];
        stream(data, 1000ull * i, sizeof data);
        inject(TH_ACK, their(1000 * i), our(0), data, sizeof data);
        const uint32_t acked = sent ? last.ack : 0;
        for (unsigned turn = 0; turn < 3; turn++) {
            sock_step(&k); /* reads all */
            look();
            assert_true(sent == 0 || last.ack != acked);
        }
        later(50 * MSEC); /* a delayed ACK, maybe */
        sock_step(&k);
        look();
        assert_int_equal(sent, 0);
    }
    assert_int_equal(k.received, 40000);
}

/* RFC 7323 2.2: no window of a SYN is scaled, not that of a simultaneous open's SYN-ACK either. */
static void syn_rcvd_syn_ack_window(void **state)
{
    (void)state;
    syn_sent_state();
    struct tcp_seg s = {.flags = TH_SYN, .seq = their_iss, .wnd = 1000, .mss = 1000};
    s.has_wscale = true;
    s.wscale = 7;
    deliver_segment(s, bytes, false);
    look();
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    s.flags = TH_SYN | TH_ACK;
    s.ack = our(0);
    deliver_segment(s, bytes, false);
    look();
    sock_step(&k);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    app_writes(20000);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(sent == 0 || last.seq + last.len - our(0) <= 1000);
        later(10 * MSEC);
    }
}

/* A peer may refuse a probe, which lies below its window, and what it acknowledges with it: an ACK
 * that waits for its time still leaves. */
static void established_probe_and_delayed_ack(void **state)
{
    uint8_t text[100];
    (void)state;
    established_state();
    for (unsigned i = 0; i < 16; i++) { /* ACKs are quick no more */
        stream(text, 100 * i, sizeof text);
        inject(TH_ACK, their(100 * i), our(0), text, sizeof text);
        sock_step(&k);
    }
    deliver_segment((struct tcp_seg){.flags = TH_ACK, .seq = their(1600), .ack = our(0)}, bytes,
                    false);
    look();
    app_writes(100);
    assert_int_equal(sent, 0);
    later(190 * MSEC);
    assert_int_equal(sent, 0);
    stream(text, 1600, sizeof text);
    deliver_segment(
        (struct tcp_seg){.flags = TH_ACK, .seq = their(1600), .ack = our(0), .len = 100}, text,
        false);
    look();
    assert_int_equal(sent, 0);
    later(20 * MSEC);
    assert_int_equal(sent, 1);
    assert_int_equal(last.seq, our(0) - 1);
    later(25 * MSEC);
    assert_int_equal(sent, 1);
    assert_int_equal(last.seq, our(0));
    assert_int_equal(last.ack, their(1700));
    sock_step(&k);
}

/* What a probe acknowledges counts; its sender may have said it nowhere else. */
static void established_probe_acknowledges(void **state)
{
    (void)state;
    established_state();
    app_writes(900);
    assert_int_equal(sent, 1);
    inject(TH_ACK, their(0) - 1, our(900), NULL, 0);
    assert_int_equal(conn()->tx_una, 900);
    assert_int_equal(sent, 1);
    assert_int_equal(last.ack, their(0));
    later(10 * SEC);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        T(established_window_shrinks_below_a_segment),
        T(established_probe_and_delayed_ack),
        T(established_probe_acknowledges),
        T(established_window_taken_back),
        T(established_window_taken_back_and_silence),
        T(established_silence_is_shorter),
        T(established_window_wider_than_its_field),
        T(syn_rcvd_syn_ack_window),
        T(established_zero_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
