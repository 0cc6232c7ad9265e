/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What rs tells a server process, and what the process answers. See edge/rs.h for the protocol.
 *
 * An rs that was restarted does not know what its predecessor had still said, and says everything
 * again. So each order may come any number of times, and after the first has no effect but its
 * answer.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "run.h"

static struct component *addressee(struct run *run, uint8_t to)
{
    for (unsigned i = 0; i < run->count; i++)
        if (run->component[i]->id == to)
            return run->component[i];
    return NULL;
}

static void acknowledge(struct component *c, uint64_t map_generation)
{
    const struct rs_message m = {.op = RS_ACK, .map_generation = map_generation};
    struct run *run = c->host;

    if (map_generation == 0)
        return;
    run->mapped = map_generation;
    if (!run->started)
        return; /* the region is another's; RS_READY will say it */
    shm_store_release(&c->block->map_generation, map_generation);
    c->send_rs(c, &m, NULL, 0);
}

static void map_region(struct component *c, const struct rs_message *m, int fd)
{
    struct region *r = &c->map->entry[m->id < REGION_IDS ? m->id : 0];

    if (m->id == REGION_NONE || m->id >= REGION_IDS || fd < 0)
        return;
    if (r->base != NULL && r->generation == m->generation && r->writable == (m->writable != 0))
        return; /* told again */
    region_unmap(r);
    int rc = region_map_fd(r, fd, m->id, m->generation, m->writable != 0);
    if (rc < 0) {
        c->log(c, LOG_ERR, "cannot map region %u: %s", m->id, strerror(-rc));
        return;
    }
    /* One swapped page would stall everybody who waits for us. Pages are locked as they are
     * touched; without the right to lock, the stack works as before. */
    if (mlock2(r->base, r->size, MLOCK_ONFAULT) < 0 && errno != EPERM && errno != ENOMEM)
        c->log(c, LOG_WARNING, "cannot lock region %u: %s", m->id, strerror(errno));
}

static void add_app(struct run *run, struct component *c, const struct rs_message *m, int fd)
{
    struct app *a = &c->app[m->arg];

    if (a->used && a->generation == m->generation) {
        if (fd >= 0)
            close(fd); /* told again */
        return;
    }
    /* Another life of this number: nothing of the old one stays, least of all for which `armed` its
     * waiters were rung, as the new one's begin to count anew. */
    if (a->used)
        run_forget_app(c, m->arg);
    a->used = true;
    a->gone = false;
    a->generation = m->generation;
    a->uid = m->uid;
    a->pid = m->pid;
    a->bell = fd;
    if (fd >= 0) {
        unsigned index = 0;

        while (run->component[index] != c)
            index++;
        run_watch(run, RUN_SOURCE_APP_BELL, index, fd, EPOLLIN);
    }
    if (run->started && c->ops->app_added != NULL)
        c->ops->app_added(c, m->arg);
}

void run_forget_app(struct component *c, unsigned app)
{
    struct app *a = &c->app[app];

    if (!a->used)
        return;
    if (a->bell >= 0)
        close(a->bell); /* the last reference of ours: epoll forgets it */
    for (unsigned w = 0; w < a->waiters; w++)
        if (a->waiter[w].fd >= 0)
            close(a->waiter[w].fd);
    memset(a, 0, sizeof *a);
    a->bell = -1;
    for (unsigned w = 0; w < WAITERS_MAX; w++)
        a->waiter[w].fd = -1;
}

/* Its process is dead. What the component does about it may take long; it says when it is done. */
static void end_app(struct run *run, struct component *c, const struct rs_message *m)
{
    struct app *a = &c->app[m->arg];

    if (!a->used || a->generation != m->generation) {
        /* we are done with that one already, or never heard of it */
        const struct rs_message done = {
            .op = RS_APP_DONE, .arg = m->arg, .generation = m->generation};
        if (run->started)
            c->send_rs(c, &done, NULL, 0);
        return;
    }
    if (a->gone)
        return; /* told again */
    a->gone = true;
    /* Others are told once they have started, by begin(). */
    if (!run->started && c->ops->message == NULL)
        return;
    if (c->ops->app_gone != NULL)
        c->ops->app_gone(c, m->arg);
    else
        c->app_done(c, m->arg);
}

