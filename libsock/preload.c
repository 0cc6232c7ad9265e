/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The symbols that libsock puts in front of the C library's, and nothing else: is the descriptor
 * ours, then the inner function; otherwise the real one. Only here errno is set.
 */
#include "sock.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT        __attribute__((visibility("default")))
#define ALIAS(target) __attribute__((visibility("default"), alias(#target)))

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifndef __clang__
/* Headers promise what a program may break; poll() is declared to write its array only, and we
 * read the descriptors from it. */
#pragma GCC diagnostic ignored "-Wnonnull-compare"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

extern void __chk_fail(void) __attribute__((noreturn));

static inline long ret(long r)
{
    if (likely(r >= 0))
        return r;
    errno = (int)-r;
    return -1;
}

/* Runs `call` on the socket behind fd and returns, or goes on when fd is the kernel's. */
#define OURS(fd, call)                                                                             \
    do {                                                                                           \
        struct sock *s = sock_use(fd);                                                             \
        if (unlikely(s != NULL)) {                                                                 \
            long r_ = (long)(call);                                                                \
            sock_leave(s);                                                                         \
            return ret(r_);                                                                        \
        }                                                                                          \
    } while (0)

/* ---- control ---- */

EXPORT int socket(int family, int type, int protocol)
{
    int fd;
    int r = conn_socket(family, type, protocol, &fd);
    if (r == 1)
        return real()->socket(family, type, protocol);
    return (int)ret(r != 0 ? r : fd);
}

EXPORT int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
    OURS(fd, conn_bind(fd, s, sa, len));
    return real()->bind(fd, sa, len);
}

EXPORT int listen(int fd, int backlog)
{
    OURS(fd, conn_listen(s, backlog));
    return real()->listen(fd, backlog);
}

EXPORT int accept4(int fd, struct sockaddr *restrict sa, socklen_t *restrict len, int flags)
{
    OURS(fd, conn_accept(s, sa, len, flags));
    return real()->accept4(fd, sa, len, flags);
}

EXPORT int accept(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
    return accept4(fd, sa, len, 0);
}

EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    OURS(fd, conn_connect(fd, s, sa, len));
    return real()->connect(fd, sa, len);
}
ALIAS(connect) int __connect(int fd, const struct sockaddr *sa, socklen_t len);

EXPORT int shutdown(int fd, int how)
{
    OURS(fd, conn_shutdown(s, how));
    return real()->shutdown(fd, how);
}

EXPORT int getsockname(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
    OURS(fd, conn_getsockname(s, sa, len));
    return real()->getsockname(fd, sa, len);
}

EXPORT int getpeername(int fd, struct sockaddr *restrict sa, socklen_t *restrict len)
{
    OURS(fd, conn_getpeername(s, sa, len));
    return real()->getpeername(fd, sa, len);
}

EXPORT int getsockopt(int fd, int level, int name, void *restrict v, socklen_t *restrict len)
{
    OURS(fd, option_get(fd, s, level, name, v, len));
    return real()->getsockopt(fd, level, name, v, len);
}

EXPORT int setsockopt(int fd, int level, int name, const void *v, socklen_t len)
{
    OURS(fd, option_set(fd, s, level, name, v, len));
    return real()->setsockopt(fd, level, name, v, len);
}

EXPORT int sockatmark(int fd)
{
    OURS(fd, 0);
    return real()->sockatmark(fd);
}

/* ---- data ---- */

static ssize_t recv_from(int fd, struct sock *s, void *buf, size_t len, int flags,
                         struct sockaddr *sa, socklen_t *salen)
{
    struct iovec iov = {buf, len};
    (void)fd;
    if (likely(!s->dgram))
        return stream_recv(s, &iov, 1, flags);
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_name = sa,
                       .msg_namelen = sa != NULL && salen != NULL ? *salen : 0};
    ssize_t n = dgram_recv(s, &m, flags);
    if (n >= 0 && sa != NULL && salen != NULL)
        *salen = m.msg_namelen;
    return n;
}

