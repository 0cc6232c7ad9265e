/* SPDX-License-Identifier: BSD-2-Clause
 *
 * epoll over both kinds of descriptors. The real epoll descriptor stays, and kernel descriptors
 * stay in it; sockets of the stack live in a list here, keyed by (number, description).
 *
 * Edges: every registration remembers what it last reported (receive counter, error and event
 * numbers, state). A difference is an edge and, as in Linux, an edge reports all that is ready at
 * this moment. For OUT an edge is that the ring has room again after a send, or a look, found it
 * full. A registration whose description is gone is removed when it is next met.
 *
 * To block: arm, look once more, then a real ppoll() on the waiter and on the epoll descriptor
 * itself. With work at hand the kernel is asked every 16th call, or when 20 µs have passed.
 */
#include "sock.h"

#include <sys/mman.h>

enum { REGS_MAX = 1 << 16, KERNEL_EVERY = 16, KERNEL_NS = 20000 };
#define ALWAYS      (EPOLLERR | EPOLLHUP)
#define EVENTS_MASK 0xffffu

struct reg {
    uint32_t sock, tag; /* description */
    int fd;
    uint32_t events; /* as given; 0 after ONESHOT reported */
    epoll_data_t data;
    /* as last reported */
    uint64_t rx_nxt;
    uint32_t state, error_seq, changes, nospace, accepted;
    uint8_t fresh; /* added or modified: report what is ready now */
};

struct epoll {
    uint32_t tag, refs, fds;
    struct lock lock;
    struct reg *regs; /* dense */
    uint32_t *index;  /* by descriptor: position + 1 */
    uint32_t n, cursor;
    uint32_t calls;
    int64_t kernel_at; /* when the kernel was last asked */
};

static struct epoll *table[EPOLL_MAX];
static struct lock table_lock;

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int epoll_make(int fd)
{
    if ((unsigned)fd >= FD_MAX || !lock_take(&table_lock))
        return fd;
    struct epoll *ep = NULL;
    unsigned i = 0;
    for (; i < EPOLL_MAX; i++) {
        ep = table[i];
        if (ep == NULL || load_relaxed(&ep->refs) == 0)
            break;
    }
    if (i < EPOLL_MAX && ep == NULL) {
        ep = reserve(sizeof *ep);
        if (ep != NULL) {
            ep->regs = reserve(REGS_MAX * sizeof *ep->regs);
            ep->index = reserve(FD_MAX * sizeof *ep->index);
            if (ep->regs == NULL || ep->index == NULL)
                ep = NULL; /* the addresses are lost: nobody has memory any more */
            else
                table[i] = ep;
        }
    }
    if (i < EPOLL_MAX && ep != NULL) {
        for (uint32_t k = 0; k < ep->n; k++)
            ep->index[ep->regs[k].fd] = 0;
        ep->n = ep->cursor = 0;
        ep->tag++;
        ep->fds = 1;
        __atomic_store_n(&ep->refs, 1, __ATOMIC_RELEASE);
        __atomic_store_n(&lib.fds[fd], (uint64_t)ep->tag << 32 | FD_EPOLL | (i + 1),
                         __ATOMIC_RELEASE);
    }
    lock_give(&table_lock);
    return fd;
}

static struct epoll *epoll_of(uint64_t word)
{
    return table[((uint32_t)word & ~FD_EPOLL) - 1];
}

struct epoll *epoll_enter(int fd)
{
    uint64_t word = fd_word(fd);
    if (!((uint32_t)word & FD_EPOLL))
        return NULL;
    struct epoll *ep = epoll_of(word);
    uint32_t refs = load_relaxed(&ep->refs);
    do {
        if (refs == 0)
            return NULL;
    } while (!__atomic_compare_exchange_n(&ep->refs, &refs, refs + 1, true, __ATOMIC_ACQUIRE,
                                          __ATOMIC_RELAXED));
    if (ep->tag == (uint32_t)(word >> 32))
        return ep;
    epoll_leave(ep);
    return NULL;
}

void epoll_leave(struct epoll *ep)
{
    /* What is in it stays until the object is used again (epoll_make). */
    __atomic_sub_fetch(&ep->refs, 1, __ATOMIC_ACQ_REL);
}

void epoll_fd_add(uint64_t word)
{
    __atomic_add_fetch(&epoll_of(word)->fds, 1, __ATOMIC_RELAXED);
}

void epoll_fd_drop(uint64_t word)
{
    struct epoll *ep = epoll_of(word);
    if (__atomic_sub_fetch(&ep->fds, 1, __ATOMIC_ACQ_REL) == 0)
        epoll_leave(ep);
}

void epoll_fork_child(void)
{
    memset(&table_lock, 0, sizeof table_lock);
    for (unsigned i = 0; i < EPOLL_MAX && table[i] != NULL; i++) {
        memset(&table[i]->lock, 0, sizeof table[i]->lock);
        if (table[i]->refs > 1)
            table[i]->refs = 1; /* no other thread came with us */
    }
}

/* ---- registrations; all under ep->lock ---- */

