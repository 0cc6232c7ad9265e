/* SPDX-License-Identifier: BSD-2-Clause */
#include "again.h"

#include "watch.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the victim is, its successor will be: whoever spins there keeps it from running, or is
 * kept. */
void again_get_ready(pid_t victim)
{
    const struct sched_param first = {.sched_priority = 1};
    cpu_set_t own, theirs, rest;

    if (sched_getaffinity(0, sizeof own, &own) == 0 &&
        sched_getaffinity(victim, sizeof theirs, &theirs) == 0) {
        CPU_AND(&theirs, &theirs, &own);
        CPU_XOR(&rest, &own, &theirs);
        if (CPU_COUNT(&rest) > 0)
            sched_setaffinity(0, sizeof rest, &rest);
    }
    sched_setscheduler(0, SCHED_FIFO, &first); /* better, not needed */
}

int again_kill(const struct server_block *block, pid_t was, uint64_t epoch, unsigned limit_ms,
               struct random *r, struct again *a)
{
    const uint64_t begin = watch_realtime(), limit = limit_ms * 1000000ull,
                   started = load_relaxed(&block->started);
    uint64_t seen;

    *a = (struct again){.delay_ns = random_below(r, AGAIN_SPREAD_US) * 1000};
    while (load_acquire(&block->epoch) == epoch || (pid_t)load_relaxed(&block->pid) == was)
        if (watch_realtime() - begin > limit)
            return -ETIMEDOUT;
    seen = watch_realtime();
    a->pid = (pid_t)load_relaxed(&block->pid);
    a->epoch = load_relaxed(&block->epoch);
    int fd = (int)syscall(SYS_pidfd_open, a->pid, 0);
    if (fd < 0)
        return -errno;
    while (watch_realtime() - seen < a->delay_ns)
        cpu_relax();
    a->ready = load_relaxed(&block->started) != started;
    a->at_ns = watch_realtime();
    int rc = syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
    close(fd);
    return rc;
}
