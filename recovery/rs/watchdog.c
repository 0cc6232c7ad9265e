/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Looking after the living: samples of every running server for the hang detector (hang.h).
 */
#include "libchan/chan.h"
#include "log.h"
#include "rs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

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

/* Work waits for this server: a queue is not empty, or it says so itself. */
static bool has_work(const struct server *s)
{
    if (load_relaxed(&s->block->pending) != 0)
        return true;
    for (unsigned i = 0; i < s->inputs; i++)
        if (load_relaxed(&s->input[i].out->tail) != load_relaxed(&s->input[i].in->head))
            return true;
    return false;
}

static void look_at(struct rs *rs, struct incarnation *who, uint64_t now)
{
    const struct process *p = who->process;
    struct hang_sample s = {.work = who->acked < who->sent, .asleep = true};

    for (unsigned i = 0; i < p->components; i++) {
        const struct server *c = &rs->server[p->id[i]];
        s.work |= has_work(c);
        s.asleep &= load_relaxed(&c->block->asleep) != 0;
        s.turns += load_relaxed(&c->block->turns);
    }
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
        log_say(LOG_ERR, p->name, "process %d has work and takes no turn (state %c), killing it",
                who->pid, s.state);
        server_kill(who, true);
        break;
    }
}

void watchdog_look(struct rs *rs, uint64_t now)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        struct incarnation *running = rs->process[i].running;
        if (rs->process[i].state == PROCESS_RUNNING && running != NULL && !running->hung)
            look_at(rs, running, now);
    }
}
