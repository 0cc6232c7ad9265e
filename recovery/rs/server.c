/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life of a server process: start, everything it is told, ready, death, restart.
 *
 * The order after a death: reap (the predecessor's threads and mappings are gone, so that nobody
 * else touches a device's rings or the region), drop what was queued for it, ask the policy, start
 * the successor with everything that we keep. Nothing is asked of the neighbours.
 */
#include "servers/run/channel.h"
#include "servers/run/fault.h"

#include "fdstore.h"
#include "log.h"
#include "rs.h"
#include "state.h"

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
    10000000000ull                   /* a server that is not ready after this is taken for hung    \
                                      */
#define ADOPT_LIMIT_NS 2000000000ull /* one that runs, and does not answer its new rs */
#define ADOPT_TAKE_NS                                                                              \
    20000000ull /* nobody ran when rs died: one of the spares is to, after this                    \
                 */

#define INCARNATION_OF(w, member)                                                                  \
    ((struct incarnation *)(void *)((char *)(w)-offsetof(struct incarnation, member)))

const char *end_name(enum rs_end end)
{
    static const char *const names[] = {
        [END_NONE] = "none", [END_KILLED] = "killed", [END_FAULT] = "fault", [END_HANG] = "hang"};

    return (unsigned)end <= END_HANG ? names[end] : "?";
}

/* ---- what a server is told ---- */

void server_tell(struct rs *rs, struct incarnation *only, server_id to, struct rs_message m, int fd)
{
    struct process *p = server_process(rs, to);
    const unsigned nfds = fd >= 0 ? 1 : 0;

    m.to = to;
    if (only != NULL)
        channel_post(rs, only, m, &fd, nfds);
    else if (p != NULL)
        for (unsigned i = 0; i < INCARNATIONS; i++)
            channel_post(rs, &p->incarnation[i], m, &fd, nfds);
}

void server_announce(struct rs *rs, struct incarnation *only, server_id to, region_id id)
{
    int may = wiring_may_map(to, id);
    const struct keep *k = may != 0 ? memory_find(rs, to, id) : NULL;

    if (k != NULL)
        server_tell(rs, only, to,
                    (struct rs_message){.op = RS_REGION,
                                        .id = id,
                                        .generation = k->generation,
                                        .writable = may == 2,
                                        .map_generation = ++rs->seq},
                    may == 2 ? k->rw : k->ro);
}

static void tell_component(struct rs *rs, struct incarnation *who, server_id id)
{
    struct server *s = &rs->server[id];

    server_announce(rs, who, id, REGION_CONFIG);
    server_announce(rs, who, id, REGION_OF_SERVER(SERVER_ID(SERVER_RS, 0)));
    for (unsigned peer = 0; peer < RS_SERVERS; peer++) {
        if (!rs->server[peer].used)
            continue;
        server_announce(rs, who, id, REGION_OF_SERVER(peer));
        server_announce(rs, who, id, REGION_PUBLIC(peer));
        /* components of one process need no bell among themselves */
        if ((s->neighbours[peer / 64] >> (peer % 64) & 1) != 0 &&
            rs->server[peer].process != who->process)
            server_tell(rs, who, id,
                        (struct rs_message){.op = RS_BELL_PEER, .arg = peer, .kind = BELL_EVENTFD},
                        rs->server[peer].process->bell);
    }
    if (SERVER_ID_KIND(id) == SERVER_DRIVER)
        channel_post(rs, who,
                     (struct rs_message){.op = RS_DEVICE,
                                         .to = id,
                                         .arg = rs->cfg->interface[SERVER_ID_INSTANCE(id)].driver},
                     s->device, s->devices);
    if (SERVER_ID_KIND(id) == SERVER_SYSCALL)
        server_tell(rs, who, id, (struct rs_message){.op = RS_LISTEN}, rs->control_fd);
    app_tell(rs, who, id);
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

static bool anybody(const struct process *p)
{
    for (unsigned i = 0; i < INCARNATIONS; i++)
        if (p->incarnation[i].state != INCARNATION_NONE)
            return true;
    return false;
}

static struct incarnation *free_place(struct process *p)
{
    for (unsigned i = 0; i < INCARNATIONS; i++)
        if (p->incarnation[i].state == INCARNATION_NONE)
            return &p->incarnation[i];
    return NULL;
}

static void begin_life(struct rs *rs, struct incarnation *who, uint64_t since, int channel)
{
    who->state = INCARNATION_STARTING;
    who->started_at = since;
    who->ready = 0;
    who->hung = who->handing = who->adopted = false;
    who->sent = who->acked = who->start_seq = 0;
    who->standby_due = false;
    who->epoch = who->killed_at = who->look_at = 0;
    who->hang = (struct hang){0};
    who->channel = (struct watch){.fd = channel, .ready = on_channel};
    who->channel_wants_out = false;
    who->pidfd.ready = on_pidfd;
    rs_watch(rs, &who->pidfd, EPOLLIN);
    rs_watch(rs, &who->channel, EPOLLIN);
}

struct incarnation *server_beget(struct rs *rs, struct process *p, const struct program *program,
                                 uint64_t now, bool spare)
{
    const int buffer = 8 << 20;
    struct incarnation *who = free_place(p);
    int pair[2];

    if (who == NULL)
        return NULL;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        log_say(LOG_ERR, p->name, "cannot make its channel: %s", strerror(errno));
        return NULL;
    }
    /* Only our end: the server's is blocking, which is the server's business. */
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    /* and so much that a server that speaks while rs is away need not wait for the next one */
    for (unsigned i = 0; i < 2; i++)
        if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) < 0)
            setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    who->program = *program;
    int rc = spawn_process(rs, who, pair[1], spare);
    close(pair[1]);
    if (rc < 0) {
        close(pair[0]);
        return NULL;
    }
    who->limit_at = now + START_LIMIT_NS;
    begin_life(rs, who, now, pair[0]);
    /* Before it is told anything: if we die without having parked it, it ends, and has done
     * nothing. */
    const struct parked what = {
        .kind = PARK_INCARNATION, .pid = who->pid, .since = now, .number = program->build};
    rc = park_put(&who->park, &what, (const int[2]){who->pidfd.fd, pair[0]}, 2);
    if (rc < 0)
        log_say(LOG_ERR, p->name, "cannot park process %d: %s", who->pid, strerror(-rc));
    return who;
}

