/* SPDX-License-Identifier: BSD-2-Clause
 *
 * UDP data: a ring of datagrams each way, every one a struct dgram, the payload, padding to 16
 * bytes. Headers and payload are copied as bytes of the ring, so that either may lie across its
 * end.
 */
#include "sock.h"

#include <netinet/ip.h>
#include <netinet/udp.h>

int dgram_bound(struct sock *s)
{
    if (s->phase == PH_UDP)
        return 0;
    struct request r = {.op = OP_BIND};
    r.local.addr.family = s->family == AF_INET ? 4 : 6;
    int err = conn_first_request(s, &r);
    if (err != 0)
        return err;
    s->local = r.local;
    __atomic_store_n(&s->phase, PH_UDP, __ATOMIC_RELEASE);
    option_flush(s);
    return 0;
}

/* ---- receiving ---- */

static bool recv_ready(struct sock *s, void *arg)
{
    (void)arg;
    return load_relaxed(&s->closing) || load_relaxed(&s->shut_rd) || conn_has_error(s) ||
           (load_acquire(&s->down->rx_nxt) & OFF_MASK) != s->up->rx_read;
}

static void put_cmsg(struct msghdr *m, size_t *used, int level, int type, const void *v, size_t len)
{
    size_t room = m->msg_controllen - *used;
    if (m->msg_control == NULL || room < CMSG_LEN(0)) {
        m->msg_flags |= MSG_CTRUNC;
        return;
    }
    struct cmsghdr h = {.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(len)};
    if (room < CMSG_LEN(len)) {
        m->msg_flags |= MSG_CTRUNC;
        h.cmsg_len = room;
        len = room - CMSG_LEN(0);
    }
    uint8_t *at = (uint8_t *)m->msg_control + *used;
    memcpy(at, &h, sizeof h);
    memcpy(at + CMSG_LEN(0), v, len);
    *used += CMSG_SPACE(len) < room ? CMSG_SPACE(len) : room;
}

