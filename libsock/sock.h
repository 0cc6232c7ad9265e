/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of libsock share.
 *
 * A program's socket is a real kernel descriptor (a duplicate of an unconnected template, so that
 * numbers, limits and CLOEXEC are the kernel's business) and, behind it, a struct sock: Linux's
 * open file description. The descriptor table says which belongs to which. A struct sock has no
 * slot in shared memory until it is bound, connected or sends: until then it may still turn out to
 * be one for the kernel (127.0.0.0/8, ::1).
 *
 *   preload*.c the symbols           fdtab.c   descriptors, references
 *   attach.c   mapping the stack     call.c    slots, requests, work queue
 *   wait.c     sleeping              conn.c    bind … accept, close
 *   accept.c   claims of listeners
 *   stream.c   TCP data, readiness   dgram.c   UDP data, readiness
 *   option.c   socket options        poll.c, epoll.c   readiness of many
 *   fork.c     processes that share sockets            name.c   addresses
 *   zerocopy.c the calls of eft.h
 *
 * Inside, functions return 0 or a count, or -errno; preload*.c alone touch errno. Nothing here
 * exits, aborts or prints. While a server is away, calls wait for its successor.
 *
 * Locks are spin locks that know their owner: a signal handler that interrupts the owner and needs
 * the same lock gets -EAGAIN instead of a deadlock.
 */
#ifndef EFT_LIBSOCK_SOCK_H
#define EFT_LIBSOCK_SOCK_H

#include "eft.h"
#include "libchan/edge/app.h"
#include "libchan/wiring.h"
#include "real.h"

#include <errno.h>
#include <netinet/in.h>

enum {
    FD_MAX = 1 << 20,
    SOCK_MAX = 1 << 16,
    EPOLL_MAX = 1 << 12,
    CLAIMS_MAX = 32,
    RAW_OPTIONS = 16,
    FAMILIES = 64,
};
#define NO_SLOT 0xffffffffu
#define FD_EPOLL                                                                                   \
    0x80000000u /* in a word of the descriptor table: index is of an epoll instance                \
                 */
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ---- locks ---- */

struct lock {
    uintptr_t owner; /* address of a thread-local of the holder; 0: free */
};
/* False: this very thread holds it (we are in a signal handler that interrupted it). */
bool lock_take(struct lock *l);
bool lock_try(struct lock *l);
static inline void lock_give(struct lock *l)
{
    __atomic_store_n(&l->owner, 0, __ATOMIC_RELEASE);
}

/* ---- sockets ---- */

enum phase {
    PH_FRESH = 0, /* neither bound nor connected */
    PH_BOUND = 1, /* TCP: has a slot and a port */
    PH_LISTEN = 2,
    PH_CONNECTING = 3, /* OP_CONNECT is under way */
    PH_ACTIVE = 4,     /* was established; down.state says what is left of it */
    PH_FAILED = 5,     /* a non-blocking connect failed; the next connect() says so */
    PH_UDP = 6,        /* UDP: has a slot and a port */
};

struct claim { /* a slot that waits to become a connection of a listener */
    uint32_t slot, req_id, error_seen;
};

struct raw_option { /* a setsockopt() call, for a kernel socket that may take the number over */
    int level, name;
    uint8_t len, value[19];
};