static ssize_t send_to(int fd, struct sock *s, const void *buf, size_t len, int flags,
                       const struct sockaddr *sa, socklen_t salen)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    if (likely(!s->dgram))
        return stream_send(s, &iov, 1, flags);
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_name = (void *)(uintptr_t)sa, .msg_namelen = salen};
    ssize_t n = dgram_send(fd, s, &m, flags);
    if (n == -ENOTSUP) {
        n = real()->sendto(fd, buf, len, flags, sa, salen);
        n = n < 0 ? -errno : n;
    }
    return n;
}

static ssize_t send_msg(int fd, struct sock *s, const struct msghdr *m, int flags)
{
    ssize_t n = sock_sendmsg(fd, s, m, flags);
    if (n == -ENOTSUP) {
        n = real()->sendmsg(fd, m, flags);
        n = n < 0 ? -errno : n;
    }
    return n;
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    OURS(fd, recv_from(fd, s, buf, len, flags, NULL, NULL));
    return real()->recv(fd, buf, len, flags);
}

EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t len, int flags,
                        struct sockaddr *restrict sa, socklen_t *restrict salen)
{
    OURS(fd, recv_from(fd, s, buf, len, flags, sa, salen));
    return real()->recvfrom(fd, buf, len, flags, sa, salen);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    OURS(fd, sock_recvmsg(s, m, flags));
    return real()->recvmsg(fd, m, flags);
}

static int recv_many(struct sock *s, struct mmsghdr *v, unsigned n, int flags,
                     const struct timespec *timeout)
{
    struct deadline dl = {.some = false};
    if (timeout != NULL)
        dl = (struct deadline){true, now_ns() + timeout->tv_sec * 1000000000ll + timeout->tv_nsec};
    unsigned done = 0;
    while (done < n) {
        int f = flags & ~MSG_WAITFORONE;
        if (done > 0 && flags & MSG_WAITFORONE)
            f |= MSG_DONTWAIT;
        ssize_t r = sock_recvmsg(s, &v[done].msg_hdr, f);
        if (r < 0) {
            if (done == 0)
                return (int)r;
            if (r != -EAGAIN && r != -EINTR)
                s->so_error = (int)-r; /* the next call's */
            break;
        }
        v[done++].msg_len = (unsigned)r;
        if (dl.some && now_ns() >= dl.at)
            break;
    }
    return (int)done;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *v, unsigned n, int flags, struct timespec *timeout)
{
    OURS(fd, recv_many(s, v, n, flags, timeout));
    return real()->recvmmsg(fd, v, n, flags, timeout);
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    OURS(fd, send_to(fd, s, buf, len, flags, NULL, 0));
    return real()->send(fd, buf, len, flags);
}
ALIAS(send) ssize_t __send(int fd, const void *buf, size_t len, int flags);

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *sa,
                      socklen_t salen)
{
    OURS(fd, send_to(fd, s, buf, len, flags, sa, salen));
    return real()->sendto(fd, buf, len, flags, sa, salen);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    OURS(fd, send_msg(fd, s, m, flags));
    return real()->sendmsg(fd, m, flags);
}

static int send_many(int fd, struct sock *s, struct mmsghdr *v, unsigned n, int flags)
{
    unsigned done = 0;
    while (done < n) {
        ssize_t r = send_msg(fd, s, &v[done].msg_hdr, flags);
        if (r < 0)
            return done > 0 ? (int)done : (int)r;
        v[done++].msg_len = (unsigned)r;
    }
    return (int)done;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *v, unsigned n, int flags)
{
    OURS(fd, send_many(fd, s, v, n, flags));
    return real()->sendmmsg(fd, v, n, flags);
}

/* Unlike recv(), read() of nothing never waits. */
EXPORT ssize_t read(int fd, void *buf, size_t len)
{
    OURS(fd, len == 0 ? 0 : recv_from(fd, s, buf, len, 0, NULL, NULL));
    return real()->read(fd, buf, len);
}
ALIAS(read) ssize_t __read(int fd, void *buf, size_t len);

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    OURS(fd, send_to(fd, s, buf, len, 0, NULL, 0));
    return real()->write(fd, buf, len);
}
ALIAS(write) ssize_t __write(int fd, const void *buf, size_t len);

