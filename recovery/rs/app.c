/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Application processes. rs makes an application's memory and bells, tells the servers, waits until
 * every running server that maps them has said so, and only then hands them to the application: so
 * nobody uses a region that a reader does not have.
 *
 *   FREE -> JOINING   RS_APP_NEW from syscall: made and announced
 *   JOINING -> LIVE   all acknowledged: RS_APP to tcp and udp, the reply to the caller
 *   LIVE -> GONE      the process is dead (pidfd), or became another program: RS_APP_GONE
 *   GONE -> FREE      tcp and udp have let go: RS_UNMAP, everything closed
 *
 * A dead server counts as not having acknowledged: its successor is told everything before
 * RS_START, and its RS_READY acknowledges it. What a client claims about itself counts for nothing:
 * the kernel says who is at the other end of its control socket.
 *
 * An application number is used again only with a new generation. Not promised: that a reply
 * reaches a caller that does not read its socket; it may ask again with the same id.
 */
#include "log.h"
#include "rs.h"
#include "state.h"

#include "libchan/edge/app.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
enum {
    APPS_PER_USER = APPS_MAX / 2, /* root excepted */
};

static const enum server_kind data_kind[2] = {SERVER_TCP, SERVER_UDP};

#define APP_OF(w, member)                                                                          \
    ((struct application *)(void *)((char *)(w)-offsetof(struct application, member)))

static void on_death(struct rs *rs, struct watch *w, uint32_t events);
static void on_hangup(struct rs *rs, struct watch *w, uint32_t events);

/* ---- telling servers ---- */

static struct rs_message about(const struct application *a, enum rs_op op)
{
    return (struct rs_message){.op = op,
                               .arg = a->number,
                               .generation = a->generation,
                               .uid = a->uid,
                               .pid = (uint32_t)a->pid};
}

static void send_client(struct rs *rs, struct incarnation *only, const struct application *a,
                        server_id id)
{
    struct rs_message m = about(a, RS_CLIENT);

    m.request_id = a->request_id;
    if (a->control.fd >= 0)
        server_tell(rs, only, id, m, a->control.fd);
}

static void send_waiter(struct rs *rs, struct incarnation *only, const struct application *a,
                        server_id id, unsigned n)
{
    struct rs_message m = about(a, RS_WAITER);

    m.id = (uint16_t)n;
    m.kind = BELL_DGRAM;
    m.map_generation = ++rs->seq;
    server_tell(rs, only, id, m, a->waiter[n].server);
}

/* The application itself: to those who keep a struct app of it. */
static void send_app(struct rs *rs, struct incarnation *only, const struct application *a,
                     server_id id)
{
    const enum server_kind kind = SERVER_ID_KIND(id);
    struct rs_message m = about(a, RS_APP);

    if (kind != SERVER_TCP && kind != SERVER_UDP && kind != SERVER_SYSCALL)
        return;
    m.kind = BELL_DGRAM;
    m.map_generation = ++rs->seq;
    server_tell(rs, only, id, m, kind == SERVER_SYSCALL ? -1 : a->bell_server[kind == SERVER_UDP]);
    if (kind == SERVER_SYSCALL)
        return;
    for (unsigned n = 0; n < WAITERS_MAX; n++)
        if (a->waiter[n].server >= 0)
            send_waiter(rs, only, a, id, n);
}

static void announce(struct rs *rs, struct incarnation *only, const struct application *a,
                     server_id id)
{
    for (unsigned k = 0; k < 4; k++)
        server_announce(rs, only, id, REGION_OF_APP(a->number, k));
}

void app_tell(struct rs *rs, struct incarnation *who, server_id id)
{
    for (unsigned i = 0; i < APPS_MAX; i++) {
        const struct application *a = rs->app[i];
        if (a == NULL || a->state == APP_FREE)
            continue;
        announce(rs, who, a, id);
        if (a->state == APP_JOINING)
            continue;
        send_app(rs, who, a, id);
        if (SERVER_ID_KIND(id) == SERVER_SYSCALL)
            send_client(rs, who, a, id);
        else if (a->state == APP_GONE &&
                 (SERVER_ID_KIND(id) == SERVER_TCP || SERVER_ID_KIND(id) == SERVER_UDP))
            server_tell(rs, who, id, about(a, RS_APP_GONE), -1);
    }
}

