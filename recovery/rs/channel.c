/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Messages from rs to a server. rs never waits for a server: what the socket does not take is kept
 * here, with descriptors of its own, in order, until the socket is writable again or the server is
 * dead.
 */
#include "servers/run/channel.h"

#include "log.h"
#include "rs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static void want_out(struct rs *rs, struct process *p, bool want)
{
    struct epoll_event e = {.events = EPOLLIN | (want ? EPOLLOUT : 0u), .data.ptr = &p->channel};

    if (p->channel_wants_out == want || p->channel.fd < 0)
        return;
    p->channel_wants_out = want;
    epoll_ctl(rs->epoll, EPOLL_CTL_MOD, p->channel.fd, &e);
}

static void release(struct queued *q)
{
    for (unsigned i = 0; i < RS_FDS; i++)
        if (q->fds[i] >= 0)
            close(q->fds[i]);
    free(q);
}

void channel_drop(struct process *p)
{
    for (struct queued *q = p->queue, *next; q != NULL; q = next) {
        next = q->next;
        release(q);
    }
    p->queue = NULL;
    p->queue_end = &p->queue;
}

/* Memory or descriptors are out: this server would miss a message, so it must not go on. Its
 * successor is told everything anew. */
static void give_up(struct rs *rs, struct process *p)
{
    log_say(LOG_ERR, p->name, "cannot queue a message for it, restarting it");
    server_kill(rs, p, false);
}

static void enqueue(struct rs *rs, struct process *p, const struct rs_message *m, const int *fds,
                    unsigned nfds)
{
    struct queued *q = calloc(1, sizeof *q);

    if (q == NULL) {
        give_up(rs, p);
        return;
    }
    q->message = *m;
    for (unsigned i = 0; i < RS_FDS; i++)
        q->fds[i] = -1;
    for (unsigned i = 0; i < nfds; i++) {
        q->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (q->fds[i] < 0) {
            release(q);
            give_up(rs, p);
            return;
        }
    }
    *p->queue_end = q;
    p->queue_end = &q->next;
    want_out(rs, p, true);
}

void channel_post(struct rs *rs, struct process *p, struct rs_message m, const int *fds,
                  unsigned nfds)
{
    if (p->channel.fd < 0)
        return; /* dead: its successor is told everything anew */
    m.version = RS_VERSION;
    m.nfds = (uint8_t)nfds;
    if (m.map_generation != 0)
        p->sent = m.map_generation;
    if (p->queue == NULL) {
        int rc = channel_send(p->channel.fd, &m, fds, nfds);
        /* anything but "full" means that it is dead, which the pidfd will say */
        if (rc != -EAGAIN && rc != -ENOBUFS && rc != -ETOOMANYREFS)
            return;
    }
    enqueue(rs, p, &m, fds, nfds);
}

void channel_writable(struct rs *rs, struct process *p)
{
    while (p->queue != NULL) {
        struct queued *q = p->queue;
        int rc = channel_send(p->channel.fd, &q->message, q->fds, q->message.nfds);
        if (rc == -EAGAIN || rc == -ENOBUFS || rc == -ETOOMANYREFS)
            return;
        p->queue = q->next;
        if (p->queue == NULL)
            p->queue_end = &p->queue;
        release(q);
    }
    want_out(rs, p, false);
}