static ssize_t vector(int fd, struct sock *s, const struct iovec *iov, int n, bool out)
{
    if (n < 0 || n > 1024)
        return -EINVAL;
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n};
    if (!out && iov_total(iov, (size_t)n) == 0)
        return 0;
    return out ? send_msg(fd, s, &m, 0) : sock_recvmsg(s, &m, 0);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
    OURS(fd, vector(fd, s, iov, n, false));
    return real()->readv(fd, iov, n);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
    OURS(fd, vector(fd, s, iov, n, true));
    return real()->writev(fd, iov, n);
}

EXPORT ssize_t pread64(int fd, void *buf, size_t len, off_t off)
{
    OURS(fd, -ESPIPE);
    return real()->pread64(fd, buf, len, off);
}
ALIAS(pread64) ssize_t pread(int fd, void *buf, size_t len, off_t off);

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off_t off)
{
    OURS(fd, -ESPIPE);
    return real()->pwrite64(fd, buf, len, off);
}
ALIAS(pwrite64) ssize_t pwrite(int fd, const void *buf, size_t len, off_t off);

EXPORT ssize_t preadv(int fd, const struct iovec *iov, int n, off_t off)
{
    OURS(fd, -ESPIPE);
    return real()->preadv(fd, iov, n, off);
}
ALIAS(preadv) ssize_t preadv64(int fd, const struct iovec *iov, int n, off_t off);

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
    OURS(fd, -ESPIPE);
    return real()->pwritev(fd, iov, n, off);
}
ALIAS(pwritev) ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t off);

EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
    OURS(fd, off == -1 ? vector(fd, s, iov, n, false) : -ESPIPE);
    return real()->preadv2(fd, iov, n, off, flags);
}
ALIAS(preadv2) ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags);

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
    OURS(fd, off == -1 ? vector(fd, s, iov, n, true) : -ESPIPE);
    return real()->pwritev2(fd, iov, n, off, flags);
}
ALIAS(pwritev2) ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off_t off, int flags);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t room)
{
    if (len > room)
        __chk_fail();
    return read(fd, buf, len);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags)
{
    if (len > room)
        __chk_fail();
    return recv(fd, buf, len, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t room, int flags,
                              struct sockaddr *sa, socklen_t *salen)
{
    if (len > room)
        __chk_fail();
    return recvfrom(fd, buf, len, flags, sa, salen);
}

/* ---- stdio ---- */

static ssize_t stdio_read(void *cookie, char *buf, size_t len)
{
    return read((int)(intptr_t)cookie, buf, len);
}

static ssize_t stdio_write(void *cookie, const char *buf, size_t len)
{
    return write((int)(intptr_t)cookie, buf, len);
}

static int stdio_close(void *cookie)
{
    return close((int)(intptr_t)cookie);
}

/* The C library's own streams call its inner read() and close(), which we cannot stand in front
 * of; a stream with functions of ours does the same, and knows its descriptor. */
EXPORT FILE *fdopen(int fd, const char *mode)
{
    static const cookie_io_functions_t ours = {stdio_read, stdio_write, NULL, stdio_close};
    if (fd_word(fd) == 0 || (uint32_t)fd_word(fd) & FD_EPOLL)
        return real()->fdopen(fd, mode);
    FILE *f = fopencookie((void *)(intptr_t)fd, mode, ours);
    if (f != NULL)
        f->_fileno = fd;
    return f;
}

/* ---- files ---- */

EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t count)
{
    OURS(out, s->dgram ? -EINVAL : stream_sendfile(s, in, off, count));
    if (fd_word(in) != 0)
        return ret(-EINVAL);
    return real()->sendfile(out, in, off, count);
}
ALIAS(sendfile) ssize_t sendfile64(int out, int in, off_t *off, size_t count);

EXPORT ssize_t splice(int in, off64_t *ioff, int out, off64_t *ooff, size_t len, unsigned flags)
{
    if (fd_word(in) != 0 || fd_word(out) != 0)
        return ret(-EINVAL);
    return real()->splice(in, ioff, out, ooff, len, flags);
}

EXPORT ssize_t tee(int in, int out, size_t len, unsigned flags)
{
    if (fd_word(in) != 0 || fd_word(out) != 0)
        return ret(-EINVAL);
    return real()->tee(in, out, len, flags);
}

