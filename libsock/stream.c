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
    return rx & OFF_MARK || rx - s->up->rx_read >= least;
}

/* What is in the ring; bytes. Never more than the ring holds, whatever tcp says. */
static uint64_t available(const struct sock *s, const struct ring *r, uint64_t rx)
{
    uint64_t n = (rx & OFF_MASK) - s->up->rx_read;
    uint64_t most = (uint64_t)r->d.block[0].size + r->d.block[1].size;
    return n <= most ? n : 0;
}

/* One look at the ring. Bytes copied; 0: the end; -EAGAIN: nothing yet. */
static ssize_t recv_once(struct sock *s, struct iov_pos *p, size_t want, int flags)
{
    struct ring r;
    if (!lock_take(&s->rx))
        return -EAGAIN;
    /* State and error before the counter: what came before the end must be seen. */
    uint32_t state = load_acquire(&s->down->state);
    bool error = conn_has_error(s);
    uint64_t rx = load_acquire(&s->down->rx_nxt);
    uint64_t rd = s->up->rx_read;
    uint64_t n = 0;
    if ((rx & OFF_MASK) != rd && ring_get(&r, s->down, false, false))
        n = available(s, &r, rx);
    if (n > 0) {
        if (n > want)
            n = want;
        if (!(flags & MSG_TRUNC)) /* with it the bytes are thrown away */
            n = iov_ring_read(&r, rd, p, n);
        if (!(flags & MSG_PEEK)) {
            rd += n;
            /* The bytes are the program's: tcp may use their space. */
            shm_store_release(&s->up->rx_read, rd);
            if (rd - s->rx_told >= ring_size(&r) / 4) {
                s->rx_told = rd;
                lock_give(&s->rx);
                work_push(false, s->slot);
                return (ssize_t)n;
            }
        }
        lock_give(&s->rx);
        return (ssize_t)n;
    }
    lock_give(&s->rx);
    if (rx & OFF_MARK)
        return 0;
    if (error) {
        int err = conn_take_error(s);
        if (err != 0)
            return -err;
    }
    return load_relaxed(&s->shut_rd) || over(state) ? 0 : -EAGAIN;
}

ssize_t stream_recv(struct sock *s, const struct iovec *iov, size_t n, int flags)
{
    struct iov_pos p = {iov, n, 0};
    size_t total = iov_total(iov, n), done = 0;
    bool block = !s->nonblock && !(flags & MSG_DONTWAIT);
    struct deadline dl = {.some = false};
    bool timed = false;
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    if (flags & MSG_OOB)
        return -EINVAL;
    uint64_t target = flags & MSG_WAITALL ? total : (uint64_t)(s->rcvlowat > 1 ? s->rcvlowat : 1);
    if (target > total)
        target = total;
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    for (;;) {
        enum phase ph = conn_refresh(s);
        ssize_t r = -EAGAIN;
        if (likely(ph == PH_ACTIVE)) {
            r = recv_once(s, &p, total - done, flags);
        } else if (ph == PH_FAILED) {
            r = -conn_take_error(s);
        } else if (ph != PH_CONNECTING) {
            return -ENOTCONN;
        }
        if (r > 0) {
            done += (size_t)r;
            if (done >= target || flags & MSG_PEEK)
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

/* May data be sent? 0 with s->tx held; -EAGAIN: not yet connected; other errors. */
static int send_begin(struct sock *s)
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
    return 0;
}

static ssize_t send_end(struct sock *s, ssize_t err, size_t done, int flags)
{
    if (done > 0) {
        if (err != -EAGAIN && err != -EINTR && err != -EPIPE)
            s->so_error = (int)-err; /* the next call reports it */
        return (ssize_t)done;
    }
    if (err == -EPIPE && !(flags & MSG_NOSIGNAL))
        pthread_kill(pthread_self(), SIGPIPE);
    return err;
}

/* Blocks until there is room worth writing to. */
static int send_wait(struct sock *s, struct deadline *dl, bool *timed, uint64_t least)
{
    if (!*timed && s->sndtimeo_ns > 0)
        *dl = deadline_in(s->sndtimeo_ns);
    *timed = true;
    int err = wait_for(s, sock_key(s), dl, send_ready, &least);
    return err != 0 && !send_ready(s, &least) ? err : 0;
}

ssize_t stream_send(struct sock *s, const struct iovec *iov, size_t n, int flags)
{
    struct iov_pos p = {iov, n, 0};
    size_t total = iov_total(iov, n), done = 0;
    bool block = !s->nonblock && !(flags & MSG_DONTWAIT);
    struct deadline dl = {.some = false};
    bool timed = false;
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    for (;;) {
        int err = send_begin(s);
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
            err = -EAGAIN;
        }
        if (err == -EAGAIN && load_relaxed(&s->closing))
            err = -EBADF;
        if (err != -EAGAIN || !block) {
            if (err == -EAGAIN)
                __atomic_add_fetch(&s->nospace, 1, __ATOMIC_RELAXED);
            return send_end(s, err, done, flags);
        }
        err = send_wait(s, &dl, &timed, total - done);
        if (err != 0)
            return send_end(s, err, done, flags);
    }
}

ssize_t stream_sendfile(struct sock *s, int in, off_t *off, size_t count)
{
    size_t done = 0;
    off_t at = off != NULL ? *off : 0;
    struct deadline dl = {.some = false};
    bool timed = false;
    if (fd_word(in) != 0 || (off != NULL && at < 0))
        return -EINVAL;
    if (count > 0x7ffff000)
        count = 0x7ffff000;
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    ssize_t err = 0;
    while (done < count) {
        err = send_begin(s);
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
            err = -EAGAIN;
        }
        if (err == -EAGAIN && load_relaxed(&s->closing))
            err = -EBADF;
        if (err != -EAGAIN)
            break;
        if (s->nonblock) {
            __atomic_add_fetch(&s->nospace, 1, __ATOMIC_RELAXED);
            break;
        }
        err = send_wait(s, &dl, &timed, count - done);
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
    else if ((rx & OFF_MASK) - load_relaxed(&s->up->rx_read) >= least)
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
