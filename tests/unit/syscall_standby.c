/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A spare of the syscall server hears of clients like the one that runs, whose region it maps; it
 * must not write there.
 */
/* link: eft_syscall */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "servers/syscall/syscall.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int watch(struct component *c, int fd, uint32_t events)
{
    (void)c, (void)fd, (void)events;
    return 0;
}

static int unwatch(struct component *c, int fd)
{
    (void)c, (void)fd;
    return 0;
}

static void tell(struct component *c, enum rs_op op, int fd)
{
    const struct rs_message m = {.op = op, .arg = 7, .generation = 1, .nfds = 1};
    const int fds[RS_FDS] = {fd, -1, -1, -1, -1, -1, -1, -1};

    syscall_ops.message(c, &m, fds);
}

static void a_spare_does_not_count(void **state)
{
    static struct server_block block, before;
    struct component *c = calloc(1, sizeof *c);
    int pair[2], listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)state;
    assert_true(listener >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    c->ops = &syscall_ops;
    c->state = calloc(1, syscall_ops.size);
    c->block = &block;
    c->watch = watch;
    c->unwatch = unwatch;
    memset(&block.counter, 5, sizeof block.counter);
    before = block;
    tell(c, RS_LISTEN, listener);
    tell(c, RS_CLIENT, dup(pair[0]));
    tell(c, RS_CLIENT, pair[0]); /* told again: rs was restarted */
    assert_memory_equal(&block, &before, sizeof block);
    close(pair[1]);
    free(c->state);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_spare_does_not_count)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