void server_tell_all(struct rs *rs, struct incarnation *who)
{
    const struct process *p = who->process;

    server_tell(rs, who, p->id[0], (struct rs_message){.op = RS_BELL_SELF, .kind = BELL_EVENTFD},
                p->bell);
    for (unsigned i = 0; i < p->components; i++)
        tell_component(rs, who, p->id[i]);
    who->start_seq = who->sent;
}

void server_start(struct rs *rs, struct process *p)
{
    uint64_t now = rs_now();
    struct incarnation *who = server_beget(rs, p, &p->program, now, false);

    if (who == NULL) {
        start_failed(rs, p, now);
        return;
    }
    p->state = PROCESS_STARTING;
    p->running = who;
    state_save_role(rs, p);
    server_tell_all(rs, who);
    server_tell(rs, who, p->id[0], (struct rs_message){.op = RS_START, .arg = p->end}, -1);
}

/* ---- after a death of rs ---- */

void server_adopt(struct rs *rs, struct incarnation *who, const struct parked *what, int pidfd,
                  int channel, bool runs)
{
    struct process *p = who->process;
    char path[32];

    who->pid = (pid_t)what->pid;
    who->pidfd.fd = pidfd;
    snprintf(path, sizeof path, "/proc/%d/stat", who->pid);
    who->stat =
        open(path, O_RDONLY | O_CLOEXEC); /* somebody else's, if it has died: nobody is told */
    begin_life(rs, who, what->since, channel);
    if (!update_adopt(p, who, what->number))
        server_kill(who, false); /* of a program that is given up */
    who->adopted = true;
    who->limit_at = rs_now() + ADOPT_LIMIT_NS;
    if (runs) {
        p->state = PROCESS_STARTING;
        p->running = who;
        who->epoch = load_relaxed(&p->block->epoch);
    } else {
        who->started_at = rs_now(); /* to stand by once more */
    }
}

/* What the others of a role have said comes before what the pidfd of one says: a spare may stand
 * by, or have taken over already, and we have not read it. */
static void hear_others(struct rs *rs, const struct incarnation *who, struct process *p)
{
    for (unsigned i = 0; i < INCARNATIONS; i++)
        if (&p->incarnation[i] != who && p->incarnation[i].channel.fd >= 0)
            on_channel(rs, &p->incarnation[i].channel, EPOLLIN);
}

static void retell(struct rs *rs, struct process *p)
{
    if (p->running != NULL) {
        server_tell_all(rs, p->running);
        server_tell(rs, p->running, p->id[0], (struct rs_message){.op = RS_START, .arg = p->end},
                    -1);
    }
    spare_retell(rs, p);
    hear_others(rs, NULL, p);
    if (p->running == NULL && anybody(p))
        p->take_at = rs_now() + ADOPT_TAKE_NS;
}