EXPORT ssize_t copy_file_range(int in, off64_t *ioff, int out, off64_t *ooff, size_t len,
                               unsigned flags)
{
    if (fd_word(in) != 0 || fd_word(out) != 0)
        return ret(-EINVAL);
    return real()->copy_file_range(in, ioff, out, ooff, len, flags);
}

/* ---- readiness ---- */

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

/* ---- descriptors ---- */

EXPORT int close(int fd)
{
    uint64_t word = fd_word(fd);
    if (unlikely(word != 0 || fd_ours(fd)) && !lib_vfork_child()) {
        if (word == 0)
            return (int)ret(-EBADF);
        fd_forget(fd);
    }
    return real()->close(fd);
}
ALIAS(close) int __close(int fd);

/* Closes a range, leaving our own descriptors alone. */
static int close_gaps(unsigned first, unsigned last, int flags)
{
    if (last > FD_MAX)
        last = FD_MAX;
    unsigned from = first;
    for (unsigned fd = first; fd <= last && fd < FD_MAX; fd++) {
        if (!fd_ours((int)fd))
            continue;
        if (fd > from && real()->close_range(from, fd - 1, flags) != 0)
            return -1;
        from = fd + 1;
    }
    return from <= last ? real()->close_range(from, last, flags) : 0;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if (load_relaxed(&lib.fds) == NULL || first > last || lib_vfork_child())
        return real()->close_range(first, last, flags);
    if (load_relaxed(lib.alive) != 1)
        fork_child();
    if (!(flags & CLOSE_RANGE_CLOEXEC))
        for (unsigned fd = first; fd <= last && fd < FD_MAX; fd++)
            fd_forget((int)fd);
    return close_gaps(first, last, flags);
}

EXPORT void closefrom(int low)
{
    close_range(low < 0 ? 0 : (unsigned)low, ~0u, 0);
}

EXPORT int dup(int fd)
{
    uint64_t word = fd_word(fd);
    int n = real()->dup(fd);
    if (word != 0 && n >= 0 && !lib_vfork_child())
        fd_dup_word(n, word);
    return n;
}

EXPORT int dup3(int from, int to, int flags)
{
    uint64_t word = fd_word(from), old = fd_word(to);
    int n = real()->dup3(from, to, flags);
    if ((word | old) != 0 && n >= 0 && !lib_vfork_child())
        fd_dup_word(n, word);
    return n;
}

EXPORT int dup2(int from, int to)
{
    uint64_t word = fd_word(from), old = fd_word(to);
    int n = real()->dup2(from, to);
    if ((word | old) != 0 && n >= 0 && from != to && !lib_vfork_child())
        fd_dup_word(n, word);
    return n;
}

static int control(int fd, struct sock *s, int cmd, void *arg)
{
    int n;
    switch (cmd) {
    case F_GETFL:
        return O_RDWR | (s->nonblock ? O_NONBLOCK : 0);
    case F_SETFL:
        /* The kernel's file is a template that many share: nothing of this may reach it. */
        s->nonblock = ((long)arg & O_NONBLOCK) != 0;
        return 0;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        n = real()->fcntl64(fd, cmd, arg);
        if (n < 0)
            return -errno;
        return fd_dup_word(n, sock_word(s));
    case F_SETOWN:
    case F_SETSIG:
        return 0;
    default:
        n = real()->fcntl64(fd, cmd, arg);
        return n < 0 ? -errno : n;
    }
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    uint64_t word = fd_word(fd);
    if (unlikely(word != 0) && !(cmd == F_DUPFD_CLOEXEC && lib_vfork_child())) {
        if ((uint32_t)word & FD_EPOLL) {
            int n = real()->fcntl64(fd, cmd, arg);
            if (n >= 0 && (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC))
                fd_dup_word(n, word);
            return n;
        }
        struct sock *s = sock_enter(fd);
        if (s != NULL) {
            int r = control(fd, s, cmd, arg);
            sock_leave(s);
            return (int)ret(r);
        }
    }
    return real()->fcntl64(fd, cmd, arg);
}
ALIAS(fcntl64) int fcntl(int fd, int cmd, ...);
ALIAS(fcntl64) int __fcntl(int fd, int cmd, ...);

