/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Descriptors and references.
 *
 * The table is a flat array of words, read without locks: index of the object and the tag of its
 * present use. Objects are never unmapped, so that a reader may look at one that has just been
 * reused; it takes a reference only when the count is not zero, and then looks at the table again.
 * Whoever drops the last reference finishes the socket. All of this is private memory: a child
 * after fork has a copy.
 */
#include "sock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

struct lib lib = {.bell_tcp = -1, .bell_udp = -1, .control = -1};

static uint32_t free_head, fresh; /* under lib.pool: list of used objects, first never used one */
static int own_low = FD_MAX;      /* no descriptor of our own is below */
static int template_fd[2][2] = {{-1, -1}, {-1, -1}};

static __thread char self_mark;

bool lock_try(struct lock *l)
{
    uintptr_t zero = 0;
    return __atomic_compare_exchange_n(&l->owner, &zero, (uintptr_t)&self_mark, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

bool lock_take(struct lock *l)
{
    for (unsigned spins = 0; !lock_try(l); spins++) {
        if (load_relaxed(&l->owner) == (uintptr_t)&self_mark)
            return false;
        if (spins < 64)
            cpu_relax();
        else
            syscall(SYS_sched_yield);
    }
    return true;
}

bool lib_vfork_child(void)
{
    /* A child of vfork runs in our memory: what it does to its descriptors is not our business. */
    return (int)syscall(SYS_getpid) != lib.pid;
}

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

struct sock *sock_each(uint32_t *i)
{
    while (*i < load_relaxed(&fresh)) {
        struct sock *s = &lib.socks[(*i)++];
        if (load_acquire(&s->refs) != 0)
            return s;
    }
    return NULL;
}

int lib_init(void)
{
    if (load_acquire(&lib.fds) != NULL)
        return 0;
    if (!lock_take(&lib.pool))
        return -EAGAIN;
    int err = 0;
    if (lib.fds == NULL) {
        void *fds = reserve(FD_MAX * sizeof *lib.fds);
        lib.socks = reserve(SOCK_MAX * sizeof *lib.socks);
        lib.claims = reserve((size_t)SOCK_MAX * CLAIMS_MAX * sizeof *lib.claims);
        lib.raws = reserve((size_t)SOCK_MAX * RAW_OPTIONS * sizeof *lib.raws);
        lib.alive = reserve(4096);
        if (fds == NULL || lib.socks == NULL || lib.claims == NULL || lib.raws == NULL ||
            lib.alive == NULL || madvise(lib.alive, 4096, MADV_WIPEONFORK) != 0) {
            err = -ENOMEM;
        } else {
            *lib.alive = 1;
            lib.pid = (int)syscall(SYS_getpid);
            for (int i = 0; i < WAITERS_MAX; i++)
                lib.waiter_fd[i] = lib.wake_fd[i] = -1;
            fork_init();
            __atomic_store_n(&lib.fds, fds, __ATOMIC_RELEASE);
        }
    }
    lock_give(&lib.pool);
    return err;
}

bool lib_enabled(void)
{
    static int state; /* 0 unknown, 1 no, 2 yes */
    int st = load_acquire(&state);
    if (st == 0) {
        const char *name = secure_getenv("EFT_STACK");
        int n = 0;
        if (name != NULL && *name != 0) {
            lib.explicit_name = true;
            n = snprintf(lib.path, sizeof lib.path,
                         strchr(name, '/') != NULL ? "%s" : "/run/eft/%s/control", name);
        } else {
            n = snprintf(lib.path, sizeof lib.path, "%s", "/run/eft/eft/control");
        }
        st = n > 0 && (size_t)n < sizeof lib.path &&
                     (lib.explicit_name || access(lib.path, F_OK) == 0) && lib_init() == 0
                 ? 2
                 : 1;
        __atomic_store_n(&state, st, __ATOMIC_RELEASE);
    }
    return st == 2 && !load_relaxed(&lib.passive);
}

/* ---- objects ---- */

struct sock *sock_ref(uint32_t index, uint32_t tag)
{
    struct sock *s = &lib.socks[index];
    uint32_t refs = load_relaxed(&s->refs);
    do {
        if (refs == 0)
            return NULL;
    } while (!__atomic_compare_exchange_n(&s->refs, &refs, refs + 1, true, __ATOMIC_ACQUIRE,
                                          __ATOMIC_RELAXED));
    if (likely(load_relaxed(&s->tag) == tag))
        return s;
    sock_leave(s);
    return NULL;
}

struct sock *sock_enter_word(int fd, uint64_t word)
{
    while (word != 0 && !((uint32_t)word & FD_EPOLL)) {
        struct sock *s = sock_ref((uint32_t)word - 1, (uint32_t)(word >> 32));
        if (likely(s != NULL))
            return s;
        uint64_t again = load_acquire(&lib.fds[fd]);
        if (again == word)
            return NULL; /* being closed at this moment */
        word = again;
    }
    return NULL;
}

void sock_leave(struct sock *s)
{
    if (__atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    conn_finish(s);
    if (lock_take(&lib.pool)) {
        s->next_free = free_head;
        free_head = (uint32_t)(s - lib.socks) + 1;
        lock_give(&lib.pool);
    } /* else: a signal handler inside sock_new; the object stays unused */
}

struct sock *sock_new(bool dgram, int family)
{
    struct sock *s = NULL;
    if (!lock_take(&lib.pool))
        return NULL;
    if (free_head != 0) {
        s = &lib.socks[free_head - 1];
        free_head = s->next_free;
    } else if (fresh < SOCK_MAX) {
        s = &lib.socks[fresh];
        s->claim = &lib.claims[(size_t)fresh * CLAIMS_MAX];
        s->raw = &lib.raws[(size_t)fresh * RAW_OPTIONS];
        fresh++;
    }
    lock_give(&lib.pool);
    if (s == NULL)
        return NULL;
    uint32_t tag = s->tag + 1;
    if (tag == 0)
        tag = 1;
    /* Late readers of the old use look at refs and tag only; refs is 0 until the end. */
    memset(&s->fds, 0, sizeof *s - offsetof(struct sock, fds));
    __atomic_store_n(&s->tag, tag, __ATOMIC_RELEASE);
    s->dgram = dgram;
    s->family = (uint8_t)family;
    s->slot = NO_SLOT;
    option_defaults(s);
    __atomic_store_n(&s->refs, 1, __ATOMIC_RELEASE);
    return s;
}

/* ---- numbers ---- */

int fd_high(int fd)
{
    struct rlimit lim;
    if (fd < 0)
        return fd;
    /* High numbers: programs count from below, and select() ends at 1024. */
    long max =
        getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < FD_MAX ? (long)lim.rlim_cur : FD_MAX;
    long low = max > 512 ? max - 200 : max / 2;
    int up = real()->fcntl64(fd, F_DUPFD_CLOEXEC, (int)low);
    if (up < 0)
        up = real()->fcntl64(fd, F_DUPFD_CLOEXEC, 3);
    if (up < 0) {
        real()->fcntl64(fd, F_SETFD, FD_CLOEXEC);
        up = fd;
    } else {
        real()->close(fd);
    }
    if (up < load_relaxed(&own_low))
        __atomic_store_n(&own_low, up, __ATOMIC_RELAXED);
    return up;
}

bool fd_ours(int fd)
{
    if (fd < load_relaxed(&own_low) || lib.fds == NULL)
        return false;
    if (fd == lib.control || fd == lib.bell_tcp || fd == lib.bell_udp)
        return true;
    for (int i = 0; i < WAITERS_MAX; i++)
        if (fd == lib.waiter_fd[i] || fd == lib.wake_fd[i])
            return true;
    for (int i = 0; i < 4; i++)
        if (fd == template_fd[i / 2][i % 2])
            return true;
    return false;
}

int fd_placeholder(int family, bool dgram, int flags)
{
    int *t = &template_fd[family == AF_INET6][dgram];
    for (int attempt = 0; attempt < 2; attempt++) {
        int tmpl = load_relaxed(t);
        if (tmpl < 0) {
            int fd = real()->socket(family, (dgram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
            if (fd < 0)
                return -errno;
            fd = fd_high(fd);
            if (!__atomic_compare_exchange_n(t, &tmpl, fd, false, __ATOMIC_ACQ_REL,
                                             __ATOMIC_RELAXED))
                real()->close(fd);
            continue;
        }
        int fd = real()->fcntl64(tmpl, flags & SOCK_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
        if (fd >= FD_MAX) {
            real()->close(fd);
            return -EMFILE;
        }
        if (fd >= 0)
            return fd;
        if (errno != EBADF)
            return -errno;
        /* The program closed all descriptors behind our back: make a new template. */
        __atomic_compare_exchange_n(t, &tmpl, -1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    return -EMFILE;
}

void fd_install(int fd, struct sock *s)
{
    __atomic_add_fetch(&s->fds, 1, __ATOMIC_RELAXED);
    uint64_t old = __atomic_exchange_n(&lib.fds[fd], sock_word(s), __ATOMIC_ACQ_REL);
    (void)old; /* a number that the kernel has just given out was nobody's */
}

static void word_drop(uint64_t word)
{
    if (word == 0)
        return;
    if ((uint32_t)word & FD_EPOLL) {
        epoll_fd_drop(word);
        return;
    }
    struct sock *s = &lib.socks[(uint32_t)word - 1];
    if (__atomic_sub_fetch(&s->fds, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    if (fork_defer_close(s))
        return; /* a child may still want the connection; it keeps its reference */
    conn_last_close(s);
    sock_leave(s);
}

void fd_forget(int fd)
{
    if (lib.fds == NULL || (unsigned)fd >= FD_MAX || load_relaxed(&lib.fds[fd]) == 0)
        return;
    word_drop(__atomic_exchange_n(&lib.fds[fd], 0, __ATOMIC_ACQ_REL));
}

int fd_dup_word(int newfd, uint64_t word)
{
    if ((unsigned)newfd >= FD_MAX)
        return newfd;
    if (word != 0) {
        if ((uint32_t)word & FD_EPOLL)
            epoll_fd_add(word);
        else
            __atomic_add_fetch(&lib.socks[(uint32_t)word - 1].fds, 1, __ATOMIC_RELAXED);
    }
    word_drop(__atomic_exchange_n(&lib.fds[newfd], word, __ATOMIC_ACQ_REL));
    return newfd;
}

int fd_become_kernel(int fd, struct sock *s)
{
    int k = real()->socket(s->family, (s->dgram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (k < 0)
        return -errno;
    for (unsigned i = 0; i < s->n_raw; i++)
        real()->setsockopt(k, s->raw[i].level, s->raw[i].name, s->raw[i].value, s->raw[i].len);
    if (s->nonblock)
        real()->fcntl64(k, F_SETFL, O_RDWR | O_NONBLOCK);
    /* Every number of this description becomes the kernel socket. */
    uint64_t word = sock_word(s);
    int limit = fd;
    if (load_relaxed(&s->fds) > 1) {
        limit = FD_MAX - 1;
        struct rlimit lim;
        if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < FD_MAX)
            limit = (int)lim.rlim_cur - 1;
    }
    for (int i = limit == fd ? fd : 0; i <= limit; i++) {
        if (load_relaxed(&lib.fds[i]) != word)
            continue;
        int flags = real()->fcntl64(i, F_GETFD);
        if (real()->dup3(k, i, flags > 0 && flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0) {
            int err = -errno;
            real()->close(k);
            return err;
        }
        epoll_to_kernel(i, s);
        fd_forget(i);
    }
    real()->close(k);
    return 0;
}