struct sock {
    /* identity; constant from sock_new to the last reference */
    uint32_t tag;  /* raised when the object is reused; in the descriptor table with the index */
    uint32_t refs; /* 1 for the description, 1 for each thread inside; 0: free */
    uint32_t next_free;
    /* constant for ever; a page of either is touched by the sockets that have such things */
    struct claim *claim;    /* CLAIMS_MAX of them; of a TCP listener; under `rx` */
    struct raw_option *raw; /* RAW_OPTIONS of them */
    uint32_t fds;           /* descriptors that name it; what follows is zero in a new one */
    uint8_t dgram;          /* UDP */
    uint8_t family;         /* AF_INET or AF_INET6, as the program made it */
    uint8_t phase;          /* enum phase */
    uint8_t nonblock;
    uint8_t closing, shut_rd, shut_wr;
    uint8_t v6only;
    /* the slot */
    uint32_t slot; /* NO_SLOT: none yet */
    uint32_t generation;
    uint32_t app, epoch; /* whose slot: changes with fork */
    uint64_t token;
    struct up_slot *up;
    const struct down_slot *down;
    struct lock tx, rx, req;
    /* errors and events */
    uint32_t error_seen;  /* down.error_seq reported so far */
    int so_error;         /* positive errno found here, not yet reported */
    uint32_t nospace;     /* raised when a send found the ring too full: next OUT edge */
    uint32_t events;      /* raised by local events (shutdown, connect, accept) */
    uint32_t sleepers;    /* threads blocked in a call on this socket */
    uint64_t rx_told;     /* rx_read when tcp was last told */
    uint64_t rx_next;     /* TCP: the next byte for the program; what it holds is below; under rx */
    uint64_t tx_reserved; /* TCP: bytes behind tx_end that the program may write; under tx */
    /* TCP listener; under `rx` */
    uint32_t n_claims, backlog, accepted;
    /* UDP */
    uint8_t connected, pktinfo, pktinfo6, recvttl, recvtos, stamp /* 1 µs, 2 ns */, recverr;
    /* names as the program gave them */
    struct sock_name local, remote;
    /* options: values by enum app_option */
    int opt[32];
    uint32_t opt_known;               /* value differs from the default, or was set */
    uint32_t opt_dirty;               /* to be told to the server */
    int64_t rcvtimeo_ns, sndtimeo_ns; /* 0: none */
    int rcvlowat, linger;             /* linger: seconds, -1 off */
    uint8_t reuse_addr, reuse_port, n_raw;
    /* fork */
    uint64_t fork_mask; /* families (fork.c) that may hold a copy */
    uint8_t moved;      /* a child took the connection over */
    uint8_t zombie;     /* closed here while a child may still want it */
};

/* Flags that other threads look at without a lock. */
static inline void flag_set(uint8_t *flag, uint8_t value)
{
    __atomic_store_n(flag, value, __ATOMIC_SEQ_CST);
}

/* ---- the library's own state, one per process ---- */

struct lib {
    uint64_t *fds; /* descriptor table: tag << 32 | index + 1, | FD_EPOLL; 0: not ours */
    struct sock *socks;
    struct claim *claims;    /* of the sockets, CLAIMS_MAX each */
    struct raw_option *raws; /* the same, RAW_OPTIONS each */
    uint64_t *alive;         /* in a page that is zero in a child after fork */
    int pid;
    uint32_t epoch; /* raised by each fork, in the child */
    /* mapped when attached */
    bool attached;
    bool enabled;       /* a stack is configured */
    bool explicit_name; /* by EFT_STACK */
    bool passive;       /* never attach: no stack, or attaching failed for good */
    uint32_t app, app_generation;
    struct up_region *up;
    uint64_t up_size;
    const struct down_region *down_tcp, *down_udp;
    uint64_t down_tcp_size, down_udp_size;
    const struct ctl_region *ctl;
    const struct public_page *pub_tcp, *pub_udp;
    uint32_t n_tcp, n_udp;
    struct up_slot *up_tcp, *up_udp;
    const struct down_slot *slots_tcp, *slots_udp;
    const struct sock_info *info_tcp;
    int bell_tcp, bell_udp, control;
    int waiter_fd[WAITERS_MAX], wake_fd[WAITERS_MAX];
    uint64_t waiters; /* taken, one bit each */
    uint64_t pollers; /* of these, those that sleep in ppoll */
    uint32_t zombies;
    struct lock work_tcp, work_udp, slots, attach, pool;
    char path[108]; /* of the control socket */
};
extern struct lib lib;

/* ---- fdtab.c ---- */

int lib_init(void); /* tables; idempotent. 0 or -ENOMEM */
/* Sockets of the stack can exist in this process: EFT_STACK, or a default stack. */
bool lib_enabled(void);
void fork_child(void); /* fork.c */

