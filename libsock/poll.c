/* SPDX-License-Identifier: BSD-2-Clause
 *
 * poll() and select() over sockets of the stack and descriptors of the kernel at once.
 *
 * Readiness of our sockets is read from memory; the kernel is asked with a real ppoll() for the
 * rest, and while something of ours is ready only now and then. To block: arm a waiter, look once
 * more, then one real ppoll() over the waiter and the kernel's descriptors, so that the signal mask
 * is changed atomically and a handler interrupts, as it must.
 */
#include "sock.h"

#include <alloca.h>
#include <sys/mman.h>

enum { KERNEL_EVERY = 16, ON_STACK = 256 };

struct poll_set {
    struct pollfd *user, *kernel; /* the program's array; ours, with our sockets masked out */
    struct sock **sock;           /* NULL: the kernel's */
    struct epoll **ep;            /* an epoll descriptor: both */
    nfds_t n;
    nfds_t kernels; /* entries that the kernel must be asked about */
    uint32_t key;   /* what to wait for */
};

static __thread unsigned busy_calls;

/* Looks at our sockets; number of ready ones. */
static int look(struct poll_set *p)
{
    int ready = 0;
    for (nfds_t i = 0; i < p->n; i++) {
        if (p->sock[i] != NULL) {
            uint32_t want = (uint16_t)p->user[i].events | POLLERR | POLLHUP;
            uint32_t got =
                load_relaxed(&p->sock[i]->closing) ? POLLNVAL : sock_ready(p->sock[i]) & want;
            p->user[i].revents = (short)got;
            ready += got != 0;
        } else {
            p->user[i].revents = 0;
            if (p->ep[i] != NULL && p->user[i].events & POLLIN && epoll_any_ready(p->ep[i])) {
                p->user[i].revents = POLLIN;
                ready++;
            }
        }
    }
    return ready;
}

/* Adds what the kernel said. */
static int merge(struct poll_set *p, int ready)
{
    for (nfds_t i = 0; i < p->n; i++) {
        if (p->sock[i] != NULL || p->kernel[i].fd < 0 || p->kernel[i].revents == 0)
            continue;
        ready += p->user[i].revents == 0;
        p->user[i].revents |= p->kernel[i].revents;
    }
    return ready;
}

static bool any(void *arg)
{
    struct poll_set *p = arg;
    for (nfds_t i = 0; i < p->n; i++) {
        if (p->sock[i] != NULL) {
            uint32_t want = (uint16_t)p->user[i].events | POLLERR | POLLHUP;
            if (load_relaxed(&p->sock[i]->closing) || (sock_ready(p->sock[i]) & want) != 0)
                return true;
        } else if (p->ep[i] != NULL && p->user[i].events & POLLIN && epoll_any_ready(p->ep[i])) {
            return true;
        }
    }
    return false;
}

static int run(struct poll_set *p, const struct deadline *dl, bool zero, const sigset_t *mask)
{
    static const struct timespec none = {0, 0};
    for (;;) {
        int ready = look(p);
        if (ready > 0 && (p->kernels == 0 || ++busy_calls % KERNEL_EVERY != 0))
            return ready;
        if (ready > 0 || zero) {
            if (p->kernels > 0 || mask != NULL) {
                int r = real()->ppoll(p->kernel, p->n, &none, mask);
                if (r < 0)
                    return ready > 0 ? ready : -errno;
                ready = merge(p, ready);
            }
            return ready;
        }
        int err = wait_poll(p->kernel, (unsigned)p->n, p->key, dl, mask, any, p);
        ready = merge(p, look(p));
        if (ready > 0)
            return ready;
        if (err < 0)
            return err;
        if (dl->some && now_ns() >= dl->at)
            return 0;
    }
}

