/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Symbols about descriptors themselves: close, dup, fcntl, ioctl. See preload.c.
 */
#include "preload.h"

#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>

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