static inline uint64_t fd_word(int fd)
{
    uint64_t *fds = load_relaxed(&lib.fds);
    if (likely(fds == NULL) || (unsigned)fd >= FD_MAX)
        return 0;
    uint64_t w = load_acquire(&fds[fd]);
    if (unlikely(w != 0 && load_relaxed(lib.alive) != 1))
        fork_child();
    return w;
}
/* The socket behind fd with a reference, or NULL: not ours. */
struct sock *sock_enter_word(int fd, uint64_t word);
static inline struct sock *sock_enter(int fd)
{
    uint64_t w = fd_word(fd);
    if (likely(w == 0) || (uint32_t)w & FD_EPOLL)
        return NULL;
    return sock_enter_word(fd, w);
}
/* A reference by index and tag, or NULL when that use of the object is over. */
struct sock *sock_ref(uint32_t index, uint32_t tag);
void sock_leave(struct sock *s);
/* All sockets there are, without references; *i begins at 0. NULL: the end. */
struct sock *sock_each(uint32_t *i);
struct sock *sock_new(bool dgram, int family); /* refs 1, no descriptor; NULL: none left */
static inline uint64_t sock_word(const struct sock *s)
{
    return (uint64_t)s->tag << 32 | ((uint64_t)(s - lib.socks) + 1);
}
/* A new placeholder descriptor, or -errno. flags: SOCK_CLOEXEC. */
int fd_placeholder(int family, bool dgram, int flags);
void fd_install(int fd, struct sock *s); /* adds a descriptor to s */
/* The number is about to mean something else (closed, or dup2'ed over). */
void fd_forget(int fd);
int fd_high(int fd); /* moves one of our own descriptors up, CLOEXEC */
bool fd_ours(int fd);
bool lib_vfork_child(void);
int fd_dup_word(int newfd, uint64_t word);    /* newfd is a duplicate of what word names */
int fd_become_kernel(int fd, struct sock *s); /* real kernel socket under the number; replays */

/* ---- attach.c ---- */

int lib_attach(void); /* 0, -ENODEV: no stack, use the kernel; or -errno */
int control_call(uint32_t op, uint32_t arg, int *fd); /* result, or -errno */
void trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Takes over mapped regions: what attaching ends with; tests call it with regions of their own. */
int lib_adopt_regions(void);

/* ---- call.c ---- */

struct request {
    uint32_t op, flags, arg0;
    uint64_t arg1;
    struct sock_name local, remote;
    uint32_t target_app, target_slot, target_generation;
    uint64_t token;
};
int slot_take(struct sock *s); /* a free slot for s; waits when all are being closed */
int slot_take_index(bool dgram);
/* The program is done with this slot; the server lets go of it in its own time. */
void slot_release(bool dgram, uint32_t slot);
/* The server should look at this slot. Note and wake together are push; several may be noted before
 * one wake, which must follow. */
void work_push(bool dgram, uint32_t slot);
void work_note(bool dgram, uint32_t slot);
void work_wake(bool dgram);
/* Starts a request; earlier ones of the slot are awaited first, except by OP_CANCEL. */
int request_start(struct sock *s, const struct request *r);
/* Start, and wait for the reply. Not interrupted by signals. */
int request(struct sock *s, const struct request *r);
bool request_done(const struct sock *s); /* nothing outstanding on the slot */
void request_wait(struct sock *s);
/* The same on a bare slot (claims). */
void slot_request(bool dgram, uint32_t slot, const struct request *r);
static inline struct up_slot *slot_up(bool dgram, uint32_t slot)
{
    return dgram ? &lib.up_udp[slot] : &lib.up_tcp[slot];
}
static inline const struct down_slot *slot_down(bool dgram, uint32_t slot)
{
    return dgram ? &lib.slots_udp[slot] : &lib.slots_tcp[slot];
}
static inline uint32_t sock_key(const struct sock *s)
{
    return s->slot | (s->dgram ? (uint32_t)WAIT_UDP : 0);
}

/* ---- ring.c ---- */

struct ring {
    struct ring_desc d;
    const uint8_t *base; /* of the region */
};
/* Consistent copy of a ring's descriptor, checked against the region. False: no block yet. */
bool ring_get(struct ring *r, const struct down_slot *d, bool tx, bool dgram);
uint64_t ring_size(const struct ring *r);
/* Piece of the ring at offset `off`: its address, and how many bytes follow without a break. */
uint8_t *ring_piece(const struct ring *r, uint64_t off, uint64_t *len);
void ring_write(const struct ring *r, uint64_t off, const void *src, size_t len);
void ring_read(const struct ring *r, uint64_t off, void *dst, size_t len);
/* How much may be written at tx_end. */
uint64_t ring_space(const struct ring *r, uint64_t tx_end, uint64_t tx_free);
/* [off, off + len) as pieces. How much of it they hold: all, for what lies in one ring. */
size_t ring_span(const struct ring *r, uint64_t off, size_t len, struct eft_span *span);

