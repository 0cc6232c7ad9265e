/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A TCP socket against the double of tcp: connect, accept, data both ways, the end, errors; blocked
 * threads and their wake-ups.
 */
/* link: eft_sock */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sock_double.h"

#include <netinet/tcp.h>

enum { BULK = 1 << 20 };

static ssize_t put(struct sock *s, const void *buf, size_t len, int flags)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    return stream_send(s, &iov, 1, flags | MSG_NOSIGNAL);
}

static ssize_t get(struct sock *s, void *buf, size_t len, int flags)
{
    struct iovec iov = {buf, len};
    return stream_recv(s, &iov, 1, flags);
}

static void connect_and_accept(void **state)
{
    (void)state;
    int fd[2];
    struct sockaddr_in sa = d_addr(D_PORT), from;
    socklen_t len = sizeof from;
    struct sock *s = d_socket(&fd[0]);
    s->nonblock = 1;
    assert_int_equal(conn_connect(fd[0], s, (struct sockaddr *)&sa, sizeof sa), -EINPROGRESS);
    fd[1] = conn_accept(d_listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);
    assert_true(fd[1] >= 0);
    assert_int_equal(ntohs(from.sin_port), 4000);
    s->nonblock = 0;
    assert_int_equal(conn_connect(fd[0], s, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(conn_connect(fd[0], s, (struct sockaddr *)&sa, sizeof sa), -EISCONN);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void data_flags(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    char buf[32] = "";
    d_pair(fd, s);
    assert_int_equal(get(s[1], buf, 8, MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(put(s[0], "hello, world", 12, 0), 12);
    assert_int_equal(get(s[1], buf, 5, MSG_PEEK), 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(get(s[1], buf, 5, MSG_TRUNC | MSG_WAITALL), 5);
    assert_int_equal(get(s[1], buf, 7, MSG_WAITALL), 7);
    assert_memory_equal(buf, ", world", 7);
    assert_int_equal(stream_fionread(s[1]), 0);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void end_of_stream(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    char buf[8];
    d_pair(fd, s);
    assert_int_equal(put(s[0], "x", 1, 0), 1);
    assert_int_equal(conn_shutdown(s[0], SHUT_WR), 0);
    assert_int_equal(put(s[0], "y", 1, 0), -EPIPE);
    assert_int_equal(get(s[1], buf, 8, 0), 1);
    assert_int_equal(get(s[1], buf, 8, 0), 0);
    assert_int_equal(stream_ready(s[1]) & (POLLIN | POLLOUT | POLLHUP | POLLRDHUP),
                     POLLIN | POLLOUT | POLLRDHUP);
    /* The other direction lives on. */
    assert_int_equal(put(s[1], "z", 1, 0), 1);
    assert_int_equal(get(s[0], buf, 8, 0), 1);
    d_close(fd[1]);
    assert_int_equal(get(s[0], buf, 8, 0), 0);
    assert_int_equal(stream_ready(s[0]) & POLLHUP, POLLHUP);
    d_close(fd[0]);
}

static void reset_after_data(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    char buf[8];
    d_pair(fd, s);
    assert_int_equal(put(s[1], "last", 4, 0), 4);
    assert_int_equal(get(s[0], buf, 4, MSG_PEEK | MSG_WAITALL), 4);
    d_stop();
    d_reset(s[0]->slot, ECONNRESET);
    shm_store(&dbl.stop, false);
    d_run();
    uint32_t all = POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP;
    assert_int_equal(stream_ready(s[0]) & all, all);
    assert_int_equal(get(s[0], buf, 8, 0), 4);
    assert_int_equal(get(s[0], buf, 8, 0), -ECONNRESET);
    assert_int_equal(get(s[0], buf, 8, 0), 0);
    assert_int_equal(put(s[0], "x", 1, 0), -EPIPE);
    assert_int_equal(stream_ready(s[0]) & all, all & ~(uint32_t)POLLERR);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void refused(void **state)
{
    (void)state;
    int fd;
    struct sock *s = d_socket(&fd);
    struct sockaddr_in sa = d_addr(9);
    assert_int_equal(stream_ready(s) & (POLLIN | POLLOUT | POLLHUP), POLLOUT | POLLHUP);
    /* Blocking: an error, and the socket is as new. */
    assert_int_equal(conn_connect(fd, s, (struct sockaddr *)&sa, sizeof sa), -ECONNREFUSED);
    assert_int_equal(stream_ready(s) & (POLLIN | POLLOUT | POLLHUP), POLLOUT | POLLHUP);
    /* In the background: reported once, then 0; the next attempt is told that there was one. */
    s->nonblock = 1;
    assert_int_equal(conn_connect(fd, s, (struct sockaddr *)&sa, sizeof sa), -EINPROGRESS);
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    struct deadline never = {.some = false};
    assert_int_equal(poll_many(&p, 1, &never, false, NULL), 1);
    assert_int_equal(p.revents, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
    int err = 0;
    socklen_t len = sizeof err;
    option_get(fd, s, SOL_SOCKET, SO_ERROR, &err, &len);
    assert_int_equal(err, ECONNREFUSED);
    option_get(fd, s, SOL_SOCKET, SO_ERROR, &err, &len);
    assert_int_equal(err, 0);
    char buf[4];
    assert_int_equal(get(s, buf, 4, 0), 0);
    assert_int_equal(conn_connect(fd, s, (struct sockaddr *)&sa, sizeof sa), -ECONNABORTED);
    assert_int_equal(conn_connect(fd, s, (struct sockaddr *)&sa, sizeof sa), -EINPROGRESS);
    d_close(fd);
}

static uint8_t pattern(uint64_t off)
{
    return (uint8_t)(off * 7 + (off >> 9));
}

static void *sender(void *arg)
{
    struct sock *s = arg;
    static uint8_t data[BULK];
    for (size_t i = 0; i < BULK; i++)
        data[i] = pattern(i);
    /* Much more than the ring holds: blocks and is woken again and again. */
    ssize_t n = put(s, data, BULK, 0);
    conn_shutdown(s, SHUT_WR);
    return (void *)(uintptr_t)(n == BULK);
}

static void bulk_between_blocking_threads(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    d_pair(fd, s);
    pthread_t t;
    pthread_create(&t, NULL, sender, s[0]);
    uint8_t buf[3001];
    size_t total = 0;
    ssize_t n;
    while ((n = get(s[1], buf, 1 + total % sizeof buf, 0)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != pattern(total + (size_t)i))
                fail_msg("byte %zu is wrong", total + (size_t)i);
        total += (size_t)n;
    }
    assert_int_equal(n, 0);
    assert_int_equal(total, BULK);
    void *ok;
    pthread_join(t, &ok);
    assert_non_null(ok);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void ring_grows_under_the_reader(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    uint8_t out[D_BLOCK], in[3 * D_BLOCK];
    d_pair(fd, s);
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = pattern(i);
    assert_int_equal(put(s[0], out, 5000, 0), 5000);
    assert_int_equal(get(s[1], in, 1, MSG_PEEK), 1);
    while (stream_fionread(s[1]) < 5000)
        sched_yield();
    d_meanwhile(d_grow_rx, s[1]->slot);
    assert_int_equal(put(s[0], out, sizeof out, 0), sizeof out);
    assert_int_equal(get(s[1], in, 5000 + sizeof out, MSG_WAITALL), 5000 + sizeof out);
    assert_memory_equal(in, out, 5000);
    assert_memory_equal(in + 5000, out, sizeof out);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void *blocked_reader(void *arg)
{
    char c;
    return (void *)(intptr_t)get(arg, &c, 1, 0);
}

static void shutdown_wakes_a_blocked_reader(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    d_pair(fd, s);
    pthread_t t;
    pthread_create(&t, NULL, blocked_reader, s[1]);
    while (load_acquire(&s[1]->sleepers) == 0)
        sched_yield();
    assert_int_equal(conn_shutdown(s[1], SHUT_RD), 0);
    void *r;
    pthread_join(t, &r);
    assert_int_equal((intptr_t)r, 0);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void time_limit(void **state)
{
    (void)state;
    int fd[2];
    struct sock *s[2];
    char c;
    d_pair(fd, s);
    struct timeval tv = {0, 20000};
    assert_int_equal(option_set(fd[0], s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), 0);
    int64_t start = now_ns();
    assert_int_equal(get(s[0], &c, 1, 0), -EAGAIN);
    assert_true(now_ns() - start >= 20000000);
    d_close(fd[0]);
    d_close(fd[1]);
}

static void slots_come_back(void **state)
{
    (void)state;
    /* More connections than there are slots: only released ones can serve. */
    for (int i = 0; i < 3 * D_SLOTS; i++) {
        int fd[2];
        struct sock *s[2];
        char c = 0;
        d_pair(fd, s);
        assert_int_equal(put(s[0], "a", 1, 0), 1);
        assert_int_equal(get(s[1], &c, 1, 0), 1);
        assert_int_equal(c, 'a');
        d_close(fd[i & 1]);
        d_close(fd[!(i & 1)]);
    }
}

/* Options change faster than the server takes them, then the program waits for input: all the same
 * it learns of the last value, or what TCP_CORK held back would leave 200 ms late. */
static void option_told_before_sleep(void **state)
{
    (void)state;
    int fd[2], on = 1, off = 0;
    struct sock *s[2];
    d_pair(fd, s);
    d_stop();
    d_step();
    const uint32_t before = s[0]->up->req_id;
    const int set = option_set(fd[0], s[0], IPPROTO_TCP, TCP_CORK, &on, sizeof on) |
                    option_set(fd[0], s[0], IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    stream_ready(s[0]);
    const uint32_t at_first = s[0]->up->req_id - before;
    d_step();
    stream_ready(s[0]);
    const uint32_t then = s[0]->up->req_id - before;
    const uint64_t what = s[0]->up->arg0, value = s[0]->up->arg1;
    dbl.stop = false;
    d_run();
    assert_int_equal(set, 0);
    assert_int_equal(at_first, 1);
    assert_int_equal(then, 2);
    assert_int_equal(what, OPT_CORK);
    assert_int_equal(value, 0);
    d_close(fd[0]);
    d_close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_and_accept),
        cmocka_unit_test(data_flags),
        cmocka_unit_test(end_of_stream),
        cmocka_unit_test(reset_after_data),
        cmocka_unit_test(refused),
        cmocka_unit_test(bulk_between_blocking_threads),
        cmocka_unit_test(ring_grows_under_the_reader),
        cmocka_unit_test(shutdown_wakes_a_blocked_reader),
        cmocka_unit_test(time_limit),
        cmocka_unit_test(slots_come_back),
        cmocka_unit_test(option_told_before_sleep),
    };
    return cmocka_run_group_tests(tests, d_setup, d_teardown);
}