/* ---- replies to the caller ---- */

static void reply(const struct application *a, int control, enum control_op op, uint64_t id,
                  int result, const int *fds, unsigned nfds)
{
    struct control_reply r = {.version = CONTROL_VERSION,
                              .op = op,
                              .id = id,
                              .result = result,
                              .app = a->number,
                              .app_generation = a->generation};
    struct iovec iov = {.iov_base = &r, .iov_len = sizeof r};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(CONTROL_FDS * sizeof(int))];
    } buffer = {.space = {0}};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nfds > 0) {
        msg.msg_control = buffer.space;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    /* One that asks and does not read is not worth a word, or it could fill the log. */
    if (sendmsg(control, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EPIPE &&
        errno != ECONNRESET && errno != EAGAIN)
        log_say(LOG_WARNING, "", "cannot answer application %u (process %d): %s", a->number, a->pid,
                strerror(errno));
}

static void reply_attach(struct rs *rs, const struct application *a)
{
    const int fds[CONTROL_FDS] = {
        a->region[APP_UP].rw,
        a->region[APP_DOWN_TCP].ro,
        a->region[APP_DOWN_UDP].ro,
        a->region[APP_DOWN_CTL].ro,
        rs->server[SERVER_ID(SERVER_TCP, 0)].public_page.ro,
        rs->server[SERVER_ID(SERVER_UDP, 0)].public_page.ro,
        a->bell_app[0],
        a->bell_app[1],
        a->waiter[0].app,
    };

    reply(a, a->control.fd, CONTROL_ATTACH, a->request_id, 0, fds, CONTROL_FDS);
}

static void reply_waiter(const struct application *a, unsigned n)
{
    reply(a, a->control.fd, CONTROL_WAITER, a->waiter[n].request_id, 0, &a->waiter[n].app, 1);
}

/* ---- acknowledgements ---- */

static void sent_now(const struct rs *rs, uint64_t *sent)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        const struct incarnation *running = rs->process[i].running;
        sent[i] = running != NULL ? running->sent : 0;
    }
}

static void need_all(const struct rs *rs, uint64_t *need, const uint64_t *before)
{
    sent_now(rs, need);
    for (unsigned i = 0; i < rs->processes; i++)
        if (need[i] == before[i])
            need[i] = 0;
}

/* A process that is dead or starting has not acknowledged, whatever its predecessor had. */
static bool all_have(const struct rs *rs, const uint64_t *need)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        const struct process *p = &rs->process[i];
        if (need[i] != 0 && (p->state != PROCESS_RUNNING || p->running->acked < need[i]))
            return false;
    }
    return true;
}

static void progress(struct rs *rs, struct application *a)
{
    if (a->state == APP_JOINING && all_have(rs, a->need)) {
        a->state = APP_LIVE;
        for (unsigned id = 0; id < RS_SERVERS; id++)
            if (rs->server[id].used)
                send_app(rs, NULL, a, (server_id)id);
        send_client(rs, NULL, a, SERVER_ID(SERVER_SYSCALL, 0));
        reply_attach(rs, a);
        /* last: whoever dies before leaves it joining, and the reply is sent once more */
        state_save_app(rs, a);
    }
    if (a->state != APP_LIVE)
        return;
    for (unsigned n = 0; n < WAITERS_MAX; n++) {
        if (!a->waiter[n].waiting || !all_have(rs, a->waiter[n].need))
            continue;
        a->waiter[n].waiting = false;
        reply_waiter(a, n);
        state_save_app(rs, a);
    }
}

void app_progress(struct rs *rs)
{
    for (unsigned i = 0; i < APPS_MAX; i++)
        if (rs->app[i] != NULL)
            progress(rs, rs->app[i]);
}

/* ---- making one ---- */

static int bell_pair(int *server, int *app)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    *server = pair[0];
    *app = pair[1];
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void release(struct rs *rs, struct application *a)
{
    for (unsigned k = 0; k < 4; k++)
        keep_close(&a->region[k]);
    for (unsigned i = 0; i < 2; i++) {
        close_fd(&a->bell_server[i]);
        close_fd(&a->bell_app[i]);
    }
    for (unsigned n = 0; n < WAITERS_MAX; n++) {
        close_fd(&a->waiter[n].server);
        close_fd(&a->waiter[n].app);
        a->waiter[n].waiting = false;
    }
    rs_unwatch(rs, &a->pidfd);
    rs_unwatch(rs, &a->control);
    a->state = APP_FREE;
    /* First that there is nothing, then nothing: what is parked without an application is cleared
     * by the next rs. */
    state_save_app(rs, a);
    park_clear(&rs->app_park[a->number]);
}

