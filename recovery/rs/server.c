/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life of a server process: start, everything it is told, ready, death, restart.
 *
 * The order after a death: reap (the predecessor's threads and mappings are gone, so that nobody
 * else touches a device's rings or the region), drop what was queued for it, ask the policy, start
 * the successor with everything that we keep. Nothing is asked of the neighbours.
 */
#include "servers/run/channel.h"

#include "log.h"
#include "rs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define START_LIMIT_NS                                                                             \
    10000000000ull /* a server that is not ready after this is taken for hung                      \
                    */

#define PROCESS_OF(w, member)                                                                      \
    ((struct process *)(void *)((char *)(w)-offsetof(struct process, member)))

const char *end_name(enum rs_end end)
{
    static const char *const names[] = {
        [END_NONE] = "none", [END_KILLED] = "killed", [END_FAULT] = "fault", [END_HANG] = "hang"};

    return (unsigned)end <= END_HANG ? names[end] : "?";
}

/* ---- what a server is told ---- */

bool server_announce(struct rs *rs, server_id to, region_id id)
{
    struct process *p = server_process(rs, to);
    int may = wiring_may_map(to, id);
    const struct keep *k = may != 0 ? memory_find(rs, to, id) : NULL;

    if (p == NULL || k == NULL)
        return false;
    channel_post(rs, p,
                 (struct rs_message){.op = RS_REGION,
                                     .to = to,
                                     .id = id,
                                     .generation = k->generation,
                                     .writable = may == 2,
                                     .map_generation = ++rs->seq},
                 may == 2 ? &k->rw : &k->ro, 1);
    return true;
}

static void tell_component(struct rs *rs, struct process *p, server_id id)
{
    struct server *s = &rs->server[id];

    server_announce(rs, id, REGION_CONFIG);
    for (unsigned peer = 0; peer < RS_SERVERS; peer++) {
        if (!rs->server[peer].used)
            continue;
        server_announce(rs, id, REGION_OF_SERVER(peer));
        server_announce(rs, id, REGION_PUBLIC(peer));
        /* components of one process need no bell among themselves */
        if ((s->neighbours[peer / 64] >> (peer % 64) & 1) != 0 && rs->server[peer].process != p)
            channel_post(rs, p,
                         (struct rs_message){
                             .op = RS_BELL_PEER, .to = id, .arg = peer, .kind = BELL_EVENTFD},
                         &rs->server[peer].process->bell, 1);
    }
    if (SERVER_ID_KIND(id) == SERVER_DRIVER)
        channel_post(rs, p,
                     (struct rs_message){.op = RS_DEVICE,
                                         .to = id,
                                         .arg = rs->cfg->interface[SERVER_ID_INSTANCE(id)].driver},
                     s->device, s->devices);
    if (SERVER_ID_KIND(id) == SERVER_SYSCALL)
        channel_post(rs, p, (struct rs_message){.op = RS_LISTEN, .to = id}, &rs->control_fd, 1);
    app_tell(rs, id);
}

/* ---- start ---- */

static void on_pidfd(struct rs *rs, struct watch *w, uint32_t events);
static void on_channel(struct rs *rs, struct watch *w, uint32_t events);

static void start_failed(struct rs *rs, struct process *p, uint64_t now)
{
    struct policy_action a = policy_step(&p->policy, POLICY_DEATH, END_FAULT, now);

    p->state = PROCESS_WAITING;
    p->restart_at = a.at;
    if (a.what == POLICY_GIVE_UP)
        rs_stop(rs, EXIT_SERVER);
}

void server_start(struct rs *rs, struct process *p)
{
    const int buffer = 8 << 20;
    uint64_t now = rs_now();
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        log_say(LOG_ERR, p->name, "cannot make its channel: %s", strerror(errno));
        start_failed(rs, p, now);
        return;
    }
    /* Only our end: the server's is blocking, which is the server's business. */
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) < 0)
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    int rc = spawn_process(rs, p, pair[1]);
    close(pair[1]);
    if (rc < 0) {
        close(pair[0]);
        start_failed(rs, p, now);
        return;
    }
    p->state = PROCESS_STARTING;
    p->started_at = now;
    p->ready = 0;
    p->hung = false;
    p->hang = (struct hang){0};
    p->channel = (struct watch){.fd = pair[0], .ready = on_channel};
    p->channel_wants_out = false;
    p->pidfd.ready = on_pidfd;
    rs_watch(rs, &p->pidfd, EPOLLIN);
    rs_watch(rs, &p->channel, EPOLLIN);

    channel_post(rs, p, (struct rs_message){.op = RS_BELL_SELF, .kind = BELL_EVENTFD}, &p->bell, 1);
    for (unsigned i = 0; i < p->components; i++)
        tell_component(rs, p, p->id[i]);
    p->start_seq = p->sent;
    channel_post(rs, p, (struct rs_message){.op = RS_START, .to = p->id[0], .arg = p->end}, NULL,
                 0);
}

