/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sleeping until a server has made progress. The protocol is in edge/app.h: take a waiter slot, say
 * what for, arm, fence, look once more, sleep, disarm.
 *
 * A call that blocks without a time limit sleeps in read() on the waiter's descriptor: then the
 * kernel decides about signals and SA_RESTART exactly as it does for a blocking recv(). With a time
 * limit it sleeps in ppoll(), which a handler always interrupts: as Linux does with SO_RCVTIMEO,
 * poll and epoll. A ring that comes late is found by the next sleeper: spurious, harmless.
 */
#include "libchan/edge/control.h"
#include "sock.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct deadline deadline_in(int64_t ns)
{
    struct deadline d = {.some = ns > 0};
    if (d.some)
        d.at = now_ns() + ns;
    return d;
}

/* A waiter of our own, its descriptor at hand; -1: all are taken. */
static int waiter_take(void)
{
    uint64_t used = load_relaxed(&lib.waiters);
    int i;
    do {
        if (~used == 0)
            return -1;
        i = __builtin_ctzll(~used);
    } while (!__atomic_compare_exchange_n(&lib.waiters, &used, used | 1ull << i, true,
                                          __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    if (lib.waiter_fd[i] < 0) {
        int fd = -1;
        if (control_call(CONTROL_WAITER, (uint32_t)i, &fd) < 0 || fd < 0) {
            __atomic_and_fetch(&lib.waiters, ~(1ull << i), __ATOMIC_RELEASE);
            return -1;
        }
        fd = fd_high(fd);
        int flags = real()->fcntl64(fd, F_GETFL);
        real()->fcntl64(fd, F_SETFL, flags & ~O_NONBLOCK);
        lib.waiter_fd[i] = fd;
    }
    return i;
}

static void waiter_arm(int i, uint32_t key)
{
    struct app_waiter *w = &lib.up->waiter[i];
    shm_store(&w->socket, key);
    shm_store_release(&w->armed, w->armed | 1);
    fence_full();
}

static void waiter_give(int i)
{
    struct app_waiter *w = &lib.up->waiter[i];
    shm_store_release(&w->armed, (w->armed + 1) & ~1u);
    __atomic_and_fetch(&lib.waiters, ~(1ull << i), __ATOMIC_RELEASE);
}

static void cancelled(void *arg)
{
    waiter_give(*(int *)arg);
}

static struct timespec left(const struct deadline *dl)
{
    int64_t ns = dl->at - now_ns();
    if (ns < 0)
        ns = 0;
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static int sleep_on(int i, const struct deadline *dl)
{
    char ring;
    if (dl == NULL || !dl->some) {
        if (real()->read(lib.waiter_fd[i], &ring, 1) >= 0)
            return 0;
        if (errno == EINTR)
            return -EINTR;
        /* The program closed our descriptor: ask for it again next time. */
        lib.waiter_fd[i] = -1;
        return 0;
    }
    struct timespec ts = left(dl);
    struct pollfd p = {.fd = lib.waiter_fd[i], .events = POLLIN};
    int n = real()->ppoll(&p, 1, &ts, NULL);
    if (n < 0)
        return errno == EINTR ? -EINTR : 0;
    if (n == 0)
        return -EAGAIN;
    if (real()->read(lib.waiter_fd[i], &ring, 1) < 0)
        return 0;
    return 0;
}

int wait_for(struct sock *s, uint32_t key, const struct deadline *dl, ready_fn ready, void *arg)
{
    int result = 0;
    if (s != NULL)
        __atomic_add_fetch(&s->sleepers, 1, __ATOMIC_SEQ_CST);
    int i = waiter_take();
    if (i < 0) {
        /* More threads sleep than there are waiters: look now and then. */
        if (!ready(s, arg)) {
            struct timespec ts = {0, 1000000};
            if (dl != NULL && dl->some && now_ns() >= dl->at)
                result = -EAGAIN;
            else if (real()->ppoll(NULL, 0, &ts, NULL) < 0 && errno == EINTR)
                result = -EINTR;
        }
    } else {
        waiter_arm(i, key);
        if (!ready(s, arg)) {
            pthread_cleanup_push(cancelled, &i);
            result = sleep_on(i, dl);
            pthread_cleanup_pop(0);
        }
        waiter_give(i);
    }
    if (s != NULL)
        __atomic_sub_fetch(&s->sleepers, 1, __ATOMIC_RELEASE);
    return result;
}

void wait_through(struct sock *s, uint32_t key, ready_fn ready, void *arg)
{
    int saved = errno;
    int old = 0;
    if (ready(s, arg))
        return;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    do
        wait_for(s, key, NULL, ready, arg);
    while (!ready(s, arg));
    pthread_setcancelstate(old, NULL);
    errno = saved;
}

/* ppoll(), giving the waiter back when the thread is cancelled in it. */
static int poll_guarded(int i, struct pollfd *fds, unsigned n, const struct timespec *ts,
                        const sigset_t *mask)
{
    int r;
    pthread_cleanup_push(cancelled, &i);
    r = real()->ppoll(fds, n, ts, mask);
    pthread_cleanup_pop(0);
    return r;
}

int wait_poll(struct pollfd *fds, unsigned n, uint32_t key, const struct deadline *dl,
              const sigset_t *mask, bool (*ready)(void *), void *arg)
{
    struct deadline slice = {.some = false};
    int i = waiter_take();
    unsigned extra = 0;
    if (i >= 0) {
        if (lib.wake_fd[i] < 0)
            lib.wake_fd[i] = fd_high(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        fds[n] = (struct pollfd){.fd = lib.waiter_fd[i], .events = POLLIN};
        fds[n + 1] = (struct pollfd){.fd = lib.wake_fd[i], .events = POLLIN};
        extra = 2;
        __atomic_or_fetch(&lib.pollers, 1ull << i, __ATOMIC_SEQ_CST);
        waiter_arm(i, key);
    }
    /* No waiter, or children whose news we must hear: do not sleep for long. */
    if (i < 0 || load_relaxed(&lib.zombies) != 0) {
        slice = deadline_in(i < 0 ? 1000000 : 50000000);
        if (dl->some && dl->at < slice.at)
            slice = *dl;
        dl = &slice;
    }
    int result = 0;
    if (!ready(arg)) {
        struct timespec ts = dl->some ? left(dl) : (struct timespec){0, 0};
        int r;
        if (i >= 0) {
            r = poll_guarded(i, fds, n + extra, dl->some ? &ts : NULL, mask);
        } else {
            r = real()->ppoll(fds, n, &ts, mask);
        }
        if (r < 0)
            result = -errno;
        else if (extra != 0) {
            uint64_t word;
            for (unsigned k = n; k < n + extra; k++)
                if (fds[k].revents != 0 && real()->read(fds[k].fd, &word, sizeof word) < 0)
                    continue;
        }
    } else {
        for (unsigned k = 0; k < n; k++)
            fds[k].revents = 0;
    }
    if (i >= 0) {
        __atomic_and_fetch(&lib.pollers, ~(1ull << i), __ATOMIC_RELEASE);
        waiter_give(i);
    }
    if (load_relaxed(&lib.zombies) != 0)
        fork_family();
    return result;
}

void wake_local(void)
{
    fence_full();
    uint64_t set = load_relaxed(&lib.pollers);
    uint64_t one = 1;
    int saved = errno;
    for (; set != 0; set &= set - 1) {
        int fd = load_relaxed(&lib.wake_fd[__builtin_ctzll(set)]);
        if (fd >= 0 && real()->write(fd, &one, sizeof one) < 0)
            errno = saved;
    }
}

void wake_sleepers(struct sock *s)
{
    fence_full();
    wake_local();
    if (load_relaxed(&s->sleepers) == 0 || s->slot == NO_SLOT)
        return;
    /* They sleep on the server's ring, and only the server can ring it: a request that changes
     * nothing makes it do so. */
    if (s->phase == PH_ACTIVE || s->phase == PH_UDP) {
        struct request r = {.op = OP_SETOPT, .arg0 = OPT_TTL, .arg1 = (uint64_t)s->opt[OPT_TTL]};
        request_start(s, &r);
    }
}
