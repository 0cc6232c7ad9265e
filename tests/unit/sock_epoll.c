/* SPDX-License-Identifier: BSD-2-Clause
 *
 * epoll over sockets of the stack and kernel descriptors: levels, edges, ONESHOT, wake-ups. The
 * double is stopped and stepped by hand where an edge is to be seen.
 */
/* link: eft_sock */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sock_double.h"

#include <sys/eventfd.h>

static int epfd;
static struct epoll *ep;
static const struct deadline never = {.some = false};

static int setup(void **state)
{
    int err = d_setup(state);
    epfd = epoll_make(epoll_create1(EPOLL_CLOEXEC));
    ep = epoll_enter(epfd);
    return err;
}

static int look(struct epoll_event *ev, int max)
{
    return epoll_collect(epfd, ep, ev, max, &never, true, NULL);
}

static int control(int op, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};
    return epoll_control(epfd, ep, op, fd, &ev);
}

static void make_pair(int fd[2], struct sock *s[2])
{
    d_pair(fd, s);
    s[0]->nonblock = s[1]->nonblock = 1;
}

static void put(struct sock *s, size_t len)
{
    static char data[2 * D_BLOCK];
    struct iovec iov = {data, len};
    assert_int_equal(stream_send(s, &iov, 1, MSG_DONTWAIT), len);
}

static size_t get(struct sock *s, size_t len)
{
    char data[2 * D_BLOCK];
    struct iovec iov = {data, len};
    ssize_t n = stream_recv(s, &iov, 1, MSG_DONTWAIT);
    return n > 0 ? (size_t)n : 0;
}

static void by_hand(void)
{
    d_stop();
    shm_store(&dbl.stop, false);
}

static void level_reports_as_long_as_it_lasts(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    struct epoll_event ev[4];
    make_pair(fd, s);
    by_hand();
    assert_int_equal(control(EPOLL_CTL_ADD, fd[1], EPOLLIN), 0);
    assert_int_equal(control(EPOLL_CTL_ADD, fd[1], EPOLLIN), -EEXIST);
    assert_int_equal(look(ev, 4), 0);
    put(s[0], 100);
    d_step();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(look(ev, 4), 1);
        assert_int_equal(ev[0].events, EPOLLIN);
        assert_int_equal(ev[0].data.fd, fd[1]);
    }
    assert_int_equal(get(s[1], 100), 100);
    assert_int_equal(look(ev, 4), 0);
    assert_int_equal(control(EPOLL_CTL_DEL, fd[1], 0), 0);
    assert_int_equal(control(EPOLL_CTL_DEL, fd[1], 0), -ENOENT);
    assert_int_equal(control(EPOLL_CTL_MOD, fd[1], EPOLLIN), -ENOENT);
    d_run();
    d_close(fd[0]);
    d_close(fd[1]);
}

