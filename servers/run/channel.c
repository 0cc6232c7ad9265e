/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The transport between rs and a server process. See channel.h.
 */
#include "channel.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int channel_send(int fd, const struct rs_message *m, const int *fds, unsigned nfds)
{
    struct rs_message copy = *m;
    struct iovec iov = {.iov_base = &copy, .iov_len = sizeof copy};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(RS_FDS * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nfds > RS_FDS)
        return -EINVAL;
    copy.nfds = (uint8_t)nfds;
    if (nfds > 0) {
        memset(&control, 0, sizeof control);
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
    }
    for (;;) {
        if (sendmsg(fd, &msg, MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

int channel_receive(int fd, struct rs_message *m, int fds[RS_FDS], int flags)
{
    struct iovec iov = {.iov_base = m, .iov_len = sizeof *m};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(RS_FDS * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    ssize_t n;
    unsigned got = 0;

    do
        n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    for (unsigned i = 0; i < RS_FDS; i++)
        fds[i] = -1;
    if (n < 0)
        return -errno;
    for (struct cmsghdr *cm = CMSG_FIRSTHDR(&msg); cm != NULL; cm = CMSG_NXTHDR(&msg, cm)) {
        if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
            continue;
        got = (unsigned)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(cm), got * sizeof(int));
    }
    if (n != sizeof *m || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || m->version != RS_VERSION ||
        m->nfds != got) {
        for (unsigned i = 0; i < got; i++)
            close(fds[i]);
        return n == 0 ? 0 : -EPROTO; /* an empty message is the end, too */
    }
    return 1;
}

void channel_consume(int fd)
{
    char none;

    /* its descriptors go along */
    while (recv(fd, &none, 0, MSG_DONTWAIT | MSG_TRUNC) < 0 && errno == EINTR)
        continue;
}
