/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What rs tells the run loop about applications: a number that is used again begins anew.
 */
/* link: eft_run */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "servers/run/orders.c"

#include <fcntl.h>
#include <stdlib.h>

enum { APP = 3 };

static const struct component_ops ops = {.kind = SERVER_TCP, .name = "tcp"};
static struct run run;
static struct component *c;
static struct up_region *up;

static int begin(void **state)
{
    (void)state;
    c = calloc(1, sizeof *c);
    c->map = calloc(1, sizeof *c->map);
    up = calloc(1, sizeof *up);
    c->ops = &ops;
    c->id = SERVER_ID(SERVER_TCP, 0);
    c->map->entry[REGION_OF_APP(APP, APP_UP)].base = (uint8_t *)up;
    for (unsigned i = 0; i < WAITERS_MAX; i++)
        c->app[APP].waiter[i].fd = -1;
    c->app[APP].bell = -1;
    run = (struct run){
        .component = {c}, .count = 1, .bell = -1, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    return 0;
}

static int end(void **state)
{
    (void)state;
    run_forget_app(c, APP);
    free(up);
    free(c->map);
    free(c);
    close(run.epoll);
    return 0;
}

static void tell(enum rs_op op, uint32_t generation, int fd)
{
    const struct rs_message m = {
        .op = op, .to = (uint8_t)c->id, .arg = APP, .generation = generation};
    int fds[RS_FDS] = {fd, -1};
    for (unsigned i = 1; i < RS_FDS; i++)
        fds[i] = -1;
    handle(&run, &m, fds);
}

static void pair(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
}

/* How often the waiter at the other end was rung. */
static unsigned rings(int fd)
{
    char byte;
    unsigned n = 0;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0)
        n++;
    return n;
}

/* A waiter that is armed for the first time, in the first life of the number and in the next. */
static void first_waiter(uint32_t generation, int told_by[2], bool done_between)
{
    int bell[2], waiter[2];
    pair(bell);
    pair(waiter);
    memset(up, 0, sizeof *up);
    tell(RS_APP, generation, bell[0]);
    tell(RS_WAITER, generation, waiter[0]);
    assert_int_equal(rings(waiter[1]), 1); /* the ring of the announcement */
    up->waiter[0].socket = 7;
    up->waiter[0].armed = 1;
    component_ring_apps(c, &(struct app_ring){APP, 8}, 1);
    assert_int_equal(rings(waiter[1]), 0);
    const struct app_ring twice[] = {{APP, 7}, {APP, 7}};
    component_ring_apps(c, twice, 2);
    assert_int_equal(rings(waiter[1]), 1);
    if (done_between)
        run_forget_app(c, APP);
    told_by[0] = bell[1];
    told_by[1] = waiter[1];
}

static void number_is_used_again(void **state)
{
    int one[2], two[2], three[2];
    (void)state;
    first_waiter(1, one, true);
    first_waiter(2, two, false);
    first_waiter(3, three, false);
    assert_int_equal(c->app[APP].generation, 3);
    for (unsigned i = 0; i < 2; i++) {
        close(one[i]);
        close(two[i]);
        close(three[i]);
    }
}

static void told_twice(void **state)
{
    int one[2], two[2];
    (void)state;
    pair(one);
    pair(two);
    tell(RS_APP, 1, one[0]);
    tell(RS_APP, 1, two[0]);
    assert_int_equal(fcntl(one[0], F_GETFD), -1); /* no descriptor is forgotten */
    assert_int_equal(c->app[APP].bell, two[0]);
    close(one[1]);
    close(two[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(number_is_used_again, begin, end),
        cmocka_unit_test_setup_teardown(told_twice, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
