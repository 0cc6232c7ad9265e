/* SPDX-License-Identifier: BSD-2-Clause */
#include "inject.h"

#include "limit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { VICTIMS_MAX = 32, LOOKS = 10, LOOK_PAUSE_NS = 20000000 };

__attribute__((format(printf, 3, 4))) static int fail(struct injection *i, int rc, const char *fmt,
                                                      ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(i->error, sizeof i->error, fmt, ap);
    va_end(ap);
    return rc;
}

int inject_open(struct injection *i, pid_t pid)
{
    int rc = target_open(&i->target, pid);

    return rc < 0 ? fail(i, rc, "cannot open process %d: %s", pid, strerror(-rc)) : 0;
}

/* Changes instructions: looks which ones execute, or takes any, and writes while all is stopped. */
static int change_code(struct injection *i, struct random *r)
{
    struct fault_plan plan = {.class = i->class, .count = i->count};
    struct trace trace = {0};

    if (i->at != NULL && (plan.at = symbols_place(&i->symbols, i->at)) == 0)
        return fail(i, -ENOENT, "there is no code at %s", i->at);
    if (plan.at != 0)
        plan.count = 1;
    int rc = target_stop(&i->target);
    if (rc == 0 && i->mode == MODE_GUIDED && plan.at == 0) {
        rc = trace_take(&trace, &i->target, &i->symbols);
        plan.trace = &trace;
    }
    if (rc == 0)
        rc = fault_choose(&i->target, &i->symbols, &plan, r, i->fault);
    i->at_ns = watch_realtime();
    for (int k = 0, n = rc; k < n && rc >= 0; k++) {
        rc = fault_write(&i->target, &i->fault[k]);
        i->faults += rc == 0;
    }
    target_go(&i->target);
    i->executed = trace.n;
    trace_free(&trace);
    return rc;
}

/* An idle server executes little. It is looked at a few times before that is the answer. */
static int change_code_patiently(struct injection *i)
{
    struct random r = {.state = i->seed};
    int rc = 0;

    for (int k = 0; k < LOOKS && i->faults == 0 && rc >= 0; k++) {
        if (k > 0)
            nanosleep(&(struct timespec){.tv_nsec = LOOK_PAUSE_NS}, NULL);
        rc = change_code(i, &r);
    }
    if (rc < 0)
        return rc;
    return i->faults > 0 ? 0 : fail(i, -ENOENT, "found no instruction that can have this fault");
}

/* Nothing more than it has. */
static int limit(struct injection *i)
{
    const int resource = limit_of(i->class);
    int rc = limit_set(i->target.pid, resource, NULL, &i->old_limit);

    if (rc < 0)
        return rc;
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = i->old_limit.rlim_max};
    return limit_set(i->target.pid, resource, &none, NULL);
}

static int stores(struct injection *i, int n)
{
    i->stores = n > 0 ? (unsigned)n : 0;
    if (n == -EAGAIN || n == -ENODATA)
        return fail(i, n, "no message of it was on its way");
    if (n == -EOPNOTSUPP)
        return fail(i, n, "not possible: it talks to itself (fused)");
    if (n == -ENOENT)
        return fail(i, n, "it has nothing of the kind");
    return n < 0 ? n : 0;
}

static int by_means(struct injection *i, enum crash_means means)
{
    struct random r = {.state = i->seed};
    int rc;

    if ((i->app >= 0) != (means == MEANS_BYZANTINE) && means != MEANS_KILL && means != MEANS_SIGNAL)
        return fail(i, -EINVAL, "this class is for %s",
                    i->app >= 0 ? "servers" : "applications (app0, app1, ...)");
    switch (means) {
    case MEANS_KILL:
    case MEANS_SIGNAL:
        return fault_signal(&i->target, i->class);
    case MEANS_LIMIT:
        return limit(i);
    case MEANS_WILD:
        return stores(i, wild_write(&i->target, i->where, i->count, &r, i->store, STORES));
    case MEANS_MESSAGE:
        return stores(i, message_damage(&i->target, i->id, i->peers, &i->drawn, &r, i->store,
                                        STORES, &i->witness));
    case MEANS_BYZANTINE:
        return stores(i, byzantine_act(&i->target, (unsigned)i->app, &i->drawn, &r, i->store,
                                       STORES, &i->witness));
    case MEANS_STUB:
    case MEANS_MUTATE:
        break;
    }
    rc = symbols_read(&i->symbols, &i->target);
    if (rc < 0)
        return fail(i, rc, "cannot read its functions: %s", strerror(-rc));
    if (means == MEANS_MUTATE)
        return change_code_patiently(i);
    rc = fault_stub(&i->target, i->class, &i->symbols, &i->fault[0]);
    i->faults = rc == 0;
    return rc;
}

