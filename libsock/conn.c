/* SPDX-License-Identifier: BSD-2-Clause
 *
 * From socket() to close(). A socket gets its slot when it is bound, listens or connects; what goes
 * to 127.0.0.0/8 or ::1 becomes a kernel socket under the same number, with the options set so far.
 */
#include "libchan/edge/control.h"
#include "sock.h"

#include <netinet/tcp.h>

int conn_socket(int family, int type, int protocol, int *fd)
{
    int kind = type & 0xf;
    if ((family != AF_INET && family != AF_INET6) ||
        !((kind == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) ||
          (kind == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP))) ||
        (type & ~(0xf | SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0 || !lib_enabled())
        return 1;
    int err = lib_attach();
    if (err == -ENODEV)
        return 1;
    if (err != 0)
        return err;
    int n = fd_placeholder(family, kind == SOCK_DGRAM, type & SOCK_CLOEXEC);
    if (n < 0)
        return n;
    struct sock *s = sock_new(kind == SOCK_DGRAM, family);
    if (s == NULL) {
        real()->close(n);
        return -ENFILE;
    }
    s->nonblock = (type & SOCK_NONBLOCK) != 0;
    fd_install(n, s);
    *fd = n;
    return 0;
}

static uint32_t bind_flags(const struct sock *s)
{
    return (s->reuse_addr ? (uint32_t)BIND_REUSEADDR : 0) |
           (s->reuse_port ? (uint32_t)BIND_REUSEPORT : 0);
}

static void slot_drop(struct sock *s)
{
    uint32_t slot = s->slot;
    __atomic_store_n(&s->slot, NO_SLOT, __ATOMIC_RELEASE);
    slot_release(s->dgram, slot);
}

/* First request of a socket: on a slot of its own, given back when it fails. */
int conn_first_request(struct sock *s, const struct request *r)
{
    bool had = s->slot != NO_SLOT;
    int err = had ? 0 : slot_take(s);
    if (err == 0 && !had && s->v6only) {
        /* Before the name: it decides what the name collides with. */
        struct request only = {.op = OP_SETOPT, .arg0 = OPT_V6ONLY, .arg1 = 1};
        err = request(s, &only);
    }
    if (err == 0)
        err = request(s, r);
    if (err != 0 && !had && s->slot != NO_SLOT) {
        /* udp lets go of a refused slot only when asked to. */
        struct request close = {.op = OP_CLOSE};
        request(s, &close);
        slot_drop(s);
    }
    return err;
}

/* The same for a name. A name is still taken for a moment after the process that had it died: what
 * the kernel does at once is news that has to reach the server here. */
static int name_request(struct sock *s, const struct request *r)
{
    int64_t until = 0;
    for (;;) {
        if (load_relaxed(&lib.zombies) != 0)
            fork_family();
        int err = conn_first_request(s, r);
        if (err != -EADDRINUSE || r->local.port == 0)
            return err;
        int64_t now = now_ns();
        if (until == 0)
            until = now + 50000000;
        if (now >= until)
            return err;
        real()->poll(NULL, 0, 2);
    }
}

static int may_bind(const struct sock *s, uint16_t port)
{
    if (port == 0 || port >= 1024)
        return 0;
    return control_call(CONTROL_PORT, port | (s->dgram ? 0x10000u : 0), NULL);
}

int conn_bind(int fd, struct sock *s, const struct sockaddr *sa, socklen_t len)
{
    struct sock_name name;
    int err = name_from(&name, sa, len, s->family);
    if (err != 0)
        return err;
    /* A UDP socket that was only connected so far may still be given a port (iperf3 does). */
    if (s->phase != PH_FRESH)
        return -EINVAL;
    if (name_loopback(&name)) {
        err = fd_become_kernel(fd, s);
        return err != 0 ? err : real()->bind(fd, sa, len) != 0 ? -errno : 0;
    }
    err = may_bind(s, name.port);
    if (err != 0)
        return err;
    struct request r = {.op = OP_BIND, .flags = bind_flags(s), .local = name};
    err = name_request(s, &r);
    if (err != 0)
        return err;
    s->local = name;
    __atomic_store_n(&s->phase, s->dgram ? PH_UDP : PH_BOUND, __ATOMIC_RELEASE);
    option_flush(s);
    return 0;
}

int conn_listen(struct sock *s, int backlog)
{
    if (s->dgram)
        return -EOPNOTSUPP;
    if (s->phase != PH_FRESH && s->phase != PH_BOUND && s->phase != PH_LISTEN)
        return -EINVAL;
    if (backlog < 0 || backlog > 4096)
        backlog = 4096;
    struct request r = {
        .op = OP_LISTEN, .flags = bind_flags(s), .local = s->local, .arg0 = (uint32_t)backlog};
    if (r.local.addr.family == 0)
        r.local.addr.family = s->family == AF_INET ? 4 : 6;
    int err = name_request(s, &r);
    if (err != 0)
        return err;
    s->backlog = (uint32_t)backlog;
    flag_set(&s->shut_rd, 0);
    flag_set(&s->shut_wr, 0);
    __atomic_store_n(&s->phase, PH_LISTEN, __ATOMIC_RELEASE);
    option_flush(s);
    return 0;
}

/* ---- connect ---- */

void conn_became_active(struct sock *s)
{
    uint64_t base = load_relaxed(&s->down->rx_base);
    /* What this slot's earlier users left unread is behind us. */
    if (s->up->rx_read < base)
        shm_store_release(&s->up->rx_read, base);
    s->rx_told = s->rx_next = s->up->rx_read;
    s->tx_reserved = 0;
    s->events++;
    __atomic_store_n(&s->phase, PH_ACTIVE, __ATOMIC_RELEASE);
}

enum phase conn_refresh(struct sock *s)
{
    enum phase ph = load_acquire(&s->phase);
    if (likely(ph != PH_CONNECTING)) {
        /* What could not be told while a request was under way. Its reply rings everybody who
         * sleeps, and whoever looks whether there is anything for him comes by here. */
        if (unlikely(load_relaxed(&s->opt_dirty) != 0) && ph == PH_ACTIVE)
            option_flush(s);
        return ph;
    }
    const struct down_slot *d = s->down;
    bool done = request_done(s);
    uint32_t state = load_acquire(&d->state);
    bool ours = load_acquire(&d->generation) == s->generation;
    if (!done && !(ours && (state == SOCK_ESTABLISHED || state == SOCK_CLOSED)))
        return ph;
    if (!lock_take(&s->req))
        return ph;
    if (s->phase == PH_CONNECTING) {
        int result = done ? load_relaxed(&d->result) : 0;
        if (!done && state == SOCK_CLOSED) {
            int error = (int)(load_relaxed(&d->error) & 0xfff);
            result = error != 0 ? -error : -ECONNABORTED;
        }
        if (result == 0) {
            conn_became_active(s);
        } else {
            s->so_error = -result;
            s->error_seen = load_relaxed(&d->error_seq);
            s->events++;
            if (done)
                slot_drop(s);
            __atomic_store_n(&s->phase, PH_FAILED, __ATOMIC_RELEASE);
        }
        trace("connect: slot state %u result %d", state, result);
    }
    ph = s->phase;
    lock_give(&s->req);
    if (ph == PH_ACTIVE)
        option_flush(s);
    return ph;
}

static bool connect_ended(struct sock *s, void *arg)
{
    (void)arg;
    return conn_refresh(s) != PH_CONNECTING || load_relaxed(&s->closing);
}

/* Back to what socket() made. The slot, if any, has been dealt with. */
static void become_fresh(struct sock *s)
{
    s->so_error = 0;
    flag_set(&s->shut_rd, 0);
    flag_set(&s->shut_wr, 0);
    memset(&s->local, 0, sizeof s->local);
    memset(&s->remote, 0, sizeof s->remote);
    __atomic_store_n(&s->phase, PH_FRESH, __ATOMIC_RELEASE);
}

static int close_slot(struct sock *s, uint32_t how)
{
    struct request r = {.op = OP_CLOSE, .arg0 = how};
    return request_start(s, &r);
}

static int to_kernel(int fd, struct sock *s, const struct sockaddr *sa, socklen_t len)
{
    struct sock_name local = s->local;
    bool bound = s->slot != NO_SLOT;
    if (bound) {
        if (local.port == 0)
            local.port = load_relaxed(&s->down->local.port);
        close_slot(s, 0);
    }
    int err = fd_become_kernel(fd, s);
    if (err != 0)
        return err;
    if (bound) {
        struct sockaddr_storage ss;
        socklen_t n = sizeof ss;
        name_to(&local, s->family, (struct sockaddr *)&ss, &n);
        if (real()->bind(fd, (struct sockaddr *)&ss, n) != 0)
            return -errno;
    }
    return real()->connect(fd, sa, len) != 0 ? -errno : 0;
}

static int connect_udp(int fd, struct sock *s, const struct sockaddr *sa, socklen_t len)
{
    struct request r = {.op = OP_CONNECT_UDP};
    int err;
    if (len >= sizeof sa->sa_family && sa->sa_family == AF_UNSPEC) {
        if (s->connected) {
            err = request(s, &r);
            if (err != 0)
                return err;
        }
        s->connected = 0;
        flag_set(&s->shut_rd, 0);
        flag_set(&s->shut_wr, 0);
        return 0;
    }
    err = name_from(&r.remote, sa, len, s->family);
    if (err != 0)
        return err;
    if (name_loopback(&r.remote) || ip_addr_any(&r.remote.addr))
        return to_kernel(fd, s, sa, len);
    err = dgram_bound(s);
    if (err == 0)
        err = request(s, &r);
    if (err != 0)
        return err;
    s->remote = r.remote;
    s->connected = 1;
    flag_set(&s->shut_rd, 0);
    flag_set(&s->shut_wr, 0);
    return 0;
}

int conn_connect(int fd, struct sock *s, const struct sockaddr *sa, socklen_t len)
{
    struct sock_name remote;
    if (sa == NULL || len < sizeof sa->sa_family)
        return -EINVAL;
    if (s->dgram)
        return connect_udp(fd, s, sa, len);
    enum phase ph = conn_refresh(s);
    if (sa->sa_family == AF_UNSPEC) {
        if (s->slot != NO_SLOT) {
            if (ph == PH_CONNECTING) {
                struct request c = {.op = OP_CANCEL};
                request(s, &c);
            }
            close_slot(s, 1);
            slot_drop(s);
        }
        become_fresh(s);
        return 0;
    }
    switch (ph) {
    case PH_ACTIVE:
        /* The first call after a connection came to be in the background succeeds. */
        if (s->remote.reserved != 0) {
            s->remote.reserved = 0;
            return 0;
        }
        return -EISCONN;
    case PH_LISTEN:
        return -EISCONN;
    case PH_FAILED: {
        int err = conn_take_error(s);
        if (s->slot != NO_SLOT)
            slot_drop(s);
        become_fresh(s);
        return err != 0 ? -err : -ECONNABORTED;
    }
    case PH_CONNECTING:
        if (s->nonblock)
            return -EALREADY;
        break;
    default: {
        int err = name_from(&remote, sa, len, s->family);
        if (err != 0)
            return err;
        if (name_loopback(&remote) || ip_addr_any(&remote.addr))
            return to_kernel(fd, s, sa, len);
        struct request r = {
            .op = OP_CONNECT, .flags = bind_flags(s), .local = s->local, .remote = remote};
        bool had = s->slot != NO_SLOT;
        err = had ? 0 : slot_take(s);
        if (err == 0)
            err = request_start(s, &r);
        if (err != 0) {
            if (!had && s->slot != NO_SLOT)
                slot_drop(s);
            return err;
        }
        s->remote = remote;
        s->remote.reserved = s->nonblock;
        __atomic_store_n(&s->phase, PH_CONNECTING, __ATOMIC_RELEASE);
        if (s->nonblock)
            return -EINPROGRESS;
    }
    }
    struct deadline dl = deadline_in(s->sndtimeo_ns);
    while (!connect_ended(s, NULL)) {
        int err = wait_for(s, sock_key(s), &dl, connect_ended, NULL);
        if (err != 0 && !connect_ended(s, NULL)) {
            s->remote.reserved = 1;
            return err == -EAGAIN ? -EINPROGRESS : err;
        }
    }
    s->remote.reserved = 0;
    if (load_acquire(&s->phase) == PH_ACTIVE)
        return 0;
    if (load_relaxed(&s->closing))
        return -EBADF;
    int err = conn_take_error(s);
    if (s->slot != NO_SLOT)
        slot_drop(s);
    become_fresh(s);
    return err != 0 ? -err : -ECONNABORTED;
}

/* ---- the end ---- */

int conn_shutdown(struct sock *s, int how)
{
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    enum phase ph = conn_refresh(s);
    if (s->dgram) {
        if (how != SHUT_WR)
            flag_set(&s->shut_rd, 1);
        if (how != SHUT_RD)
            flag_set(&s->shut_wr, 1);
        s->events++;
        wake_sleepers(s);
        return s->connected ? 0 : -ENOTCONN;
    }
    if (ph == PH_LISTEN) {
        if (how == SHUT_WR)
            return 0;
        flag_set(&s->shut_rd, 1);
        __atomic_store_n(&s->phase, PH_FRESH, __ATOMIC_RELEASE);
        conn_cancel_claims(s);
        close_slot(s, 0);
        slot_drop(s);
        s->events++;
        wake_local();
        return 0;
    }
    if (ph != PH_ACTIVE)
        return -ENOTCONN;
    uint32_t state = load_acquire(&s->down->state);
    if (state == SOCK_CLOSED || state == SOCK_FREE)
        return -ENOTCONN;
    if (how != SHUT_RD) {
        if (!lock_take(&s->tx))
            return -EAGAIN;
        flag_set(&s->shut_wr, 1);
        if (!(s->up->tx_end & OFF_MARK))
            shm_store_release(&s->up->tx_end, s->up->tx_end | OFF_MARK);
        lock_give(&s->tx);
        work_push(false, s->slot);
    }
    if (how != SHUT_WR)
        flag_set(&s->shut_rd, 1);
    s->events++;
    wake_sleepers(s);
    return 0;
}

static bool all_acknowledged(struct sock *s, void *arg)
{
    (void)arg;
    uint32_t state = load_acquire(&s->down->state);
    return state == SOCK_CLOSED || state == SOCK_FREE ||
           load_acquire(&s->down->tx_una) >= (s->up->tx_end & OFF_MASK);
}

void conn_last_close(struct sock *s)
{
    flag_set(&s->closing, 1);
    if (s->slot == NO_SLOT)
        return;
    if (conn_foreign(s)) {
        fork_dropped(s);
        return;
    }
    if (s->moved)
        return;
    if (s->phase == PH_CONNECTING && conn_refresh(s) == PH_CONNECTING) {
        struct request c = {.op = OP_CANCEL};
        if (request(s, &c) == -ECANCELED)
            return;
    }
    if (s->slot == NO_SLOT)
        return;
    if (s->phase == PH_LISTEN)
        conn_cancel_claims(s);
    close_slot(s, s->linger == 0 && s->phase == PH_ACTIVE);
    if (s->linger > 0 && s->phase == PH_ACTIVE && !s->nonblock) {
        struct deadline dl = deadline_in((int64_t)s->linger * 1000000000);
        while (!all_acknowledged(s, NULL) &&
               wait_for(s, sock_key(s), &dl, all_acknowledged, NULL) == 0)
            ;
    }
    wake_local();
}

void conn_finish(struct sock *s)
{
    if (s->slot != NO_SLOT && s->epoch == lib.epoch)
        slot_drop(s);
}

int conn_take_error(struct sock *s)
{
    int err = __atomic_exchange_n(&s->so_error, 0, __ATOMIC_RELAXED);
    if (err != 0 || s->slot == NO_SLOT || (s->phase != PH_ACTIVE && s->phase != PH_UDP))
        return err;
    uint32_t seq = load_acquire(&s->down->error_seq);
    if (seq == s->error_seen)
        return 0;
    s->error_seen = seq;
    return (int)(load_relaxed(&s->down->error) & 0xfff);
}

bool conn_has_error(const struct sock *s)
{
    if (load_relaxed(&s->so_error) != 0)
        return true;
    return s->slot != NO_SLOT && (s->phase == PH_ACTIVE || s->phase == PH_UDP) &&
           load_acquire(&s->down->error_seq) != s->error_seen && load_relaxed(&s->down->error) != 0;
}

int conn_getsockname(struct sock *s, struct sockaddr *sa, socklen_t *len)
{
    struct sock_name n = s->local;
    conn_refresh(s);
    if (s->slot != NO_SLOT && !conn_foreign(s)) {
        struct sock_name d = s->down->local;
        if (d.port != 0)
            n = d;
    }
    name_to(&n, s->family, sa, len);
    return 0;
}

int conn_getpeername(struct sock *s, struct sockaddr *sa, socklen_t *len)
{
    enum phase ph = conn_refresh(s);
    if (s->dgram) {
        if (!s->connected)
            return -ENOTCONN;
        name_to(&s->remote, s->family, sa, len);
        return 0;
    }
    if (ph != PH_ACTIVE)
        return -ENOTCONN;
    uint32_t state = load_acquire(&s->down->state);
    if (state == SOCK_CLOSED || state == SOCK_FREE)
        return -ENOTCONN;
    name_to(&s->remote, s->family, sa, len);
    return 0;
}
