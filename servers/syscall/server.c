/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The syscall server: connections, descriptors, and the queues to tcp and udp. What a message means
 * is decided in decide.c.
 *
 *   accepted -> waiting    it asked to attach, rs was told; we do not listen to it meanwhile
 *   waiting  -> attached   rs sent RS_CLIENT with its own descriptor of the same socket, which from
 *                          then on is the one that we use
 *   waiting  -> accepted   RS_REFUSED
 */
#include "syscall.h"

#include "decide.h"
#include "libchan/edge/syscall_ctl.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

enum {
    NEWCOMERS = 256, /* connections that are not attached */
    CONNS = APPS_MAX + NEWCOMERS,
    FDS_MAX = 8192, /* descriptor numbers that we can know */
    MESSAGES_PER_EVENT = 16,
    STRIKES = 16, /* garbage messages that a client may send */
};
#define STALL_RETRY 10000000ull /* ns */

struct conn {
    int fd;
    bool used, attached, waiting;
    bool stalled; /* its next request found no room: not listened to until there is */
    uint16_t app;
    uint32_t generation;
    uint32_t uid, pid; /* SO_PEERCRED: who connected */
    uint32_t strikes;
    uint64_t seq;   /* order of arrival */
    uint64_t asked; /* waiting: id of its request */
};

struct server {
    struct component *c;
    struct chan_tx to[2]; /* tcp, udp */
    struct chan_rx from[2];
    struct syscall_state *shm;
    bool started, listening, accept_many;
    int listen_fd;
    unsigned stalled;
    struct chan_tx *full; /* the queue that a stalled request waits for; NULL: rs */
    uint64_t now, seq;
    uint16_t by_fd[FDS_MAX];   /* conn + 1 */
    uint16_t by_app[APPS_MAX]; /* conn + 1 */
    struct conn conn[CONNS];
};

static void count(struct server *s, enum syscall_counter which, uint64_t n)
{
    if (!s->started) /* rs speaks before; and a spare hears it while the region is another's */
        return;
    uint64_t *c = &s->c->block->counter[which];
    shm_store(c, load_relaxed(c) + n);
}

/* --- connections --- */

static struct conn *conn_new(struct server *s, int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;

    if (fd < 0 || fd >= FDS_MAX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
        return NULL;
    for (unsigned i = 0; i < CONNS; i++) {
        struct conn *k = &s->conn[i];

        if (k->used)
            continue;
        *k = (struct conn){
            .fd = fd, .used = true, .uid = who.uid, .pid = (uint32_t)who.pid, .seq = ++s->seq};
        s->by_fd[fd] = (uint16_t)(i + 1);
        count(s, SYSCALL_CLIENTS, 1);
        return k;
    }
    return NULL;
}

static void conn_close(struct server *s, struct conn *k)
{
    const uint16_t self = (uint16_t)(k - s->conn + 1);

    if (!k->used)
        return;
    s->c->unwatch(s->c, k->fd);
    close(k->fd);
    s->by_fd[k->fd] = 0;
    if (k->attached && s->by_app[k->app] == self)
        s->by_app[k->app] = 0;
    if (k->stalled)
        s->stalled--;
    k->used = false;
    count(s, SYSCALL_CLIENTS, (uint64_t)-1);
}

static void conn_drop(struct server *s, struct conn *k)
{
    count(s, SYSCALL_DROPPED, 1);
    conn_close(s, k);
}

/* Somebody who connects and says nothing must not keep others out: the oldest one goes. */
static bool make_room(struct server *s)
{
    struct conn *oldest = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < CONNS; i++) {
        struct conn *k = &s->conn[i];

        if (!k->used || k->attached)
            continue;
        n++;
        if (!k->waiting && (oldest == NULL || k->seq < oldest->seq))
            oldest = k;
    }
    if (n < NEWCOMERS)
        return true;
    if (oldest == NULL)
        return false;
    conn_drop(s, oldest);
    return true;
}