static void reg_remove(struct epoll *ep, uint32_t pos)
{
    int fd = ep->regs[pos].fd;
    if (ep->index[fd] == pos + 1)
        ep->index[fd] = 0;
    if (pos != --ep->n) {
        struct reg *last = &ep->regs[ep->n];
        if (ep->index[last->fd] == ep->n + 1)
            ep->index[last->fd] = pos + 1;
        ep->regs[pos] = *last;
    }
}

static bool reg_alive(const struct reg *r)
{
    const struct sock *s = &lib.socks[r->sock];
    return load_relaxed(&s->tag) == r->tag && load_acquire(&s->refs) != 0 &&
           !load_relaxed(&s->closing);
}

struct seen {
    uint64_t rx_nxt;
    uint32_t state, error_seq, changes, nospace, accepted;
};

/* What an edge is told by. Read before readiness: a change in between is reported again. */
static struct seen seen_now(const struct sock *s)
{
    struct seen n = {.changes = load_relaxed(&s->events) + ((uint32_t)s->phase << 24),
                     .nospace = load_relaxed(&s->nospace),
                     .accepted = load_relaxed(&s->accepted)};
    if (s->slot != NO_SLOT && !conn_foreign(s)) {
        n.rx_nxt = load_acquire(&s->down->rx_nxt);
        n.state = load_acquire(&s->down->state);
        n.error_seq = load_acquire(&s->down->error_seq);
        if (s->phase == PH_LISTEN)
            /* Another connection that waits is another event. */
            for (uint32_t i = 0; i < s->n_claims && i < CLAIMS_MAX; i++)
                n.accepted += load_acquire(&slot_down(false, s->claim[i].slot)->req_done) ==
                              s->claim[i].req_id;
    }
    return n;
}

/* Events to report for a registration now; 0: none. */
static uint32_t reg_check(struct reg *r, struct sock *s, bool consume)
{
    uint32_t want = r->events & (EVENTS_MASK | EPOLLRDHUP);
    if (r->events == 0)
        return 0;
    if (!(r->events & EPOLLET)) {
        uint32_t ev = sock_ready(s) & (want | ALWAYS);
        if (ev != 0 && consume && r->events & EPOLLONESHOT)
            r->events = 0;
        return ev;
    }
    struct seen n = seen_now(s);
    bool in = r->fresh || n.rx_nxt != r->rx_nxt || n.state != r->state ||
              n.error_seq != r->error_seq || n.changes != r->changes || n.accepted > r->accepted;
    bool out = want & EPOLLOUT && n.nospace != r->nospace;
    if (!in && !out && s->phase != PH_CONNECTING && s->phase != PH_LISTEN) {
        conn_refresh(s); /* there may be something to tell */
        return 0;
    }
    uint32_t ev = sock_ready(s) & (want | ALWAYS);
    if (s->phase == PH_LISTEN || s->phase == PH_ACTIVE) {
        /* Looking may have posted claims or ended a connect. */
        struct seen again = seen_now(s);
        if (s->phase == PH_LISTEN)
            n = again;
        in = in || n.accepted > r->accepted || again.changes != r->changes;
    }
    if (!in && !(out && ev & EPOLLOUT))
        ev = 0;
    if (!consume)
        return ev;
    if (ev != 0 || in) {
        r->fresh = 0;
        r->rx_nxt = n.rx_nxt;
        r->state = n.state;
        r->error_seq = n.error_seq;
        r->changes = load_relaxed(&s->events) + ((uint32_t)s->phase << 24);
        r->accepted = n.accepted;
        if (ev & EPOLLOUT)
            r->nospace = n.nospace;
    }
    if (ev != 0 && r->events & EPOLLONESHOT)
        r->events = 0;
    return ev;
}

/* Goes once around the registrations from where the last call ended. */
static int scan(struct epoll *ep, struct epoll_event *ev, int max, bool consume)
{
    int got = 0;
    if (!lock_take(&ep->lock))
        return 0;
    uint32_t left = ep->n;
    while (left-- > 0 && got < max && ep->n > 0) {
        if (ep->cursor >= ep->n)
            ep->cursor = 0;
        uint32_t pos = ep->cursor;
        struct reg *r = &ep->regs[pos];
        struct sock *s = reg_alive(r) ? sock_ref(r->sock, r->tag) : NULL;
        if (s == NULL) {
            reg_remove(ep, pos);
            continue;
        }
        if (conn_foreign(s)) /* inherited, with this epoll instance */
            conn_adopt(s);
        uint32_t events = reg_check(r, s, consume);
        if (events != 0) {
            if (ev != NULL) {
                ev[got].events = events;
                ev[got].data = r->data;
            }
            got++;
        }
        ep->cursor++;
        sock_leave(s);
    }
    lock_give(&ep->lock);
    return got;
}

bool epoll_has_sockets(const struct epoll *ep)
{
    return load_relaxed(&ep->n) != 0;
}

bool epoll_any_ready(struct epoll *ep)
{
    return scan(ep, NULL, 1, false) > 0;
}

static bool collect_ready(void *arg)
{
    return epoll_any_ready(arg);
}

