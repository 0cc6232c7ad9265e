/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A frame from the device, or a packet for it, that brings the driver down each time: it alone is
 * dropped after the third time, and kept for inspection. The device is a pair of datagram sockets.
 */
/* link: eft_driver_cp eft_harness_cp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drivers/driver.h"
#include "poison.h"
#include "tests/harness/host.h"
#include "tests/harness/memory.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRV SERVER_ID(SERVER_DRIVER, 0)
#define IP  SERVER_ID(SERVER_IP, 0)

enum { VNET = 10, FRAME = 64 };

static struct stack_config cfg;
static struct region_map map;
static struct component *driver;
static struct chan_rx ip_in;
static struct chan_tx ip_out;
static int wire;   /* the peer's end */
static int device; /* rs's descriptor of the driver's end */

static void boot(enum rs_end end)
{
    int fds[RS_FDS] = {dup(device), -1, -1, -1, -1, -1, -1, -1};
    const struct rs_message m = {.op = RS_DEVICE, .nfds = 1};

    driver_use_device(driver, &device_tap);
    driver_ops.message(driver, &m, fds);
    assert_int_equal(host_start(driver, 1000000000, end), 0);
}

static void successor(enum rs_end end)
{
    struct driver *d = driver->state;

    close(d->fds[0]);
    host_reset(driver);
    boot(end);
}

static void work(void)
{
    while (component_turn(driver, 1000000000) != 0)
        continue;
}

static int setup(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    device = pair[0];
    wire = pair[1];
    memory_config(&cfg);
    cfg.interface[0].driver = DRIVER_TAP;
    memory_create(&map, &cfg);
    driver = host_new(&driver_ops, DRV, &map);
    boot(END_NONE);
    const struct region *ip = &map.entry[REGION_OF_SERVER(IP)],
                        *drv = &map.entry[REGION_OF_SERVER(DRV)];
    assert_int_equal(chan_rx_attach(&ip_in, ip, drv, EDGE_DRIVER_IP, IP, DRV, NULL), 0);
    assert_int_equal(chan_tx_attach(&ip_out, ip, drv, EDGE_IP_DRIVER, IP, DRV, 1, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close(((struct driver *)driver->state)->fds[0]);
    close(device);
    close(wire);
    host_free(driver);
    memory_destroy(&map);
    return 0;
}

static void frame_comes(uint8_t mark)
{
    uint8_t bytes[VNET + FRAME] = {0};

    bytes[VNET + 12] = 8;    /* IPv4 */
    bytes[VNET + 17] = 50;   /* its length */
    bytes[VNET + 20] = mark; /* somewhere in it */
    assert_int_equal(send(wire, bytes, sizeof bytes, 0), sizeof bytes);
}

static uint64_t frames_in_use(void)
{
    const struct driver *d = driver->state;

    return d->frames - d->nfree;
}

static void received_frame_is_dropped(void **state)
{
    (void)state;
    frame_comes(1);
    poison_run(driver->block, ITEM_FRAME, work, successor);
    assert_int_equal(poison.faults, 3);
    const struct quarantine_copy *c = poison_copy(driver->own);
    bool found = false;
    for (unsigned i = 0; i + 20 < c->bytes && !found; i++)
        found = c->data[i] == 8 && c->data[i + 5] == 50 && c->data[i + 8] == 1;
    assert_true(found);
    assert_null(chan_rx_peek(&ip_in));
    frame_comes(2);
    work();
    assert_non_null(chan_rx_peek(&ip_in));
    /* The one with ip, and the one that waits for the next packet. */
    assert_int_equal(frames_in_use(), 2);
}

static void to_send(uint8_t mark)
{
    struct packet p = {.hdr_len = FRAME, .l3 = 14, .l4 = 34};
    void *slot;

    p.hdr[20] = mark;
    assert_int_equal(chan_tx_reserve(&ip_out, 0, 0, 0, &slot), CHAN_OK);
    packet_put(slot, &p);
    chan_tx_commit(&ip_out);
    chan_tx_publish(&ip_out);
}

/* A packet that is sent at the third attempt as well as at the first: its fault comes after. */
static void packet_to_send_is_dropped(void **state)
{
    uint8_t bytes[2048];
    unsigned first = 0, second = 0;

    (void)state;
    to_send(1);
    to_send(2);
    poison_run(driver->block, ANY_SLOT, work, successor);
    assert_int_equal(poison.faults, 3);
    poison_copy(driver->own);
    while (recv(wire, bytes, sizeof bytes, 0) > 0) {
        first += bytes[VNET + 20] == 1;
        second += bytes[VNET + 20] == 2;
    }
    assert_int_equal(first, 3);
    assert_int_equal(second, 1);
    assert_false(chan_rx_pending(&ip_in));
    assert_int_equal(chan_tx_consumed(&ip_out), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(received_frame_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(packet_to_send_is_dropped, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
