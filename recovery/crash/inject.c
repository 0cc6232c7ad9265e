/* SPDX-License-Identifier: BSD-2-Clause */
#include "inject.h"

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

int inject(struct injection *i)
{
    int rc = symbols_read(&i->symbols, &i->target);

    if (rc < 0)
        return fail(i, rc, "cannot read the functions of process %d: %s", i->target.pid,
                    strerror(-rc));

    i->at_ns = watch_realtime();
    switch (crash_kind(i->class)->means) {
    case MEANS_KILL:
    case MEANS_SIGNAL:
        rc = fault_signal(&i->target, i->class);
        break;
    case MEANS_STUB:
        rc = fault_stub(&i->target, i->class, &i->symbols, &i->fault[0]);
        i->faults = rc == 0;
        break;
    case MEANS_MUTATE:
        rc = change_code_patiently(i);
        break;
    }
    return rc < 0 && i->error[0] == '\0'
               ? fail(i, rc, "%s: %s", crash_kind(i->class)->name, strerror(-rc))
               : rc;
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

void inject_finish(struct injection *i)
{
    if (i->dead) {
        watch_how(i->target.pidfd, &i->end);
        return;
    }
    switch (i->after) {
    case AFTER_KEEP:
        return;
    case AFTER_RESTORE:
        i->restored = true;
        for (unsigned k = i->faults; k-- > 0;)
            i->restored &= fault_restore(&i->target, &i->fault[k]) == 0;
        syscall(SYS_pidfd_send_signal, i->target.pidfd, SIGCONT, NULL, 0);
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

static void put(struct json_object *o, const char *key, struct json_object *value)
{
    json_object_object_add(o, key, value);
}

static struct json_object *hex(uint64_t v)
{
    char text[24];

    snprintf(text, sizeof text, "0x%llx", (unsigned long long)v);
    return json_object_new_string(text);
}

static struct json_object *code_json(const uint8_t *bytes, unsigned len, const char *name)
{
    char text[3 * FAULT_BYTES + 1] = "";
    struct json_object *o = json_object_new_object();

    for (unsigned i = 0; i < len; i++)
        snprintf(text + 3 * i, 4, "%02x ", bytes[i]);
    if (len > 0)
        text[3 * len - 1] = '\0';
    put(o, "bytes", json_object_new_string(text));
    if (name[0] != '\0')
        put(o, "text", json_object_new_string(name));
    return o;
}

/* One fault; adds to what is known of their activation. */
static struct json_object *fault_json(const struct fault *f, unsigned *activated, unsigned *unknown)
{
    struct json_object *o = json_object_new_object();
    uint64_t at = 0;

    put(o, "class", json_object_new_string(crash_kind(f->class)->name));
    put(o, "address", hex(f->address));
    if (f->offset != 0)
        put(o, "offset", hex(f->offset));
    if (f->symbol[0] != '\0')
        put(o, "symbol", json_object_new_string(f->symbol));
    put(o, "before", code_json(f->before, f->len, f->before_text));
    put(o, "after", code_json(f->after, f->len, f->after_text));
    if (f->point.fd < 0) {
        put(o, "activated", NULL);
        ++*unknown;
        return o;
    }
    bool hit = watch_point_hit(&f->point, &at);
    *activated += hit;
    put(o, "activated", json_object_new_boolean(hit));
    if (hit)
        put(o, "activated_ns", json_object_new_uint64(at));
    return o;
}

static const char *after_name(const struct injection *i)
{
    if (i->dead)
        return "none";
    if (i->after == AFTER_RESTORE)
        return i->restored ? "restored" : "failed";
    return i->after == AFTER_KILL ? "killed" : "kept";
}

static struct json_object *end_json(const struct injection *i)
{
    struct json_object *o = json_object_new_object();

    put(o, "time_ns", json_object_new_uint64(i->dead_ns));
    put(o, "after_ms", json_object_new_double((double)(i->dead_ns - i->at_ns) / 1e6));
    if (i->end.known && i->end.signalled) {
        const char *name = sigabbrev_np(i->end.number);
        char text[16];
        snprintf(text, sizeof text, "SIG%s", name != NULL ? name : "?");
        put(o, "signal", json_object_new_int(i->end.number));
        put(o, "signal_name", json_object_new_string(text));
    } else if (i->end.known) {
        put(o, "status", json_object_new_int(i->end.number));
    }
    return o;
}

struct json_object *inject_json(const struct injection *i)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    const enum crash_means means = crash_kind(i->class)->means;
    unsigned activated = 0, unknown = 0;

    put(o, "class", json_object_new_string(crash_kind(i->class)->name));
    put(o, "pid", json_object_new_int(i->target.pid));
    put(o, "seed", json_object_new_uint64(i->seed));
    put(o, "time_ns", json_object_new_uint64(i->at_ns));
    put(o, "injected", json_object_new_boolean(i->error[0] == '\0'));
    if (i->error[0] != '\0')
        put(o, "error", json_object_new_string(i->error));
    for (unsigned k = 0; k < i->faults; k++)
        json_object_array_add(list, fault_json(&i->fault[k], &activated, &unknown));
    if (means == MEANS_KILL || means == MEANS_SIGNAL)
        put(o, "activated", json_object_new_boolean(i->error[0] == '\0')); /* by definition */
    else
        put(o, "activated",
            activated > 0 ? json_object_new_boolean(true)
            : unknown > 0 ? NULL
                          : json_object_new_boolean(false));
    if (means == MEANS_MUTATE) {
        put(o, "mode", json_object_new_string(i->mode == MODE_GUIDED ? "guided" : "minix"));
        put(o, "executed", json_object_new_uint64(i->executed));
    }
    put(o, "faults", list);
    put(o, "manifested", json_object_new_boolean(i->dead));
    put(o, "end", i->dead ? end_json(i) : NULL);
    put(o, "cleanup", json_object_new_string(after_name(i)));
    return o;
}

void inject_close(struct injection *i)
{
    for (unsigned k = 0; k < i->faults; k++)
        watch_point_close(&i->fault[k].point);
    i->faults = 0;
    symbols_free(&i->symbols);
    target_close(&i->target);
}