/* ---- ready ---- */

static void all_ready(struct rs *rs, uint64_t now)
{
    for (unsigned i = 0; i < rs->processes; i++)
        if (rs->process[i].state != PROCESS_RUNNING)
            return;
    rs->up = true;
    for (unsigned i = 0; i < rs->processes; i++)
        policy_step(&rs->process[i].policy, POLICY_UP, END_NONE, now);
    log_say(LOG_INFO, "", "stack %s is up: %u processes, after %.1f ms", rs->cfg->name,
            rs->processes, (double)(now - rs->started_at) / 1e6);
    sd_notifyf(0, "READY=1\nSTATUS=%u servers are running", rs->processes);
    log_ready("READY");
}

static void on_ready(struct rs *rs, struct process *p)
{
    uint64_t now = rs_now();

    if (p->state != PROCESS_STARTING || ++p->ready < p->components)
        return;
    p->state = PROCESS_RUNNING;
    p->ready_at = now;
    /* all that was announced before RS_START is mapped */
    p->acked = p->start_seq;
    policy_step(&p->policy, POLICY_READY, END_NONE, now);
    if (p->died_at != 0) {
        p->last_gap_ns = now - p->died_at;
        log_say(LOG_NOTICE, p->name, "is back after %.2f ms (process %d)",
                (double)p->last_gap_ns / 1e6, p->pid);
    }
    if (!rs->up)
        all_ready(rs, now);
    app_progress(rs);
    runtime_pids(rs);
}

/* ---- what a server says ---- */

static bool has_component(const struct process *p, server_id id)
{
    for (unsigned i = 0; i < p->components; i++)
        if (p->id[i] == id)
            return true;
    return false;
}

/* The switch states what each kind may ask; anything else is dropped and said. */
static void on_message(struct rs *rs, struct process *p, const struct rs_message *m, int fd)
{
    const enum server_kind kind = SERVER_ID_KIND(m->to);

    if (!has_component(p, m->to)) {
        log_say(LOG_WARNING, p->name, "speaks for server %u, which it is not", m->to);
        return;
    }
    switch (m->op) {
    case RS_READY:
        on_ready(rs, p);
        return;
    case RS_ACK:
        if (m->map_generation > p->acked && m->map_generation <= p->sent) {
            p->acked = m->map_generation;
            app_progress(rs);
        }
        return;
    case RS_APP_NEW:
        if (kind == SERVER_SYSCALL) {
            app_request(rs, m, fd);
            return;
        }
        break;
    case RS_APP_WAITER:
        if (kind == SERVER_SYSCALL) {
            app_waiter_request(rs, m);
            return;
        }
        break;
    case RS_APP_DONE:
        if (kind == SERVER_TCP || kind == SERVER_UDP)
            app_done(rs, m);
        return; /* of the others nothing is asked: they hold nothing */
    default:
        break;
    }
    log_say(LOG_WARNING, p->name, "sent message %u, which it may not send", m->op);
}

static void on_channel(struct rs *rs, struct watch *w, uint32_t events)
{
    struct process *p = PROCESS_OF(w, channel);
    struct rs_message m;
    int fds[RS_FDS];

    if (events & EPOLLOUT)
        channel_writable(rs, p);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    /* a bounded number: one chatty server must not keep us from the others */
    for (int n = 0; n < 64 && p->channel.fd >= 0; n++) {
        int rc = channel_receive(p->channel.fd, &m, fds, MSG_DONTWAIT);
        if (rc == -EAGAIN)
            return;
        if (rc == -EPROTO) {
            log_say(LOG_WARNING, p->name, "sent something that is no message");
            continue;
        }
        if (rc <= 0) {
            /* It closed its channel, so it is ending; the pidfd says when. One that lives on would
             * hear of nothing any more, and nobody would wait for it. */
            server_kill(rs, p, false);
            rs_unwatch(rs, &p->channel);
            return;
        }
        on_message(rs, p, &m, fds[0]);
        for (unsigned i = 0; i < RS_FDS; i++)
            if (fds[i] >= 0)
                close(fds[i]);
    }
}

/* ---- death ---- */

static enum rs_end how(const struct process *p, const siginfo_t *info, char *text, size_t size)
{
    if (info->si_code == CLD_EXITED) {
        snprintf(text, size, "exited with status %d", info->si_status);
        return p->hung ? END_HANG : END_FAULT;
    }
    snprintf(text, size, "was ended by signal %d (%s)", info->si_status,
             strsignal(info->si_status));
    if (p->hung)
        return END_HANG;
    switch (info->si_status) {
    case SIGKILL:
    case SIGTERM:
    case SIGINT:
    case SIGHUP:
        return END_KILLED;
    default:
        return END_FAULT;
    }
}