/* Tells everybody who mapped it to forget it. */
static void unmap_everywhere(struct rs *rs, const struct application *a)
{
    for (unsigned id = 0; id < RS_SERVERS; id++)
        for (unsigned k = 0; rs->server[id].used && k < 4; k++) {
            const region_id region = REGION_OF_APP(a->number, k);
            if (wiring_may_map((server_id)id, region) == 0)
                continue;
            struct rs_message m = about(a, RS_UNMAP);
            m.id = region;
            m.map_generation = ++rs->seq;
            server_tell(rs, NULL, (server_id)id, m, -1);
        }
}

static struct application *blank(struct rs *rs, unsigned number, uint32_t generation)
{
    struct application *a = rs->app[number];

    if (a == NULL && (a = rs->app[number] = calloc(1, sizeof *a)) == NULL)
        return NULL;
    memset(a, 0, sizeof *a);
    a->number = number;
    a->generation = rs->app_generation[number] = generation;
    for (unsigned k = 0; k < 4; k++)
        a->region[k].rw = a->region[k].ro = -1;
    for (unsigned w = 0; w < WAITERS_MAX; w++)
        a->waiter[w].server = a->waiter[w].app = -1;
    a->bell_server[0] = a->bell_server[1] = a->bell_app[0] = a->bell_app[1] = -1;
    a->pidfd = (struct watch){.fd = -1, .ready = on_death};
    a->control = (struct watch){.fd = -1, .ready = on_hangup};
    return a;
}

/* The lowest free number: so there are no more of them, and of their parks, than were ever in use
 * at a time. */
static struct application *allocate(struct rs *rs)
{
    for (unsigned i = 0; i < APPS_MAX; i++)
        if (rs->app[i] == NULL || rs->app[i]->state == APP_FREE)
            return blank(rs, i, rs->app_generation[i] + 1);
    return NULL;
}

static bool may_use(const struct stack_config *cfg, uint32_t uid)
{
    if (cfg->users == 0)
        return true;
    for (uint32_t i = 0; i < cfg->users; i++)
        if (cfg->user[i] == uid)
            return true;
    return false;
}

static unsigned apps_of(const struct rs *rs, uint32_t uid)
{
    unsigned n = 0;

    for (unsigned i = 0; i < APPS_MAX; i++)
        n += rs->app[i] != NULL && rs->app[i]->state != APP_FREE && rs->app[i]->uid == uid;
    return n;
}

static void on_death(struct rs *rs, struct watch *w, uint32_t events)
{
    (void)events;
    app_gone(rs, APP_OF(w, pidfd));
}

static void on_hangup(struct rs *rs, struct watch *w, uint32_t events)
{
    struct application *a = APP_OF(w, control);

    (void)events;
    rs_unwatch(rs, w);
    a->hung_up = true;
    state_save_app(rs, a);
    app_hung_up(rs, a);
}

