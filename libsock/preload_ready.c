/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Symbols of readiness: poll, select, epoll. See preload.c.
 */
#include "preload.h"

static bool poll_ours(const struct pollfd *fds, nfds_t n)
{
    if (load_relaxed(&lib.fds) == NULL)
        return false;
    for (nfds_t i = 0; i < n; i++)
        if (fd_word(fds[i].fd) != 0)
            return true;
    return false;
}

static struct deadline from_timespec(const struct timespec *ts, bool *zero)
{
    struct deadline dl = {.some = ts != NULL};
    *zero = ts != NULL && ts->tv_sec == 0 && ts->tv_nsec == 0;
    if (ts != NULL) {
        int64_t now = now_ns();
        int64_t most = INT64_MAX - now - 1;
        dl.at = ts->tv_sec > most / 1000000000 - 1 ? INT64_MAX
                                                   : now + ts->tv_sec * 1000000000 + ts->tv_nsec;
    }
    return dl;
}

static struct timespec from_ms(int ms)
{
    return (struct timespec){ms / 1000, ms % 1000 * 1000000l};
}

static bool bad_time(const struct timespec *ts)
{
    return ts != NULL && (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= 1000000000);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
    bool zero;
    if (!poll_ours(fds, n))
        return real()->ppoll(fds, n, ts, mask);
    if (bad_time(ts))
        return (int)ret(-EINVAL);
    struct deadline dl = from_timespec(ts, &zero);
    return (int)ret(poll_many(fds, n, &dl, zero, mask));
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int ms)
{
    if (!poll_ours(fds, n))
        return real()->poll(fds, n, ms);
    struct timespec ts = from_ms(ms);
    bool zero;
    struct deadline dl = from_timespec(ms < 0 ? NULL : &ts, &zero);
    return (int)ret(poll_many(fds, n, &dl, zero, NULL));
}
ALIAS(poll) int __poll(struct pollfd *fds, nfds_t n, int ms);

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int ms, size_t room)
{
    if (room / sizeof *fds < n)
        __chk_fail();
    return poll(fds, n, ms);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *ts,
                       const sigset_t *mask, size_t room)
{
    if (room / sizeof *fds < n)
        __chk_fail();
    return ppoll(fds, n, ts, mask);
}

static bool select_ours(int n, const fd_set *r, const fd_set *w, const fd_set *e)
{
    if (load_relaxed(&lib.fds) == NULL)
        return false;
    const unsigned bits = 8 * sizeof(unsigned long);
    for (int fd = 0; fd < n; fd++) {
        unsigned long bit = 1ul << ((unsigned)fd % bits);
        size_t at = (unsigned)fd / bits;
        if (((r != NULL && ((const unsigned long *)r)[at] & bit) ||
             (w != NULL && ((const unsigned long *)w)[at] & bit) ||
             (e != NULL && ((const unsigned long *)e)[at] & bit)) &&
            fd_word(fd) != 0)
            return true;
    }
    return false;
}

EXPORT int pselect(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
                   const struct timespec *restrict ts, const sigset_t *restrict mask)
{
    bool zero;
    if (!select_ours(n, r, w, e))
        return real()->pselect(n, r, w, e, ts, mask);
    if (bad_time(ts))
        return (int)ret(-EINVAL);
    struct deadline dl = from_timespec(ts, &zero);
    return (int)ret(poll_select(n, r, w, e, &dl, zero, mask));
}

EXPORT int select(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
                  struct timeval *restrict tv)
{
    bool zero;
    if (!select_ours(n, r, w, e))
        return real()->select(n, r, w, e, tv);
    if (tv != NULL && (tv->tv_sec < 0 || tv->tv_usec < 0))
        return (int)ret(-EINVAL);
    struct timespec ts = {0, 0};
    if (tv != NULL)
        ts = (struct timespec){tv->tv_sec + tv->tv_usec / 1000000, tv->tv_usec % 1000000 * 1000};
    struct deadline dl = from_timespec(tv != NULL ? &ts : NULL, &zero);
    int got = poll_select(n, r, w, e, &dl, zero, NULL);
    if (tv != NULL && !zero) {
        /* Linux leaves the remaining time. */
        int64_t left = dl.at - now_ns();
        if (left < 0)
            left = 0;
        tv->tv_sec = left / 1000000000;
        tv->tv_usec = left % 1000000000 / 1000;
    }
    return (int)ret(got);
}

static int made_epoll(int fd)
{
    if (fd >= 0 && lib_enabled())
        epoll_make(fd);
    return fd;
}

EXPORT int epoll_create(int size)
{
    return made_epoll(real()->epoll_create(size));
}

EXPORT int epoll_create1(int flags)
{
    return made_epoll(real()->epoll_create1(flags));
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    struct epoll *ep = fd_word(fd) != 0 ? epoll_enter(epfd) : NULL;
    if (ep == NULL)
        return real()->epoll_ctl(epfd, op, fd, ev);
    int r = epoll_control(epfd, ep, op, fd, ev);
    epoll_leave(ep);
    return (int)ret(r);
}

static int epoll_any(int epfd, struct epoll *ep, struct epoll_event *ev, int max,
                     const struct timespec *ts, const sigset_t *mask)
{
    bool zero;
    struct deadline dl = from_timespec(ts, &zero);
    int r = epoll_collect(epfd, ep, ev, max, &dl, zero, mask);
    epoll_leave(ep);
    return (int)ret(r);
}

static struct epoll *epoll_ours(int epfd)
{
    struct epoll *ep = epoll_enter(epfd);
    if (ep == NULL || load_relaxed(&lib.attached) || epoll_has_sockets(ep))
        return ep;
    /* Nothing of the stack is in it, nor can be: the kernel alone knows. */
    epoll_leave(ep);
    return NULL;
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *ev, int max, int ms, const sigset_t *mask)
{
    struct epoll *ep = epoll_ours(epfd);
    if (ep == NULL)
        return real()->epoll_pwait(epfd, ev, max, ms, mask);
    struct timespec ts = from_ms(ms);
    return epoll_any(epfd, ep, ev, max, ms < 0 ? NULL : &ts, mask);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *ev, int max, int ms)
{
    return epoll_pwait(epfd, ev, max, ms, NULL);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *ts,
                        const sigset_t *mask)
{
    struct epoll *ep = epoll_ours(epfd);
    if (ep == NULL)
        return real()->epoll_pwait2(epfd, ev, max, ts, mask);
    return epoll_any(epfd, ep, ev, max, ts, mask);
}