static void on_pidfd(struct rs *rs, struct watch *w, uint32_t events)
{
    struct process *p = PROCESS_OF(w, pidfd);
    siginfo_t info = {0};
    char text[96];

    (void)events;
    if (waitid(P_PIDFD, (id_t)p->pidfd.fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        return;
    uint64_t now = rs_now();
    p->end = how(p, &info, text, sizeof text);
    p->died_at = now;
    const pid_t pid = p->pid;
    p->pid = 0;
    rs_unwatch(rs, &p->pidfd);
    rs_unwatch(rs, &p->channel);
    channel_drop(p);
    if (rs->stopping) {
        p->state = PROCESS_ENDED;
        return;
    }
    struct policy_action a = policy_step(&p->policy, POLICY_DEATH, p->end, now);
    p->state = PROCESS_WAITING;
    p->restart_at = a.at;
    p->restarts++;
    p->hangs += p->end == END_HANG;
    if (a.what == POLICY_GIVE_UP) {
        log_say(LOG_ERR, p->name, "process %d %s; it does not come up, giving up", pid, text);
        rs_stop(rs, EXIT_SERVER);
        return;
    }
    /* the successor first, the words about it later */
    if (a.at <= now)
        server_start(rs, p);
    log_say(LOG_WARNING, p->name, "process %d %s%s; restart %llu%s", pid, text,
            p->end == END_HANG ? " (it hung)" : "", (unsigned long long)p->restarts,
            a.at > now ? " is delayed" : "");
}

void server_kill(struct rs *rs, struct process *p, bool hung)
{
    (void)rs;
    if (p->pidfd.fd < 0)
        return;
    p->hung |= hung; /* whoever was killed for it stays so */
    syscall(SYS_pidfd_send_signal, p->pidfd.fd, SIGKILL, NULL, 0);
}

void server_stop_all(struct rs *rs)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        struct process *p = &rs->process[i];
        if (p->pid == 0)
            p->state = PROCESS_ENDED;
        else
            channel_post(rs, p, (struct rs_message){.op = RS_STOP, .to = p->id[0]}, NULL, 0);
    }
}

/* ---- time ---- */

uint64_t server_deadline(const struct rs *rs)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < rs->processes; i++) {
        const struct process *p = &rs->process[i];
        uint64_t t = UINT64_MAX;
        if (p->state == PROCESS_WAITING && !rs->stopping)
            t = p->restart_at;
        else if (p->state == PROCESS_STARTING)
            t = p->started_at + START_LIMIT_NS;
        at = t < at ? t : at;
    }
    return at;
}

void server_timers(struct rs *rs, uint64_t now)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        struct process *p = &rs->process[i];
        if (p->state == PROCESS_WAITING && p->restart_at <= now && !rs->stopping) {
            server_start(rs, p);
        } else if (p->state == PROCESS_STARTING && now - p->started_at > START_LIMIT_NS &&
                   !p->hung) {
            log_say(LOG_ERR, p->name, "process %d is not ready after %llu s, killing it", p->pid,
                    START_LIMIT_NS / 1000000000ull);
            server_kill(rs, p, true);
        }
    }
}

/* ---- the set ---- */

struct process *server_find(struct rs *rs, const char *name)
{
    server_id id;

    for (unsigned i = 0; i < rs->processes; i++)
        if (strcmp(rs->process[i].name, name) == 0)
            return &rs->process[i];
    return server_id_parse(name, &id) == 0 ? server_process(rs, id) : NULL;
}

static struct process *new_process(struct rs *rs, const char *name)
{
    struct process *p = &rs->process[rs->processes++];

    snprintf(p->name, sizeof p->name, "%s", name);
    p->pidfd.fd = p->channel.fd = -1;
    p->queue_end = &p->queue;
    p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return p;
}

int server_setup(struct rs *rs)
{
    server_id ids[RS_SERVERS];
    unsigned n = wiring_servers(rs->cfg, ids, RS_SERVERS);
    struct process *fused = NULL;

    if (n > RS_PROCESSES)
        return -E2BIG;
    for (unsigned i = 0; i < n; i++) {
        struct process *p = fused;
        if (p == NULL)
            p = new_process(rs, rs->cfg->shape == SHAPE_FUSED ? "fused" : server_id_name(ids[i]));
        if (p->bell < 0)
            return -errno;
        if (rs->cfg->shape == SHAPE_FUSED)
            fused = p;
        p->id[p->components++] = ids[i];
        rs->server[ids[i]].process = p;
    }
    for (unsigned i = 0; i < rs->processes; i++)
        spawn_user(&rs->process[i]);
    return 0;
}
