/* SPDX-License-Identifier: BSD-2-Clause */
/* link: eft_driver_cp eft_harness_cp */
/*
 * The driver over a device that is a list in memory: what comes in reaches ip exactly once and in
 * order, frames are conserved, and a crash before any store changes neither.
 */
#include "driver_neighbours.h"

#include <errno.h>

enum { FRAMES = 64, PACKETS = 60 };

/* --- the device: it outlives the driver, as a TAP does --- */

static struct {
    uint32_t next_in; /* next packet that read() gives */
    uint32_t end_in;
    uint32_t sent[4 * PACKETS], nsent;
    bool full;
} wire;

/* In the frame: a mark (as the virtio-net header's pattern), then the packet: its number. */
struct content {
    uint32_t mark;
    uint32_t number;
};
#define EMPTY 0xffffffffu

static int fake_attach(struct driver *d, const int *fds, unsigned nfds)
{
    (void)d, (void)fds, (void)nfds;
    return 0;
}

static struct content *content(struct driver *d, unsigned n)
{
    return (struct content *)(void *)driver_frame_data(d, n);
}

static unsigned fake_receive(struct driver *d, unsigned quota)
{
    unsigned n = 0;

    while (n < quota && n < 8 && wire.next_in != wire.end_in && driver_room(d) && d->nfree != 0) {
        const unsigned frame = d->free[d->nfree - 1];

        content(d, frame)->mark = EMPTY;
        assert_int_equal(driver_take(d, FRAME_RX, 0), frame);
        shm_crashpoint(__FILE__, __LINE__);
        *content(d, frame) = (struct content){1, wire.next_in++}; /* "read()": cannot be undone */
        driver_receive(d, frame, 4, 100 + content(d, frame)->number, 0, CSUM_NONE);
        n++;
    }
    return n;
}

static enum frame_owner fake_salvage(struct driver *d, unsigned n)
{
    struct driver_frame *f = &d->frame[n];

    assert_int_equal(f->owner, FRAME_RX);
    if (f->len != 0)
        return FRAME_OUT;
    if (content(d, n)->mark == EMPTY)
        return FRAME_FREE;
    f->off = 4;
    f->len = 100 + content(d, n)->number;
    return FRAME_OUT;
}

static int fake_send(struct driver *d, const struct driver_tx *tx)
{
    uint32_t number;

    (void)d;
    if (wire.full)
        return -EAGAIN;
    memcpy(&number, tx->p.hdr + 14, sizeof number);
    assert_true(wire.nsent < sizeof wire.sent / sizeof wire.sent[0]);
    wire.sent[wire.nsent++] = number;
    return 0;
}

static uint32_t fake_events(struct driver *d)
{
    (void)d;
    return 0;
}

static const struct device_ops fake = {
    .name = "fake",
    .attach = fake_attach,
    .salvage = fake_salvage,
    .receive = fake_receive,
    .send = fake_send,
    .events = fake_events,
};

static const struct device_ops *test_device(void)
{
    return &fake;
}
static void test_config(struct stack_config *c)
{
    c->interface[0].frames = FRAMES;
}
static void test_reset(void)
{
    memset(&wire, 0, sizeof wire);
}
static uint32_t frame_number(struct driver *d, const struct driver_rx *rx)
{
    assert_int_equal(rx->len, 100 + content(d, rx->frame)->number);
    return content(d, rx->frame)->number;
}

static void conserved(void)
{
    struct driver *d = state_of();
    unsigned by_owner[5] = {0};

    for (unsigned i = 0; i < FRAMES; i++) {
        assert_true(d->frame[i].owner <= FRAME_TX);
        by_owner[d->frame[i].owner]++;
    }
    assert_int_equal(by_owner[FRAME_OUT], nheld);
    assert_int_equal(by_owner[FRAME_FREE], d->nfree);
    assert_int_equal(d->nfree + nheld, FRAMES);
    for (unsigned i = 0; i < d->nfree; i++)
        for (unsigned j = 0; j < i; j++)
            assert_int_not_equal(d->free[i], d->free[j]);
}

/* --- tests --- */

static void packets_arrive_and_frames_return(void **state)
{
    (void)state;
    nheld = expected = 0;
    wire.end_in = PACKETS;
    while (driver_ops.work(driver, 2) != 0)
        continue;
    ip_takes();
    assert_int_equal(expected, PACKETS);
    conserved();
    while (nheld > 0) {
        nheld--;
        give_back(nheld % 2 ? &ip_return : &tcp_return, held[nheld]);
    }
    driver_ops.work(driver, 3);
    conserved();
    assert_int_equal(driver->block->counter[DRIVER_RETURNED], PACKETS);
}

static void out_of_frames_leaves_packets_in_the_device(void **state)
{
    (void)state;
    nheld = expected = 0;
    wire.end_in = FRAMES + 10;
    while (driver_ops.work(driver, 2) != 0)
        continue;
    ip_takes();
    assert_int_equal(expected, FRAMES);
    give_back(&ip_return, held[--nheld]);
    driver_ops.work(driver, 3);
    ip_takes();
    assert_int_equal(expected, FRAMES + 1);
    conserved();
}

