/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Processes that share sockets by fork().
 *
 * A child attaches anew, as an application of its own; up regions are not inherited, and a page
 * that the kernel wipes tells a child from its parent even when no handler ran. Its copies of
 * sockets convert at first use there (OP_INHERIT): a listener is then shared, any other socket
 * moves. A child that never uses a copy never attaches: fork and exec stay cheap.
 *
 * What Linux does with the last close of a shared description needs both sides: the parent keeps a
 * pipe per child (a family). The child says through it what it took over and what it closed unused;
 * the end of the pipe says that it died or executed another program. A socket that is closed in the
 * parent while a child may still want it stays as a zombie until then. A process that ends while
 * its child has not yet taken over a listener waits for it, a second at most: daemons fork, and the
 * parent exits at once. When it cannot wait (it is killed), tcp keeps its TCP sockets that were
 * marked as forked for HEIR_WAIT_MS.
 *
 * Not promised: that two processes read from one connection in turns; sockets passed by SCM_RIGHTS
 * or through exec.
 */
#include "sock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ADOPTED = 1, DROPPED = 2, UPS = 8 };

struct note {
    uint32_t kind, slot, generation;
};

static int child_fd[FAMILIES]; /* + 1: read end of each child's pipe; 0: free */
static struct {
    int fd; /* + 1 */
    uint32_t app;
    bool shared; /* we have forked since: our children hold copies too */
} up[UPS];       /* our ancestors */
static int pending = -1, pending_fd[2] = {-1, -1};
static struct lock family_lock;

static struct sock *find(uint32_t slot, uint32_t generation)
{
    uint32_t i = 0;
    struct sock *s;
    while ((s = sock_each(&i)) != NULL)
        if (s->slot == slot && s->generation == generation && s->epoch == lib.epoch)
            return s;
    return NULL;
}

/* A family has no more interest in s. tcp keeps for a moment what is marked as forked when we die;
 * the mark goes with the last child that may want it. */
static void lose_interest(struct sock *s, uint64_t families)
{
    if ((s->fork_mask & families) == 0)
        return;
    s->fork_mask &= ~families;
    if (s->fork_mask == 0 && s->slot != NO_SLOT && !conn_foreign(s))
        shm_store(&s->up->forked, 0u);
}

static void forget_family(int f)
{
    uint32_t i = 0;
    struct sock *s;
    while ((s = sock_each(&i)) != NULL)
        lose_interest(s, 1ull << f);
}

static void hear(int f)
{
    struct note n;
    for (;;) {
        ssize_t r = real()->read(child_fd[f] - 1, &n, sizeof n);
        if (r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR)) {
            real()->close(child_fd[f] - 1);
            child_fd[f] = 0;
            forget_family(f);
            return;
        }
        if (r != (ssize_t)sizeof n)
            return;
        struct sock *s = find(n.slot & ~(uint32_t)WAIT_UDP, n.generation);
        if (s == NULL || s->dgram != ((n.slot & WAIT_UDP) != 0))
            continue;
        lose_interest(s, 1ull << f);
        if (n.kind == ADOPTED && s->phase != PH_LISTEN) {
            s->moved = 1;
            lose_interest(s, ~0ull);
        }
    }
}

void fork_family(void)
{
    int saved = errno;
    if (!lock_try(&family_lock))
        return;
    for (int f = 0; f < FAMILIES; f++)
        if (child_fd[f] != 0)
            hear(f);
    lock_give(&family_lock);
    uint32_t i = 0;
    struct sock *s;
    while (load_relaxed(&lib.zombies) != 0 && (s = sock_each(&i)) != NULL) {
        if (!s->zombie || s->fork_mask != 0 ||
            !__atomic_exchange_n(&s->zombie, 0, __ATOMIC_ACQ_REL))
            continue;
        __atomic_sub_fetch(&lib.zombies, 1, __ATOMIC_RELAXED);
        conn_last_close(s);
        sock_leave(s);
    }
    errno = saved;
}