int poll_many(struct pollfd *fds, nfds_t n, const struct deadline *dl, bool zero,
              const sigset_t *mask)
{
    struct poll_set p = {.user = fds, .n = n};
    size_t size = (n + 2) * sizeof *p.kernel + n * (sizeof *p.sock + sizeof *p.ep) + 64;
    uint8_t *space = n <= ON_STACK ? alloca(size)
                                   : mmap(NULL, size, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED)
        return -ENOMEM;
    p.sock = (struct sock **)space;
    p.ep = (struct epoll **)(p.sock + n);
    p.kernel = (struct pollfd *)(p.ep + n);
    unsigned ours = 0;
    for (nfds_t i = 0; i < n; i++) {
        p.kernel[i] = fds[i];
        p.kernel[i].revents = 0;
        p.ep[i] = NULL;
        p.sock[i] = sock_enter(fds[i].fd);
        if (p.sock[i] != NULL) {
            if (conn_foreign(p.sock[i]))
                conn_adopt(p.sock[i]);
            p.kernel[i].fd = -1;
            p.key = ours++ == 0 && p.sock[i]->slot != NO_SLOT && p.sock[i]->phase != PH_LISTEN
                        ? sock_key(p.sock[i])
                        : (uint32_t)WAIT_ANY;
        } else if (fds[i].fd >= 0) {
            p.kernels++;
            p.ep[i] = epoll_enter(fds[i].fd);
            if (p.ep[i] != NULL) {
                p.key = WAIT_ANY;
                ours += 2;
            }
        }
    }
    if (ours == 0)
        p.key = WAIT_ANY;
    int r = run(&p, dl, zero, mask);
    for (nfds_t i = 0; i < n; i++) {
        if (p.sock[i] != NULL)
            sock_leave(p.sock[i]);
        if (p.ep[i] != NULL)
            epoll_leave(p.ep[i]);
    }
    if (n > ON_STACK)
        munmap(space, size);
    return r;
}

int poll_select(int n, fd_set *r, fd_set *w, fd_set *e, const struct deadline *dl, bool zero,
                const sigset_t *mask)
{
    struct pollfd *fds = alloca((size_t)(n > 0 ? n : 1) * sizeof *fds);
    nfds_t count = 0;
    typedef unsigned long word;
    /* As words, not FD_ISSET: programs may pass sets larger than 1024. */
    const unsigned bits = 8 * sizeof(word);
    for (int fd = 0; fd < n; fd++) {
        short ev = 0;
        word bit = 1ul << (fd % bits);
        if (r != NULL && ((word *)r)[fd / bits] & bit)
            ev |= POLLIN;
        if (w != NULL && ((word *)w)[fd / bits] & bit)
            ev |= POLLOUT;
        if (e != NULL && ((word *)e)[fd / bits] & bit)
            ev |= POLLPRI;
        if (ev != 0)
            fds[count++] = (struct pollfd){.fd = fd, .events = ev};
    }
    int got = poll_many(fds, count, dl, zero, mask);
    if (got < 0)
        return got;
    for (nfds_t i = 0; i < count; i++)
        if (fds[i].revents & POLLNVAL)
            return -EBADF;
    int total = 0;
    for (nfds_t i = 0; i < count; i++) {
        word bit = 1ul << ((unsigned)fds[i].fd % bits);
        unsigned at = (unsigned)fds[i].fd / bits;
        short rev = fds[i].revents;
        /* The kernel's POLLIN_SET, POLLOUT_SET, POLLEX_SET. */
        if (fds[i].events & POLLIN) {
            if (rev & (POLLIN | POLLHUP | POLLERR))
                total++;
            else
                ((word *)r)[at] &= ~bit;
        }
        if (fds[i].events & POLLOUT) {
            if (rev & (POLLOUT | POLLERR))
                total++;
            else
                ((word *)w)[at] &= ~bit;
        }
        if (fds[i].events & POLLPRI) {
            if (rev & POLLPRI)
                total++;
            else
                ((word *)e)[at] &= ~bit;
        }
    }
    return total;
}
