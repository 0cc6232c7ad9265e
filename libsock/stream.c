/* SPDX-License-Identifier: BSD-2-Clause
 *
 * TCP data: copies between the program and the two rings of a slot, and what poll() says.
 *
 * One thread at a time writes tx_end (lock tx) and rx_read (lock rx). No system call when the ring
 * has data or room. tcp is told about reading when a quarter of the ring came free since it was
 * last told: then at least three quarters of the ring are known to be open whenever the ring is
 * empty, so that the sender never waits for news that we keep.
 *
 * The order of errors is Linux's: data first, then the end of the stream, then the error, once.
 */
#include "sock.h"

#include <pthread.h>
#include <unistd.h>

static bool over(uint32_t state)
{
    return state == SOCK_CLOSED || state == SOCK_FREE;
}

/* ---- receiving ---- */

/* Where in-order data ends that was not handed to the program; bytes behind rx_next. */
static uint64_t unread(const struct sock *s, uint64_t rx)
{
    return (rx & OFF_MASK) - load_relaxed(&s->rx_next);
}

static bool recv_ready(struct sock *s, void *arg)
{
    uint64_t least = *(const uint64_t *)arg;
    enum phase ph = conn_refresh(s);
    if (ph == PH_CONNECTING)
        return load_relaxed(&s->closing);
    if (ph != PH_ACTIVE || load_relaxed(&s->closing) || load_relaxed(&s->shut_rd))
        return true;
    if (over(load_acquire(&s->down->state)) || conn_has_error(s))
        return true;
    uint64_t rx = load_acquire(&s->down->rx_nxt);
    return rx & OFF_MARK || unread(s, rx) >= least;
}

/* What is in the ring; bytes. Never more than the ring holds, whatever tcp says. */
static uint64_t available(const struct sock *s, const struct ring *r, uint64_t rx)
{
    uint64_t n = unread(s, rx);
    uint64_t most = (uint64_t)r->d.block[0].size + r->d.block[1].size;
    return n <= most ? n : 0;
}

/* What is below `rd` the program is done with: tcp may use its space. True: tcp should be told. */
static bool give_back(struct sock *s, const struct ring *r, uint64_t rd)
{
    shm_store_release(&s->up->rx_read, rd);
    if (rd - s->rx_told < ring_size(r) / 4)
        return false;
    s->rx_told = rd;
    return true;
}

/* Where received bytes go: copied into `pos`, or, with `span`, referred to and held. */
struct into {
    struct iov_pos pos;
    struct eft_span *span;
};

/* Nothing is there for a reader who holds bytes. They count as unread for tcp: of a ring half of
 * which is held the peer must know what is open of the other half, or nobody ever moves again. */
static ssize_t recv_starved(struct sock *s, const struct ring *r, bool *tell)
{
    uint64_t rd = s->up->rx_read;
    if (s->rx_next - rd > ring_size(r) / 2)
        return -ENOBUFS;
    *tell = s->rx_told != rd;
    s->rx_told = rd;
    return -EAGAIN;
}

/* One look at the ring, under lock rx. Bytes copied or referred to; 0: the end; -EAGAIN: nothing
 * yet; -EBUSY: others are held, and these cannot be consumed before them. */
static ssize_t recv_look(struct sock *s, struct into *to, size_t want, int flags, bool *tell)
{
    struct ring r;
    /* State and error before the counter: what came before the end must be seen. */
    uint32_t state = load_acquire(&s->down->state);
    bool error = conn_has_error(s);
    uint64_t rx = load_acquire(&s->down->rx_nxt);
    uint64_t rd = s->rx_next;
    bool held = rd != s->up->rx_read;
    uint64_t n = 0;
    if (unlikely(held) && to->span == NULL && !(flags & MSG_PEEK))
        return -EBUSY;
    if (((rx & OFF_MASK) != rd || held) && ring_get(&r, s->down, false, false))
        n = available(s, &r, rx);
    if (n > 0) {
        if (n > want)
            n = want;
        if (to->span != NULL)
            n = ring_span(&r, rd, n, to->span);
        else if (!(flags & MSG_TRUNC)) /* with it the bytes are thrown away */
            n = iov_ring_read(&r, rd, &to->pos, n);
        if (!(flags & MSG_PEEK)) {
            __atomic_store_n(&s->rx_next, rd + n, __ATOMIC_RELAXED);
            if (to->span == NULL)
                *tell = give_back(s, &r, rd + n);
        }
        return (ssize_t)n;
    }
    if (rx & OFF_MARK)
        return 0;
    if (error) {
        int err = conn_take_error(s);
        if (err != 0)
            return -err;
    }
    if (load_relaxed(&s->shut_rd) || over(state))
        return 0;
    return unlikely(held) && to->span != NULL ? recv_starved(s, &r, tell) : -EAGAIN;
}

