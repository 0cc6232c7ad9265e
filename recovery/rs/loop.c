/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The one loop of rs: descriptors by epoll, one event at a time (so that an event may free what
 * another one would have been for), and the nearest deadline.
 */
#include "loop.h"

#include "log.h"
#include "state.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#define STOP_LIMIT_NS 1000000000ull

uint64_t rs_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

int rs_watch(struct rs *rs, struct watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};

    return epoll_ctl(rs->epoll, EPOLL_CTL_ADD, w->fd, &e) < 0 ? -errno : 0;
}

void rs_unwatch(struct rs *rs, struct watch *w)
{
    if (w->fd < 0)
        return;
    /* not left to close(): a duplicate elsewhere would keep the registration */
    epoll_ctl(rs->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    close(w->fd);
    w->fd = -1;
}

void rs_stop(struct rs *rs, int exit_status)
{
    if (rs->stopping)
        return;
    rs->stopping = true;
    rs->exit_status = exit_status;
    rs->stop_at = rs_now() + STOP_LIMIT_NS;
    state_save_stack(rs); /* the next one is to go on with it */
    sd_notify(0, "STOPPING=1");
    server_stop_all(rs);
}

static void on_signal(struct rs *rs, struct watch *w, uint32_t events)
{
    struct signalfd_siginfo s;

    (void)events;
    if (read(w->fd, &s, sizeof s) != sizeof s)
        return;
    log_say(LOG_INFO, "", "stopping: signal %s", strsignal((int)s.ssi_signo));
    rs_stop(rs, EXIT_OK);
}

int loop_open(struct rs *rs)
{
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    rs->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (rs->epoll < 0)
        return -errno;
    rs->signals =
        (struct watch){.fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK), .ready = on_signal};
    return rs->signals.fd < 0 ? -errno : rs_watch(rs, &rs->signals, EPOLLIN);
}

static bool all_ended(const struct rs *rs)
{
    for (unsigned i = 0; i < rs->processes; i++)
        for (unsigned k = 0; k < INCARNATIONS; k++)
            if (rs->process[i].incarnation[k].pid != 0)
                return false;
    return true;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void timers(struct rs *rs, uint64_t now)
{
    server_timers(rs, now);
    spare_timers(rs, now);
    update_timers(rs, now);
    if (now >= rs->hang_at && !rs->stopping) {
        rs->hang_at = watchdog_look(rs, now);
    }
    if (now >= rs->leavers_at)
        app_leavers(rs, now);
    if (rs->watchdog_every != 0 && now >= rs->watchdog_at) {
        sd_notify(0, "WATCHDOG=1");
        rs->watchdog_at = now + rs->watchdog_every;
    }
    if (rs->stopping && now >= rs->stop_at) {
        for (unsigned i = 0; i < rs->processes; i++)
            for (unsigned k = 0; k < INCARNATIONS; k++)
                server_kill(&rs->process[i].incarnation[k], false);
        rs->stop_at = now + STOP_LIMIT_NS;
    }
}

static uint64_t next_deadline(const struct rs *rs)
{
    uint64_t at = earliest(earliest(server_deadline(rs), spare_deadline(rs)),
                           earliest(update_deadline(rs), rs->leavers_at));

    if (rs->watchdog_every != 0)
        at = earliest(at, rs->watchdog_at);
    return earliest(at, rs->stopping ? rs->stop_at : rs->hang_at);
}

void loop_run(struct rs *rs)
{
    struct epoll_event e;

    while (!rs->restart && (!rs->stopping || !all_ended(rs))) {
        uint64_t now = rs_now(), at = next_deadline(rs);
        uint64_t wait = at > now ? at - now : 0;
        struct timespec t = {.tv_sec = (time_t)(wait / 1000000000u),
                             .tv_nsec = (long)(wait % 1000000000u)};
        int n = epoll_pwait2(rs->epoll, &e, 1, &t, NULL);
        if (n == 1) {
            struct watch *w = e.data.ptr;
            w->ready(rs, w, e.events);
        }
        timers(rs, rs_now());
    }
}
