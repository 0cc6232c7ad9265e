/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The control plane: what is decided about a message, and the server around it with real sockets.
 * The test plays rs, tcp, udp and the clients; readiness comes from poll() without waiting.
 */
/* link: eft_harness eft_syscall */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libchan/edge/control.h"
#include "libchan/edge/syscall_ctl.h"
#include "servers/syscall/decide.h"
#include "servers/syscall/syscall.h"
#include "tests/harness/host.h"
#include "tests/harness/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- decide --- */

static void test_decide(void **state)
{
    static const struct {
        const char *what;
        uint32_t version, op, arg;
        size_t len;
        uint32_t uid;
        bool attached;
        enum control_action action;
        int result;
        bool garbage;
    } cases[] = {
        {"attach", 1, CONTROL_ATTACH, 0, 24, 1000, false, CONTROL_DO_ATTACH, 0, false},
        {"attach, not listed", 1, CONTROL_ATTACH, 0, 24, 1001, false, CONTROL_DO_REPLY, -EACCES,
         false},
        {"attach, root", 1, CONTROL_ATTACH, 0, 24, 0, false, CONTROL_DO_ATTACH, 0, false},
        {"attach again", 1, CONTROL_ATTACH, 0, 24, 1000, true, CONTROL_DO_ATTACH, 0, false},
        {"old version", 0, CONTROL_ATTACH, 0, 24, 0, false, CONTROL_DO_REPLY, -EPROTONOSUPPORT,
         true},
        {"new version, longer", 2, 9, 0, 80, 0, false, CONTROL_DO_REPLY, -EPROTONOSUPPORT, true},
        {"too long", 1, CONTROL_ATTACH, 0, 25, 0, false, CONTROL_DO_REPLY, -EINVAL, true},
        {"too short", 1, CONTROL_ATTACH, 0, 23, 0, false, CONTROL_DO_REPLY, -EINVAL, true},
        {"one byte", 1, 0, 0, 1, 0, false, CONTROL_DO_REPLY, -EINVAL, true},
        {"no such op", 1, 77, 0, 24, 0, true, CONTROL_DO_REPLY, -EINVAL, true},
        {"waiter", 1, CONTROL_WAITER, 63, 24, 1000, true, CONTROL_DO_WAITER, 0, false},
        {"waiter 0", 1, CONTROL_WAITER, 0, 24, 1000, true, CONTROL_DO_REPLY, -EINVAL, true},
        {"waiter 64", 1, CONTROL_WAITER, 64, 24, 1000, true, CONTROL_DO_REPLY, -EINVAL, true},
        {"waiter of nobody", 1, CONTROL_WAITER, 1, 24, 1000, false, CONTROL_DO_REPLY, -EINVAL,
         true},
        {"port", 1, CONTROL_PORT, 80, 24, 0, true, CONTROL_DO_GRANT, 0, false},
        {"port, listed", 1, CONTROL_PORT, 0x10035, 24, 1000, true, CONTROL_DO_GRANT, 0, false},
        {"port, not listed", 1, CONTROL_PORT, 80, 24, 1001, true, CONTROL_DO_REPLY, -EACCES, false},
        {"port of everybody", 1, CONTROL_PORT, 8080, 24, 1001, true, CONTROL_DO_REPLY, 0, false},
        {"port 0", 1, CONTROL_PORT, 0, 24, 0, true, CONTROL_DO_REPLY, -EINVAL, true},
        {"port, more bits", 1, CONTROL_PORT, 0x20050, 24, 0, true, CONTROL_DO_REPLY, -EINVAL, true},
        {"port of nobody", 1, CONTROL_PORT, 80, 24, 0, false, CONTROL_DO_REPLY, -EINVAL, true},
    };
    struct stack_config cfg = {.users = 1, .user = {1000}};

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct control_request q = {
            .version = cases[i].version, .op = cases[i].op, .id = 5, .arg = cases[i].arg};
        struct control_decision d;
        const size_t size = cases[i].len < sizeof q ? cases[i].len : sizeof q;

        control_decide(&cfg, &q, size, cases[i].len, cases[i].uid, cases[i].attached, &d);
        if (d.action != cases[i].action || d.garbage != cases[i].garbage ||
            (d.action == CONTROL_DO_REPLY && d.reply.result != cases[i].result))
            fail_msg("%s: action %d result %d garbage %d", cases[i].what, d.action, d.reply.result,
                     d.garbage);
        assert_int_equal(d.reply.id, size >= 16 ? 5 : 0);
    }
}