static ssize_t recv_once(struct sock *s, struct into *to, size_t want, int flags)
{
    bool tell = false;
    if (!lock_take(&s->rx))
        return -EAGAIN;
    ssize_t n = recv_look(s, to, want, flags, &tell);
    lock_give(&s->rx);
    if (tell)
        work_push(false, s->slot);
    return n;
}

static ssize_t recv_loop(struct sock *s, struct into *to, size_t total, int flags)
{
    size_t done = 0;
    bool block = !s->nonblock && !(flags & MSG_DONTWAIT);
    struct deadline dl = {.some = false};
    bool timed = false;
    uint64_t target = flags & MSG_WAITALL ? total : (uint64_t)(s->rcvlowat > 1 ? s->rcvlowat : 1);
    if (target > total)
        target = total;
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    for (;;) {
        enum phase ph = conn_refresh(s);
        ssize_t r = -EAGAIN;
        if (likely(ph == PH_ACTIVE)) {
            r = recv_once(s, to, total - done, flags);
        } else if (ph == PH_FAILED) {
            r = -conn_take_error(s);
        } else if (ph != PH_CONNECTING) {
            return -ENOTCONN;
        }
        if (r > 0) {
            done += (size_t)r;
            if (done >= target || flags & MSG_PEEK || to->span != NULL)
                return (ssize_t)done;
            continue;
        }
        if (r != -EAGAIN) {
            if (done == 0)
                return r;
            if (r < 0)
                s->so_error = (int)-r; /* for the next call */
            return (ssize_t)done;
        }
        if (!block || load_relaxed(&s->closing))
            return done > 0 ? (ssize_t)done : load_relaxed(&s->closing) ? -EBADF : -EAGAIN;
        if (!timed && s->rcvtimeo_ns > 0)
            dl = deadline_in(s->rcvtimeo_ns);
        timed = true;
        uint64_t least = 1;
        int err = wait_for(s, sock_key(s), &dl, recv_ready, &least);
        if (err != 0 && !recv_ready(s, &least))
            return done > 0 ? (ssize_t)done : err;
    }
}

ssize_t stream_recv(struct sock *s, const struct iovec *iov, size_t n, int flags)
{
    struct into to = {.pos = {iov, n, 0}};
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    if (flags & MSG_OOB)
        return -EINVAL;
    return recv_loop(s, &to, iov_total(iov, n), flags);
}

ssize_t stream_take(struct sock *s, struct eft_span *span, size_t most, int flags)
{
    struct into to = {.span = span};
    return recv_loop(s, &to, most, flags);
}

int stream_release(struct sock *s, size_t len, bool *tell)
{
    struct ring r;
    int err = 0;
    if (conn_refresh(s) != PH_ACTIVE)
        return -EINVAL;
    if (!lock_take(&s->rx))
        return -EAGAIN;
    uint64_t rd = s->up->rx_read;
    if (len > s->rx_next - rd || !ring_get(&r, s->down, false, false))
        err = -EINVAL;
    else if (len > 0)
        *tell = give_back(s, &r, rd + len);
    lock_give(&s->rx);
    return err;
}

int stream_fionread(struct sock *s)
{
    struct ring r;
    if (conn_refresh(s) == PH_LISTEN)
        return -EINVAL;
    if (s->phase != PH_ACTIVE || !ring_get(&r, s->down, false, false))
        return 0;
    uint64_t n = available(s, &r, load_acquire(&s->down->rx_nxt));
    return n > INT32_MAX ? INT32_MAX : (int)n;
}

int stream_fionwrite(struct sock *s)
{
    if (conn_refresh(s) == PH_LISTEN)
        return -EINVAL;
    if (s->phase != PH_ACTIVE)
        return 0;
    return (int)((s->up->tx_end & OFF_MASK) - (load_acquire(&s->down->tx_una) & OFF_MASK));
}

/* ---- sending ---- */

/* What may be written at `end`. tx_free is loaded before the descriptor: a tx_free that lets us
 * pass the end of the old block comes with the descriptor of the new one. */
static uint64_t send_room(const struct sock *s, struct ring *r, uint64_t end)
{
    uint64_t tx_free = load_acquire(&s->down->tx_free);
    return ring_get(r, s->down, true, false) ? ring_space(r, end, tx_free) : 0;
}