static void second_return_is_counted_not_executed(void **state)
{
    (void)state;
    nheld = expected = 0;
    wire.end_in = 1;
    driver_ops.work(driver, 2);
    ip_takes();
    give_back(&ip_return, held[0]);
    give_back(&tcp_return, held[0]);
    give_back(&tcp_return, (struct held){FRAMES, 1});
    nheld = 0;
    driver_ops.work(driver, 3);
    conserved();
    assert_int_equal(driver->block->counter[DRIVER_RETURN_REPEATED], 1);
    assert_int_equal(driver->block->counter[DRIVER_RETURN_BAD], 1);
    /* In use again: the old return does not fit its new generation. */
    wire.end_in = 2;
    driver_ops.work(driver, 4);
    const struct held old = held[0];
    ip_takes();
    assert_int_equal(held[0].frame, old.frame);
    give_back(&tcp_return, old);
    driver_ops.work(driver, 5);
    conserved();
    assert_int_equal(driver->block->counter[DRIVER_RETURN_REPEATED], 2);
}

static void a_full_device_keeps_the_slot(void **state)
{
    (void)state;
    wire.full = true;
    to_send(7);
    assert_int_equal(driver_ops.work(driver, 2), 0);
    assert_int_equal(chan_tx_consumed(&ip_out), 0);
    assert_false(driver_ops.pending(driver));
    assert_true(driver_ops.deadline(driver) != NEVER);
    wire.full = false;
    assert_int_equal(driver_ops.work(driver, 3), 1);
    assert_int_equal(chan_tx_consumed(&ip_out), 1);
    assert_int_equal(wire.sent[0], 7);
}

static void bad_packets_are_dropped_and_counted(void **state)
{
    struct packet p = {.hdr_len = 60, .l3 = 14, .l4 = 34, .pieces = 1, .payload_len = 8};
    void *slot;

    (void)state;
    p.piece[0] = (struct rptr){.region = REGION_OF_APP(3, APP_UP), .len = 8, .generation = 1};
    assert_int_equal(chan_tx_reserve(&ip_out, 0, 0, 0, &slot), CHAN_OK);
    packet_put(slot, &p);
    chan_tx_commit(&ip_out);
    p = (struct packet){.hdr_len = 4, .l3 = 4, .l4 = 4};
    assert_int_equal(chan_tx_reserve(&ip_out, 0, 0, 0, &slot), CHAN_OK);
    packet_put(slot, &p);
    chan_tx_commit(&ip_out);
    chan_tx_publish(&ip_out);
    driver_ops.work(driver, 2);
    assert_int_equal(wire.nsent, 0);
    assert_int_equal(chan_tx_consumed(&ip_out), 2); /* dropped is done: its chain can end */
    assert_int_equal(driver->block->counter[DRIVER_TX_POINTER], 1);
    assert_int_equal(driver->block->counter[DRIVER_TX_BAD], 1);
}

static void garbage_in_a_frame_record_is_mended(void **state)
{
    (void)state;
    nheld = expected = 0;
    struct driver *d = state_of();
    d->frame[3].owner = 200;
    d->frame[4].owner = FRAME_OUT;
    d->frame[4].index = 1ull << 40;
    assert_int_equal(incarnate(), 0);
    conserved();
    assert_int_equal(driver->block->counter[DRIVER_OWNER_BAD], 2);
}

/* Receives, returns and sends with a crash at store `first`, and then again every `every` stores
 * (also in the take-over itself). Never returns out of order, lost or twice; sends at most one
 * again per crash. Returns whether the first crash was reached. */
static bool run_with_crashes(long first, long every)
{
    static uint32_t to_be_sent; /* static: survives longjmp */
    static volatile unsigned crashes;
    static volatile bool alive;
    static volatile unsigned round;

    setup(NULL);
    nheld = expected = 0;
    to_be_sent = 0;
    crashes = 0;
    alive = true;
    round = 0;
    wire.end_in = PACKETS;
    stores = 0;
    while (expected != PACKETS || nheld != 0 || chan_tx_consumed(&ip_out) != PACKETS) {
        assert_true(round++ < 10000);
        if (setjmp(crashed) != 0) {
            crashes++;
            alive = false;
            stores = 0;
            crash_at = -1;
        }
        /* Neighbours go on, whatever happens to the driver. */
        if (alive)
            ip_takes();
        for (unsigned i = 0; i < 5 && nheld > 0; i++) {
            nheld--;
            give_back(nheld % 2 ? &ip_return : &tcp_return, held[nheld]);
        }
        for (unsigned i = 0; i < 4 && to_be_sent < PACKETS; i++)
            to_send(to_be_sent++);
        crash_at = crashes == 0 ? first : crashes < 12 ? every : -1;
        if (!alive)
            assert_int_equal(incarnate(), 0);
        alive = true;
        wire.full = round % 7 == 3;
        driver_ops.work(driver, round);
        crash_at = -1;
    }
    driver_ops.work(driver, round);
    conserved();
    uint32_t next = 0;
    unsigned again = 0;
    for (unsigned i = 0; i < wire.nsent; i++) {
        if (wire.sent[i] == next)
            next++;
        else if (next > 0 && wire.sent[i] == next - 1)
            again++;
        else
            fail();
    }
    assert_int_equal(next, PACKETS);
    assert_true(again <= crashes);
    const bool reached = crashes != 0;
    teardown(NULL);
    return reached;
}

static void before_each_store(void **state)
{
    (void)state;
    crash_before_each_store(500);
}

static void again_during_recovery(void **state)
{
    (void)state;
    crash_again_during_recovery(120, 7, 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packets_arrive_and_frames_return, setup, teardown),
        cmocka_unit_test_setup_teardown(out_of_frames_leaves_packets_in_the_device, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(second_return_is_counted_not_executed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_device_keeps_the_slot, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_packets_are_dropped_and_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_in_a_frame_record_is_mended, setup, teardown),
        cmocka_unit_test(before_each_store),
        cmocka_unit_test(again_during_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