/* A cursor over an iovec. */
struct iov_pos {
    const struct iovec *iov;
    size_t n, off;
};
size_t iov_total(const struct iovec *iov, size_t n);
size_t iov_take(struct iov_pos *p, void *dst, size_t len);      /* program -> dst */
size_t iov_put(struct iov_pos *p, const void *src, size_t len); /* src -> program */
size_t iov_ring_write(const struct ring *r, uint64_t off, struct iov_pos *p, size_t len);
size_t iov_ring_read(const struct ring *r, uint64_t off, struct iov_pos *p, size_t len);

/* ---- wait.c ---- */

struct deadline {
    bool some;
    int64_t at; /* CLOCK_MONOTONIC, ns */
};
int64_t now_ns(void);
struct deadline deadline_in(int64_t ns); /* ns <= 0: none */
typedef bool (*ready_fn)(struct sock *s, void *arg);
/* Sleeps until ready() or something happened to `key`. 0: look again; -EINTR; -EAGAIN: the
 * deadline has passed. Without a deadline a signal interrupts as SA_RESTART says. */
int wait_for(struct sock *s, uint32_t key, const struct deadline *dl, ready_fn ready, void *arg);
/* For calls that must not be interrupted. */
void wait_through(struct sock *s, uint32_t key, ready_fn ready, void *arg);
/* Sleeps in the real ppoll on `n` descriptors and the stack. fds has room for two more. `ready` is
 * asked once more after arming. Returns ppoll's result without our two, or -EINTR. */
int wait_poll(struct pollfd *fds, unsigned n, uint32_t key, const struct deadline *dl,
              const sigset_t *mask, bool (*ready)(void *), void *arg);
void wake_local(void); /* other threads of this process that sleep in ppoll look again */
/* A thread blocked in a call on s looks again. */
void wake_sleepers(struct sock *s);

/* ---- conn.c ---- */

int conn_socket(int family, int type, int protocol, int *fd); /* 1: not for us */
int conn_bind(int fd, struct sock *s, const struct sockaddr *sa, socklen_t len);
int conn_listen(struct sock *s, int backlog);
int conn_connect(int fd, struct sock *s, const struct sockaddr *sa, socklen_t len);
int conn_accept(struct sock *s, struct sockaddr *sa, socklen_t *len, int flags);
int conn_shutdown(struct sock *s, int how);
int conn_getsockname(struct sock *s, struct sockaddr *sa, socklen_t *len);
int conn_getpeername(struct sock *s, struct sockaddr *sa, socklen_t *len);
enum phase conn_refresh(struct sock *s); /* has an outstanding connect ended? */
bool conn_claim_ready(struct sock *s);   /* posts claims; is a connection there? */
void conn_last_close(struct sock *s);    /* the last descriptor is gone */
/* First request of a socket: on a slot of its own, given back when it is refused. */
int conn_first_request(struct sock *s, const struct request *r);
void conn_cancel_claims(struct sock *s);
void conn_park_claims(struct sock *s);
void conn_became_active(struct sock *s);
void conn_finish(struct sock *s);    /* the last thread has left */
int conn_take_error(struct sock *s); /* pending error (positive), once; 0 */
bool conn_has_error(const struct sock *s);
/* A descriptor that cannot be used until the parent's socket is ours too (fork.c). */
int conn_adopt(struct sock *s);
static inline bool conn_foreign(const struct sock *s)
{
    return unlikely(s->slot != NO_SLOT && s->epoch != lib.epoch);
}

/* The socket behind fd with a reference, made ours first when it was a parent's. */
static inline struct sock *sock_use(int fd)
{
    struct sock *s = sock_enter(fd);
    if (s != NULL && conn_foreign(s))
        conn_adopt(s);
    return s;
}

/* ---- stream.c, dgram.c ---- */