static bool send_ready(struct sock *s, void *arg)
{
    struct ring r;
    uint64_t least = *(const uint64_t *)arg;
    enum phase ph = conn_refresh(s);
    if (ph == PH_CONNECTING)
        return load_relaxed(&s->closing);
    if (ph != PH_ACTIVE || load_relaxed(&s->closing) || load_relaxed(&s->shut_wr) ||
        over(load_acquire(&s->down->state)) || conn_has_error(s))
        return true;
    uint64_t room = send_room(s, &r, load_relaxed(&s->up->tx_end) & OFF_MASK);
    return room >= least || (room > 0 && room >= ring_size(&r) / 3);
}

/* May data be sent? 0 with s->tx held; -EAGAIN: not yet connected; -EBUSY: by whoever has reserved
 * the space alone; other errors. */
static int send_begin(struct sock *s, bool reserved)
{
    enum phase ph = conn_refresh(s);
    if (ph == PH_CONNECTING)
        return -EAGAIN;
    if (ph != PH_ACTIVE) {
        int err = conn_take_error(s);
        return err != 0 ? -err : -EPIPE;
    }
    if (!lock_take(&s->tx))
        return -EAGAIN;
    if (unlikely(load_relaxed(&s->shut_wr) || over(load_acquire(&s->down->state)) ||
                 conn_has_error(s))) {
        lock_give(&s->tx);
        int err = conn_take_error(s);
        return err != 0 ? -err : -EPIPE;
    }
    if (unlikely(s->tx_reserved != 0) && !reserved) {
        lock_give(&s->tx);
        return -EBUSY;
    }
    return 0;
}

static ssize_t send_end(struct sock *s, ssize_t err, size_t done, int flags)
{
    if (done > 0) {
        if (err != -EAGAIN && err != -EINTR && err != -EPIPE && err != -EBUSY)
            s->so_error = (int)-err; /* the next call reports it */
        return (ssize_t)done;
    }
    if (err == -EPIPE && !(flags & MSG_NOSIGNAL))
        pthread_kill(pthread_self(), SIGPIPE);
    return err;
}

/* A thread that sends until all is in the ring. */
struct sender {
    struct deadline dl;
    bool block, timed;
};

/* After send_begin() gave `err`, or 0 and there was no room: sleeps until there is some worth
 * writing to. 0: look again; else what ends the call. */
static int send_wait(struct sock *s, struct sender *w, int err, uint64_t least)
{
    if (err == 0)
        err = -EAGAIN;
    if (err == -EAGAIN && load_relaxed(&s->closing))
        err = -EBADF;
    if (err != -EAGAIN)
        return err;
    if (!w->block) {
        __atomic_add_fetch(&s->nospace, 1, __ATOMIC_RELAXED);
        return err;
    }
    if (!w->timed && s->sndtimeo_ns > 0)
        w->dl = deadline_in(s->sndtimeo_ns);
    w->timed = true;
    err = wait_for(s, sock_key(s), &w->dl, send_ready, &least);
    return err != 0 && !send_ready(s, &least) ? err : 0;
}

ssize_t stream_send(struct sock *s, const struct iovec *iov, size_t n, int flags)
{
    struct iov_pos p = {iov, n, 0};
    size_t total = iov_total(iov, n), done = 0;
    struct sender w = {.block = !s->nonblock && !(flags & MSG_DONTWAIT)};
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    for (;;) {
        int err = send_begin(s, false);
        if (likely(err == 0)) {
            struct ring r;
            uint64_t end = s->up->tx_end & OFF_MASK, space = send_room(s, &r, end);
            if (space > total - done)
                space = total - done;
            if (space > 0) {
                space = iov_ring_write(&r, end, &p, space);
                /* Behind the bytes: it gives them to tcp. */
                shm_store_release(&s->up->tx_end, end + space);
            }
            lock_give(&s->tx);
            if (space > 0)
                work_push(false, s->slot);
            done += space;
            if (done == total)
                return (ssize_t)done;
        }
        err = send_wait(s, &w, err, total - done);
        if (err != 0)
            return send_end(s, err, done, flags);
    }
}

ssize_t stream_reserve(struct sock *s, struct eft_span *span, size_t most, int flags)
{
    struct sender w = {.block = !s->nonblock && !(flags & MSG_DONTWAIT)};
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    for (;;) {
        int err = send_begin(s, true);
        if (likely(err == 0)) {
            struct ring r;
            uint64_t end = s->up->tx_end & OFF_MASK, space = send_room(s, &r, end);
            if (space > most)
                space = most;
            if (space > 0)
                space = ring_span(&r, end, space, span);
            s->tx_reserved = space;
            lock_give(&s->tx);
            if (space > 0)
                return (ssize_t)space;
        }
        err = send_wait(s, &w, err, most);
        if (err != 0)
            return err;
    }
}