bool fork_defer_close(struct sock *s)
{
    if (s->fork_mask == 0)
        return false;
    fork_family();
    if (s->fork_mask == 0 || s->slot == NO_SLOT || conn_foreign(s))
        return false;
    if (s->phase == PH_LISTEN)
        conn_cancel_claims(s);
    s->zombie = 1;
    __atomic_add_fetch(&lib.zombies, 1, __ATOMIC_RELAXED);
    return true;
}

static void tell(const struct sock *s, uint32_t app, uint32_t slot, uint32_t generation,
                 uint32_t kind)
{
    struct note n = {kind, slot | (s->dgram ? (uint32_t)WAIT_UDP : 0), generation};
    int saved = errno;
    for (int i = 0; i < UPS; i++)
        if (up[i].fd != 0 && up[i].app == app && !(kind == DROPPED && up[i].shared) &&
            real()->write(up[i].fd - 1, &n, sizeof n) < 0)
            errno = saved;
}

void fork_dropped(struct sock *s)
{
    tell(s, s->app, s->slot, s->generation, DROPPED);
}

/* ---- the child's side ---- */

int conn_adopt(struct sock *s)
{
    int err = lib_attach();
    if (!lock_take(&s->tx))
        return -EAGAIN;
    if (!conn_foreign(s)) {
        lock_give(&s->tx);
        return 0;
    }
    struct sock t = {.dgram = s->dgram, .slot = NO_SLOT, .epoch = lib.epoch};
    struct request r = {.op = OP_INHERIT,
                        .target_app = s->app,
                        .target_slot = s->slot,
                        .target_generation = s->generation,
                        .token = s->token};
    uint32_t app = s->app, slot = s->slot, generation = s->generation;
    /* Moves only with nothing left to send: a moment, while the peer reads. */
    int64_t until = now_ns() + 5000000000;
    while (err == 0) {
        err = conn_first_request(&t, &r);
        if (err != -EAGAIN || now_ns() > until)
            break;
        real()->poll(NULL, 0, 1);
        err = 0;
    }
    s->epoch = lib.epoch;
    if (err == 0) {
        s->slot = t.slot;
        s->up = t.up;
        s->down = t.down;
        s->generation = t.generation;
        s->token = t.token;
        s->app = t.app;
        s->error_seen = t.error_seen;
        s->rx_told = t.rx_told;
        uint32_t state = load_acquire(&t.down->state);
        if (state == SOCK_LISTEN)
            s->phase = PH_LISTEN;
        else if (!s->dgram && (state == SOCK_ESTABLISHED || state == SOCK_CLOSED))
            conn_became_active(s);
        tell(s, app, slot, generation, ADOPTED);
    } else {
        /* The parent is gone, and the socket with it. */
        s->slot = NO_SLOT;
        s->so_error = s->dgram ? 0 : ECONNRESET;
        s->phase = s->dgram ? PH_FRESH : PH_FAILED;
    }
    lock_give(&s->tx);
    trace("inherit application %u slot %u: %d", app, slot, err);
    return err;
}