static void edges(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    struct epoll_event ev[4];
    make_pair(fd, s);
    by_hand();
    assert_int_equal(control(EPOLL_CTL_ADD, fd[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET), 0);
    /* What is ready at first is an edge. */
    assert_int_equal(look(ev, 4), 1);
    assert_int_equal(ev[0].events, EPOLLOUT);
    assert_int_equal(look(ev, 4), 0);
    /* New data is one even if nothing was read, and it reports all that is ready. */
    for (int i = 0; i < 2; i++) {
        put(s[0], 10);
        d_step();
        assert_int_equal(look(ev, 4), 1);
        assert_int_equal(ev[0].events, EPOLLIN | EPOLLOUT);
        assert_int_equal(look(ev, 4), 0);
    }
    /* Reading is none. */
    assert_int_equal(get(s[1], 5), 5);
    assert_int_equal(look(ev, 4), 0);
    /* MOD arms it again. */
    assert_int_equal(control(EPOLL_CTL_MOD, fd[1], EPOLLIN | EPOLLRDHUP | EPOLLET), 0);
    assert_int_equal(look(ev, 4), 1);
    assert_int_equal(ev[0].events, EPOLLIN);
    /* The end of the stream is one. */
    assert_int_equal(conn_shutdown(s[0], SHUT_WR), 0);
    d_step();
    assert_int_equal(look(ev, 4), 1);
    assert_int_equal(ev[0].events, EPOLLIN | EPOLLRDHUP);
    assert_int_equal(look(ev, 4), 0);
    d_run();
    d_close(fd[0]);
    d_close(fd[1]);
}

static void out_edge_comes_when_a_third_is_free(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    struct epoll_event ev[4];
    make_pair(fd, s);
    by_hand();
    assert_int_equal(control(EPOLL_CTL_ADD, fd[0], EPOLLOUT | EPOLLET), 0);
    assert_int_equal(look(ev, 4), 1);
    /* Fill both rings: the peer does not read. */
    put(s[0], D_BLOCK);
    d_step();
    put(s[0], D_BLOCK);
    d_step();
    struct iovec iov = {ev, 1};
    assert_int_equal(stream_send(s[0], &iov, 1, MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(look(ev, 4), 0);
    assert_int_equal(get(s[1], D_BLOCK / 4), D_BLOCK / 4);
    d_step();
    assert_int_equal(look(ev, 4), 0); /* a quarter is not enough */
    assert_int_equal(get(s[1], D_BLOCK / 4), D_BLOCK / 4);
    d_step();
    assert_int_equal(look(ev, 4), 1);
    assert_int_equal(ev[0].events, EPOLLOUT);
    assert_int_equal(look(ev, 4), 0);
    /* More room without an attempt that failed is no edge. */
    assert_int_equal(get(s[1], D_BLOCK / 4), D_BLOCK / 4);
    d_step();
    assert_int_equal(look(ev, 4), 0);
    d_run();
    d_close(fd[0]);
    d_close(fd[1]);
}

static void oneshot_reports_once(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    struct epoll_event ev[4];
    make_pair(fd, s);
    by_hand();
    assert_int_equal(control(EPOLL_CTL_ADD, fd[1], EPOLLIN | EPOLLONESHOT), 0);
    put(s[0], 10);
    d_step();
    assert_int_equal(look(ev, 4), 1);
    put(s[0], 10);
    d_step();
    assert_int_equal(look(ev, 4), 0);
    assert_int_equal(control(EPOLL_CTL_MOD, fd[1], EPOLLIN | EPOLLONESHOT), 0);
    assert_int_equal(look(ev, 4), 1);
    assert_int_equal(look(ev, 4), 0);
    d_run();
    d_close(fd[0]);
    d_close(fd[1]);
}

static void listener_edge_per_connection(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    struct epoll_event ev[4];
    struct sockaddr_in sa = d_addr(D_PORT);
    assert_int_equal(control(EPOLL_CTL_ADD, d_lfd, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE), 0);
    d_listener->nonblock = 1;
    by_hand();
    d_step();
    assert_int_equal(look(ev, 4), 0);
    for (int i = 0; i < 2; i++) {
        s[i] = d_socket(&fd[i]);
        s[i]->nonblock = 1;
        conn_connect(fd[i], s[i], (struct sockaddr *)&sa, sizeof sa);
        d_step();
        assert_int_equal(look(ev, 4), 1);
        assert_int_equal(ev[0].data.fd, d_lfd);
        assert_int_equal(look(ev, 4), 0);
    }
    int a = conn_accept(d_listener, NULL, NULL, 0), b = conn_accept(d_listener, NULL, NULL, 0);
    assert_true(a >= 0 && b >= 0);
    assert_int_equal(conn_accept(d_listener, NULL, NULL, 0), -EAGAIN);
    assert_int_equal(look(ev, 4), 0);
    assert_int_equal(control(EPOLL_CTL_DEL, d_lfd, 0), 0);
    d_listener->nonblock = 0;
    d_run();
    d_close(a);
    d_close(b);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void closed_socket_leaves_the_set(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    struct epoll_event ev[4];
    make_pair(fd, s);
    assert_int_equal(control(EPOLL_CTL_ADD, fd[1], EPOLLIN | EPOLLOUT), 0);
    assert_int_equal(look(ev, 4), 1);
    int old = fd[1];
    d_close(fd[1]);
    assert_int_equal(look(ev, 4), 0);
    /* The number means another socket now: not registered. */
    int again;
    d_socket(&again);
    assert_int_equal(again, old);
    assert_int_equal(look(ev, 4), 0);
    assert_int_equal(control(EPOLL_CTL_ADD, again, EPOLLOUT), 0);
    assert_int_equal(look(ev, 4), 1);
    assert_int_equal(ev[0].events, EPOLLOUT | EPOLLHUP);
    d_close(again);
    d_close(fd[0]);
}

static void kernel_descriptors_are_not_starved(void **state)
{
    (void)state;
    int fd[2], efd = eventfd(0, EFD_CLOEXEC);
    struct sock *s[2];
    struct epoll_event ev[4], k = {.events = EPOLLIN, .data.fd = efd};
    make_pair(fd, s);
    assert_int_equal(epoll_ctl(epfd, EPOLL_CTL_ADD, efd, &k), 0);
    assert_int_equal(control(EPOLL_CTL_ADD, fd[1], EPOLLOUT), 0);
    uint64_t one = 1;
    assert_int_equal(write(efd, &one, sizeof one), sizeof one);
    bool seen = false;
    for (int i = 0; i < 16 && !seen; i++) {
        int n = epoll_collect(epfd, ep, ev, 4, &never, false, NULL);
        assert_true(n >= 1);
        for (int j = 0; j < n; j++)
            seen |= ev[j].data.fd == efd;
    }
    assert_true(seen);
    assert_int_equal(epoll_ctl(epfd, EPOLL_CTL_DEL, efd, NULL), 0);
    close(efd);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void *wait_once(void *arg)
{
    struct epoll_event *ev = arg;
    return (void *)(intptr_t)epoll_collect(epfd, ep, ev, 1, &never, false, NULL);
}

static void sleepers_wake(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    struct epoll_event ev;
    void *n;
    pthread_t t;
    make_pair(fd, s);
    assert_int_equal(control(EPOLL_CTL_ADD, fd[1], EPOLLIN | EPOLLET), 0);
    for (int i = 0; i < 200; i++) {
        /* By the server's ring. */
        pthread_create(&t, NULL, wait_once, &ev);
        if (i % 2)
            while (load_acquire(&lib.pollers) == 0)
                sched_yield();
        put(s[0], 1);
        pthread_join(t, &n);
        assert_int_equal((intptr_t)n, 1);
        assert_int_equal(ev.events, EPOLLIN);
    }
    /* By another thread's epoll_ctl. */
    pthread_create(&t, NULL, wait_once, &ev);
    while (load_acquire(&lib.pollers) == 0)
        sched_yield();
    assert_int_equal(control(EPOLL_CTL_ADD, fd[0], EPOLLOUT), 0);
    pthread_join(t, &n);
    assert_int_equal((intptr_t)n, 1);
    assert_int_equal(ev.data.fd, fd[0]);
    d_close(fd[0]);
    d_close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(level_reports_as_long_as_it_lasts),
        cmocka_unit_test(edges),
        cmocka_unit_test(out_edge_comes_when_a_third_is_free),
        cmocka_unit_test(oneshot_reports_once),
        cmocka_unit_test(listener_edge_per_connection),
        cmocka_unit_test(closed_socket_leaves_the_set),
        cmocka_unit_test(kernel_descriptors_are_not_starved),
        cmocka_unit_test(sleepers_wake),
    };
    return cmocka_run_group_tests(tests, setup, d_teardown);
}