static int make(struct rs *rs, struct application *a, const struct ucred *who, int fd)
{
    socklen_t len = sizeof a->pidfd.fd;

    a->uid = who->uid;
    a->pid = who->pid;
    /* The process that connected, without a race on its number. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &a->pidfd.fd, &len) < 0) {
        a->pidfd.fd = (int)syscall(SYS_pidfd_open, who->pid, 0);
        if (a->pidfd.fd < 0)
            return -errno;
    }
    int rc = app_memory_create(rs, a);
    for (unsigned i = 0; i < 2 && rc == 0; i++)
        rc = bell_pair(&a->bell_server[i], &a->bell_app[i]);
    if (rc == 0)
        rc = bell_pair(&a->waiter[0].server, &a->waiter[0].app);
    if (rc == 0) {
        a->control.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        rc = a->control.fd < 0 ? -errno : 0;
    }
    if (rc == 0)
        rc = app_park_open(rs, a->number);
    return rc == 0 ? app_park(rs, a) : rc;
}

/* Of the application itself; what comes in on its control socket is for syscall: events 0 are the
 * hang-up alone. */
static int watch_it(struct rs *rs, struct application *a)
{
    int rc = rs_watch(rs, &a->pidfd, EPOLLIN);

    return rc == 0 && a->control.fd >= 0 ? rs_watch(rs, &a->control, 0) : rc;
}

static int start_joining(struct rs *rs, struct application *a)
{
    uint64_t before[RS_PROCESSES];
    int rc = watch_it(rs, a);

    if (rc < 0)
        return rc;
    a->state = APP_JOINING;
    state_save_app(rs, a);
    sent_now(rs, before);
    for (unsigned id = 0; id < RS_SERVERS; id++)
        if (rs->server[id].used)
            announce(rs, NULL, a, (server_id)id);
    need_all(rs, a->need, before);
    return 0;
}

static void refuse(struct rs *rs, const struct rs_message *m, int result)
{
    server_tell(rs, NULL, m->to,
                (struct rs_message){.op = RS_REFUSED,
                                    .id = m->id,
                                    .arg = m->arg,
                                    .uid = m->uid,
                                    .pid = m->pid,
                                    .request_id = m->request_id,
                                    .result = result},
                -1);
}

void app_request(struct rs *rs, const struct rs_message *m, int fd)
{
    struct ucred who;
    struct stat st;
    socklen_t len = sizeof who;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode) ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
        refuse(rs, m, -EINVAL);
        return;
    }
    for (unsigned i = 0; i < APPS_MAX; i++) {
        struct application *a = rs->app[i];
        if (a == NULL || a->cookie != st.st_ino || a->control.fd < 0 || a->state == APP_FREE ||
            a->state == APP_GONE)
            continue;
        /* asked again: the same answer */
        a->request_id = m->request_id;
        state_save_app(rs, a);
        if (a->state == APP_LIVE) {
            send_client(rs, NULL, a, m->to);
            reply_attach(rs, a);
        }
        return;
    }
    if (!may_use(rs->cfg, who.uid)) {
        refuse(rs, m, -EACCES);
        return;
    }
    struct application *a = NULL;
    if (who.uid == 0 || apps_of(rs, who.uid) < APPS_PER_USER)
        a = allocate(rs);
    if (a == NULL) {
        refuse(rs, m, -EUSERS);
        return;
    }
    a->cookie = st.st_ino;
    a->request_id = m->request_id;
    int rc = make(rs, a, &who, fd);
    if (rc == 0)
        rc = start_joining(rs, a);
    if (rc < 0) {
        log_say(LOG_ERR, "", "cannot make an application for process %d: %s", who.pid,
                strerror(-rc));
        release(rs, a);
        refuse(rs, m, rc);
        return;
    }
    progress(rs, a);
}

void app_waiter_request(struct rs *rs, const struct rs_message *m)
{
    struct application *a = m->arg < APPS_MAX ? rs->app[m->arg] : NULL;
    uint64_t before[RS_PROCESSES];

    if (a == NULL || a->generation != m->generation || a->state != APP_LIVE || a->control.fd < 0)
        return; /* it has gone meanwhile */
    if (m->id == 0 || m->id >= WAITERS_MAX) {
        reply(a, a->control.fd, CONTROL_WAITER, m->request_id, -EINVAL, NULL, 0);
        return;
    }
    struct waiter *w = &a->waiter[m->id];
    w->request_id = m->request_id;
    if (w->server >= 0) {
        if (!w->waiting)
            reply_waiter(a, m->id);
        return;
    }
    int rc = bell_pair(&w->server, &w->app);
    if (rc == 0)
        rc = app_park_waiter(rs, a, m->id);
    if (rc < 0) {
        close_fd(&w->server);
        close_fd(&w->app);
        reply(a, a->control.fd, CONTROL_WAITER, m->request_id, rc, NULL, 0);
        return;
    }
    w->waiting = true;
    state_save_app(rs, a);
    sent_now(rs, before);
    for (unsigned id = 0; id < RS_SERVERS; id++)
        if (rs->server[id].used &&
            (SERVER_ID_KIND(id) == SERVER_TCP || SERVER_ID_KIND(id) == SERVER_UDP))
            send_waiter(rs, NULL, a, (server_id)id, m->id);
    need_all(rs, w->need, before);
    progress(rs, a);
}

/* ---- the end of one ---- */