int epoll_control(int epfd, struct epoll *ep, int op, int fd, struct epoll_event *ev)
{
    struct sock *s = sock_enter(fd);
    if (s == NULL) {
        /* An epoll descriptor in another one: the kernel knows its kernel half. */
        return real()->epoll_ctl(epfd, op, fd, ev) != 0 ? -errno : 0;
    }
    int result = 0;
    if (op != EPOLL_CTL_DEL) {
        if (ev == NULL)
            result = -EFAULT;
        else if (conn_foreign(s))
            conn_adopt(s);
        if (result == 0 && s->phase == PH_LISTEN)
            conn_claim_ready(s); /* an intention to accept */
    }
    if (result != 0 || !lock_take(&ep->lock)) {
        sock_leave(s);
        return result != 0 ? result : -EAGAIN;
    }
    uint32_t pos = ep->index[fd];
    struct reg *r = pos != 0 ? &ep->regs[pos - 1] : NULL;
    if (r != NULL && (!reg_alive(r) || &lib.socks[r->sock] != s)) {
        if (!reg_alive(r))
            reg_remove(ep, pos - 1);
        else
            ep->index[fd] = 0; /* the number was reused; the old description lives on elsewhere */
        r = NULL;
    }
    switch (op) {
    case EPOLL_CTL_ADD:
        if (r != NULL) {
            result = -EEXIST;
        } else if (ep->n == REGS_MAX) {
            result = -ENOSPC;
        } else {
            r = &ep->regs[ep->n++];
            memset(r, 0, sizeof *r);
            r->sock = (uint32_t)(s - lib.socks);
            r->tag = s->tag;
            r->fd = fd;
            r->events = ev->events | ALWAYS;
            r->data = ev->data;
            r->fresh = 1;
            r->nospace = s->nospace;
            ep->index[fd] = ep->n;
        }
        break;
    case EPOLL_CTL_MOD:
        if (r == NULL) {
            result = -ENOENT;
        } else if (ev->events & EPOLLEXCLUSIVE || r->events & EPOLLEXCLUSIVE) {
            result = -EINVAL;
        } else {
            r->events = ev->events | ALWAYS;
            r->data = ev->data;
            r->fresh = 1;
        }
        break;
    case EPOLL_CTL_DEL:
        if (r == NULL)
            result = -ENOENT;
        else
            reg_remove(ep, ep->index[fd] - 1);
        break;
    default:
        result = -EINVAL;
    }
    lock_give(&ep->lock);
    sock_leave(s);
    if (result == 0 && op != EPOLL_CTL_DEL && load_relaxed(&lib.pollers) != 0)
        wake_local();
    return result;
}

void epoll_to_kernel(int fd, struct sock *s)
{
    for (unsigned i = 0; i < EPOLL_MAX && table[i] != NULL; i++) {
        struct epoll *ep = table[i];
        if (load_relaxed(&ep->refs) == 0 || !lock_take(&ep->lock))
            continue;
        uint32_t pos = ep->index[fd];
        if (pos != 0 && &lib.socks[ep->regs[pos - 1].sock] == s && reg_alive(&ep->regs[pos - 1])) {
            struct epoll_event ev = {ep->regs[pos - 1].events, ep->regs[pos - 1].data};
            reg_remove(ep, pos - 1);
            /* Find the number of this epoll instance. */
            for (int e = 0; e < FD_MAX; e++) {
                uint64_t w = load_relaxed(&lib.fds[e]);
                if ((uint32_t)w & FD_EPOLL && epoll_of(w) == ep) {
                    real()->epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev);
                    break;
                }
            }
        }
        lock_give(&ep->lock);
    }
}

/* Is it time to look at the kernel's descriptors although ours have something? */
static bool kernel_due(struct epoll *ep)
{
    if (++ep->calls % KERNEL_EVERY == 0)
        return true;
    int64_t now = now_ns();
    if (now - ep->kernel_at < KERNEL_NS)
        return false;
    ep->kernel_at = now;
    return true;
}

int epoll_collect(int epfd, struct epoll *ep, struct epoll_event *ev, int max,
                  const struct deadline *dl, bool zero, const sigset_t *mask)
{
    if (max <= 0 || max > INT32_MAX / (int)sizeof *ev)
        return -EINVAL;
    bool asked = false; /* the kernel has something */
    for (;;) {
        int got = scan(ep, ev, max, true);
        if (got == max || (got > 0 && !asked && !kernel_due(ep)))
            return got;
        if (got > 0 || zero || asked) {
            int more = real()->epoll_pwait(epfd, ev + got, max - got, 0, zero ? mask : NULL);
            if (more < 0)
                return got > 0 ? got : -errno;
            got += more;
            asked = false;
        }
        if (got > 0 || zero)
            return got;
        struct pollfd p[3] = {{.fd = epfd, .events = POLLIN}};
        int err = wait_poll(p, 1, WAIT_ANY, dl, mask, collect_ready, ep);
        if (err < 0) {
            got = scan(ep, ev, max, true);
            return got > 0 ? got : err;
        }
        asked = p[0].revents != 0;
        if (dl->some && !asked && now_ns() >= dl->at)
            return scan(ep, ev, max, true);
    }
}
