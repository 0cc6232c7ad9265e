/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The calls of eft.h: from a descriptor to the stream behind it, for one socket or many. What they
 * do to a ring is in stream.c.
 *
 * References and reservations are two numbers in struct sock, private to the process: how far the
 * program was given bytes (rx_next, ahead of the shared rx_read), and how many it may write behind
 * tx_end. The servers know nothing of either. They see a program that has not read yet, or not yet
 * written.
 */
#include "sock.h"

static struct sock *stream_enter(int fd)
{
    struct sock *s = sock_use(fd);
    if (s != NULL && s->dgram) {
        sock_leave(s);
        return NULL;
    }
    return s;
}

int zerocopy_available(int fd)
{
    struct sock *s = stream_enter(fd);
    if (s != NULL)
        sock_leave(s);
    return s != NULL;
}

typedef ssize_t (*open_fn)(struct sock *s, struct eft_span *span, size_t most, int flags);

static ssize_t open_span(open_fn open, int fd, struct eft_span *span, size_t most, int flags)
{
    struct sock *s = stream_enter(fd);
    if (s == NULL)
        return -EOPNOTSUPP;
    ssize_t n = most != 0 && (flags & ~MSG_DONTWAIT) == 0 ? open(s, span, most, flags) : -EINVAL;
    sock_leave(s);
    return n;
}

typedef int (*close_fn)(struct sock *s, size_t len, bool *tell);

/* `tell`, if tcp should look: its work queue names the socket, but nobody has woken it. */
static int close_span(close_fn close, int fd, size_t len, bool *tell)
{
    bool news = false;
    struct sock *s = stream_enter(fd);
    if (s == NULL)
        return -EOPNOTSUPP;
    int err = close(s, len, &news);
    if (news)
        work_note(false, s->slot);
    *tell |= news;
    sock_leave(s);
    return err;
}

static int close_one(close_fn close, int fd, size_t len)
{
    bool tell = false;
    int err = close_span(close, fd, len, &tell);
    if (tell)
        work_wake(false);
    return err;
}

static unsigned open_many(open_fn open, struct eft_op *op, unsigned n)
{
    unsigned good = 0;
    for (unsigned i = 0; i < n; i++) {
        op[i].result = open_span(open, op[i].fd, &op[i].span, op[i].len, MSG_DONTWAIT);
        good += op[i].result >= 0;
    }
    return good;
}

static unsigned close_many(close_fn close, struct eft_op *op, unsigned n)
{
    bool tell = false;
    unsigned good = 0;
    for (unsigned i = 0; i < n; i++) {
        op[i].result = close_span(close, op[i].fd, op[i].len, &tell);
        good += op[i].result >= 0;
    }
    if (tell)
        work_wake(false);
    return good;
}

ssize_t zerocopy_recv(int fd, struct eft_span *span, size_t most, int flags)
{
    return open_span(stream_take, fd, span, most, flags);
}

int zerocopy_release(int fd, size_t len)
{
    return close_one(stream_release, fd, len);
}

ssize_t zerocopy_reserve(int fd, struct eft_span *span, size_t most, int flags)
{
    return open_span(stream_reserve, fd, span, most, flags);
}

int zerocopy_commit(int fd, size_t len)
{
    return close_one(stream_commit, fd, len);
}

unsigned zerocopy_recv_many(struct eft_op *op, unsigned n)
{
    return open_many(stream_take, op, n);
}

unsigned zerocopy_release_many(struct eft_op *op, unsigned n)
{
    return close_many(stream_release, op, n);
}

unsigned zerocopy_reserve_many(struct eft_op *op, unsigned n)
{
    return open_many(stream_reserve, op, n);
}

unsigned zerocopy_commit_many(struct eft_op *op, unsigned n)
{
    return close_many(stream_commit, op, n);
}