static void control_data(struct sock *s, struct msghdr *m, const struct dgram *d)
{
    size_t used = 0;
    if (s->stamp == 1) {
        struct timeval tv = {(time_t)(d->stamp_ns / 1000000000),
                             (suseconds_t)(d->stamp_ns % 1000000000 / 1000)};
        put_cmsg(m, &used, SOL_SOCKET, SO_TIMESTAMP, &tv, sizeof tv);
    } else if (s->stamp == 2) {
        struct timespec ts = {(time_t)(d->stamp_ns / 1000000000), (long)(d->stamp_ns % 1000000000)};
        put_cmsg(m, &used, SOL_SOCKET, SO_TIMESTAMPNS, &ts, sizeof ts);
    }
    if (s->pktinfo && d->local.family == 4) {
        struct in_pktinfo pi = {.ipi_ifindex = d->interface + 1};
        pi.ipi_addr.s_addr = pi.ipi_spec_dst.s_addr = d->local.v4;
        put_cmsg(m, &used, IPPROTO_IP, IP_PKTINFO, &pi, sizeof pi);
    }
    if (s->pktinfo6 && s->family == AF_INET6) {
        struct in6_pktinfo pi = {.ipi6_ifindex = d->interface + 1u};
        struct sockaddr_in6 sa;
        socklen_t len = sizeof sa;
        struct sock_name n = {.addr = d->local};
        name_to(&n, AF_INET6, (struct sockaddr *)&sa, &len);
        pi.ipi6_addr = sa.sin6_addr;
        put_cmsg(m, &used, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof pi);
    }
    int v = d->ttl;
    if (s->recvttl)
        put_cmsg(m, &used, s->family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
                 s->family == AF_INET ? IP_TTL : IPV6_HOPLIMIT, &v, sizeof v);
    if (s->recvtos) {
        uint8_t tos = d->tos;
        put_cmsg(m, &used, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    }
    m->msg_controllen = used;
}

static ssize_t recv_once(struct sock *s, struct msghdr *m, int flags)
{
    struct ring r;
    struct dgram d;
    if (!lock_take(&s->rx))
        return -EAGAIN;
    uint64_t rx = load_acquire(&s->down->rx_nxt) & OFF_MASK;
    uint64_t rd = s->up->rx_read;
    if (rx == rd || !ring_get(&r, s->down, false, true)) {
        lock_give(&s->rx);
        return -EAGAIN;
    }
    uint64_t space = 0;
    if (rx - rd >= sizeof d) {
        ring_read(&r, rd, &d, sizeof d);
        space = DGRAM_SPACE(d.len);
    }
    if (space == 0 || rx - rd > ring_size(&r) || space > rx - rd) {
        /* Not what a ring of datagrams looks like: let go of all of it, and go on. */
        shm_store_release(&s->up->rx_read, rx);
        s->rx_told = rx;
        lock_give(&s->rx);
        work_push(true, s->slot);
        trace("udp slot %u: broken ring at %llu", s->slot, (unsigned long long)rd);
        return -EAGAIN;
    }
    struct iov_pos p = {m->msg_iov, m->msg_iovlen, 0};
    size_t n = iov_ring_read(&r, rd + sizeof d, &p, d.len);
    bool tell = false;
    if (!(flags & MSG_PEEK)) {
        shm_store_release(&s->up->rx_read, rd + space);
        tell = rd + space - s->rx_told >= ring_size(&r) / 4;
        if (tell)
            s->rx_told = rd + space;
    }
    lock_give(&s->rx);
    if (tell)
        work_push(true, s->slot);
    m->msg_flags = 0;
    if (n < d.len)
        m->msg_flags |= MSG_TRUNC;
    name_to(&d.remote, s->family, m->msg_name, &m->msg_namelen);
    if (m->msg_name == NULL)
        m->msg_namelen = 0;
    control_data(s, m, &d);
    return flags & MSG_TRUNC ? (ssize_t)d.len : (ssize_t)n;
}

ssize_t dgram_recv(struct sock *s, struct msghdr *m, int flags)
{
    bool block = !s->nonblock && !(flags & MSG_DONTWAIT);
    struct deadline dl = deadline_in(block ? s->rcvtimeo_ns : 0);
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (s->phase != PH_UDP) {
        /* Nothing can come to a socket without a port; a blocking reader gets one and waits. */
        if (!block)
            return -EAGAIN;
        int err = dgram_bound(s);
        if (err != 0)
            return err;
    }
    for (;;) {
        int err = conn_take_error(s);
        if (err != 0)
            return -err;
        ssize_t n = recv_once(s, m, flags);
        if (n != -EAGAIN)
            return n;
        if (load_relaxed(&s->shut_rd)) {
            m->msg_namelen = 0;
            m->msg_controllen = 0;
            m->msg_flags = 0;
            return 0;
        }
        if (load_relaxed(&s->closing))
            return -EBADF;
        if (!block)
            return -EAGAIN;
        err = wait_for(s, sock_key(s), &dl, recv_ready, NULL);
        if (err != 0 && !recv_ready(s, NULL))
            return err;
    }
}

int dgram_fionread(struct sock *s)
{
    struct ring r;
    struct dgram d;
    if (s->phase != PH_UDP)
        return 0;
    uint64_t rx = load_acquire(&s->down->rx_nxt) & OFF_MASK, rd = s->up->rx_read;
    if (rx - rd < sizeof d || !ring_get(&r, s->down, false, true))
        return 0;
    ring_read(&r, rd, &d, sizeof d);
    return (int)d.len;
}

/* ---- sending ---- */

struct room {
    uint64_t need;
};

static bool send_ready(struct sock *s, void *arg)
{
    const struct room *room = arg;
    struct ring r;
    if (load_relaxed(&s->closing) || load_relaxed(&s->shut_wr) || conn_has_error(s))
        return true;
    return ring_get(&r, s->down, true, true) &&
           ring_space(&r, load_relaxed(&s->up->tx_end) & OFF_MASK,
                      load_acquire(&s->down->tx_free)) >= room->need;
}

/* Source address and the like from the program's control data. */
static int sender_options(const struct msghdr *m, struct dgram *d)
{
    struct msghdr copy = *m;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c != NULL; c = CMSG_NXTHDR(&copy, c)) {
        if (c->cmsg_len < CMSG_LEN(0))
            return -EINVAL;
        size_t len = c->cmsg_len - CMSG_LEN(0);
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo pi;
            if (len < sizeof pi)
                return -EINVAL;
            memcpy(&pi, CMSG_DATA(c), sizeof pi);
            if (pi.ipi_spec_dst.s_addr != 0)
                d->local = ip_addr_v4(pi.ipi_spec_dst.s_addr);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo pi;
            if (len < sizeof pi)
                return -EINVAL;
            memcpy(&pi, CMSG_DATA(c), sizeof pi);
            struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = pi.ipi6_addr};
            struct sock_name n;
            if (name_from(&n, (struct sockaddr *)&sa, sizeof sa, AF_INET6) == 0 &&
                !ip_addr_any(&n.addr))
                d->local = n.addr;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS && len >= 1) {
            d->tos = *CMSG_DATA(c);
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL && len >= sizeof(int)) {
            int v;
            memcpy(&v, CMSG_DATA(c), sizeof v);
            d->ttl = (uint8_t)v;
        }
    }
    return 0;
}