void server_retell(struct rs *rs)
{
    for (unsigned i = 0; i < rs->processes; i++)
        retell(rs, &rs->process[i]);
}

/* ---- ready ---- */

static void all_ready(struct rs *rs, uint64_t now)
{
    for (unsigned i = 0; i < rs->processes; i++)
        if (rs->process[i].state != PROCESS_RUNNING)
            return;
    rs->up = true;
    for (unsigned i = 0; i < rs->processes; i++) {
        policy_step(&rs->process[i].policy, POLICY_UP, END_NONE, now);
        state_save_role(rs, &rs->process[i]);
    }
    state_save_stack(rs);
    log_say(LOG_INFO, "", "stack %s is up: %u processes, after %.1f ms", rs->cfg->name,
            rs->processes, (double)(now - rs->started_at) / 1e6);
    sd_notifyf(0, "READY=1\nSTATUS=%u servers are running", rs->processes);
    log_ready("READY");
}

/* m->map_generation is the newest announcement that it has handled. Less than what came before
 * RS_START: it says so to a predecessor of ours, which had told it less. */
static void on_ready(struct rs *rs, struct incarnation *who, const struct rs_message *m)
{
    struct process *p = who->process;
    uint64_t now = rs_now();

    if (who != p->running || who->state != INCARNATION_STARTING ||
        m->map_generation < who->start_seq)
        return;
    if (m->to == p->id[0])
        who->epoch = m->request_id;
    if (++who->ready < p->components)
        return;
    who->state = INCARNATION_RUNNING;
    p->state = PROCESS_RUNNING;
    p->ready_at = now;
    p->replenish_at = (p->restart_at > now ? p->restart_at : now) + SPARE_AFTER_NS;
    if (m->map_generation <= who->sent)
        who->acked = m->map_generation;
    policy_step(&p->policy, POLICY_READY, END_NONE, now);
    shm_store(&p->shared->start, 0u); /* it lives: whoever comes after it may start as usual */
    if (p->died_at != 0) {            /* else it was there all the time, and only we are new */
        p->last_gap_ns = now - p->died_at;
        log_say(LOG_NOTICE, p->name, "is back after %.2f ms (process %d)",
                (double)p->last_gap_ns / 1e6, who->pid);
        p->died_at = 0;
    }
    state_save_role(rs, p);
    if (!rs->up)
        all_ready(rs, now);
    update_ready(rs, p);
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
static void on_message(struct rs *rs, struct incarnation *who, const struct rs_message *m, int fd)
{
    const struct process *p = who->process;
    const enum server_kind kind = SERVER_ID_KIND(m->to);

    if (!has_component(p, m->to)) {
        log_say(LOG_WARNING, p->name, "speaks for server %u, which it is not", m->to);
        return;
    }
    switch (m->op) {
    case RS_READY:
        on_ready(rs, who, m);
        return;
    case RS_STANDING:
        spare_standing(rs, who, m);
        return;
    case RS_TAKEN:
        spare_taken(rs, who, m, rs_now());
        return;
    case RS_ACK:
        if (m->map_generation > who->acked && m->map_generation <= who->sent) {
            who->acked = m->map_generation;
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
    struct incarnation *who = INCARNATION_OF(w, channel);
    struct rs_message m;
    int fds[RS_FDS];

    if (events & EPOLLOUT)
        channel_writable(rs, who);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    /* a bounded number: one chatty server must not keep us from the others */
    for (int n = 0; n < 64 && who->channel.fd >= 0; n++) {
        /* It is consumed after its effects: if we die in between, the next rs finds it again. */
        int rc = channel_receive(who->channel.fd, &m, fds, MSG_DONTWAIT | MSG_PEEK);
        if (rc == -EAGAIN)
            return;
        if (rc == -EPROTO) {
            log_say(LOG_WARNING, who->process->name, "sent something that is no message");
            channel_consume(who->channel.fd);
            continue;
        }
        if (rc <= 0) {
            /* It closed its channel, so it is ending; the pidfd says when. One that lives on would
             * hear of nothing any more, and nobody would wait for it. */
            server_kill(who, false);
            rs_unwatch(rs, &who->channel);
            return;
        }
        on_message(rs, who, &m, fds[0]);
        channel_consume(who->channel.fd);
        for (unsigned i = 0; i < RS_FDS; i++)
            if (fds[i] >= 0)
                close(fds[i]);
    }
}

/* ---- death ---- */

static enum rs_end how(const struct incarnation *who, const siginfo_t *info, char *text,
                       size_t size)
{
    if (info->si_pid == 0) {
        /* a predecessor of ours was its parent: what it wrote down itself */
        snprintf(text, size, "has ended");
        return who->hung ? END_HANG : fault_end(who->process->block, who->process->shared);
    }
    if (info->si_code == CLD_EXITED) {
        snprintf(text, size, "exited with status %d", info->si_status);
        if (who->handing && info->si_status == 0)
            return END_NONE;
        return who->hung ? END_HANG : END_FAULT;
    }
    /* its heir makes sure of its end, and so do we when its channel closes */
    if (who->handing && info->si_status == SIGKILL)
        return END_NONE;
    snprintf(text, size, "was ended by signal %d (%s)", info->si_status,
             strsignal(info->si_status));
    if (who->hung)
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

/* Was anything in progress? */
static bool had_item(const struct rs *rs, const struct process *p)
{
    for (unsigned i = 0; i < p->components; i++)
        if (load_relaxed(&rs->server[p->id[i]].block->in_progress) != 0)
            return true;
    return false;
}

struct policy_action server_ended(struct process *p, const struct incarnation *who, enum rs_end end,
                                  bool item, uint64_t now)
{
    p->policy.item = item;
    p->policy.updated = p->update.state == UPDATE_DONE;
    struct policy_action a = policy_step(&p->policy, POLICY_DEATH, end, now);

    /* A spare that is faster than we are has looked there before: then the next one does as it
     * says. */
    shm_store(&p->shared->start, (uint32_t)a.start);
    if (a.start != 0)
        log_say(LOG_WARNING, p->name, "cannot live; from now on it is started %s",
                a.start & START_COLD ? "cold" : "without optional state");
    p->end = end;
    p->died_at = who->killed_at != 0 ? who->killed_at : now;
    p->restart_at = a.at;
    p->restarts += end != END_NONE;
    p->hangs += end == END_HANG;
    return a;
}

/* The one that ran is reaped, and as far as we know nobody has taken over. False: that was it. */
static bool bereaved(struct rs *rs, struct process *p, const struct incarnation *who,
                     enum rs_end end, uint64_t now)
{
    struct policy_action a = server_ended(p, who, end, had_item(rs, p), now);

    p->running = NULL;
    p->state = PROCESS_WAITING;
    state_save_role(rs, p);
    if (a.what == POLICY_GIVE_UP)
        return false;
    if (spare_orphaned(p, now))
        return true;
    update_bereaved(rs, p, end);
    if (a.previous)
        update_go_back(rs, p);
    for (unsigned i = 0; i < INCARNATIONS; i++)
        server_kill(&p->incarnation[i], false); /* to be spares, and not yet ready for it */
    if (a.at <= now && !anybody(p))
        server_start(rs, p);
    return true;
}

static void on_pidfd(struct rs *rs, struct watch *w, uint32_t events)
{
    struct incarnation *who = INCARNATION_OF(w, pidfd);
    struct process *p = who->process;
    siginfo_t info = {0};
    char text[96];

    (void)events;
    /* One that we have adopted is another's to reap; that its pidfd is ready says that it is dead.
     */
    if (waitid(P_PIDFD, (id_t)who->pidfd.fd, &info, WEXITED | WNOHANG) < 0 ? errno != ECHILD
                                                                           : info.si_pid == 0)
        return;
    if (who == p->running)
        hear_others(rs, who, p);
    const uint64_t now = rs_now();
    const struct incarnation was = *who;
    const enum rs_end end = how(who, &info, text, sizeof text);
    const bool ran = who == p->running || was.state == INCARNATION_ENDING;
    bool goes_on = true;

    who->pid = 0;
    who->state = INCARNATION_NONE;
    rs_unwatch(rs, &who->pidfd);
    rs_unwatch(rs, &who->channel);
    channel_drop(who);
    park_clear(&who->park);
    if (who->stat >= 0)
        close(who->stat);
    who->stat = -1;
    if (rs->stopping) {
        if (who == p->running)
            p->running = NULL;
        if (!anybody(p))
            p->state = PROCESS_ENDED;
        return;
    }
    /* the successor first, the words about it later */
    if (who == p->running)
        goes_on = bereaved(rs, p, &was, end, now);
    else if (!ran)
        spare_died(p, was.state == INCARNATION_STANDBY, now);
    update_lost(rs, p, who, text);
    if (!ran) {
        log_say(LOG_INFO, p->name, "spare %d %s", was.pid, text);
    } else if (!goes_on) {
        log_say(LOG_ERR, p->name, "process %d %s; it does not come up, giving up", was.pid, text);
        rs_stop(rs, EXIT_SERVER);
    } else if (end == END_NONE) {
        log_say(LOG_INFO, p->name, "process %d has handed over", was.pid);
    } else {
        const bool delayed = p->state == PROCESS_WAITING && p->restart_at > now;
        log_say(LOG_WARNING, p->name, "process %d %s%s; restart %llu%s", was.pid, text,
                end == END_HANG ? " (it hung)" : "", (unsigned long long)p->restarts,
                delayed && p->take_at == UINT64_MAX ? " is delayed" : "");
    }
}

void server_kill(struct incarnation *who, bool hung)
{
    if (who->pidfd.fd < 0)
        return;
    struct process *p = who->process;
    if (who->killed_at == 0)
        who->killed_at = rs_now();
    who->hung |= hung; /* whoever was killed for it stays so */
    /* before the kill: its successor may be faster than our next line */
    if (hung && who == p->running)
        shm_store_release(&p->shared->hung_epoch, load_relaxed(&p->block->epoch));
    syscall(SYS_pidfd_send_signal, who->pidfd.fd, SIGKILL, NULL, 0);
}

void server_stop_all(struct rs *rs)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        struct process *p = &rs->process[i];
        if (p->running == NULL)
            p->state = PROCESS_ENDED;
        server_tell(rs, NULL, p->id[0], (struct rs_message){.op = RS_STOP}, -1);
        spare_wake(p);
    }
}

/* ---- time ---- */

uint64_t server_deadline(const struct rs *rs)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < rs->processes; i++) {
        const struct process *p = &rs->process[i];
        uint64_t t = UINT64_MAX;
        if (p->state == PROCESS_WAITING && !rs->stopping && p->take_at == UINT64_MAX &&
            !anybody(p)) /* else their pidfds tell */
            t = p->restart_at;
        else if (p->state == PROCESS_STARTING)
            t = p->running->limit_at;
        at = t < at ? t : at;
    }
    return at;
}

