/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What eft-keeper makes of messages, and when it starts its program again.
 */
/* link: eft_keeper */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recovery/keeper/keeper.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROGRAM = 100, STRANGER = 200 };
static struct keeper k;

static int begin(void **state)
{
    (void)state;
    k = (struct keeper){.child = PROGRAM};
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < k.count; i++)
        close(k.held[i].fd);
    free(k.held);
    return 0;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Sends a text with `nfds` new descriptors, which it returns in fds. */
static void say(pid_t from, const char *words, int *fds, unsigned nfds)
{
    char text[512];

    for (unsigned i = 0; i < nfds; i++)
        assert_true((fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
    strcpy(text, words);
    keeper_message(&k, from, text, fds, nfds, 77);
}

static void keeps_and_forgets_by_name(void **state)
{
    int a[2], b[1], c[1];

    (void)state;
    say(PROGRAM, "FDSTORE=1\nFDNAME=a\nFDPOLL=0", a, 2);
    say(PROGRAM, "FDNAME=b.1\nFDSTORE=1\n", b, 1); /* in any order */
    say(PROGRAM, "FDSTORE=1", c, 1);
    assert_int_equal(k.count, 4);
    assert_string_equal(k.held[1].name, "a");
    assert_int_equal(k.held[2].fd, b[0]);
    assert_string_equal(k.held[2].name, "b.1");
    assert_string_equal(k.held[3].name, "stored"); /* as systemd calls it */
    say(PROGRAM, "FDSTOREREMOVE=1\nFDNAME=a", NULL, 0);
    assert_int_equal(k.count, 2);
    assert_false(is_open(a[0]) || is_open(a[1]));
    assert_true(is_open(b[0]) && is_open(c[0]));
    assert_string_equal(k.held[0].name, "b.1");
    say(PROGRAM, "FDSTOREREMOVE=1\nFDNAME=nobody", NULL, 0);
    assert_int_equal(k.count, 2);
}

static void keeps_many(void **state)
{
    int fds[4];
    char text[64];

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=n%u", i % 10);
        say(PROGRAM, text, fds, 4);
        snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=n%u", (i + 5) % 10);
        say(PROGRAM, text, NULL, 0);
    }
    assert_int_equal(k.count, 5 * 4);
}

static void closes_what_it_does_not_keep(void **state)
{
    int fds[3];
    static const char *const words[] = {
        "BARRIER=1",
        "READY=1",
        "",
        "FDSTORE=0\nFDNAME=a",
        "FDSTORE=1\nFDNAME=a:b",
        "FDSTORE=1\nFDNAME=0123456789012345678901234567890123456789012345678901234567890123",
    };

    (void)state;
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        say(PROGRAM, words[i], fds, 3);
        assert_int_equal(k.count, 0);
        for (unsigned n = 0; n < 3; n++)
            assert_false(is_open(fds[n]));
    }
}

static void strangers_are_not_heard(void **state)
{
    int a[1], b[1];

    (void)state;
    say(PROGRAM, "FDSTORE=1\nFDNAME=a", a, 1);
    k.alive_at = 5;
    say(STRANGER, "FDSTORE=1\nFDNAME=b\nREADY=1\nWATCHDOG=1", b, 1);
    say(STRANGER, "FDSTOREREMOVE=1\nFDNAME=a", NULL, 0);
    assert_int_equal(k.count, 1);
    assert_true(is_open(a[0]));
    assert_false(is_open(b[0]));
    assert_false(k.ready);
    assert_int_equal(k.alive_at, 5);
    k.child = 0; /* nobody runs */
    say(0, "READY=1", NULL, 0);
    say(-1, "READY=1", NULL, 0);
    assert_false(k.ready);
}

static void signs_of_life(void **state)
{
    (void)state;
    say(PROGRAM, "WATCHDOG=1", NULL, 0);
    assert_int_equal(k.alive_at, 77);
    assert_false(k.ready);
    say(PROGRAM, "READY=1\nSTATUS=all is well", NULL, 0);
    assert_true(k.ready);
}

/* A long life is followed by the next at once; short ones by longer and longer delays, for ever. */
static void delays_grow_to_a_second(void **state)
{
    uint64_t last = 0;

    (void)state;
    assert_false(keeper_short_life(1000, 1000 + 1000000000ull));
    assert_true(keeper_short_life(1000, 1000 + 1000000ull));
    assert_int_equal(keeper_delay(0, false), 0);
    for (unsigned n = 1; n < 100; n++) {
        assert_true(keeper_delay(n, false) >= last);
        last = keeper_delay(n, false);
    }
    assert_int_equal(keeper_delay(1, false), 1000000);
    assert_int_equal(last, 1000000000);
    assert_int_equal(keeper_delay(1, true), 0);
    assert_int_equal(keeper_delay(50, true), 0);
    assert_int_equal(keeper_delay(100, true), 1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_and_forgets_by_name, begin, end),
        cmocka_unit_test_setup_teardown(keeps_many, begin, end),
        cmocka_unit_test_setup_teardown(closes_what_it_does_not_keep, begin, end),
        cmocka_unit_test_setup_teardown(strangers_are_not_heard, begin, end),
        cmocka_unit_test_setup_teardown(signs_of_life, begin, end),
        cmocka_unit_test_setup_teardown(delays_grow_to_a_second, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