void fork_child(void)
{
    /* Only this thread exists, in memory of its own. */
    uint32_t old_app = lib.app;
    bool was = lib.attached;
    lib.pid = (int)syscall(SYS_getpid);
    *lib.alive = 1;
    for (int f = 0; f < FAMILIES; f++) {
        if (child_fd[f] != 0)
            real()->close(child_fd[f] - 1);
        child_fd[f] = 0;
    }
    for (int i = 0; i < UPS; i++)
        if (up[i].fd != 0 && pending >= 0)
            up[i].shared = true;
    if (pending >= 0) {
        real()->close(pending_fd[0]);
        for (int i = 0; i < UPS; i++) {
            if (up[i].fd != 0)
                continue;
            up[i].fd = fd_high(pending_fd[1]) + 1;
            up[i].app = old_app;
            up[i].shared = false;
            pending_fd[1] = -1;
            break;
        }
        if (pending_fd[1] >= 0)
            real()->close(pending_fd[1]);
    }
    pending = pending_fd[0] = pending_fd[1] = -1;
    if (was) {
        real()->close(lib.control);
        real()->close(lib.bell_tcp);
        real()->close(lib.bell_udp);
        for (int i = 0; i < WAITERS_MAX; i++) {
            if (lib.waiter_fd[i] >= 0)
                real()->close(lib.waiter_fd[i]);
            if (lib.wake_fd[i] >= 0)
                real()->close(lib.wake_fd[i]);
        }
    }
    lib.control = lib.bell_tcp = lib.bell_udp = -1;
    for (int i = 0; i < WAITERS_MAX; i++)
        lib.waiter_fd[i] = lib.wake_fd[i] = -1;
    lib.attached = false;
    lib.up = NULL;
    lib.epoch++;
    lib.waiters = lib.pollers = 0;
    lib.zombies = 0;
    memset(&lib.work_tcp, 0, sizeof lib.work_tcp);
    memset(&lib.work_udp, 0, sizeof lib.work_udp);
    memset(&lib.slots, 0, sizeof lib.slots);
    memset(&lib.attach, 0, sizeof lib.attach);
    memset(&lib.pool, 0, sizeof lib.pool);
    memset(&family_lock, 0, sizeof family_lock);
    attach_reset();
    call_reset();
    epoll_fork_child();
    uint32_t i = 0;
    struct sock *s;
    while ((s = sock_each(&i)) != NULL) {
        memset(&s->tx, 0, sizeof s->tx);
        memset(&s->rx, 0, sizeof s->rx);
        memset(&s->req, 0, sizeof s->req);
        s->sleepers = 0;
        s->n_claims = 0;
        s->fork_mask = 0;
        s->zombie = 0;
        s->refs = s->fds != 0 ? 1 : 0;
    }
}

/* ---- around fork() ---- */

static void prepare(void)
{
    uint32_t i = 0;
    struct sock *s;
    bool any = false;
    pending = -1;
    if (load_relaxed(lib.alive) != 1)
        fork_child();
    while ((s = sock_each(&i)) != NULL) {
        if (s->slot == NO_SLOT)
            continue;
        /* Our children will inherit it from us: our parent may be gone by then. */
        if (conn_foreign(s) && s->phase == PH_LISTEN)
            conn_adopt(s);
        any = true;
    }
    if (!any || !lib.attached)
        return;
    fork_family();
    int f = 0;
    while (f < FAMILIES && child_fd[f] != 0)
        f++;
    if (f == FAMILIES || syscall(SYS_pipe2, pending_fd, O_CLOEXEC | O_NONBLOCK) != 0)
        return;
    pending = f;
    i = 0;
    while ((s = sock_each(&i)) != NULL) {
        if (s->slot == NO_SLOT || conn_foreign(s) || s->moved || s->fds == 0)
            continue;
        s->fork_mask |= 1ull << f;
        shm_store(&s->up->forked, s->generation); /* before the child exists */
        if (s->phase == PH_LISTEN)
            conn_park_claims(s);
    }
}

static void in_parent(void)
{
    if (pending < 0)
        return;
    real()->close(pending_fd[1]);
    child_fd[pending] = fd_high(pending_fd[0]) + 1;
    pending = pending_fd[0] = pending_fd[1] = -1;
}

static void in_child(void)
{
    if (load_relaxed(lib.alive) != 1)
        fork_child();
}

void fork_init(void)
{
    pthread_atfork(prepare, in_parent, in_child);
}

void fork_before_exit(void)
{
    if (lib.fds == NULL || !lib.attached || load_relaxed(lib.alive) != 1 || lib_vfork_child())
        return;
    int64_t until = now_ns() + 1000000000;
    for (;;) {
        struct pollfd p[FAMILIES];
        uint64_t mask = 0;
        uint32_t i = 0;
        struct sock *s;
        fork_family();
        while ((s = sock_each(&i)) != NULL)
            if (s->phase == PH_LISTEN)
                mask |= s->fork_mask;
        nfds_t n = 0;
        for (int f = 0; f < FAMILIES; f++)
            if (mask >> f & 1 && child_fd[f] != 0)
                p[n++] = (struct pollfd){.fd = child_fd[f] - 1, .events = POLLIN};
        int64_t left = until - now_ns();
        if (n == 0 || left <= 0)
            return;
        real()->poll(p, n, (int)(left / 1000000) + 1);
    }
}

__attribute__((destructor)) static void at_exit(void)
{
    fork_before_exit();
}