/* --- the server --- */

enum { WATCHED = 4096, SENT_MAX = 64 };

static struct {
    struct stack_config cfg;
    struct region_map map;
    struct component *c;
    uint64_t now;
    bool watched[WATCHED];
    /* what rs got */
    struct rs_message sent[SENT_MAX];
    int sent_fd[SENT_MAX];
    unsigned n_sent;
    int rs_result;
    char path[108];
    struct chan_rx tcp_from, udp_from;
    struct chan_tx tcp_to, udp_to;
} w;

static int watch(struct component *c, int fd, uint32_t events)
{
    (void)c, (void)events;
    assert_in_range(fd, 0, WATCHED - 1);
    w.watched[fd] = true;
    return 0;
}

static int unwatch(struct component *c, int fd)
{
    (void)c;
    w.watched[fd] = false;
    return 0;
}

static int send_rs(struct component *c, const struct rs_message *m, const int *fds, unsigned nfds)
{
    (void)c;
    if (w.rs_result != 0)
        return w.rs_result;
    assert_in_range(w.n_sent, 0, SENT_MAX - 1);
    w.sent[w.n_sent] = *m;
    w.sent_fd[w.n_sent++] = nfds > 0 ? dup(fds[0]) : -1;
    return 0;
}

static void settle(void)
{
    for (unsigned round = 0; round < 200; round++) {
        bool any = component_turn(w.c, w.now) != 0;

        for (int fd = 0; fd < WATCHED; fd++) {
            struct pollfd p = {.fd = fd, .events = POLLIN};

            if (!w.watched[fd] || poll(&p, 1, 0) <= 0)
                continue;
            w.c->ops->ready(w.c, fd, (uint32_t)p.revents, w.now);
            any = true;
        }
        if (!any && !w.c->ops->pending(w.c))
            return;
    }
    fail_msg("the server does not come to rest");
}

static uint64_t counter(enum syscall_counter n)
{
    return w.c->block->counter[n];
}

static void boot(void)
{
    const server_id id = SERVER_ID(SERVER_SYSCALL, 0);

    memset(w.watched, 0, sizeof w.watched);
    w.c = host_new(&syscall_ops, id, &w.map);
    w.c->watch = watch;
    w.c->unwatch = unwatch;
    w.c->send_rs = send_rs;
}

static void say_listen(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    static unsigned serial;
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    /* A name of our own in the abstract space: nothing to clean up. */
    snprintf(w.path, sizeof w.path, "eft-test-%d-%u", getpid(), serial++);
    memcpy(a.sun_path + 1, w.path, strlen(w.path));
    assert_int_equal(bind(fd, (struct sockaddr *)&a,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(w.path))),
                     0);
    assert_int_equal(listen(fd, 64), 0);
    int fds[RS_FDS] = {fd, -1, -1, -1, -1, -1, -1, -1};
    const struct rs_message m = {.op = RS_LISTEN, .nfds = 1};
    w.c->ops->message(w.c, &m, fds);
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    memory_config(&w.cfg);
    memory_create(&w.map, &w.cfg);
    const server_id ctl = SERVER_ID(SERVER_SYSCALL, 0), tcp = SERVER_ID(SERVER_TCP, 0),
                    udp = SERVER_ID(SERVER_UDP, 0);
    struct region *rc = &w.map.entry[REGION_OF_SERVER(ctl)];
    struct region *rt = &w.map.entry[REGION_OF_SERVER(tcp)];
    struct region *ru = &w.map.entry[REGION_OF_SERVER(udp)];
    assert_int_equal(chan_rx_attach(&w.tcp_from, rt, rc, EDGE_SYSCALL_TCP, tcp, ctl, NULL), 0);
    assert_int_equal(chan_rx_attach(&w.udp_from, ru, rc, EDGE_SYSCALL_UDP, udp, ctl, NULL), 0);
    assert_int_equal(chan_tx_attach(&w.tcp_to, rt, rc, EDGE_TCP_SYSCALL, tcp, ctl, 1, NULL), 0);
    assert_int_equal(chan_tx_attach(&w.udp_to, ru, rc, EDGE_UDP_SYSCALL, udp, ctl, 1, NULL), 0);
    boot();
    say_listen(); /* rs speaks before the start */
    assert_int_equal(host_start(w.c, w.now, END_NONE), 0);
    return 0;
}

