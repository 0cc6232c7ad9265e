/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Looking after the living: samples of every running server for the hang detector (hang.h).
 */
#include "libchan/chan.h"
#include "log.h"
#include "rs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ADOPTED_LOOK_NS 100000000ull

static ssize_t read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

int watchdog_process(pid_t pid, struct hang_sample *s)
{
    char path[64], text[512];
    unsigned long long cpu, delay;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    ssize_t n = read_file(path, text, sizeof text);
    if (n <= 0)
        return -ENOENT;
    const char *close_paren = strrchr(text, ')');
    if (close_paren == NULL || close_paren[1] != ' ')
        return -EPROTO;
    s->state = close_paren[2];
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    if (read_file(path, text, sizeof text) <= 0 || sscanf(text, "%llu %llu", &cpu, &delay) != 2)
        return -EPROTO;
    s->cpu_ns = cpu;
    s->run_delay_ns = delay;
    return 0;
}

/* An adopted one is another's child: its state is read, now and then, as that costs more. */
static bool adopted_is_stopped(struct incarnation *who, uint64_t now)
{
    char text[512];

    if (now < who->look_at)
        return false;
    who->look_at = now + ADOPTED_LOOK_NS;
    const ssize_t n = pread(who->stat, text, sizeof text - 1, 0);
    if (n <= 0)
        return false; /* just dead: the pidfd says so */
    text[n] = '\0';
    const char *close_paren = strrchr(text, ')');
    return close_paren != NULL && close_paren[1] == ' ' && close_paren[2] == 'T';
}

/* Stopped by a signal since the last look, and still so? The kernel tells a parent, for the price
 * of one call. */
static bool is_stopped(struct incarnation *who, uint64_t now)
{
    struct hang_sample s = {0};
    siginfo_t info = {0};

    if (who->adopted)
        return adopted_is_stopped(who, now);
    return waitid(P_PIDFD, (id_t)who->pidfd.fd, &info, WSTOPPED | WNOHANG) == 0 &&
           info.si_pid != 0 && watchdog_process(who->pid, &s) == 0 && s.state == 'T';
}

/* Adds what one component shows. */
static void sample_component(const struct server *c, struct hang_sample *s)
{
    for (unsigned i = 0; i < c->inputs; i++) {
        const uint64_t head = load_relaxed(&c->input[i].in->head);

        s->waiting |= load_relaxed(&c->input[i].out->tail) != head;
        s->moved += head;
    }
    for (unsigned i = 0; i < c->outputs; i++) {
        const uint64_t tail = load_relaxed(&c->output[i].out->tail);

        /* Whoever produces nothing for a living consumer soon finds its outputs empty. */
        s->excused |= tail - load_relaxed(&c->output[i].in->head) > c->output[i].slots / 2;
        s->moved += tail;
    }
    s->work |= load_relaxed(&c->block->pending) != 0;
    s->asleep &= load_relaxed(&c->block->asleep) != 0;
    s->turns += load_relaxed(&c->block->turns);
}

static void look_at(struct rs *rs, struct incarnation *who, bool excused, uint64_t now)
{
    const struct process *p = who->process;
    struct hang_sample s = {.asleep = true, .excused = excused};

    if (is_stopped(who, now)) {
        server_kill(who, true);
        log_say(LOG_ERR, p->name, "process %d was stopped by a signal, killed it", who->pid);
        return;
    }
    for (unsigned i = 0; i < p->components; i++)
        sample_component(&rs->server[p->id[i]], &s);
    s.work |= s.waiting || who->acked < who->sent;
    if (hang_suspicious(&who->hang, &s) && watchdog_process(who->pid, &s) < 0)
        return; /* just dead: the pidfd says so */
    switch (hang_step(&who->hang, &s, now)) {
    case HANG_FINE:
        break;
    case HANG_RING: {
        /* It may be waiting for a neighbour; one that lives takes a turn when it is rung. */
        const uint64_t one = 1;
        if (write(p->bell, &one, sizeof one) < 0 && errno != EAGAIN)
            log_say(LOG_WARNING, p->name, "cannot ring it: %s", strerror(errno));
        break;
    }
    case HANG_KILL:
        server_kill(who, true); /* first: what is said may wait */
        if (who->hang.suspect || s.state != 0)
            log_say(LOG_ERR, p->name, "process %d has work and takes no turn (state %c), killed it",
                    who->pid, s.state);
        else
            log_say(LOG_ERR, p->name, "process %d takes turns and nothing moves, killed it",
                    who->pid);
        break;
    }
}

static bool is_running(const struct process *p)
{
    return p->state == PROCESS_RUNNING && p->running != NULL && !p->running->hung;
}

/* Somebody waits for this one with good reason: it is away, suspected, or excused itself. */
static bool keeps_others_waiting(const struct rs *rs, const struct process *p)
{
    if (!is_running(p) || p->running->hang.suspect)
        return true;
    for (unsigned i = 0; i < p->components; i++)
        if (load_relaxed(&rs->server[p->id[i]].block->excused) != 0)
            return true;
    return false;
}

uint64_t watchdog_look(struct rs *rs, uint64_t now)
{
    bool excused = false, suspected = false;

    for (unsigned i = 0; i < rs->processes; i++)
        excused |= keeps_others_waiting(rs, &rs->process[i]);
    for (unsigned i = 0; i < rs->processes; i++) {
        if (!is_running(&rs->process[i]))
            continue;
        look_at(rs, rs->process[i].running, excused, now);
        suspected |= hang_suspected(&rs->process[i].running->hang);
    }
    return now + (suspected ? HANG_CLOSE_NS : HANG_PERIOD_NS);
}
