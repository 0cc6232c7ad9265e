/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A segment, a request, a connection that brings TCP down each time: it alone goes, after the third
 * time, and is kept for inspection; everything else goes on.
 */
/* link: eft_tcp_cp eft_harness_cp */
#include "tcp_peer.h"

#include "poison.h"

static struct sock second; /* somebody else's connection, through all of it */
static void (*todo)(void);

static void successor(enum rs_end end)
{
    world_successor(us, end);
}

static void turns(void)
{
    if (todo != NULL) {
        todo();
        todo = NULL;
    }
    look();
}

/* Says it once and lets TCP fault on it until it does not any more. */
static void faults_on(unsigned kind, void (*what)(void))
{
    todo = NULL;
    what();
    poison_run(us->tcp->block, kind, turns, successor);
}

static int begin_here(void **state)
{
    begin(state);
    established_state();
    return 0;
}

static void queue_data(uint32_t off, uint32_t len)
{
    uint8_t payload[1000];

    stream(payload, off, len);
    deliver_segment(
        (struct tcp_seg){
            .flags = TH_ACK, .seq = their(off), .ack = our(0), .wnd = PEER_WINDOW, .len = len},
        payload, false);
}

static void data_comes(void)
{
    queue_data(0, 100);
}

static void segment_is_dropped(void **state)
{
    (void)state;
    faults_on(ANY_SLOT, data_comes);
    assert_int_equal(poison.faults, 3);
    assert_int_equal(counter(TCP_C_QUARANTINED), 1);
    const struct quarantine_copy *c = poison_copy(us->tcp->own);
    assert_int_equal(c->length, sizeof(struct packet) + 100);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(c->data[sizeof(struct packet) + i], pattern(k.seed_rx, i));
    /* The connection has not seen it; the peer sends again, in another slot. */
    sock_step(&k);
    assert_int_equal(k.received, 0);
    queue_data(0, 100);
    look();
    sock_step(&k);
    assert_int_equal(k.received, 100);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

/* The peer sends it again: it is in another slot, and as bad as before. */
static void repeated_segment_ends_its_connection(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        faults_on(ANY_SLOT, data_comes);
        assert_int_equal(poison.faults, 3);
        assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    }
    data_comes();
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNABORTED);
    assert_int_equal(counter(TCP_C_QUARANTINED), 3);
    assert_true(last.flags & TH_RST);
    /* What else the peer says is not looked at, nor answered. */
    data_comes();
    look();
    assert_int_equal(sent, 0);
    assert_int_equal(counter(TCP_C_QUARANTINED), 4);
    assert_int_equal(sock_down(&listener)->state, SOCK_LISTEN);
    /* Somebody else's is. Some time later the same ports are anybody's again. */
    their_port++;
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    their_port--;
    later(61 * SEC);
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
}

/* Connections are reset, what waited is dropped and its frame goes back, listeners stay. */
static void cold_start_keeps_listeners(void **state)
{
    (void)state;
    data_comes();
    us->tcp->start = START_FRUGAL | START_COLD;
    world_successor(us, END_FAULT);
    look();
    us->tcp->start = 0;
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNABORTED);
    assert_true(last.flags & TH_RST);
    assert_int_equal(counter(TCP_C_FORENSIC), 0);
    const struct quarantine *q = wiring_table(us->tcp->own, TABLE_QUARANTINE, NULL);
    assert_int_equal(q->taken, 0);
    assert_int_equal(sock_down(&listener)->state, SOCK_LISTEN);
    their_port++;
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
}

/* Nothing of what it does without is missed. */
static void frugal_start_keeps_connections(void **state)
{
    (void)state;
    data_comes();
    us->tcp->start = START_FRUGAL;
    world_successor(us, END_FAULT);
    look();
    us->tcp->start = 0;
    sock_step(&k);
    assert_int_equal(k.received, 100);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

static void kills_drop_nothing(void **state)
{
    (void)state;
    poison.kills_first = 3;
    faults_on(ANY_SLOT, data_comes);
    poison.kills_first = 0;
    assert_int_equal(poison.faults, 6);
    poison_copy(us->tcp->own);
}

static void bind_second(void)
{
    second = (struct sock){.s = us, .app = listener.app, .slot = 2};
    struct up_slot *up = sock_fresh(&second);
    up->local.port = 7070;
    sock_request(&second, OP_BIND, 0, 0);
}

static void request_is_answered_with_an_error(void **state)
{
    int result = 0;

    (void)state;
    faults_on(ITEM_REQUEST, bind_second);
    assert_int_equal(poison.faults, 3);
    assert_true(sock_replied(&second, &result));
    assert_int_equal(result, -EIO);
    poison_copy(us->tcp->own);
    /* The next one is another item. */
    sock_request(&second, OP_BIND, 0, 0);
    look();
    assert_true(sock_replied(&second, &result));
    assert_int_equal(result, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

static void option(void)
{
    sock_request(&k, OP_SETOPT, OPT_NODELAY, 1);
}

static void request_on_a_connection_spares_the_connection(void **state)
{
    int result = 0;

    (void)state;
    faults_on(ITEM_REQUEST, option);
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -EIO);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_false(conn()->r.flags & TCPF_NODELAY);
}

static void app_writes_some(void)
{
    k.to_send += 300;
    sock_step(&k);
}

/* The poison is in the connection: whatever is done for it faults, also its take-over. */
static void connection_is_reset_alone(void **state)
{
    const struct tcp_forensic *f = wiring_table(us->tcp->own, TABLE_TCP_FORENSIC, NULL);

    (void)state;
    faults_on(ITEM_RECORD, app_writes_some);
    assert_int_equal(poison.faults, 3);
    assert_int_equal(poison.item >> 32 & 0xffffff, conn() != NULL ? conn()->idx : k.slot);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNABORTED);
    assert_int_equal(f->taken, 1);
    assert_int_equal(f->copy[0].reason, TCP_FORENSIC_SUSPECT);
    poison_copy(us->tcp->own);
    /* The listener is not concerned, and the same peer may come again. */
    assert_int_equal(sock_down(&listener)->state, SOCK_LISTEN);
    /* A successor that comes later finds it closed, and leaves it so. */
    world_successor(us, END_FAULT);
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(f->taken, 1);
}

/* What stands beside it in the same turn has its effect, once. */
static void data_and_option(void)
{
    option();
    data_comes();
}

static void others_in_the_batch_are_handled(void **state)
{
    (void)state;
    faults_on(ANY_SLOT, data_and_option);
    int result = 1;
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, 0);
    assert_true(conn()->r.flags & TCPF_NODELAY);
    poison_copy(us->tcp->own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_here, end)
        TEST(segment_is_dropped),
        TEST(repeated_segment_ends_its_connection),
        TEST(cold_start_keeps_listeners),
        TEST(frugal_start_keeps_connections),
        TEST(kills_drop_nothing),
        TEST(request_is_answered_with_an_error),
        TEST(request_on_a_connection_spares_the_connection),
        TEST(connection_is_reset_alone),
        TEST(others_in_the_batch_are_handled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