int inject(struct injection *i)
{
    i->at_ns = watch_realtime();
    i->drawn = i->class;
    const int rc = by_means(i, crash_kind(i->class)->means);
    return rc < 0 && i->error[0] == '\0' ? fail(i, rc, "%s", strerror(-rc)) : rc;
}

static int64_t elapsed_ms(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000ll + (now.tv_nsec - since->tv_nsec) / 1000000;
}

void inject_watch(struct injection *list, unsigned n, unsigned window_ms)
{
    struct timespec begin;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        struct pollfd p[VICTIMS_MAX];
        unsigned waiting = 0;
        for (unsigned k = 0; k < n && k < VICTIMS_MAX; k++) {
            p[k] =
                (struct pollfd){.fd = list[k].dead ? -1 : list[k].target.pidfd, .events = POLLIN};
            waiting += !list[k].dead;
        }
        int64_t left = (int64_t)window_ms - elapsed_ms(&begin);
        if (waiting == 0 || left < 0)
            return;
        if (poll(p, n, (int)left) < 0)
            continue;
        for (unsigned k = 0; k < n && k < VICTIMS_MAX; k++) {
            if (p[k].fd < 0 || p[k].revents == 0)
                continue;
            list[k].dead = true;
            list[k].dead_ns = watch_realtime();
        }
    }
}

/* Stores stay: what was there before would be as wild by now. */
static bool restore(const struct injection *i)
{
    bool done = true;

    switch (crash_kind(i->class)->means) {
    case MEANS_STUB:
    case MEANS_MUTATE:
        for (unsigned k = i->faults; k-- > 0;)
            done &= fault_restore(&i->target, &i->fault[k]) == 0;
        return done;
    case MEANS_SIGNAL:
        return syscall(SYS_pidfd_send_signal, i->target.pidfd, SIGCONT, NULL, 0) == 0;
    case MEANS_LIMIT:
        return limit_set(i->target.pid, limit_of(i->class), &i->old_limit, NULL) == 0;
    default:
        return false;
    }
}

void inject_finish(struct injection *i)
{
    if (i->dead) {
        watch_how(i->target.pidfd, &i->end);
        return;
    }
    if (i->error[0] != '\0') /* nothing was done */
        i->after = AFTER_KEEP;
    switch (i->after) {
    case AFTER_KEEP:
        return;
    case AFTER_RESTORE:
        i->restored = restore(i);
        return;
    case AFTER_KILL:
        syscall(SYS_pidfd_send_signal, i->target.pidfd, SIGKILL, NULL, 0);
        return;
    }
}

bool inject_is_clean(const struct injection *i, pid_t pid)
{
    char path[TARGET_PATH];
    struct target t;
    uint64_t base;
    bool clean = target_open(&t, pid) == 0 && target_program(&t, path, sizeof path, &base) == 0;

    for (unsigned k = 0; clean && k < i->faults; k++) {
        const struct fault *f = &i->fault[k];
        uint8_t now[FAULT_BYTES];
        if (f->offset == 0)
            continue;
        clean = target_read(&t, base + f->offset, now, f->len) == 0 &&
                memcmp(now, f->before, f->len) == 0;
    }
    target_close(&t);
    return clean;
}

void inject_close(struct injection *i)
{
    for (unsigned k = 0; k < i->faults; k++)
        watch_point_close(&i->fault[k].point);
    i->faults = 0;
    witness_close(&i->witness);
    symbols_free(&i->symbols);
    target_close(&i->target);
}
