/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The symbols that libsock puts in front of the C library's, and nothing else: is the descriptor
 * ours, then the inner function; otherwise the real one. Only here errno is set. Those of readiness
 * are in preload_ready.c, those that are about descriptors themselves in preload_fd.c.
 */
#include "preload.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

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