static void handle(struct run *run, const struct rs_message *m, int *fds)
{
    static const struct rs_message standing = {.op = RS_STANDING, .arg = REGION_LAYOUT_VERSION};
    struct component *c = addressee(run, m->to);

    if (m->op == RS_START && run->started) {
        run_channel_ready(run); /* whoever starts us again has not heard that we are ready */
        return;
    }
    if (m->op == RS_START) {
        for (unsigned i = 0; i < run->count; i++)
            run->component[i]->predecessor = (enum rs_end)m->arg;
        run->started = true;
        return;
    }
    if (m->op == RS_STOP) {
        run->stop = true;
        return;
    }
    if (m->op == RS_STANDBY) {
        if (run->standing && !run->started)
            run_tell_rs(run, standing); /* told again */
        run->standing = true;
        return;
    }
    if (m->op == RS_TAKE) {
        run->standby.take = true;
        return;
    }
    if (m->op == RS_HANDOVER) {
        if (run->started)
            run->heir = m->pid;
        return;
    }
    if (m->op == RS_FELLOW) {
        if (!run->started && fds[0] >= 0 && fds[1] >= 0) {
            standby_fellow(&run->standby, m, fds[0], fds[1]);
            fds[0] = fds[1] = -1;
        }
        return;
    }
    if (m->op == RS_BELL_SELF) {
        if (run->bell >= 0)
            return; /* the same one again */
        run->bell = fds[0];
        fds[0] = -1;
        return;
    }
    if (c == NULL)
        return;
    switch (m->op) {
    case RS_REGION:
        map_region(c, m, fds[0]);
        acknowledge(c, m->map_generation);
        break;
    case RS_UNMAP:
        if (m->id >= REGION_IDS || c->map->entry[m->id].generation != m->generation) {
            acknowledge(c, m->map_generation);
            break; /* another life of it */
        }
        region_unmap(&c->map->entry[m->id]);
        /* One that has started has let go of it (app_done); a spare is not asked. */
        if (!run->started && m->id >= REGION_APP_FIRST)
            run_forget_app(c, REGION_APP(m->id));
        acknowledge(c, m->map_generation);
        break;
    case RS_BELL_PEER:
        if (m->arg < COMPONENT_BELLS && fds[0] >= 0) {
            struct bell *b = &c->bell[m->arg];

            if (b->fd >= 0)
                close(b->fd);
            b->fd = fds[0];
            b->kind = BELL_EVENTFD;
            fds[0] = -1;
        }
        break;
    case RS_APP:
        if (m->arg < APPS_MAX) {
            add_app(run, c, m, fds[0]);
            fds[0] = -1;
        }
        acknowledge(c, m->map_generation);
        break;
    case RS_WAITER:
        if (m->arg < APPS_MAX && m->id < WAITERS_MAX && fds[0] >= 0) {
            struct app *a = &c->app[m->arg];

            if (a->waiter[m->id].fd >= 0)
                close(a->waiter[m->id].fd);
            a->waiter[m->id].fd = fds[0];
            a->waiter[m->id].kind = BELL_DGRAM;
            if (a->waiters <= m->id)
                a->waiters = m->id + 1;
            fds[0] = -1;
            /* Its thread may sleep already, and we may have made progress that it waits for while
             * there was nothing to ring. */
            bell_ring(&a->waiter[m->id]);
        }
        acknowledge(c, m->map_generation);
        break;
    case RS_APP_GONE:
        if (m->arg < APPS_MAX)
            end_app(run, c, m);
        break;
    default:
        if (c->ops->message != NULL) {
            c->ops->message(c, m, fds); /* owns the descriptors */
            for (unsigned i = 0; i < RS_FDS; i++)
                fds[i] = -1;
        }
        break;
    }
}

static bool receive(struct run *run, int flags)
{
    struct rs_message m;
    int fds[RS_FDS];
    int rc = channel_receive(RS_CHANNEL_FD, &m, fds, flags);

    if (rc == -EAGAIN)
        return false;
    if (rc == 0 || (rc < 0 && rc != -EPROTO)) {
        run->stop =
            true; /* rs is gone, and so is whoever kept its end of the channel for the next */
        return false;
    }
    if (rc == 1) {
        handle(run, &m, fds);
        for (unsigned i = 0; i < RS_FDS; i++)
            if (fds[i] >= 0)
                close(fds[i]);
    }
    return !run->stop;
}

void run_channel(struct run *run)
{
    while (receive(run, MSG_DONTWAIT))
        continue;
}

void run_channel_wait(struct run *run)
{
    receive(run, 0);
}

void run_channel_ready(struct run *run)
{
    for (unsigned i = 0; i < run->count; i++) {
        struct component *c = run->component[i];
        const struct rs_message m = {
            .op = RS_READY, .map_generation = run->mapped, .request_id = c->epoch};

        c->send_rs(c, &m, NULL, 0);
    }
}

void run_tell_rs(struct run *run, struct rs_message m)
{
    run->component[0]->send_rs(run->component[0], &m, NULL, 0);
}