static void conn_reply(struct server *s, struct conn *k, const struct control_reply *r)
{
    /* A client that does not read cannot make us wait. */
    if (send(k->fd, r, sizeof *r, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof *r)
        count(s, SYSCALL_REPLIES, 1);
    else
        conn_drop(s, k);
}

static void conn_stall(struct server *s, struct conn *k)
{
    if (k->stalled)
        return;
    k->stalled = true;
    s->stalled++;
    s->c->unwatch(s->c, k->fd); /* its message stays, and would make it ready for ever */
}

/* --- requests --- */

static bool ask_attach(struct server *s, struct conn *k, const struct control_decision *d)
{
    const struct rs_message m = {
        .op = RS_APP_NEW,
        .id = (uint16_t)(k - s->conn),
        .uid = k->uid,
        .pid = k->pid,
        .request_id = d->request.id,
    };

    if (s->c->send_rs(s->c, &m, &k->fd, 1) != 0)
        return false;
    if (!k->attached) {
        k->waiting = true;
        k->asked = d->request.id;
    }
    return true;
}

static bool ask_waiter(struct server *s, struct conn *k, const struct control_decision *d)
{
    const struct rs_message m = {
        .op = RS_APP_WAITER,
        .arg = k->app,
        .id = d->waiter,
        .generation = k->generation,
        .request_id = d->request.id,
    };

    return s->c->send_rs(s->c, &m, NULL, 0) == 0;
}

static bool ask_grant(struct server *s, struct conn *k, const struct control_decision *d)
{
    struct chan_tx *tx = &s->to[d->udp ? 1 : 0];
    const uint64_t number = s->shm->grants + 1;
    const struct syscall_request q = {
        .op = SYSCALL_GRANT_PORT,
        .app = k->app,
        .port = d->port,
        .app_generation = k->generation,
        .client = (uint64_t)k->generation << 32 | k->app,
        .id = d->request.id,
    };
    void *slot;

    if (chan_tx_reserve(tx, 0, number, 0, &slot) != CHAN_OK) {
        s->full = tx;
        return false;
    }
    shm_copy((uint8_t *)slot + sizeof q.head, (const uint8_t *)&q + sizeof q.head,
             sizeof q - sizeof q.head);
    chan_tx_commit(tx);
    /* Published before the message is consumed: a crash in between asks twice, which is harmless;
     * the other way round it would ask never. */
    chan_tx_publish(tx);
    shm_store(&s->shm->grants, number);
    count(s, SYSCALL_GRANTS, 1);
    return true;
}

enum outcome { OUTCOME_DONE, OUTCOME_STALL, OUTCOME_CLOSED };

static enum outcome serve(struct server *s, struct conn *k, const void *message, size_t size,
                          size_t len, uint32_t uid)
{
    struct control_decision d;

    control_decide(s->c->cfg, message, size, len, uid, k->attached, &d);
    switch (d.action) {
    case CONTROL_DO_ATTACH:
        if (!ask_attach(s, k, &d))
            return OUTCOME_STALL;
        break;
    case CONTROL_DO_WAITER:
        if (!ask_waiter(s, k, &d))
            return OUTCOME_STALL;
        break;
    case CONTROL_DO_GRANT:
        if (!ask_grant(s, k, &d))
            return OUTCOME_STALL;
        break;
    case CONTROL_DO_REPLY:
        if (k->attached) {
            d.reply.app = k->app;
            d.reply.app_generation = k->generation;
        }
        conn_reply(s, k, &d.reply);
        if (!k->used)
            return OUTCOME_CLOSED;
        break;
    }
    if (d.garbage) {
        count(s, SYSCALL_GARBAGE, 1);
        if (++k->strikes >= STRIKES) {
            conn_drop(s, k);
            return OUTCOME_CLOSED;
        }
    } else {
        count(s, SYSCALL_REQUESTS, 1);
        if (d.action == CONTROL_DO_REPLY && d.reply.result != 0)
            count(s, SYSCALL_REFUSED, 1);
    }
    return OUTCOME_DONE;
}

/* Looks at the next message without taking it. Returns its true length, 0 for the end of the
 * connection, or -errno. *uid becomes its sender's, when the kernel says who it was. */
static ssize_t look(const struct conn *k, struct control_request *q, uint32_t *uid)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct ucred))]; /* no room for descriptors: none get in */
    } control;
    struct iovec iov = {.iov_base = q, .iov_len = sizeof *q};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    const ssize_t n = recvmsg(k->fd, &msg, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0)
        return -errno;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h != NULL; h = CMSG_NXTHDR(&msg, h)) {
        struct ucred who;

        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_CREDENTIALS ||
            h->cmsg_len < CMSG_LEN(sizeof who))
            continue;
        memcpy(&who, CMSG_DATA(h), sizeof who);
        if (who.pid != 0) /* 0: sent before the kernel was asked to say who */
            *uid = who.uid;
    }
    return n;
}