/* All descriptors of the server, as its death closes them. */
static void kill_server(void)
{
    for (int fd = 0; fd < WATCHED; fd++)
        if (w.watched[fd])
            close(fd);
    host_free(w.c);
}

static int teardown(void **state)
{
    (void)state;
    kill_server();
    for (unsigned i = 0; i < w.n_sent; i++)
        if (w.sent_fd[i] >= 0)
            close(w.sent_fd[i]);
    memory_destroy(&w.map);
    return 0;
}

static int client(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(a.sun_path + 1, w.path, strlen(w.path));
    assert_int_equal(
        connect(fd, (struct sockaddr *)&a,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(w.path))),
        0);
    return fd;
}

static void request(int fd, uint32_t op, uint64_t id, uint32_t arg)
{
    const struct control_request q = {.version = CONTROL_VERSION, .op = op, .id = id, .arg = arg};

    assert_int_equal(send(fd, &q, sizeof q, MSG_NOSIGNAL), sizeof q);
}

/* The next reply's result; the connection's end is -EPIPE, nothing there is -EAGAIN. */
static int reply_of(int fd, uint64_t id)
{
    struct control_reply r;
    const ssize_t n = recv(fd, &r, sizeof r, MSG_DONTWAIT);

    if (n == 0)
        return -EPIPE;
    if (n < 0)
        return -errno;
    assert_int_equal(n, sizeof r);
    assert_int_equal(r.id, id);
    return r.result;
}

/* rs's part of an attach: a descriptor of the same socket comes back. */
static void say_client(unsigned app, uint32_t generation, int fd)
{
    int fds[RS_FDS] = {dup(fd), -1, -1, -1, -1, -1, -1, -1};
    const struct rs_message m = {.op = RS_CLIENT, .arg = app, .generation = generation, .nfds = 1};

    w.c->ops->message(w.c, &m, fds);
}

static int attached_client(unsigned app)
{
    const int fd = client();

    request(fd, CONTROL_ATTACH, 1, 0);
    settle();
    assert_int_equal(w.sent[w.n_sent - 1].op, RS_APP_NEW);
    say_client(app, 1, w.sent_fd[w.n_sent - 1]);
    settle();
    return fd;
}

static void test_attach(void **state)
{
    (void)state;
    const int fd = client();
    request(fd, CONTROL_ATTACH, 42, 0);
    request(fd, CONTROL_WAITER, 43, 5); /* sent before the answer: waits for it */
    settle();
    assert_int_equal(w.n_sent, 1);
    assert_int_equal(w.sent[0].op, RS_APP_NEW);
    assert_int_equal(w.sent[0].request_id, 42);
    assert_int_equal(w.sent[0].pid, getpid());
    say_client(7, 3, w.sent_fd[0]);
    settle();
    assert_int_equal(w.n_sent, 2);
    assert_int_equal(w.sent[1].op, RS_APP_WAITER);
    assert_int_equal(w.sent[1].arg, 7);
    assert_int_equal(w.sent[1].generation, 3);
    assert_int_equal(w.sent[1].id, 5);
    assert_int_equal(w.sent[1].request_id, 43);
    assert_int_equal(counter(SYSCALL_CLIENTS), 1);
    close(fd);
    settle();
    assert_int_equal(counter(SYSCALL_CLIENTS), 0); /* whoever else holds our end of it */
}

static void test_attach_refused(void **state)
{
    (void)state;
    const int fd = client();
    request(fd, CONTROL_ATTACH, 42, 0);
    settle();
    struct rs_message m = w.sent[0];
    const int none[RS_FDS] = {-1, -1, -1, -1, -1, -1, -1, -1};
    m.op = RS_REFUSED;
    m.result = -EUSERS;
    m.request_id = 41; /* of somebody else */
    w.c->ops->message(w.c, &m, none);
    assert_int_equal(reply_of(fd, 0), -EAGAIN);
    m.request_id = 42;
    w.c->ops->message(w.c, &m, none);
    assert_int_equal(reply_of(fd, 42), -EUSERS);
    request(fd, CONTROL_ATTACH, 44, 0); /* may try again */
    settle();
    assert_int_equal(w.n_sent, 2);
    close(fd);
}

