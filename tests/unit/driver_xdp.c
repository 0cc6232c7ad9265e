/* SPDX-License-Identifier: BSD-2-Clause */
/* link: eft_driver_cp eft_harness_cp */
/*
 * The AF_XDP driver over rings in memory with a test that plays the kernel: no packet is lost,
 * repeated or changed in either direction, and frames are conserved, when the driver dies before
 * any store.
 */
#include "driver_neighbours.h"

#include "drivers/xdp.h"

enum { FRAMES = 64, PACKETS = 150, HEADROOM = 256, IN_KERNEL = 24 };

/* --- the kernel: outlives the driver --- */

static struct {
    struct {
        uint32_t producer, consumer;
        union {
            uint64_t addr[FRAMES];
            struct xdp_desc desc[FRAMES];
        };
    } fill, completion, rx, tx;
    uint64_t spare[IN_KERNEL]; /* frames it took from FILL and has not used */
    unsigned nspare;
    uint64_t sending[FRAMES]; /* frames it took from TX and has not completed */
    unsigned nsending;
    uint32_t next_in, sent;
} kernel;

static uint8_t *kernel_frame(uint64_t addr)
{
    uint8_t *pool = wiring_table(region_of(DRV), TABLE_DRIVER_POOL, NULL);

    return pool + addr;
}

static void kernel_receives(unsigned n)
{
    while (kernel.nspare < IN_KERNEL && kernel.fill.consumer != kernel.fill.producer)
        kernel.spare[kernel.nspare++] = kernel.fill.addr[kernel.fill.consumer++ % FRAMES];
    for (; n > 0 && kernel.nspare > 0 && kernel.next_in < PACKETS; n--) {
        const uint64_t addr = kernel.spare[--kernel.nspare] + HEADROOM;
        struct xdp_desc *d = &kernel.rx.desc[kernel.rx.producer % FRAMES];

        assert_true(kernel.rx.producer - kernel.rx.consumer < FRAMES);
        memcpy(kernel_frame(addr), &kernel.next_in, 4);
        *d = (struct xdp_desc){.addr = addr, .len = 60 + kernel.next_in};
        kernel.next_in++;
        kernel.rx.producer++;
    }
}

static void kernel_sends(unsigned n)
{
    for (; n > 0 && kernel.tx.consumer != kernel.tx.producer; n--) {
        const struct xdp_desc d = kernel.tx.desc[kernel.tx.consumer++ % FRAMES];
        uint32_t number;

        memcpy(&number, kernel_frame(d.addr) + 14, 4);
        assert_int_equal(number, kernel.sent); /* in order, once, whole */
        assert_int_equal(d.len, 60);
        kernel.sent++;
        kernel.sending[kernel.nsending++] = d.addr;
    }
}

static void kernel_completes(unsigned n)
{
    for (; n > 0 && kernel.nsending > 0; n--) {
        /* Trash: who reads the frame later must have got it back and written it. */
        memset(kernel_frame(kernel.sending[--kernel.nsending]), 0xee, 64);
        kernel.completion.addr[kernel.completion.producer++ % FRAMES] =
            kernel.sending[kernel.nsending];
    }
}

/* --- the driver on these rings --- */

static int attach_to_memory(struct driver *d, const int *fds, unsigned nfds)
{
    const struct xdp_rings rings = {
        .fill = {&kernel.fill.producer, &kernel.fill.consumer, kernel.fill.addr, FRAMES - 1},
        .completion = {&kernel.completion.producer, &kernel.completion.consumer,
                       kernel.completion.addr, FRAMES - 1},
        .rx = {&kernel.rx.producer, &kernel.rx.consumer, kernel.rx.desc, FRAMES - 1},
        .tx = {&kernel.tx.producer, &kernel.tx.consumer, kernel.tx.desc, FRAMES - 1},
    };

    (void)fds, (void)nfds;
    xdp_use_rings(d, &rings, -1);
    return 0;
}

static const struct device_ops *test_device(void)
{
    static struct device_ops ops;

    ops = device_xdp;
    ops.nfds = 0;
    ops.attach = attach_to_memory;
    return &ops;
}
static void test_config(struct stack_config *c)
{
    c->interface[0].frames = FRAMES;
    c->interface[0].frame_size = 2048;
    c->interface[0].driver = DRIVER_XDP;
}
static void test_reset(void)
{
    memset(&kernel, 0, sizeof kernel);
    /* Unlike the 64-bit indices of queues, and soon to wrap. */
    kernel.fill.producer = kernel.fill.consumer = 0xffffff80;
    kernel.completion.producer = kernel.completion.consumer = 0xfffffff0;
    kernel.rx.producer = kernel.rx.consumer = 0xffffffe0;
    kernel.tx.producer = kernel.tx.consumer = 0xffffffd0;
}
static uint32_t frame_number(struct driver *d, const struct driver_rx *rx)
{
    uint32_t number;

    memcpy(&number, driver_frame_data(d, rx->frame) + rx->off, 4);
    assert_int_equal(rx->off, HEADROOM);
    assert_int_equal(rx->len, 60 + number);
    return number;
}