void app_gone(struct rs *rs, struct application *a)
{
    if (a->state == APP_FREE || a->state == APP_GONE)
        return;
    rs_unwatch(rs, &a->pidfd);
    rs_unwatch(rs, &a->control);
    if (a->state == APP_JOINING) {
        /* nobody was told more than where its memory is */
        unmap_everywhere(rs, a);
        release(rs, a);
        return;
    }
    a->state = APP_GONE;
    state_save_app(rs, a);
    for (unsigned id = 0; id < RS_SERVERS; id++) {
        const enum server_kind kind = SERVER_ID_KIND(id);
        if (rs->server[id].used &&
            (kind == SERVER_TCP || kind == SERVER_UDP || kind == SERVER_SYSCALL))
            server_tell(rs, NULL, (server_id)id, about(a, RS_APP_GONE), -1);
    }
}

void app_done(struct rs *rs, const struct rs_message *m)
{
    struct application *a = m->arg < APPS_MAX ? rs->app[m->arg] : NULL;

    if (a == NULL || a->state != APP_GONE || a->generation != m->generation)
        return;
    for (unsigned i = 0; i < 2; i++)
        if (SERVER_ID_KIND(m->to) == data_kind[i])
            a->done[i] = true;
    state_save_app(rs, a);
    if (!a->done[0] || !a->done[1])
        return;
    unmap_everywhere(rs, a);
    release(rs, a);
}

/* ---- after a death of rs ---- */

int app_adopt(struct rs *rs, unsigned number, const struct state_app *s)
{
    struct application *a = blank(rs, number, s != NULL ? s->generation : 0);
    int rc = a == NULL ? -ENOMEM : app_park_open(rs, number);

    if (rc < 0)
        return rc;
    if (s != NULL && s->state == APP_FREE) {
        park_clear(&rs->app_park[number]);
        return 0;
    }
    rc = app_unpark(rs, a);
    if (rc < 0) {
        log_say(LOG_ERR, "", "application %u: nothing is left of it", number);
        if (s == NULL) /* nobody knows which generations there were: begin above all of them */
            a->generation = rs->app_generation[number] = 1u << 31 | (uint32_t)rs->lives;
        release(rs, a);
        return 0;
    }
    rs->app_generation[number] = a->generation;
    /* its record is damaged: that it lives is what it would say most often */
    a->state = s != NULL ? (enum app_state)s->state : APP_LIVE;
    if (s != NULL) {
        a->request_id = s->request_id;
        a->hung_up = s->hung_up != 0;
        for (unsigned i = 0; i < 2; i++)
            a->done[i] = s->done[i] != 0;
        for (unsigned n = 0; n < WAITERS_MAX; n++)
            a->waiter[n].waiting = (s->waiting >> n & 1) != 0 && a->waiter[n].server >= 0;
    }
    if (a->state == APP_GONE)
        close_fd(&a->pidfd.fd);
    if (a->state == APP_GONE || a->hung_up)
        close_fd(&a->control.fd);
    if (a->hung_up)
        rs->leavers_at = rs_now();
    return a->state == APP_GONE ? 0 : watch_it(rs, a);
}

void app_resume(struct rs *rs)
{
    for (unsigned i = 0; i < APPS_MAX; i++) {
        struct application *a = rs->app[i];
        if (a == NULL)
            continue;
        /* Everybody was told everything, and has it once he is ready. */
        sent_now(rs, a->need);
        for (unsigned n = 0; n < WAITERS_MAX; n++)
            if (a->waiter[n].waiting)
                sent_now(rs, a->waiter[n].need);
        if (a->state == APP_FREE && a->generation != 0)
            unmap_everywhere(rs, a); /* not everybody may have heard it */
    }
}

unsigned app_count(const struct rs *rs)
{
    unsigned n = 0;

    for (unsigned i = 0; i < APPS_MAX; i++)
        n += rs->app[i] != NULL && rs->app[i]->state != APP_FREE;
    return n;
}

void app_close_all(struct rs *rs)
{
    for (unsigned i = 0; i < APPS_MAX; i++) {
        park_close(&rs->app_park[i]);
        if (rs->app[i] != NULL && rs->app[i]->state != APP_FREE)
            release(rs, rs->app[i]);
        free(rs->app[i]);
        rs->app[i] = NULL;
    }
}