static void grant_from(struct chan_rx *rx, struct chan_tx *tx, uint16_t port, int result)
{
    const struct syscall_request *q = chan_rx_peek(rx);
    void *slot;

    assert_non_null(q);
    assert_int_equal(q->op, SYSCALL_GRANT_PORT);
    assert_int_equal(q->port, port);
    const struct syscall_reply r = {.result = result, .client = q->client, .id = q->id};
    assert_int_equal(chan_tx_reserve(tx, rx->number, chan_rx_index(rx), 0, &slot), CHAN_OK);
    memcpy((uint8_t *)slot + 16, (const uint8_t *)&r + 16, sizeof r - 16);
    chan_tx_commit(tx);
    chan_tx_publish(tx);
    chan_rx_next(rx);
    chan_rx_release(rx);
}

static void test_port(void **state)
{
    (void)state;
    const int fd = attached_client(0);
    request(fd, CONTROL_PORT, 10, 80);
    request(fd, CONTROL_PORT, 11, 0x10000 | 53);
    settle();
    assert_int_equal(reply_of(fd, 0), -EAGAIN); /* not before the server has it */
    grant_from(&w.udp_from, &w.udp_to, 53, 0);
    settle();
    assert_int_equal(reply_of(fd, 11), 0);
    grant_from(&w.tcp_from, &w.tcp_to, 80, -ESRCH);
    settle();
    assert_int_equal(reply_of(fd, 10), -ESRCH);
    request(fd, CONTROL_PORT, 12, 8080);
    settle();
    assert_int_equal(reply_of(fd, 12), 0);
    close(fd);
}

/* The credentials of each message count, not who once connected. */
static void test_port_by_message_credentials(void **state)
{
    (void)state;
    if (getuid() != 0)
        skip();
    const int fd = attached_client(0);
    const struct control_request q = {
        .version = CONTROL_VERSION, .op = CONTROL_PORT, .id = 20, .arg = 80};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct ucred))];
    } control = {.space = {0}};
    struct iovec iov = {.iov_base = (void *)&q, .iov_len = sizeof q};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    const struct ucred nobody = {.pid = getpid(), .uid = 65534, .gid = 65534};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_CREDENTIALS;
    h->cmsg_len = CMSG_LEN(sizeof nobody);
    memcpy(CMSG_DATA(h), &nobody, sizeof nobody);
    assert_int_equal(sendmsg(fd, &msg, 0), sizeof q);
    settle();
    assert_int_equal(reply_of(fd, 20), -EACCES);
    assert_null(chan_rx_peek(&w.tcp_from));
    close(fd);
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < WATCHED; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_garbage_and_hostility(void **state)
{
    char big[3000] = {0};

    (void)state;
    const int good = attached_client(0);
    const int bad = client();
    for (unsigned i = 0; i < 40; i++) {
        if (send(bad, big, 1 + i * 70, MSG_NOSIGNAL) < 0)
            break;
        settle();
    }
    assert_int_equal(counter(SYSCALL_GARBAGE), 16);
    /* Told each time, then dropped. */
    int replies = 0;
    struct control_reply r;
    while (recv(bad, &r, sizeof r, MSG_DONTWAIT) == (ssize_t)sizeof r)
        replies++;
    assert_int_equal(replies, 16);
    close(bad);

    /* Descriptors that nobody asked for do not get in. */
    const int passer = client();
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(8 * sizeof(int))];
    } control = {.space = {0}};
    struct iovec iov = {.iov_base = big, .iov_len = 10};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(8 * sizeof(int));
    for (unsigned i = 0; i < 8; i++)
        memcpy(CMSG_DATA(h) + i * sizeof(int), &good, sizeof(int));
    settle();
    const unsigned before = open_descriptors();
    assert_int_equal(sendmsg(passer, &msg, 0), 10);
    settle();
    assert_int_equal(reply_of(passer, 0), -EPROTONOSUPPORT);
    assert_int_equal(open_descriptors(), before);
    close(passer);

    /* The other client has not noticed. */
    request(good, CONTROL_PORT, 9, 8080);
    settle();
    assert_int_equal(reply_of(good, 9), 0);
    close(good);
}