/* Each frame is in exactly one place, and its record says which. */
static void conserved(void)
{
    struct driver *d = state_of();
    uint8_t at[FRAMES] = {0}; /* 1 + owner that the record must have */
    unsigned i;

#define PLACE(addr, owner_)                                                                        \
    do {                                                                                           \
        const uint64_t n_ = (addr) / 2048;                                                         \
        assert_true(n_ < FRAMES && at[n_] == 0);                                                   \
        at[n_] = 1 + (owner_);                                                                     \
    } while (0)
    for (uint32_t k = kernel.fill.consumer; k != kernel.fill.producer; k++)
        PLACE(kernel.fill.addr[k % FRAMES], FRAME_FILL);
    for (uint32_t k = kernel.rx.consumer; k != kernel.rx.producer; k++)
        PLACE(kernel.rx.desc[k % FRAMES].addr, FRAME_FILL);
    for (i = 0; i < kernel.nspare; i++)
        PLACE(kernel.spare[i], FRAME_FILL);
    for (uint32_t k = kernel.tx.consumer; k != kernel.tx.producer; k++)
        PLACE(kernel.tx.desc[k % FRAMES].addr, FRAME_TX);
    for (uint32_t k = kernel.completion.consumer; k != kernel.completion.producer; k++)
        PLACE(kernel.completion.addr[k % FRAMES], FRAME_TX);
    for (i = 0; i < kernel.nsending; i++)
        PLACE(kernel.sending[i], FRAME_TX);
    for (i = 0; i < nheld; i++)
        PLACE(held[i].frame * 2048ull, FRAME_OUT);
    for (i = 0; i < d->nfree; i++)
        PLACE(d->free[i] * 2048ull, FRAME_FREE);
    for (i = 0; i < FRAMES; i++)
        assert_int_equal(at[i], 1 + d->frame[i].owner);
}

/* --- tests --- */

static void a_packet_each_way(void **state)
{
    (void)state;
    nheld = expected = 0;
    conserved();
    kernel_receives(1);
    assert_true(driver_ops.pending(driver));
    driver_ops.work(driver, 2);
    ip_takes();
    assert_int_equal(expected, 1);
    to_send(0);
    driver_ops.work(driver, 3);
    assert_int_equal(chan_tx_consumed(&ip_out), 1); /* our own copy: completed at once */
    kernel_sends(1);
    kernel_completes(1);
    conserved();
    give_back(&ip_return, held[--nheld]);
    driver_ops.work(driver, 4);
    conserved();
    assert_int_equal(driver->block->counter[DRIVER_COUNT_TX], 0);
}

static void a_device_that_does_not_complete_holds_the_queue(void **state)
{
    (void)state;
    nheld = expected = 0;
    for (uint32_t i = 0; i < FRAMES; i++)
        to_send(i);
    while (driver_ops.work(driver, 2) != 0)
        kernel_sends(FRAMES);
    assert_in_range(chan_tx_consumed(&ip_out), FRAMES / 4, FRAMES / 2);
    assert_true(driver_ops.deadline(driver) != NEVER);
    conserved();
    for (unsigned i = 0; i < 8; i++) {
        kernel_completes(FRAMES);
        driver_ops.work(driver, 3);
        kernel_sends(FRAMES);
    }
    assert_int_equal(kernel.sent, FRAMES);
    conserved();
}

static void a_stack_that_returns_nothing_can_still_send(void **state)
{
    (void)state;
    nheld = expected = 0;
    for (unsigned i = 0; i < FRAMES; i++) {
        kernel_receives(FRAMES);
        driver_ops.work(driver, i);
    }
    ip_takes();
    conserved();
    to_send(0);
    driver_ops.work(driver, 2);
    kernel_sends(1);
    assert_int_equal(kernel.sent, 1);
}

static bool run_with_crashes(long first, long every)
{
    static uint32_t to_be_sent; /* static: survives longjmp */
    static volatile unsigned crashes, round;
    static volatile bool alive;

    setup(NULL);
    nheld = expected = 0;
    to_be_sent = 0;
    crashes = round = 0;
    alive = true;
    stores = 0;
    while (expected != PACKETS || nheld != 0 || kernel.sent != PACKETS) {
        assert_true(round++ < 10000);
        if (setjmp(crashed) != 0) {
            crashes++;
            alive = false;
            stores = 0;
            crash_at = -1;
        }
        /* Everybody else goes on, whatever happens to the driver. */
        kernel_receives(5);
        kernel_sends(7);
        kernel_completes(3);
        if (alive)
            ip_takes();
        for (unsigned i = 0; i < 6 && nheld > 0; i++) {
            nheld--;
            give_back(nheld % 2 ? &ip_return : &tcp_return, held[nheld]);
        }
        for (unsigned i = 0; i < 4 && to_be_sent < PACKETS && chan_tx_room(&ip_out, 1); i++)
            to_send(to_be_sent++);
        crash_at = crashes == 0 ? first : crashes < 12 ? every : -1;
        if (!alive)
            assert_int_equal(incarnate(), 0);
        alive = true;
        driver_ops.work(driver, round);
        crash_at = -1;
        ip_takes();
        conserved();
    }
    assert_int_equal(driver->block->counter[DRIVER_RX_BAD], 0);
    const bool reached = crashes != 0;
    teardown(NULL);
    return reached;
}

static void before_each_store(void **state)
{
    (void)state;
    crash_before_each_store(2000);
}

static void again_during_recovery(void **state)
{
    (void)state;
    crash_again_during_recovery(40, 41, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_packet_each_way, setup, teardown),
        cmocka_unit_test_setup_teardown(a_device_that_does_not_complete_holds_the_queue, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stack_that_returns_nothing_can_still_send, setup,
                                        teardown),
        cmocka_unit_test(before_each_store),
        cmocka_unit_test(again_during_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