int stream_commit(struct sock *s, size_t len, bool *tell)
{
    int err = send_begin(s, true);
    if (err != 0)
        return err;
    if (len > s->tx_reserved) {
        err = -EINVAL;
    } else {
        s->tx_reserved = 0;
        if (len > 0) {
            /* Behind what the program wrote there: it gives the bytes to tcp. */
            shm_store_release(&s->up->tx_end, (s->up->tx_end & OFF_MASK) + len);
            *tell = true;
        }
    }
    lock_give(&s->tx);
    return err;
}

ssize_t stream_sendfile(struct sock *s, int in, off_t *off, size_t count)
{
    size_t done = 0;
    off_t at = off != NULL ? *off : 0;
    struct sender w = {.block = !s->nonblock};
    if (fd_word(in) != 0 || (off != NULL && at < 0))
        return -EINVAL;
    if (count > 0x7ffff000)
        count = 0x7ffff000;
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    ssize_t err = 0;
    while (done < count) {
        err = send_begin(s, false);
        if (err == 0) {
            struct ring r;
            uint64_t end = s->up->tx_end & OFF_MASK, room = send_room(s, &r, end);
            ssize_t got = -1;
            if (room > 0) {
                uint64_t run;
                uint8_t *to = ring_piece(&r, end, &run);
                if (run > room)
                    run = room;
                if (run > count - done)
                    run = count - done;
                /* Straight into the ring: nothing refers to these bytes yet. */
                SHM_CRASHPOINT();
                got = off != NULL ? real()->pread64(in, to, run, at) : real()->read(in, to, run);
                if (got < 0)
                    err = errno == ESPIPE || errno == EISDIR ? -EINVAL : -errno;
                if (got > 0)
                    shm_store_release(&s->up->tx_end, end + (uint64_t)got);
            }
            lock_give(&s->tx);
            if (got > 0) {
                work_push(false, s->slot);
                done += (size_t)got;
                at += got;
                continue;
            }
            if (room > 0) /* end of the file, or an error */
                break;
        }
        err = send_wait(s, &w, (int)err, count - done);
        if (err != 0)
            break;
    }
    if (off != NULL)
        *off = at;
    return err == 0 || done > 0 ? (ssize_t)done : send_end(s, err, 0, 0);
}

/* ---- readiness ---- */

uint32_t stream_ready(struct sock *s)
{
    uint32_t ev = 0;
    switch (conn_refresh(s)) {
    case PH_FRESH:
    case PH_BOUND:
        ev = EPOLLOUT | EPOLLWRNORM | EPOLLHUP;
        if (load_relaxed(&s->shut_rd))
            ev |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
        return ev;
    case PH_LISTEN:
        return conn_claim_ready(s) ? EPOLLIN | EPOLLRDNORM : 0;
    case PH_CONNECTING:
    case PH_UDP:
        return 0;
    case PH_FAILED:
        ev = EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLHUP | EPOLLRDHUP;
        return conn_has_error(s) ? ev | EPOLLERR : ev;
    case PH_ACTIVE:
        break;
    }
    const struct down_slot *d = s->down;
    bool ended = over(load_acquire(&d->state));
    uint64_t rx = load_acquire(&d->rx_nxt);
    bool rd_shut = rx & OFF_MARK || load_relaxed(&s->shut_rd) || ended;
    bool wr_shut = load_relaxed(&s->shut_wr) || ended;
    uint64_t least = (uint64_t)(s->rcvlowat > 1 ? s->rcvlowat : 1);
    if (rd_shut)
        ev |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
    else if (unread(s, rx) >= least)
        ev |= EPOLLIN | EPOLLRDNORM;
    if (rd_shut && wr_shut)
        ev |= EPOLLHUP;
    if (wr_shut) {
        ev |= EPOLLOUT | EPOLLWRNORM;
    } else {
        struct ring r;
        uint64_t room = send_room(s, &r, load_relaxed(&s->up->tx_end) & OFF_MASK);
        if (room > 0 && room >= ring_size(&r) / 3)
            ev |= EPOLLOUT | EPOLLWRNORM;
        else
            __atomic_add_fetch(&s->nospace, 1, __ATOMIC_RELAXED);
    }
    if (conn_has_error(s))
        ev |= EPOLLERR;
    return ev;
}
