/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A datagram, a request, something to be sent that brings UDP down each time: it alone is dropped
 * after the third time, and kept for inspection.
 */
/* link: eft_harness_cp eft_udp_cp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "poison.h"
#include "udp_world.h"

static struct world w;
static const struct sock_name here = {.addr = {.family = 4, .word = {0}}, .port = 1053};

static void successor(enum rs_end end)
{
    host_free(w.c);
    udp_boot(&w, end, 1);
}

static void work(void)
{
    settle(&w);
}

static void faults_on(unsigned kind)
{
    poison_run(w.c->block, kind, work, successor);
    assert_int_equal(poison.faults, 3);
    assert_int_equal(counter(&w, UDP_QUARANTINED), 1);
}

static int begin(void **state)
{
    (void)state;
    world_make(&w, 1);
    open_slot(&w, 0, 1);
    assert_int_equal(do_bind(&w, 0, 1, here, 0), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_free(&w);
    return 0;
}

static void comes(const char *text)
{
    ip_send(&w, name_v4(PEER, 9), name_v4(OUR_ADDRESS, 1053), text, (uint32_t)strlen(text), 0);
}

static void datagram_is_dropped(void **state)
{
    struct dgram h;
    char got[16];

    (void)state;
    comes("poison");
    comes("next");
    faults_on(ANY_SLOT);
    const struct quarantine_copy *c = poison_copy(w.c->own);
    assert_int_equal(c->length, sizeof(struct packet) + 6);
    assert_memory_equal(c->data + sizeof(struct packet), "poison", 6);
    assert_int_equal(app_read(&w, 0, 1, &h, got, sizeof got), 4);
    assert_memory_equal(got, "next", 4);
    assert_int_equal(app_read(&w, 0, 1, &h, got, sizeof got), -EAGAIN);
    assert_int_equal(driver_collect(&w), 2); /* both frames are back */
}

static void request_is_answered_with_an_error(void **state)
{
    struct up_slot *up = open_slot(&w, 0, 2);

    (void)state;
    up->local = name_v4(0, 1054);
    up->flags = 0;
    ask(&w, 0, 2, OP_BIND);
    faults_on(ITEM_REQUEST);
    poison_copy(w.c->own);
    assert_int_equal(asked(&w, 0, 2), -EIO);
    ask(&w, 0, 2, OP_BIND);
    assert_int_equal(asked(&w, 0, 2), 0);
}

static void what_is_sent_is_dropped(void **state)
{
    struct packet p;
    uint8_t data[64];

    (void)state;
    app_write(&w, 0, 1, name_v4(PEER, 9), "poison", 6);
    faults_on(ITEM_DATAGRAM);
    poison_copy(w.c->own);
    assert_false(ip_take(&w, &p, data, true));
    app_write(&w, 0, 1, name_v4(PEER, 9), "next", 4);
    settle(&w);
    assert_true(ip_take(&w, &p, data, true));
    assert_memory_equal(data, "next", 4);
}

static void cold_start_keeps_sockets(void **state)
{
    struct packet p;
    struct dgram h;
    uint8_t data[64];

    (void)state;
    comes("waits");
    app_write(&w, 0, 1, name_v4(PEER, 9), "waits", 5);
    host_free(w.c);
    w.c = host_new(&udp_ops, UDP, &w.map);
    w.c->start = START_FRUGAL | START_COLD;
    assert_int_equal(host_start(w.c, w.now, END_FAULT), 0);
    host_add_app(w.c, 0, 1);
    settle(&w);
    assert_int_equal(app_read(&w, 0, 1, &h, data, sizeof data), -EAGAIN);
    assert_int_equal(driver_collect(&w), 1); /* the frame is back */
    assert_false(ip_take(&w, &p, data, true));
    comes("next");
    app_write(&w, 0, 1, name_v4(PEER, 9), "next", 4);
    settle(&w);
    assert_int_equal(app_read(&w, 0, 1, &h, data, sizeof data), 4);
    assert_true(ip_take(&w, &p, data, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(datagram_is_dropped, begin, end),
        cmocka_unit_test_setup_teardown(request_is_answered_with_an_error, begin, end),
        cmocka_unit_test_setup_teardown(what_is_sent_is_dropped, begin, end),
        cmocka_unit_test_setup_teardown(cold_start_keeps_sockets, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
