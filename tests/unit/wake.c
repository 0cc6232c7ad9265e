/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Bells: what a sleeper does with the rings that came (libchan/wake.h).
 */
/* link: eft_chan */
#include "libchan/wake.h"

#include <errno.h>
#include <sys/socket.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static unsigned received, there;

/* In place of libc's: a socket in which `there` datagrams wait. */
ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    (void)fd, (void)buffer, (void)size;
    assert_true(flags & MSG_DONTWAIT);
    received++;
    if (received > there) {
        errno = EAGAIN;
        return -1;
    }
    return 1;
}

/* An application that rings faster than we listen would else keep its server here for ever, until
 * rs takes it for hung. */
static void drain_ends_before_the_writer_does(void **state)
{
    (void)state;
    received = 0;
    there = 1000000;
    bell_drain(5, BELL_DGRAM);
    assert_true(received >= 1 && received <= 64);
}

static void drain_takes_all_of_a_few(void **state)
{
    (void)state;
    received = 0;
    there = 3;
    bell_drain(5, BELL_DGRAM);
    assert_int_equal(received, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drain_ends_before_the_writer_does),
        cmocka_unit_test(drain_takes_all_of_a_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
