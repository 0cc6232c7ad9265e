/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See park.h.
 */
#include "park.h"

#include "fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { VERSION = 1 };

int park_open(struct park *p, const char *name)
{
    const int buffer = 4 << 20; /* many waiters' worth of messages */
    char in[64], out[64];
    int pair[2];

    *p = PARK_NONE;
    if (!fdstore_there())
        return 0;
    snprintf(in, sizeof in, "park.%s.in", name);
    snprintf(out, sizeof out, "park.%s.out", name);
    *p = (struct park){.in = fdstore_take(in), .out = fdstore_take(out)};
    if (p->in >= 0 && p->out >= 0)
        return 0;
    park_close(p);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    *p = (struct park){.in = pair[0], .out = pair[1]};
    if (setsockopt(p->in, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) < 0)
        setsockopt(p->in, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    int rc = fdstore_put(in, p->in);
    return rc != 0 ? rc : fdstore_put(out, p->out);
}

int park_put(const struct park *p, const struct parked *what, const int *fds, unsigned nfds)
{
    struct parked copy = *what;
    struct iovec iov = {.iov_base = &copy, .iov_len = sizeof copy};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(PARK_FDS * sizeof(int))];
    } control = {.space = {0}};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = CMSG_SPACE(nfds * sizeof(int))};

    if (p->in < 0)
        return 0;
    copy.version = VERSION;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
    memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    return sendmsg(p->in, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void park_rewind(const struct park *p)
{
    const int begin = 0;

    if (p->out >= 0)
        setsockopt(p->out, SOL_SOCKET, SO_PEEK_OFF, &begin, sizeof begin);
}

int park_next(const struct park *p, struct parked *what, int fds[PARK_FDS])
{
    struct iovec iov = {.iov_base = what, .iov_len = sizeof *what};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(PARK_FDS * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    unsigned n = 0;

    if (p->out < 0)
        return 0;
    const ssize_t len = recvmsg(p->out, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (len < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
    }
    if (len == sizeof *what && n > 0 && what->version == VERSION && !(msg.msg_flags & MSG_CTRUNC))
        return (int)n;
    while (n > 0)
        close(fds[--n]);
    return len == 0 ? 0 : -EPROTO;
}

void park_clear(const struct park *p)
{
    char none;

    while (p->out >= 0 && (recv(p->out, &none, 0, MSG_DONTWAIT | MSG_TRUNC) > 0 || errno == EINTR))
        continue;
    park_rewind(p);
}

void park_close(struct park *p)
{
    if (p->in >= 0)
        close(p->in);
    if (p->out >= 0)
        close(p->out);
    *p = PARK_NONE;
}