void server_timers(struct rs *rs, uint64_t now)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        struct process *p = &rs->process[i];
        if (p->state == PROCESS_WAITING && p->restart_at <= now && !rs->stopping) {
            if (p->take_at == UINT64_MAX && !anybody(p))
                server_start(rs, p);
        } else if (p->state == PROCESS_STARTING && !p->running->hung &&
                   now > p->running->limit_at) {
            log_say(LOG_ERR, p->name, "process %d does not become ready, killing it",
                    p->running->pid);
            server_kill(p->running, true);
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

static int open_bell(const struct rs *rs, struct process *p)
{
    char name[48];

    snprintf(name, sizeof name, "bell.%s", p->name);
    if (rs->adopting) {
        p->bell = fdstore_take(name);
        return p->bell < 0 ? -ENOENT : 0;
    }
    p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return p->bell < 0 ? -errno : fdstore_put(name, p->bell);
}

static int new_process(struct rs *rs, const char *role)
{
    struct process *p = &rs->process[rs->processes++];
    char name[48];
    int rc = 0;

    snprintf(p->name, sizeof p->name, "%s", role);
    for (unsigned i = 0; i < INCARNATIONS && rc == 0; i++) {
        struct incarnation *who = &p->incarnation[i];
        *who = (struct incarnation){.process = p, .pidfd.fd = -1, .channel.fd = -1, .stat = -1};
        who->queue_end = &who->queue;
        snprintf(name, sizeof name, "%s.%u", p->name, i);
        rc = park_open(&who->park, name);
    }
    p->wake_at = p->replenish_at = p->take_at = UINT64_MAX;
    return rc == 0 ? open_bell(rs, p) : rc;
}

int server_setup(struct rs *rs)
{
    server_id ids[RS_SERVERS];
    unsigned n = wiring_servers(rs->cfg, ids, RS_SERVERS);

    if (n > RS_PROCESSES)
        return -E2BIG;
    for (unsigned i = 0; i < n; i++) {
        const bool fused = rs->cfg->shape == SHAPE_FUSED;
        if (i == 0 || !fused) {
            int rc = new_process(rs, fused ? "fused" : server_id_name(ids[i]));
            if (rc < 0)
                return rc;
        }
        struct process *p = &rs->process[rs->processes - 1];
        p->id[p->components++] = ids[i];
        rs->server[ids[i]].process = p;
        if (p->components == 1) {
            p->block = rs->server[ids[i]].block;
            p->shared = &rs->page->role[ids[i]];
        }
    }
    for (unsigned i = 0; i < rs->processes; i++)
        spawn_user(&rs->process[i]);
    return 0;
}