static void test_client_that_does_not_read_is_dropped(void **state)
{
    const struct control_request q = {
        .version = CONTROL_VERSION, .op = CONTROL_PORT, .id = 1, .arg = 8080};

    (void)state;
    const int deaf = attached_client(0);
    const int good = attached_client(1);
    for (unsigned i = 0; i < 100000 && counter(SYSCALL_DROPPED) == 0; i++) {
        if (send(deaf, &q, sizeof q, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EPIPE)
            break;
        settle();
    }
    assert_int_equal(counter(SYSCALL_DROPPED), 1);
    request(good, CONTROL_PORT, 9, 8080);
    settle();
    assert_int_equal(reply_of(good, 9), 0);
    close(deaf);
    close(good);
}

static void test_silent_newcomers_make_room(void **state)
{
    static int fd[400];

    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        fd[i] = client();
        settle();
    }
    assert_int_equal(counter(SYSCALL_CLIENTS), 256);
    assert_int_equal(reply_of(fd[0], 0), -EPIPE);
    request(fd[399], CONTROL_ATTACH, 5, 0);
    settle();
    assert_int_equal(w.n_sent, 1);
    for (unsigned i = 0; i < 400; i++)
        close(fd[i]);
    settle();
    assert_int_equal(counter(SYSCALL_CLIENTS), 1); /* the one that rs has */
}

static void test_rs_is_busy(void **state)
{
    (void)state;
    const int fd = client();
    w.rs_result = -EAGAIN;
    request(fd, CONTROL_ATTACH, 5, 0);
    for (unsigned i = 0; i < 10; i++)
        component_turn(w.c, w.now);
    for (int i = 0; i < WATCHED; i++) {
        struct pollfd p = {.fd = i, .events = POLLIN};
        if (w.watched[i] && poll(&p, 1, 0) > 0)
            w.c->ops->ready(w.c, i, POLLIN, w.now);
    }
    for (int i = 0; i < WATCHED; i++) {
        struct pollfd p = {.fd = i, .events = POLLIN};
        if (w.watched[i] && poll(&p, 1, 0) > 0)
            w.c->ops->ready(w.c, i, POLLIN, w.now);
    }
    assert_int_equal(w.n_sent, 0);
    assert_int_not_equal(w.c->ops->deadline(w.c), NEVER);
    w.rs_result = 0;
    settle();
    assert_int_equal(w.n_sent, 1);
    assert_int_equal(w.sent[0].request_id, 5);
    assert_int_equal(w.c->ops->deadline(w.c), NEVER);
    close(fd);
}

/* A request that was looked at and not consumed is there for the successor; answers that were not
 * released come again. */
static void test_restart_keeps_clients_and_requests(void **state)
{
    (void)state;
    const int fd = attached_client(4);
    const int keep = w.sent_fd[0];
    request(fd, CONTROL_PORT, 10, 80);
    settle();
    request(fd, CONTROL_PORT, 11, 81); /* not yet looked at */
    kill_server();
    grant_from(&w.tcp_from, &w.tcp_to, 80, 0);
    boot();
    say_listen();
    say_client(4, 1, keep);
    assert_int_equal(host_start(w.c, w.now, END_KILLED), 0);
    settle();
    assert_int_equal(reply_of(fd, 10), 0);
    grant_from(&w.tcp_from, &w.tcp_to, 81, 0);
    settle();
    assert_int_equal(reply_of(fd, 11), 0);
    assert_int_equal(counter(SYSCALL_CLIENTS), 1);
    close(fd);
}

static void test_app_gone(void **state)
{
    (void)state;
    const int fd = attached_client(4);
    host_app_gone(w.c, 4);
    assert_true(host_app_done(w.c, 4));
    assert_int_equal(counter(SYSCALL_CLIENTS), 0);
    close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decide),
        T(test_attach),
        T(test_attach_refused),
        T(test_port),
        T(test_port_by_message_credentials),
        T(test_garbage_and_hostility),
        T(test_client_that_does_not_read_is_dropped),
        T(test_silent_newcomers_make_room),
        T(test_rs_is_busy),
        T(test_restart_keeps_clients_and_requests),
        T(test_app_gone),
    };
    const int rc = cmocka_run_group_tests(tests, NULL, NULL);
    if (rc != 0 || getuid() == 0)
        return rc;
    puts("SKIP: only root can send the credentials of others; all else holds");
    return 77;
}