ssize_t stream_recv(struct sock *s, const struct iovec *iov, size_t n, int flags);
ssize_t stream_send(struct sock *s, const struct iovec *iov, size_t n, int flags);
ssize_t stream_sendfile(struct sock *s, int in, off_t *off, size_t count);
/* eft.h; *tell becomes true when tcp should hear of it. */
ssize_t stream_take(struct sock *s, struct eft_span *span, size_t most, int flags);
int stream_release(struct sock *s, size_t len, bool *tell);
ssize_t stream_reserve(struct sock *s, struct eft_span *span, size_t most, int flags);
int stream_commit(struct sock *s, size_t len, bool *tell);
uint32_t stream_ready(struct sock *s); /* POLL* */
int stream_fionread(struct sock *s);
int stream_fionwrite(struct sock *s);
ssize_t dgram_recv(struct sock *s, struct msghdr *m, int flags);
ssize_t dgram_send(int fd, struct sock *s, const struct msghdr *m, int flags);
uint32_t dgram_ready(struct sock *s);
int dgram_fionread(struct sock *s);
int dgram_bound(struct sock *s); /* binds to a port of the stack's choice when it is not bound */
/* -ENOTSUP: the datagram is for the kernel */
static inline uint32_t sock_ready(struct sock *s)
{
    return s->dgram ? dgram_ready(s) : stream_ready(s);
}
/* Calls on either kind. */
ssize_t sock_recvmsg(struct sock *s, struct msghdr *m, int flags);
ssize_t sock_sendmsg(int fd, struct sock *s, const struct msghdr *m, int flags);

/* ---- zerocopy.c: as in eft.h ---- */

int zerocopy_available(int fd);
ssize_t zerocopy_recv(int fd, struct eft_span *span, size_t most, int flags);
int zerocopy_release(int fd, size_t len);
ssize_t zerocopy_reserve(int fd, struct eft_span *span, size_t most, int flags);
int zerocopy_commit(int fd, size_t len);
unsigned zerocopy_recv_many(struct eft_op *op, unsigned n);
unsigned zerocopy_release_many(struct eft_op *op, unsigned n);
unsigned zerocopy_reserve_many(struct eft_op *op, unsigned n);
unsigned zerocopy_commit_many(struct eft_op *op, unsigned n);

/* ---- option.c ---- */

int option_set(int fd, struct sock *s, int level, int name, const void *v, socklen_t len);
int option_get(int fd, struct sock *s, int level, int name, void *v, socklen_t *len);
void option_flush(struct sock *s); /* tells the server what is due, without waiting */
void option_defaults(struct sock *s);
void option_inherit(struct sock *s, const struct sock *listener);

/* ---- poll.c, epoll.c ---- */

int poll_many(struct pollfd *fds, nfds_t n, const struct deadline *dl, bool zero,
              const sigset_t *mask);
int poll_select(int n, fd_set *r, fd_set *w, fd_set *e, const struct deadline *dl, bool zero,
                const sigset_t *mask);
struct epoll;
int epoll_make(int fd); /* fd is a new real epoll descriptor */
struct epoll *epoll_enter(int fd);
void epoll_leave(struct epoll *ep);
void epoll_fd_add(uint64_t word);
void epoll_fd_drop(uint64_t word);
int epoll_control(int epfd, struct epoll *ep, int op, int fd, struct epoll_event *ev);
int epoll_collect(int epfd, struct epoll *ep, struct epoll_event *ev, int max,
                  const struct deadline *dl, bool zero, const sigset_t *mask);
bool epoll_has_sockets(const struct epoll *ep);
bool epoll_any_ready(struct epoll *ep); /* of our sockets; nothing is consumed */
/* fd stops being ours: the kernel's epoll takes its registrations over. */
void epoll_to_kernel(int fd, struct sock *s);
void epoll_fork_child(void);

/* ---- fork.c ---- */

void fork_init(void);
void attach_reset(void);
void call_reset(void);
/* The last descriptor here is gone, but a child may hold one. True: leave it for later. */
bool fork_defer_close(struct sock *s);
void fork_family(void); /* hears what children did with our sockets */
void fork_adopted(uint32_t app, uint32_t slot, uint32_t generation);
void fork_dropped(struct sock *s);
void fork_before_exit(void);

/* ---- name.c ---- */

/* 0, -EINVAL or -EAFNOSUPPORT. */
int name_from(struct sock_name *n, const struct sockaddr *sa, socklen_t len, int family);
void name_to(const struct sock_name *n, int family, struct sockaddr *sa, socklen_t *len);
bool name_loopback(const struct sock_name *n);

#endif