/* One message. One that brought us down again and again is answered with an error, once. */
static enum outcome handle(struct server *s, struct conn *k, const struct control_request *q,
                           size_t len, uint32_t uid)
{
    struct server_block *b = s->c->block;
    const uint64_t item =
        item_numbered(ITEM_CONTROL, k->attached ? k->app : 0x800000 | (k->pid & 0x7fffff),
                      len >= sizeof *q ? (uint32_t)q->id : 0);
    enum outcome r = OUTCOME_DONE;

    if (b == NULL) /* rs speaks before we have started */
        return serve(s, k, q, sizeof *q, len, uid);
    item_begin(b, item);
    if (item_condemned(b, item)) {
        const struct item_part part = {q, sizeof *q};
        const struct control_reply reply = {.version = CONTROL_VERSION,
                                            .op = q->op,
                                            .id = q->id,
                                            .result = -EIO,
                                            .app = k->attached ? k->app : 0,
                                            .app_generation = k->generation};

        quarantine_keep(s->c->own, item, s->now, &part, 1);
        count(s, SYSCALL_QUARANTINED, 1);
        conn_reply(s, k, &reply);
        r = k->used ? OUTCOME_DONE : OUTCOME_CLOSED;
    } else {
        r = serve(s, k, q, sizeof *q, len, uid);
    }
    item_end(b);
    return r;
}

static void conn_ready(struct server *s, struct conn *k)
{
    for (unsigned n = 0; n < MESSAGES_PER_EVENT && k->used && !k->waiting; n++) {
        struct control_request q;
        uint32_t uid = k->uid;
        const ssize_t len = look(k, &q, &uid);

        if (len == -EAGAIN || len == -EINTR)
            return;
        if (len <= 0) {
            conn_close(s, k);
            return;
        }
        switch (handle(s, k, &q, (size_t)len, uid)) {
        case OUTCOME_STALL:
            conn_stall(s, k);
            return;
        case OUTCOME_CLOSED:
            return;
        case OUTCOME_DONE:
            break;
        }
        /* Acted upon: now it may go. Descriptors that came along go with it. */
        if (recv(k->fd, &q, sizeof q, MSG_DONTWAIT | MSG_TRUNC) < 0 && errno != EAGAIN) {
            conn_close(s, k);
            return;
        }
        if (k->waiting)
            s->c->unwatch(s->c, k->fd);
    }
}

static void accept_ready(struct server *s)
{
    for (unsigned n = 0; n < MESSAGES_PER_EVENT; n++) {
        const int one = 1;
        const int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                make_room(s);
            return;
        }
        setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
        struct conn *k = make_room(s) ? conn_new(s, fd) : NULL;
        if (k == NULL || s->c->watch(s->c, fd, EPOLLIN) != 0) {
            count(s, SYSCALL_DROPPED, 1);
            if (k != NULL)
                conn_close(s, k);
            else
                close(fd);
        } else {
            count(s, SYSCALL_ACCEPTED, 1);
        }
        if (!s->accept_many)
            return;
    }
}

/* --- what rs says --- */

