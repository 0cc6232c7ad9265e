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

enum { VICTIMS_MAX = 32 };

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

int inject(struct injection *i)
{
    int rc = -EINVAL;

    i->at_ns = watch_realtime();
    switch (crash_kind(i->class)->means) {
    case MEANS_KILL:
    case MEANS_SIGNAL:
        rc = fault_signal(&i->target, i->class);
        break;
    case MEANS_STUB:
        rc = fault_stub(&i->target, i->class, &i->fault[0]);
        i->faults = rc == 0;
        break;
    }
    return rc < 0 ? fail(i, rc, "%s: %s", crash_kind(i->class)->name, strerror(-rc)) : 0;
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

static struct json_object *code_json(const uint8_t *bytes, unsigned len)
{
    char text[3 * FAULT_BYTES + 1] = "";
    struct json_object *o = json_object_new_object();

    for (unsigned i = 0; i < len; i++)
        snprintf(text + 3 * i, 4, "%02x ", bytes[i]);
    if (len > 0)
        text[3 * len - 1] = '\0';
    put(o, "bytes", json_object_new_string(text));
    return o;
}

/* One fault; adds to what is known of their activation. */
static struct json_object *fault_json(const struct fault *f, unsigned *activated, unsigned *unknown)
{
    struct json_object *o = json_object_new_object();
    uint64_t at = 0;

    put(o, "address", hex(f->address));
    put(o, "before", code_json(f->before, f->len));
    put(o, "after", code_json(f->after, f->len));
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
    target_close(&i->target);
}