static int ioctl_ours(int fd, struct sock *s, unsigned long cmd, void *arg)
{
    int n;
    switch (cmd) {
    case FIONBIO:
        memcpy(&n, arg, sizeof n);
        s->nonblock = n != 0;
        return 0;
    case FIONREAD:
        n = s->dgram ? dgram_fionread(s) : stream_fionread(s);
        break;
    case SIOCOUTQ:
        n = s->dgram ? 0 : stream_fionwrite(s);
        break;
    case SIOCATMARK:
        n = 0;
        break;
    case FIOASYNC:
        return 0;
    default:
        n = real()->ioctl(fd, cmd, arg);
        return n < 0 ? -errno : n;
    }
    if (n < 0)
        return n;
    memcpy(arg, &n, sizeof n);
    return 0;
}

EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (cmd != FIOCLEX && cmd != FIONCLEX)
        OURS(fd, ioctl_ours(fd, s, cmd, arg));
    return real()->ioctl(fd, cmd, arg);
}

/* ---- processes ---- */

EXPORT int daemon(int nochdir, int noclose)
{
    if (load_relaxed(&lib.fds) == NULL)
        return real()->daemon(nochdir, noclose);
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (pid > 0) {
        fork_before_exit();
        _exit(0);
    }
    if (setsid() < 0)
        return -1;
    if (!nochdir && chdir("/") != 0)
        return -1;
    if (!noclose) {
        int fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            return -1;
        for (int i = 0; i < 3; i++)
            dup2(fd, i);
        if (fd > 2)
            close(fd);
    }
    return 0;
}

/* ---- syscall() ---- */

EXPORT long syscall(long nr, ...)
{
    va_list ap;
    long a[6];
    va_start(ap, nr);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    switch (nr) {
    case SYS_socket:
        return socket((int)a[0], (int)a[1], (int)a[2]);
    case SYS_close:
        return close((int)a[0]);
    case SYS_close_range:
        return close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
    case SYS_dup:
        return dup((int)a[0]);
    case SYS_dup3:
        return dup3((int)a[0], (int)a[1], (int)a[2]);
    case SYS_read:
        return read((int)a[0], (void *)a[1], (size_t)a[2]);
    case SYS_write:
        return write((int)a[0], (const void *)a[1], (size_t)a[2]);
    case SYS_accept4:
        return accept4((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2], (int)a[3]);
    case SYS_sendmmsg:
        return sendmmsg((int)a[0], (struct mmsghdr *)a[1], (unsigned)a[2], (int)a[3]);
    case SYS_recvmmsg:
        return recvmmsg((int)a[0], (struct mmsghdr *)a[1], (unsigned)a[2], (int)a[3],
                        (struct timespec *)a[4]);
    case SYS_sendto:
        return sendto((int)a[0], (const void *)a[1], (size_t)a[2], (int)a[3],
                      (const struct sockaddr *)a[4], (socklen_t)a[5]);
    case SYS_recvfrom:
        return recvfrom((int)a[0], (void *)a[1], (size_t)a[2], (int)a[3], (struct sockaddr *)a[4],
                        (socklen_t *)a[5]);
    case SYS_sendmsg:
        return sendmsg((int)a[0], (const struct msghdr *)a[1], (int)a[2]);
    case SYS_recvmsg:
        return recvmsg((int)a[0], (struct msghdr *)a[1], (int)a[2]);
#ifdef SYS_io_uring_setup
    case SYS_io_uring_setup:
        /* It would reach the placeholders behind our back. */
        if (lib_enabled())
            return ret(-ENOSYS);
        break;
#endif
    }
    return real()->syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- eft.h ---- */

EXPORT extern const struct eft_calls eft_calls_1;
const struct eft_calls eft_calls_1 = {
    .available = zerocopy_available,
    .recv = zerocopy_recv,
    .release = zerocopy_release,
    .reserve = zerocopy_reserve,
    .commit = zerocopy_commit,
    .recv_many = zerocopy_recv_many,
    .release_many = zerocopy_release_many,
    .reserve_many = zerocopy_reserve_many,
    .commit_many = zerocopy_commit_many,
};