static void on_listen(struct server *s, int fd)
{
    const int one = 1;

    if (fd < 0)
        return;
    if (s->listening) {
        s->c->unwatch(s->c, s->listen_fd);
        close(s->listen_fd);
    }
    s->listening = true;
    s->listen_fd = fd;
    /* Connections inherit it, so that what is sent before accept() carries credentials too. */
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    /* A listener that could block is asked once per event only. */
    s->accept_many = (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
    if (s->c->watch(s->c, fd, EPOLLIN) != 0)
        s->c->log(s->c, LOG_ERR, "syscall: cannot watch the control socket");
}

static bool same_socket(int a, int b)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static void on_client(struct server *s, const struct rs_message *m, int fd)
{
    if (fd < 0)
        return;
    if (m->arg >= APPS_MAX) {
        close(fd);
        return;
    }
    /* Ours of the same socket has done its duty. */
    for (unsigned i = 0; i < CONNS; i++) {
        struct conn *k = &s->conn[i];
        if (k->used && !k->attached && same_socket(k->fd, fd))
            conn_close(s, k);
    }
    if (s->by_app[m->arg] != 0)
        conn_close(s, &s->conn[s->by_app[m->arg] - 1]);
    struct conn *k = conn_new(s, fd);
    if (k == NULL) {
        s->c->log(s->c, LOG_ERR, "syscall: no room for application %u", m->arg);
        close(fd);
        return;
    }
    k->attached = true;
    k->app = (uint16_t)m->arg;
    k->generation = m->generation;
    s->by_app[k->app] = (uint16_t)(k - s->conn + 1);
    count(s, SYSCALL_ATTACHED, 1);
    if (s->c->watch(s->c, fd, EPOLLIN) != 0)
        conn_drop(s, k);
}

static void on_refused(struct server *s, const struct rs_message *m)
{
    if (m->id >= CONNS)
        return;
    struct conn *k = &s->conn[m->id];
    if (!k->used || !k->waiting || k->asked != m->request_id)
        return; /* it has gone, and its place is somebody else's */
    const struct control_reply r = {.version = CONTROL_VERSION,
                                    .op = CONTROL_ATTACH,
                                    .id = m->request_id,
                                    .result = m->result < 0 ? m->result : -EUSERS};
    k->waiting = false;
    count(s, SYSCALL_REFUSED, 1);
    conn_reply(s, k, &r);
    if (k->used && s->c->watch(s->c, k->fd, EPOLLIN) != 0)
        conn_drop(s, k);
}

static void syscall_message(struct component *c, const struct rs_message *m, const int *fds)
{
    struct server *s = c->state;
    unsigned from = 0;

    s->c = c;
    switch (m->op) {
    case RS_LISTEN:
        on_listen(s, fds[0]);
        from = 1;
        break;
    case RS_CLIENT:
        on_client(s, m, fds[0]);
        from = 1;
        break;
    case RS_REFUSED:
        on_refused(s, m);
        break;
    default:
        break;
    }
    for (unsigned i = from; i < m->nfds && i < RS_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* --- the component --- */

static int syscall_start(struct component *c, uint64_t now)
{
    static const enum edge to[2] = {EDGE_SYSCALL_TCP, EDGE_SYSCALL_UDP};
    static const enum edge from[2] = {EDGE_TCP_SYSCALL, EDGE_UDP_SYSCALL};
    struct server *s = c->state;

    s->c = c;
    s->now = now;
    for (unsigned i = 0; i < 2; i++) {
        const server_id peer = SERVER_ID(i == 0 ? SERVER_TCP : SERVER_UDP, 0);
        int r = component_tx(c, &s->to[i], to[i], peer);

        if (r == 0)
            r = component_rx(c, &s->from[i], from[i], peer);
        if (r != 0)
            return r;
    }
    s->shm = wiring_table(c->own, TABLE_SYSCALL_STATE, NULL);
    if (s->shm == NULL)
        return -EPROTO;
    s->started = true;
    uint64_t clients = 0; /* those that rs has sent already were not counted */
    for (unsigned i = 0; i < CONNS; i++)
        clients += s->conn[i].used;
    shm_store(&c->block->counter[SYSCALL_CLIENTS], clients);
    return 0;
}

static unsigned replies(struct server *s, struct chan_rx *rx)
{
    unsigned n = 0;

    for (; n < WORK_QUOTA; n++) {
        const void *slot = chan_rx_peek(rx);
        struct syscall_reply r;

        if (slot == NULL)
            break;
        memcpy(&r, slot, sizeof r);
        if (chan_rx_condemned(rx)) {
            count(s, SYSCALL_QUARANTINED, 1);
            chan_rx_keep(rx, s->now, NULL, 0);
            chan_rx_next(rx);
            continue;
        }
        const uint32_t app = (uint32_t)r.client, generation = (uint32_t)(r.client >> 32);
        struct conn *k =
            app < APPS_MAX && s->by_app[app] != 0 ? &s->conn[s->by_app[app] - 1] : NULL;
        if (k != NULL && k->generation == generation) {
            const struct control_reply out = {.version = CONTROL_VERSION,
                                              .op = CONTROL_PORT,
                                              .id = r.id,
                                              .result = r.result,
                                              .app = app,
                                              .app_generation = generation};
            conn_reply(s, k, &out);
        } else {
            count(s, SYSCALL_LOST_REPLY, 1);
        }
        chan_rx_next(rx);
    }
    if (n > 0)
        chan_rx_release(rx); /* a crash before this answers twice, with the same id */
    return n;
}

static unsigned syscall_work(struct component *c, uint64_t now)
{
    struct server *s = c->state;
    unsigned n = 0;

    s->now = now;
    for (unsigned i = 0; i < 2; i++)
        n += replies(s, &s->from[i]);
    s->full = NULL;
    for (unsigned i = 0; i < CONNS && s->stalled > 0; i++) {
        struct conn *k = &s->conn[i];

        if (!k->used || !k->stalled)
            continue;
        k->stalled = false;
        s->stalled--;
        if (c->watch(c, k->fd, EPOLLIN) != 0) {
            conn_drop(s, k);
            continue;
        }
        conn_ready(s, k);
        if (k->used && k->stalled)
            break; /* still no room; the others would find the same */
        n++;
    }
    return n;
}

static bool syscall_pending(struct component *c)
{
    struct server *s = c->state;

    if (chan_rx_pending(&s->from[0]) || chan_rx_pending(&s->from[1]))
        return true;
    /* Room that came before our asleep flag was seen rang nobody. */
    return s->full != NULL && chan_tx_room(s->full, 1);
}

static uint64_t syscall_deadline(struct component *c)
{
    const struct server *s = c->state;

    return s->stalled > 0 ? s->now + STALL_RETRY : NEVER;
}

static void syscall_ready(struct component *c, int fd, uint32_t events, uint64_t now)
{
    struct server *s = c->state;

    s->now = now;
    if (s->listening && fd == s->listen_fd) {
        accept_ready(s);
        return;
    }
    if (fd < 0 || fd >= FDS_MAX || s->by_fd[fd] == 0)
        return;
    struct conn *k = &s->conn[s->by_fd[fd] - 1];
    if (k->waiting || k->stalled) {
        /* Not listened to; only its end can be the reason. rs sees it as well. */
        if (events & (EPOLLHUP | EPOLLERR))
            conn_close(s, k);
        return;
    }
    conn_ready(s, k);
}

static void syscall_app_gone(struct component *c, unsigned app)
{
    struct server *s = c->state;

    if (app < APPS_MAX && s->by_app[app] != 0)
        conn_close(s, &s->conn[s->by_app[app] - 1]);
    c->app_done(c, app);
}

const struct component_ops syscall_ops = {
    .kind = SERVER_SYSCALL,
    .name = "syscall",
    .size = sizeof(struct server),
    .start = syscall_start,
    .work = syscall_work,
    .pending = syscall_pending,
    .deadline = syscall_deadline,
    .app_gone = syscall_app_gone,
    .message = syscall_message,
    .ready = syscall_ready,
};
