/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A message on a control socket that brings the syscall server down each time is answered with an
 * error after the third time, and kept for inspection; the next one is served.
 */
/* link: eft_harness_cp eft_syscall_cp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libchan/edge/control.h"
#include "poison.h"
#include "servers/syscall/syscall.h"
#include "tests/harness/host.h"
#include "tests/harness/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { APP = 3 };

static struct stack_config cfg;
static struct region_map map;
static struct component *c;
static int client, kept; /* rs keeps the server's end */
static int served;       /* this incarnation's descriptor of it */

static void boot(enum rs_end end)
{
    served = dup(kept);
    int fds[RS_FDS] = {served, -1, -1, -1, -1, -1, -1, -1};
    const struct rs_message m = {.op = RS_CLIENT, .arg = APP, .generation = 1, .nfds = 1};

    /* In a process the region is not yet mapped when rs says this: nothing is counted. */
    struct server_block *block = c->block;
    c->block = NULL;
    c->ops->message(c, &m, fds);
    c->block = block;
    assert_int_equal(host_start(c, 1000000000, end), 0);
}

static void successor(enum rs_end end)
{
    close(served);
    host_reset(c);
    boot(end);
}

static void work(void)
{
    c->ops->ready(c, served, EPOLLIN, 1000000000);
    component_turn(c, 1000000000);
}

static void request(uint64_t id)
{
    const struct control_request q = {
        .version = CONTROL_VERSION, .op = CONTROL_PORT, .id = id, .arg = 80};

    assert_int_equal(send(client, &q, sizeof q, 0), sizeof q);
}

static void message_is_answered_with_an_error(void **state)
{
    struct control_reply r;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
                     0);
    client = pair[0];
    kept = pair[1];
    memory_config(&cfg);
    memory_create(&map, &cfg);
    c = host_new(&syscall_ops, SERVER_ID(SERVER_SYSCALL, 0), &map);
    boot(END_NONE);

    request(7);
    request(8);
    poison_run(c->block, ITEM_CONTROL, work, successor);
    assert_int_equal(poison.faults, 3);
    assert_int_equal(poison.item, item_numbered(ITEM_CONTROL, APP, 7));
    poison_copy(c->own);
    assert_int_equal(recv(client, &r, sizeof r, 0), sizeof r);
    assert_int_equal(r.id, 7);
    assert_int_equal(r.result, -EIO);
    /* The other one went to tcp. */
    const struct wiring_entry *e =
        wiring_find(c->own, WIRING_OUT, EDGE_SYSCALL_TCP, SERVER_ID(SERVER_TCP, 0));
    const struct chan_out *out = (const struct chan_out *)(const void *)(c->own->base + e->off);
    assert_true(out->tail >= 1);
    assert_int_equal(recv(client, &r, sizeof r, 0), -1);

    close(served);
    close(client);
    close(kept);
    host_free(c);
    memory_destroy(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(message_is_answered_with_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
