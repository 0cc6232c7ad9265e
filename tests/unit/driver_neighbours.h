/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A driver between the neighbours that a test plays, with crashes at stores; shared by the tests
 * of drivers. The including file defines frame_number(): which packet a frame holds, and
 * frame_len(); and run_with_crashes(), which plays a scenario with a crash at store `first`, and
 * then again every `every` stores (-1: never), also in the take-over itself, and returns whether
 * the first crash was reached.
 */
#ifndef EFT_TESTS_UNIT_DRIVER_NEIGHBOURS_H
#define EFT_TESTS_UNIT_DRIVER_NEIGHBOURS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "drivers/driver.h"
#include "tests/harness/memory.h"

#define DRV SERVER_ID(SERVER_DRIVER, 0)
#define IP  SERVER_ID(SERVER_IP, 0)
#define TCP SERVER_ID(SERVER_TCP, 0)

static jmp_buf crashed;
static long crash_at, stores;

void shm_crashpoint(const char *file, int line)
{
    (void)file;
    (void)line;
    if (crash_at >= 0 && stores++ == crash_at)
        longjmp(crashed, 1);
}

static uint32_t frame_number(struct driver *d, const struct driver_rx *rx);
static const struct device_ops *test_device(void);
static void test_config(struct stack_config *c);
static void test_reset(void);

/* --- the driver and its neighbours --- */

static struct stack_config cfg;
static struct region_map *map;
static struct component *driver;
static struct chan_rx ip_in;
static struct chan_tx ip_out, ip_return, tcp_return;

static struct region *region_of(server_id id)
{
    return &map->entry[REGION_OF_SERVER(id)];
}

static void quiet(struct component *c, int priority, const char *fmt, ...)
{
    (void)c, (void)priority, (void)fmt;
}

static struct driver *state_of(void)
{
    return driver->state;
}

/* A new incarnation: only the regions survive. May crash. */
static int incarnate(void)
{
    void *state = driver->state;

    memset(state, 0, driver_ops.size);
    memset(driver, 0, sizeof *driver);
    driver->ops = &driver_ops;
    driver->state = state;
    driver->id = DRV;
    driver->map = map;
    driver->own = region_of(DRV);
    driver->block = wiring_block(driver->own);
    driver->cfg = (const struct stack_config *)map->entry[REGION_CONFIG].base;
    driver->log = quiet;
    driver->epoch = ++driver->block->epoch;
    driver_use_device(driver, test_device());
    return driver_ops.start(driver, 1);
}

static int setup(void **state)
{
    (void)state;
    crash_at = -1;
    test_reset();
    map = calloc(1, sizeof *map);
    memory_config(&cfg);
    test_config(&cfg);
    memory_create(map, &cfg);
    driver = calloc(1, sizeof *driver);
    driver->state = calloc(1, driver_ops.size);
    assert_int_equal(incarnate(), 0);
    struct region *ip = region_of(IP), *drv = region_of(DRV), *tcp = region_of(TCP);
    assert_int_equal(chan_rx_attach(&ip_in, ip, drv, EDGE_DRIVER_IP, IP, DRV, NULL), 0);
    assert_int_equal(chan_tx_attach(&ip_out, ip, drv, EDGE_IP_DRIVER, IP, DRV, 1, NULL), 0);
    assert_int_equal(chan_tx_attach(&ip_return, ip, drv, EDGE_IP_RETURN, IP, DRV, 1, NULL), 0);
    assert_int_equal(chan_tx_attach(&tcp_return, tcp, drv, EDGE_TCP_RETURN, TCP, DRV, 1, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    memory_destroy(map);
    free(map);
    free(driver->state);
    free(driver);
    return 0;
}

/* What ip got and has not returned. */
static struct held {
    uint32_t frame, generation;
} held[1024];
static unsigned nheld;
static uint32_t expected; /* next packet number that must arrive */

static void ip_takes(void)
{
    const struct driver_rx *slot;

    while ((slot = chan_rx_peek(&ip_in)) != NULL) {
        assert_int_equal(frame_number(state_of(), slot), expected);
        expected++;
        held[nheld++] = (struct held){slot->frame, slot->generation};
        chan_rx_next(&ip_in);
    }
    chan_rx_release(&ip_in);
}

static void give_back(struct chan_tx *tx, struct held h)
{
    void *slot;
    struct frame_return r = {.frame = h.frame, .generation = h.generation};

    assert_int_equal(chan_tx_reserve(tx, 0, 0, 0, &slot), CHAN_OK);
    memcpy((struct slot_head *)slot + 1, &r.frame, sizeof r - sizeof r.head);
    chan_tx_commit(tx);
    chan_tx_publish(tx);
}

static void to_send(uint32_t number)
{
    struct packet p = {.hdr_len = 60, .l3 = 14, .l4 = 34};
    void *slot;

    memcpy(p.hdr + 14, &number, sizeof number);
    assert_int_equal(chan_tx_reserve(&ip_out, 0, 0, 0, &slot), CHAN_OK);
    packet_put(slot, &p);
    chan_tx_commit(&ip_out);
    chan_tx_publish(&ip_out);
}

/* --- crashes --- */

static bool run_with_crashes(long first, long every);

static void crash_before_each_store(long at_least)
{
    long n = 0;

    while (run_with_crashes(n, -1))
        n++;
    assert_true(n > at_least);
}

static void crash_again_during_recovery(long times, long stride, long most)
{
    for (long n = 0; n < times; n++)
        for (long every = 0; every < most; every++)
            run_with_crashes(n * stride, every);
}

#endif