static int destination(int fd, struct sock *s, const struct msghdr *m, struct dgram *d)
{
    if (m->msg_name == NULL || m->msg_namelen == 0)
        return s->connected ? 0 : -EDESTADDRREQ;
    const struct sockaddr *sa = m->msg_name;
    int err = name_from(&d->remote, sa, m->msg_namelen, s->family);
    if (err != 0)
        return err;
    if (d->remote.port == 0)
        return -EINVAL;
    if (s->phase == PH_FRESH && (name_loopback(&d->remote) || ip_addr_any(&d->remote.addr))) {
        err = fd_become_kernel(fd, s);
        return err != 0 ? err : -ENOTSUP;
    }
    static const uint8_t broadcast[4] = {255, 255, 255, 255};
    if (d->remote.addr.family == 4 && memcmp(&d->remote.addr.v4, broadcast, 4) == 0 &&
        s->opt[OPT_BROADCAST] == 0)
        return -EACCES;
    return 0;
}

ssize_t dgram_send(int fd, struct sock *s, const struct msghdr *m, int flags)
{
    struct dgram d = {.len = 0};
    size_t len = iov_total(m->msg_iov, m->msg_iovlen);
    bool block = !s->nonblock && !(flags & MSG_DONTWAIT);
    struct deadline dl = deadline_in(block ? s->sndtimeo_ns : 0);
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (len > (s->family == AF_INET ? 65507u : 65527u))
        return -EMSGSIZE;
    int err = destination(fd, s, m, &d);
    if (err == 0)
        err = sender_options(m, &d);
    if (err != 0)
        return err;
    err = dgram_bound(s);
    if (err != 0)
        return err;
    if (unlikely(s->opt_dirty != 0))
        option_flush(s);
    d.len = (uint32_t)len;
    struct room room = {DGRAM_SPACE(len)};
    for (;;) {
        struct ring r;
        if (load_relaxed(&s->shut_wr)) {
            if (!(flags & MSG_NOSIGNAL))
                raise(SIGPIPE);
            return -EPIPE;
        }
        err = conn_take_error(s);
        if (err != 0)
            return -err;
        if (!lock_take(&s->tx))
            return -EAGAIN;
        uint64_t end = s->up->tx_end & OFF_MASK;
        bool have = ring_get(&r, s->down, true, true);
        if (have && room.need > ring_size(&r)) {
            lock_give(&s->tx);
            return -EMSGSIZE;
        }
        if (have && ring_space(&r, end, load_acquire(&s->down->tx_free)) >= room.need) {
            struct iov_pos p = {m->msg_iov, m->msg_iovlen, 0};
            ring_write(&r, end, &d, sizeof d);
            iov_ring_write(&r, end + sizeof d, &p, len);
            /* Behind header and payload: it gives the datagram to udp. */
            shm_store_release(&s->up->tx_end, end + room.need);
            lock_give(&s->tx);
            work_push(true, s->slot);
            return (ssize_t)len;
        }
        lock_give(&s->tx);
        if (load_relaxed(&s->closing))
            return -EBADF;
        if (!block) {
            __atomic_add_fetch(&s->nospace, 1, __ATOMIC_RELAXED);
            return -EAGAIN;
        }
        err = wait_for(s, sock_key(s), &dl, send_ready, &room);
        if (err != 0 && !send_ready(s, &room))
            return err;
    }
}

uint32_t dgram_ready(struct sock *s)
{
    uint32_t ev = 0;
    bool has = conn_has_error(s);
    if (has)
        ev |= EPOLLERR;
    if (s->phase == PH_UDP && !conn_foreign(s)) {
        struct ring r;
        if ((load_acquire(&s->down->rx_nxt) & OFF_MASK) != load_relaxed(&s->up->rx_read))
            ev |= EPOLLIN | EPOLLRDNORM;
        if (ring_get(&r, s->down, true, true) &&
            ring_space(&r, load_relaxed(&s->up->tx_end) & OFF_MASK,
                       load_acquire(&s->down->tx_free)) >= ring_size(&r) / 2)
            ev |= EPOLLOUT | EPOLLWRNORM;
        else
            __atomic_add_fetch(&s->nospace, 1, __ATOMIC_RELAXED);
    } else {
        ev |= EPOLLOUT | EPOLLWRNORM;
    }
    if (load_relaxed(&s->shut_rd))
        ev |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
    if (load_relaxed(&s->shut_rd) && load_relaxed(&s->shut_wr))
        ev |= EPOLLHUP;
    return ev;
}

/* ---- either kind ---- */

ssize_t sock_recvmsg(struct sock *s, struct msghdr *m, int flags)
{
    if (s->dgram)
        return dgram_recv(s, m, flags);
    ssize_t n = stream_recv(s, m->msg_iov, m->msg_iovlen, flags);
    if (n >= 0) {
        m->msg_namelen = 0;
        m->msg_controllen = 0;
        m->msg_flags = 0;
    }
    return n;
}

ssize_t sock_sendmsg(int fd, struct sock *s, const struct msghdr *m, int flags)
{
    return s->dgram ? dgram_send(fd, s, m, flags)
                    : stream_send(s, m->msg_iov, m->msg_iovlen, flags);
}
