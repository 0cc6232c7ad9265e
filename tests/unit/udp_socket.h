/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Three applications of one UDP server, and their names. For the test programs of UDP; each has its
 * own copy.
 */
#ifndef EFT_TESTS_UNIT_UDP_SOCKET_H
#define EFT_TESTS_UNIT_UDP_SOCKET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "udp_world.h"

#include <sys/socket.h>
#include <unistd.h>

static struct world w;

static inline int setup(void **state)
{
    (void)state;
    world_make(&w, 3);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    world_free(&w);
    return 0;
}

static const struct sock_name any = {.addr = {.family = 4}};

static inline struct sock_name port(uint16_t p)
{
    return name_v4(0, p);
}
static inline struct sock_name ours(uint16_t p)
{
    return name_v4(OUR_ADDRESS, p);
}
static inline struct sock_name peer(uint16_t p)
{
    return name_v4(PEER, p);
}

/* Reads one datagram that must be `text` from peer port `from`. */
static inline void expect(unsigned app, uint32_t slot, uint16_t from, const char *text)
{
    struct dgram h;
    char data[65536];

    assert_int_equal(app_read(&w, app, slot, &h, data, sizeof data), (int)strlen(text));
    assert_memory_equal(data, text, strlen(text));
    assert_int_equal(h.remote.port, from);
    assert_int_equal(h.local.v4, htonl(OUR_ADDRESS));
}

static inline void expect_nothing(unsigned app, uint32_t slot)
{
    struct dgram h;

    assert_int_equal(app_read(&w, app, slot, &h, NULL, 0), -EAGAIN);
}

#endif
