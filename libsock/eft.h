/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft.h: TCP data without a copy, for programs that run on an Eft stack. Manual page: eft.h(3).
 *
 * A TCP socket of Eft is a pair of rings in memory that the program and the stack share. recv() and
 * send() copy from and to them; these calls hand out the place in the ring instead:
 *
 *   eft_recv      refers to received bytes, and holds them    eft_release  gives them back
 *   eft_reserve   space at the end of what was sent           eft_commit   sends what is in it
 *
 * Nothing is linked. The calls are found at run time in libsock.so, which `eft run` preloads; a
 * program that runs without it, or on a socket of the kernel, is told so (eft_available() is 0, the
 * others return -EOPNOTSUPP) and uses recv() and send(). One binary serves both.
 *
 * All calls return 0 or a count, or a negative errno; errno itself is not touched, and no SIGPIPE
 * is raised.
 *
 * RECEIVED BYTES that eft_recv() has handed out stay where they are, and do not change, until they
 * are released: the stack writes a byte of the stream only once, before it says that it is there,
 * and a place in the ring is used again only for the byte one ring's size further on, for which the
 * peer is given room only when the byte before it was released. That holds as well while the ring
 * grows (it goes on in a second block, and the first one stays until the last byte in it is
 * released), and after a crash of any server. The memory is read-only. Release is in the order of
 * the stream, by count, and need not follow the pieces. What is held takes room in the receive
 * buffer: hold no more than half of it (SO_RCVBUF), or eft_recv() says -ENOBUFS instead of waiting
 * for what the peer may not send. poll() and FIONREAD count what was not yet handed out. recv()
 * that would consume returns EBUSY while bytes are held; MSG_PEEK looks behind them.
 *
 * RESERVED SPACE is the program's to write until it commits; the peer sees nothing of it before.
 * Committed bytes belong to the stack until they are acknowledged: do not write to them again.
 * There is one reservation at a time: eft_reserve() begins anew at the same place, eft_commit()
 * ends it, and what it does not take is given back. send() returns EBUSY meanwhile. A ring that
 * grows and a crash of any server leave it as it is. shutdown(SHUT_WR) ends it; eft_commit() then
 * says -EPIPE.
 *
 * close() is to both what free() is to memory: later other bytes of this program are in that place.
 * Bytes that are held count as unread, and closing with such resets the connection, as in Linux:
 * release first. A reset by the peer alone takes nothing away before close().
 *
 * fork(): references and reservations stay the parent's; the child may not use them (the memory is
 * not mapped there). It must not use the socket either while the parent has any: a connection moves
 * to the child that uses it, and takes its memory along.
 *
 * THREADS: one reader and one writer at a time for each socket, as is sensible with recv() and
 * send(). Calls of several are safe, but the order of what they get is nobody's promise.
 */
#ifndef EFT_H
#define EFT_H

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A ring has one end where it wraps, and two blocks while it grows. */
#define EFT_PIECES 4

/* Some bytes of a ring, in order. Laid out for writev() and its kin. */
struct eft_span {
    size_t len; /* of all pieces; bytes */
    unsigned pieces;
    struct iovec piece[EFT_PIECES];
};

/* One socket's part of a call for many. */
struct eft_op {
    int fd;
    size_t len;           /* in: as in the call for one socket */
    ssize_t result;       /* out: what that call returns */
    struct eft_span span; /* out: recv, reserve */
};

/* What libsock.so exports, as the data symbol eft_calls_1; it never changes. */
struct eft_calls {
    int (*available)(int fd);
    ssize_t (*recv)(int fd, struct eft_span *span, size_t most, int flags);
    int (*release)(int fd, size_t len);
    ssize_t (*reserve)(int fd, struct eft_span *span, size_t most, int flags);
    int (*commit)(int fd, size_t len);
    unsigned (*recv_many)(struct eft_op *op, unsigned n);
    unsigned (*release_many)(struct eft_op *op, unsigned n);
    unsigned (*reserve_many)(struct eft_op *op, unsigned n);
    unsigned (*commit_many)(struct eft_op *op, unsigned n);
};

static inline const struct eft_calls *eft_calls(void)
{
    static const struct eft_calls *calls;
    static int looked;
    if (!__atomic_load_n(&looked, __ATOMIC_ACQUIRE)) {
        /* NULL: RTLD_DEFAULT, which <dlfcn.h> names with _GNU_SOURCE only. */
        __atomic_store_n(&calls, (const struct eft_calls *)dlsym(NULL, "eft_calls_1"),
                         __ATOMIC_RELAXED);
        __atomic_store_n(&looked, 1, __ATOMIC_RELEASE);
    }
    return __atomic_load_n(&calls, __ATOMIC_RELAXED);
}

/* 1: fd is a TCP socket of Eft, on which the other calls work; 0: it is not. Ask once it is
 * connected or accepted: one that connects to 127.0.0.1 or ::1 becomes a socket of the kernel. */
static inline int eft_available(int fd)
{
    const struct eft_calls *c = eft_calls();
    return c != NULL ? c->available(fd) : 0;
}

/* The next bytes of the stream that were not yet handed out, `most` at most (> 0). Waits as recv()
 * would; flags: 0 or MSG_DONTWAIT. Their number, 0 at the end of the stream, -ENOBUFS: release some
 * first, else the errors of recv(). */
static inline ssize_t eft_recv(int fd, struct eft_span *span, size_t most, int flags)
{
    const struct eft_calls *c = eft_calls();
    return c != NULL ? c->recv(fd, span, most, flags) : -EOPNOTSUPP;
}

/* Gives the oldest `len` of the bytes back that are held. 0; -EINVAL: not so many are. */
static inline int eft_release(int fd, size_t len)
{
    const struct eft_calls *c = eft_calls();
    return c != NULL ? c->release(fd, len) : -EOPNOTSUPP;
}

/* Space for up to `most` (> 0) bytes behind what was sent. Waits as send() would; flags: 0 or
 * MSG_DONTWAIT. Its size, else the errors of send(). */
static inline ssize_t eft_reserve(int fd, struct eft_span *span, size_t most, int flags)
{
    const struct eft_calls *c = eft_calls();
    return c != NULL ? c->reserve(fd, span, most, flags) : -EOPNOTSUPP;
}

/* Sends the first `len` bytes of the space reserved, and gives the rest back (all of it with 0). 0;
 * -EINVAL: so much was not reserved; else the errors of send(): then nothing was sent. */
static inline int eft_commit(int fd, size_t len)
{
    const struct eft_calls *c = eft_calls();
    return c != NULL ? c->commit(fd, len) : -EOPNOTSUPP;
}

/* The same for n sockets, in the order given. None of these waits (poll() does), and the stack is
 * woken once at most. How many results are not errors. */
#define EFT_MANY_(name)                                                                            \
    static inline unsigned eft_##name(struct eft_op *op, unsigned n)                               \
    {                                                                                              \
        const struct eft_calls *c = eft_calls();                                                   \
        for (unsigned i = 0; c == NULL && i < n; i++)                                              \
            op[i].result = -EOPNOTSUPP;                                                            \
        return c != NULL ? c->name(op, n) : 0;                                                     \
    }
EFT_MANY_(recv_many)
EFT_MANY_(release_many)
EFT_MANY_(reserve_many)
EFT_MANY_(commit_many)
#undef EFT_MANY_

#ifdef __cplusplus
}
#endif

#endif
