/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See standby.h.
 */
#include "standby.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STAT_EXITING 0x4u /* PF_EXITING: set before the kernel gives the robust list back */

enum { STAT_FLAGS = 9 }; /* field of /proc/PID/stat, counted from 1 */

/* The kernel walks this list when we die. The entry lies in our own memory; the futex that goes
 * with it is `futex_offset` away, in the region. */
static struct robust_list entry;
static struct robust_list_head head;

enum standby_verdict standby_decide(const struct standby *s, uint32_t lock, uint64_t epoch)
{
    if (s->take)
        return STANDBY_TAKE_ALL;
    if ((lock & FUTEX_OWNER_DIED) == 0 && lock != (s->self | FUTEX_WAITERS))
        return STANDBY_SLEEP;
    for (unsigned i = 0; i < FELLOWS; i++)
        if (s->fellow[i].pid != 0 && s->fellow[i].running && s->fellow[i].epoch == epoch)
            return STANDBY_TAKE;
    return STANDBY_TAKE_ALL;
}

bool standby_confirm(const struct standby *s, uint32_t lock, uint64_t epoch, uint64_t epoch_before)
{
    return lock == (s->self | FUTEX_WAITERS) && epoch == epoch_before;
}

/* Does this line of /proc/PID/stat say that the process is exiting? */
static bool exiting(const char *line)
{
    const char *p = strrchr(line, ')'); /* the end of field 2, which may contain anything */

    for (int field = 2; p != NULL && field < STAT_FLAGS; field++)
        if ((p = strchr(p, ' ')) != NULL)
            p++;
    return p != NULL && (strtoul(p, NULL, 10) & STAT_EXITING) != 0;
}

static bool has_ended(const struct fellow *f)
{
    char line[512];
    ssize_t n = pread(f->stat, line, sizeof line - 1, 0);

    if (n <= 0)
        return n < 0 && errno == ESRCH; /* reaped */
    line[n] = '\0';
    return exiting(line);
}

static void kill_fellow(const struct fellow *f)
{
    syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
}

static bool concerns(const struct fellow *f, bool all)
{
    return f->pid != 0 && (all || f->running);
}

/* A process with a signal that cannot be caught is exiting at once, or at the end of its system
 * call; it may need our processor for that. One that rs has just made is not ours to kill until it
 * has become our user: so again and again. */
static void end_fellows(const struct standby *s, bool all)
{
    for (unsigned i = 0; i < FELLOWS; i++)
        if (concerns(&s->fellow[i], all))
            kill_fellow(&s->fellow[i]);
    for (unsigned i = 0; i < FELLOWS; i++)
        while (concerns(&s->fellow[i], all) && !has_ended(&s->fellow[i])) {
            sched_yield();
            kill_fellow(&s->fellow[i]);
        }
}

static void forget(struct fellow *f)
{
    close(f->pidfd);
    close(f->stat);
    *f = (struct fellow){.pidfd = -1, .stat = -1};
}

void standby_fellow(struct standby *s, const struct rs_message *m, int pidfd, int stat)
{
    const struct fellow new = {.pid = (pid_t)m->pid,
                               .pidfd = pidfd,
                               .stat = stat,
                               .running = m->arg != 0,
                               .epoch = m->request_id};
    struct fellow *at = NULL;

    for (unsigned i = 0; i < FELLOWS; i++) {
        struct fellow *f = &s->fellow[i];

        if (f->pid == new.pid || (f->pid != 0 && has_ended(f)))
            forget(f); /* told again, or dead and of no interest */
        if (f->pid != 0 && new.running)
            f->running = false; /* there is one at a time, and rs knows */
        if (f->pid == 0 && at == NULL)
            at = f;
    }
    if (at != NULL)
        *at = new;
}

void standby_register(struct standby *s)
{
    for (unsigned i = 0; i < FELLOWS; i++)
        if (s->fellow[i].pid == 0)
            s->fellow[i].pidfd = s->fellow[i].stat = -1;
    s->self = (uint32_t)syscall(SYS_gettid);
    entry.next = &head.list;
    head.futex_offset = (long)((uintptr_t)&s->block->lock - (uintptr_t)&entry);
    head.list.next = &entry;
    syscall(SYS_set_robust_list, &head, sizeof head);
}

void standby_own(struct standby *s)
{
    shm_store_release(&s->block->lock, s->self | FUTEX_WAITERS);
}

void standby_hand_over(struct standby *s, uint32_t heir)
{
    /* Our last store: all before it is the heir's. */
    shm_store_release(&s->block->lock, heir | FUTEX_WAITERS);
    syscall(SYS_futex, &s->block->lock, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    _exit(0);
}

void standby_sleep(const struct standby *s, uint32_t lock, uint32_t generation)
{
    struct futex_waitv wait[2] = {
        {.val = lock, .uaddr = (uintptr_t)&s->block->lock, .flags = FUTEX_32},
        {.val = generation, .uaddr = (uintptr_t)&s->role->generation, .flags = FUTEX_32},
    };

    syscall(SYS_futex_waitv, wait, 2, 0, NULL, 0);
}

bool standby_try(struct standby *s)
{
    const uint64_t epoch = load_acquire(&s->block->epoch);
    uint32_t lock = load_acquire(&s->block->lock);
    const enum standby_verdict verdict = standby_decide(s, lock, epoch);

    if (verdict == STANDBY_SLEEP)
        return false;
    s->take = false;
    SHM_CRASHPOINT();
    if (!__atomic_compare_exchange_n(&s->block->lock, &lock, s->self | FUTEX_WAITERS, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return false;
    end_fellows(s, verdict == STANDBY_TAKE_ALL);
    return standby_confirm(s, load_acquire(&s->block->lock), load_acquire(&s->block->epoch), epoch);
}

void standby_end(struct standby *s)
{
    for (unsigned i = 0; i < FELLOWS; i++)
        if (s->fellow[i].pid != 0)
            forget(&s->fellow[i]);
}
