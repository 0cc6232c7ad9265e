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
    c->host = &run;
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

static unsigned added, ended, mapped_ack, dones, readies;
static uint32_t done_generation;

static void on_added(struct component *k, unsigned app)
{
    (void)k;
    assert_int_equal(app, APP);
    added++;
}

static void on_gone(struct component *k, unsigned app)
{
    (void)k;
    assert_int_equal(app, APP);
    ended++;
}

static int on_send(struct component *k, const struct rs_message *m, const int *fds, unsigned nfds)
{
    (void)k, (void)fds, (void)nfds;
    mapped_ack += m->op == RS_ACK;
    readies += m->op == RS_READY;
    if (m->op == RS_APP_DONE) {
        assert_int_equal(m->arg, APP);
        done_generation = m->generation;
        dones++;
    }
    return 0;
}

/* A server in its loop, whose component says what it hears. */
static void runs(void)
{
    static const struct component_ops listening = {
        .kind = SERVER_TCP, .name = "tcp", .app_added = on_added, .app_gone = on_gone};
    static struct server_block block;

    c->ops = &listening;
    c->block = &block;
    c->send_rs = on_send;
    run.started = true;
    added = ended = mapped_ack = dones = readies = 0;
}

/* rs was restarted: everything comes again, and only answers come of it. */
static void told_twice(void **state)
{
    int one[2], two[2];
    (void)state;
    runs();
    pair(one);
    pair(two);
    tell(RS_APP, 1, one[0]);
    tell(RS_APP, 1, two[0]);
    assert_int_equal(added, 1);
    assert_int_equal(fcntl(two[0], F_GETFD), -1); /* no descriptor is forgotten */
    assert_int_equal(c->app[APP].bell, one[0]);
    tell(RS_START, 0, -1);
    tell(RS_START, 0, -1);
    assert_int_equal(readies, 2);
    tell(RS_APP_GONE, 1, -1);
    tell(RS_APP_GONE, 1, -1);
    assert_int_equal(ended, 1);
    assert_int_equal(dones, 0); /* the component has not said so */
    run_forget_app(c, APP);
    tell(RS_APP_GONE, 1, -1); /* the rs that heard of it has died */
    assert_int_equal(dones, 1);
    assert_int_equal(done_generation, 1);
    close(one[1]);
    close(two[1]);
}

/* An order about an earlier life of a number does not touch the present one. */
static void told_of_an_earlier_life(void **state)
{
    int one[2];
    (void)state;
    runs();
    pair(one);
    tell(RS_APP, 5, one[0]);
    tell(RS_APP_GONE, 4, -1);
    assert_int_equal(ended, 0);
    assert_int_equal(dones, 1);
    assert_int_equal(done_generation, 4);
    assert_true(c->app[APP].used && !c->app[APP].gone);
    close(one[1]);
}

static void own_bell_is_taken_once(void **state)
{
    int one[2];
    (void)state;
    pair(one);
    tell(RS_BELL_SELF, 0, one[0]);
    tell(RS_BELL_SELF, 0, one[1]);
    assert_int_equal(run.bell, one[0]);
    close(one[0]);
    close(one[1]); /* still the caller's */
}

static int new_region(uint32_t generation)
{
    const int fd = region_create("test", 4096);
    void *base = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    assert_true(fd >= 0 && base != MAP_FAILED);
    region_format(base, REGION_OF_APP(APP, APP_UP), SERVER_RS, 4096, generation, 0);
    munmap(base, 4096);
    return fd;
}

static void tell_region(enum rs_op op, uint32_t generation, int fd)
{
    static uint64_t number;
    const struct rs_message m = {.op = op,
                                 .to = (uint8_t)c->id,
                                 .id = REGION_OF_APP(APP, APP_UP),
                                 .generation = generation,
                                 .map_generation = ++number};
    int fds[RS_FDS] = {fd, -1, -1, -1, -1, -1, -1, -1};

    handle(&run, &m, fds);
    assert_int_equal(c->block->map_generation, number); /* whatever comes is acknowledged */
    if (fds[0] >= 0)
        close(fds[0]);
}

static void region_is_mapped_once(void **state)
{
    struct region *r = &c->map->entry[REGION_OF_APP(APP, APP_UP)];

    (void)state;
    runs();
    *r = (struct region){0};
    int fd = new_region(3);
    tell_region(RS_REGION, 3, dup(fd));
    const void *at = r->base;
    assert_non_null(at);
    tell_region(RS_REGION, 3, fd);
    assert_ptr_equal(r->base, at);
    tell_region(RS_UNMAP, 2, -1); /* an earlier life's */
    assert_ptr_equal(r->base, at);
    tell_region(RS_REGION, 4, new_region(4)); /* the number's next life */
    assert_int_equal(r->generation, 4);
    tell_region(RS_UNMAP, 3, -1);
    assert_non_null(r->base);
    tell_region(RS_UNMAP, 4, -1);
    assert_null(r->base);
    tell_region(RS_UNMAP, 4, -1);
    assert_int_equal(mapped_ack, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(number_is_used_again, begin, end),
        cmocka_unit_test_setup_teardown(told_twice, begin, end),
        cmocka_unit_test_setup_teardown(told_of_an_earlier_life, begin, end),
        cmocka_unit_test_setup_teardown(own_bell_is_taken_once, begin, end),
        cmocka_unit_test_setup_teardown(region_is_mapped_once, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
