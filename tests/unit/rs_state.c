/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What rs finds again after its death: parked descriptors in their order, records, and which of
 * them it does not believe.
 */
/* link: eft_rs */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recovery/rs/fdstore.h"
#include "recovery/rs/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* In the place of eft-keeper: takes every message, keeps no descriptor. */
static int store_socket;

static void store_begins(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const int big = 1 << 20;

    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/eft-rs-state.%d", getpid());
    unlink(a.sun_path);
    store_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(bind(store_socket, (struct sockaddr *)&a, sizeof a) == 0);
    setsockopt(store_socket, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    setenv("NOTIFY_SOCKET", a.sun_path, 1);
    fdstore_open();
}

/* How many messages came, with their descriptors. */
static unsigned store_heard(void)
{
    char text[256];
    unsigned n = 0;

    while (recv(store_socket, text, sizeof text, MSG_DONTWAIT) > 0)
        n++;
    return n;
}

static void store_ends(void)
{
    unlink(getenv("NOTIFY_SOCKET"));
    unsetenv("NOTIFY_SOCKET");
    close(store_socket);
    fdstore_open();
}

static ino_t inode(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static void without_a_store_nothing_is_parked(void **state)
{
    const struct parked what = {.kind = PARK_APP};
    const int fd = STDIN_FILENO;
    struct parked found;
    struct park p;
    int fds[PARK_FDS];

    (void)state;
    assert_false(fdstore_there());
    assert_int_equal(park_open(&p, "x"), 0);
    assert_int_equal(p.in, -1);
    assert_int_equal(park_put(&p, &what, &fd, 1), 0);
    park_rewind(&p);
    assert_int_equal(park_next(&p, &found, fds), 0);
    park_clear(&p);
    park_close(&p);
}

static void parked_is_found_in_order_by_whoever_has_the_pair(void **state)
{
    enum { N = 70, EACH = 12 };
    struct park p, other;
    struct parked found;
    ino_t expected[EACH];
    int made[EACH], fds[PARK_FDS];

    (void)state;
    store_begins();
    assert_int_equal(park_open(&p, "tcp0.0"), 0);
    assert_int_equal(store_heard(), 2); /* both ends, once and for all */
    for (unsigned i = 0; i < EACH; i++) {
        made[i] = memfd_create("parked", MFD_CLOEXEC);
        expected[i] = inode(made[i]);
    }
    for (uint32_t n = 0; n < N; n++) {
        const struct parked what = {.kind = PARK_WAITER, .generation = 5, .number = n, .pid = -7};
        assert_int_equal(park_put(&p, &what, made + n % EACH, 1 + (EACH - 1 - n % EACH)), 0);
    }
    for (unsigned i = 0; i < EACH; i++)
        close(made[i]);
    assert_int_equal(store_heard(), 0);
    /* we die, the store has duplicates */
    other = (struct park){.in = dup(p.in), .out = dup(p.out)};
    park_close(&p);
    for (unsigned look = 0; look < 3; look++) {
        park_rewind(&other);
        for (uint32_t n = 0; n < N; n++) {
            const int got = park_next(&other, &found, fds);
            assert_int_equal(got, EACH - n % EACH);
            assert_int_equal(found.kind, PARK_WAITER);
            assert_int_equal(found.generation, 5);
            assert_int_equal(found.number, n);
            assert_int_equal(found.pid, -7);
            for (int i = 0; i < got; i++) {
                assert_int_equal(inode(fds[i]), expected[n % EACH + (unsigned)i]);
                assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
                close(fds[i]);
            }
        }
        assert_int_equal(park_next(&other, &found, fds), 0);
    }
    park_clear(&other);
    park_rewind(&other);
    assert_int_equal(park_next(&other, &found, fds), 0);
    const int fd = STDIN_FILENO;
    assert_int_equal(park_put(&other, &(struct parked){.kind = PARK_APP}, &fd, 1), 0);
    assert_int_equal(park_next(&other, &found, fds), 1);
    assert_int_equal(found.kind, PARK_APP);
    close(fds[0]);
    park_close(&other);
    store_ends();
}

static struct rs *new_rs(void)
{
    struct rs *rs = calloc(1, sizeof *rs);

    assert_non_null(rs);
    rs->state_fd = -1;
    return rs;
}

/* What the next rs has: another life, the same region. */
static struct rs *next_life(struct rs *rs)
{
    struct rs *next = new_rs();
    const int fd = dup(rs->state_fd);

    state_close(rs);
    free(rs);
    assert_int_equal(state_open(next, fd), 0);
    return next;
}

static void records_are_found_in_the_next_life(void **state)
{
    struct rs *rs = new_rs();
    struct application a = {.number = 17,
                            .state = APP_LIVE,
                            .generation = 9,
                            .uid = 1000,
                            .pid = 4711,
                            .cookie = 77,
                            .request_id = 5};
    struct incarnation who = {.pid = 4712};
    struct state_stack stack;
    struct state_app app;
    pid_t running;

    (void)state;
    store_begins();
    assert_int_equal(state_open(rs, -1), 0);
    assert_int_equal(state_load_stack(rs, &stack), -ENOENT);
    assert_int_equal(state_load_app(rs, 17, &app), -ENOENT);
    rs->lives = 3;
    rs->up = rs->complete = true;
    state_save_stack(rs);
    strcpy(rs->process[2].name, "tcp0");
    rs->process[2].running = &who;
    rs->process[2].restarts = 12;
    rs->process[2].end = END_FAULT;
    rs->process[2].policy.faults = 4;
    state_save_role(rs, &rs->process[2]);
    a.waiter[63].waiting = a.waiter[1].waiting = true;
    a.done[1] = true;
    state_save_app(rs, &a);

    rs = next_life(rs);
    assert_int_equal(state_load_stack(rs, &stack), 0);
    assert_true(stack.lives == 3 && stack.up && stack.complete && !stack.stopping);
    strcpy(rs->process[2].name, "tcp0");
    assert_int_equal(state_load_role(rs, &rs->process[2], &running), 0);
    assert_int_equal(running, 4712);
    assert_int_equal(rs->process[2].restarts, 12);
    assert_int_equal(rs->process[2].end, END_FAULT);
    assert_int_equal(rs->process[2].policy.faults, 4);
    assert_int_equal(state_load_role(rs, &rs->process[3], &running), -ENOENT);
    assert_int_equal(running, 0);
    assert_int_equal(state_load_app(rs, 17, &app), 0);
    assert_true(app.state == APP_LIVE && app.generation == 9 && app.uid == 1000);
    assert_true(app.pid == 4711 && app.cookie == 77 && app.request_id == 5);
    assert_true(app.waiting == (1ull << 63 | 2) && !app.done[0] && app.done[1]);
    state_close(rs);
    free(rs);
    store_ends();
}

static void damage_is_not_believed(void **state)
{
    struct rs *rs = new_rs();
    struct application a = {.number = 0, .state = APP_LIVE, .generation = 1};
    struct state_app app;
    pid_t running;

    (void)state;
    store_begins();
    assert_int_equal(state_open(rs, -1), 0);
    state_save_app(rs, &a);
    struct store_slot *slot = (struct store_slot *)(void *)(rs->state[STATE_APP].base + 64 + 64 +
                                                            rs->state[STATE_APP].slot);
    ((struct state_app *)(void *)(slot + 1))->pid++;
    assert_int_equal(state_load_app(rs, 0, &app), -EPROTO);
    a.state = (enum app_state)9; /* whole, and nothing that can be */
    state_save_app(rs, &a);
    assert_int_equal(state_load_app(rs, 0, &app), -EPROTO);
    /* another role's: the configuration is not what the records are about */
    strcpy(rs->process[1].name, "udp0");
    state_save_role(rs, &rs->process[1]);
    strcpy(rs->process[1].name, "tcp0");
    assert_int_equal(state_load_role(rs, &rs->process[1], &running), -EPROTO);

    struct rs *next = new_rs();
    memset(rs->state[STATE_ROLE].base, 0, 64); /* a table that is not one of ours */
    assert_int_equal(state_open(next, dup(rs->state_fd)), -EPROTO);
    state_close(next);
    const int small = memfd_create("state", MFD_CLOEXEC);
    assert_int_equal(state_open(next, small), -EPROTO);
    state_close(next);
    state_close(rs);
    free(next);
    free(rs);
    store_ends();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_store_nothing_is_parked),
        cmocka_unit_test(parked_is_found_in_order_by_whoever_has_the_pair),
        cmocka_unit_test(records_are_found_in_the_next_life),
        cmocka_unit_test(damage_is_not_believed),
    };

    unsetenv("NOTIFY_SOCKET");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
