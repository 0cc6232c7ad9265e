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

static void want_out(struct rs *rs, struct incarnation *i, bool want)
{
    struct epoll_event e = {.events = EPOLLIN | (want ? EPOLLOUT : 0u), .data.ptr = &i->channel};

    if (i->channel_wants_out == want || i->channel.fd < 0)
        return;
    i->channel_wants_out = want;
    epoll_ctl(rs->epoll, EPOLL_CTL_MOD, i->channel.fd, &e);
}

/* RS_STANDBY is never queued, and goes when nothing is: from then on all that we have sent is in
 * the socket, where a spare finds it whatever becomes of us. */
static void stand_by(struct incarnation *i)
{
    const struct rs_message m = {.version = RS_VERSION, .op = RS_STANDBY, .to = i->process->id[0]};

    if (i->standby_due && i->queue == NULL && channel_send(i->channel.fd, &m, NULL, 0) == 0) {
        i->standby_due = false;
        i->state = INCARNATION_STANDBY;
    }
}

static void release(struct queued *q)
{
    for (unsigned k = 0; k < RS_FDS; k++)
        if (q->fds[k] >= 0)
            close(q->fds[k]);
    free(q);
}

void channel_drop(struct incarnation *i)
{
    for (struct queued *q = i->queue, *next; q != NULL; q = next) {
        next = q->next;
        release(q);
    }
    i->queue = NULL;
    i->queue_end = &i->queue;
}

/* Memory or descriptors are out: this server would miss a message, so it must not go on. Its
 * successor is told everything anew. */
static void give_up(struct incarnation *i)
{
    log_say(LOG_ERR, i->process->name, "cannot queue a message for it, restarting it");
    server_kill(i, false);
}

static void enqueue(struct rs *rs, struct incarnation *i, const struct rs_message *m,
                    const int *fds, unsigned nfds)
{
    struct queued *q = calloc(1, sizeof *q);

    if (q == NULL) {
        give_up(i);
        return;
    }
    q->message = *m;
    for (unsigned k = 0; k < RS_FDS; k++)
        q->fds[k] = -1;
    for (unsigned k = 0; k < nfds; k++) {
        q->fds[k] = fcntl(fds[k], F_DUPFD_CLOEXEC, 0);
        if (q->fds[k] < 0) {
            release(q);
            give_up(i);
            return;
        }
    }
    *i->queue_end = q;
    i->queue_end = &q->next;
    want_out(rs, i, true);
}

void channel_post(struct rs *rs, struct incarnation *i, struct rs_message m, const int *fds,
                  unsigned nfds)
{
    if (i->channel.fd < 0)
        return; /* dead: its successor is told everything anew */
    if (i->state == INCARNATION_STANDBY && i->process->wake_at == UINT64_MAX)
        i->process->wake_at = rs_now() + SPARE_WAKE_NS;
    m.version = RS_VERSION;
    m.nfds = (uint8_t)nfds;
    if (m.map_generation != 0)
        i->sent = m.map_generation;
    if (i->queue == NULL) {
        int rc = channel_send(i->channel.fd, &m, fds, nfds);
        /* anything but "full" means that it is dead, which the pidfd will say */
        if (rc != -EAGAIN && rc != -ENOBUFS && rc != -ETOOMANYREFS)
            return;
    }
    if (i->state == INCARNATION_STANDBY) {
        server_kill(i, false); /* it would not know what it must */
        return;
    }
    enqueue(rs, i, &m, fds, nfds);
}

void channel_writable(struct rs *rs, struct incarnation *i)
{
    while (i->queue != NULL) {
        struct queued *q = i->queue;
        int rc = channel_send(i->channel.fd, &q->message, q->fds, q->message.nfds);
        if (rc == -EAGAIN || rc == -ENOBUFS || rc == -ETOOMANYREFS)
            return;
        i->queue = q->next;
        if (i->queue == NULL)
            i->queue_end = &i->queue;
        release(q);
    }
    stand_by(i);
    want_out(rs, i, i->standby_due);
}

void channel_stand_by(struct rs *rs, struct incarnation *i)
{
    i->standby_due = true;
    stand_by(i);
    want_out(rs, i, i->queue != NULL || i->standby_due);
}
