/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Socket options. The values are kept here; those that change what tcp or udp does are told to it
 * by OP_SETOPT, without waiting for the answer: one request at a time is possible per slot, so the
 * rest is told at the next opportunity, newest value only. What nobody here knows is asked of (and
 * set on) the kernel's placeholder. Calls made before a socket has a slot are remembered, for a
 * kernel socket may yet take its number over.
 */
#include "sock.h"

#include <netinet/ip.h>
#include <netinet/tcp.h>

#define BIT(o) (1u << (o))
/* What a server must know. */
static const uint32_t tell_tcp =
    BIT(OPT_NODELAY) | BIT(OPT_CORK) | BIT(OPT_KEEPALIVE) | BIT(OPT_KEEPIDLE) | BIT(OPT_KEEPINTVL) |
    BIT(OPT_KEEPCNT) | BIT(OPT_USER_TIMEOUT) | BIT(OPT_QUICKACK) | BIT(OPT_MAXSEG) |
    BIT(OPT_CONGESTION) | BIT(OPT_SNDBUF) | BIT(OPT_RCVBUF) | BIT(OPT_TOS) | BIT(OPT_TTL) |
    BIT(OPT_V6ONLY) | BIT(OPT_DEFER_ACCEPT);
static const uint32_t tell_udp = BIT(OPT_SNDBUF) | BIT(OPT_RCVBUF) | BIT(OPT_TOS) | BIT(OPT_TTL) |
                                 BIT(OPT_BROADCAST) | BIT(OPT_V6ONLY);
/* What an accepted connection takes from its listener. */
static const uint32_t inherited = BIT(OPT_NODELAY) | BIT(OPT_CORK) | BIT(OPT_KEEPALIVE) |
                                  BIT(OPT_KEEPIDLE) | BIT(OPT_KEEPINTVL) | BIT(OPT_KEEPCNT) |
                                  BIT(OPT_USER_TIMEOUT) | BIT(OPT_MAXSEG) | BIT(OPT_CONGESTION) |
                                  BIT(OPT_SNDBUF) | BIT(OPT_RCVBUF) | BIT(OPT_TOS) | BIT(OPT_TTL);

void option_defaults(struct sock *s)
{
    const struct ctl_region *c = lib.ctl;
    s->linger = -1;
    s->rcvlowat = 1;
    s->opt[OPT_KEEPIDLE] = c == NULL ? 7200 : (int)c->tcp_keepidle;
    s->opt[OPT_KEEPINTVL] = c == NULL ? 75 : (int)c->tcp_keepintvl;
    s->opt[OPT_KEEPCNT] = c == NULL ? 9 : (int)c->tcp_keepcnt;
    s->opt[OPT_QUICKACK] = 1;
    s->opt[OPT_CONGESTION] = c == NULL ? 1 : (int)c->tcp_congestion;
    s->opt[OPT_TTL] = 64;
    s->opt[OPT_SNDBUF] = c == NULL ? 0 : (int)(s->dgram ? c->udp_sndbuf : c->default_sndbuf);
    s->opt[OPT_RCVBUF] = c == NULL ? 0 : (int)(s->dgram ? c->udp_rcvbuf : c->default_rcvbuf);
}

void option_inherit(struct sock *s, const struct sock *listener)
{
    uint32_t take = listener->opt_known & inherited;
    for (unsigned o = 0; o < 32; o++)
        if (take & BIT(o))
            s->opt[o] = listener->opt[o];
    s->opt_known = take;
    s->linger = listener->linger;
    s->rcvlowat = listener->rcvlowat;
    s->rcvtimeo_ns = listener->rcvtimeo_ns;
    s->sndtimeo_ns = listener->sndtimeo_ns;
    s->reuse_addr = listener->reuse_addr;
    s->reuse_port = listener->reuse_port;
}

void option_flush(struct sock *s)
{
    if (s->slot == NO_SLOT || s->phase == PH_FRESH || s->phase == PH_CONNECTING ||
        load_relaxed(&s->closing) || conn_foreign(s))
        return;
    while (load_relaxed(&s->opt_dirty) != 0 && request_done(s)) {
        uint32_t dirty = load_relaxed(&s->opt_dirty);
        if (dirty == 0 || !lock_take(&s->req))
            return;
        unsigned o = (unsigned)__builtin_ctz(dirty);
        if (request_done(s) && load_relaxed(&s->opt_dirty) & BIT(o)) {
            __atomic_and_fetch(&s->opt_dirty, ~BIT(o), __ATOMIC_ACQ_REL);
            struct request r = {
                .op = OP_SETOPT, .arg0 = o, .arg1 = (uint64_t)(int64_t)load_relaxed(&s->opt[o])};
            slot_request(s->dgram, s->slot, &r);
        }
        lock_give(&s->req);
    }
}

static void change(struct sock *s, unsigned o, int value)
{
    uint32_t tell = s->dgram ? tell_udp : tell_tcp;
    bool same = s->opt[o] == value;
    s->opt[o] = value;
    __atomic_or_fetch(&s->opt_known, BIT(o), __ATOMIC_RELAXED);
    if (same || !(tell & BIT(o)))
        return;
    __atomic_or_fetch(&s->opt_dirty, BIT(o), __ATOMIC_ACQ_REL);
    option_flush(s);
}

static void remember(struct sock *s, int level, int name, const void *v, socklen_t len)
{
    if (s->slot != NO_SLOT || len > sizeof s->raw[0].value)
        return;
    unsigned i = 0;
    while (i < s->n_raw && (s->raw[i].level != level || s->raw[i].name != name))
        i++;
    if (i == RAW_OPTIONS)
        return;
    struct raw_option *r = &s->raw[i];
    r->level = level;
    r->name = name;
    r->len = (uint8_t)len;
    memcpy(r->value, v, len);
    if (i == s->n_raw)
        s->n_raw++;
}

static int ring_bytes(int asked)
{
    /* Linux doubles what is asked for, to pay for its own overhead, and reports the double. */
    if (asked < 1152)
        asked = 1152;
    if (asked > 8 << 20)
        asked = 8 << 20;
    return asked * 2;
}

static int set_timeout(int64_t *ns, const void *v, socklen_t len)
{
    struct timeval tv;
    if (len < sizeof tv)
        return -EINVAL;
    memcpy(&tv, v, sizeof tv);
    if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
        return -EDOM;
    *ns = tv.tv_sec < 0 ? 0 : (int64_t)tv.tv_sec * 1000000000 + tv.tv_usec * 1000;
    return 0;
}

static int set_socket(struct sock *s, int name, int i, const void *v, socklen_t len)
{
    switch (name) {
    case SO_REUSEADDR:
        s->reuse_addr = i != 0;
        return 0;
    case SO_REUSEPORT:
        s->reuse_port = i != 0;
        return 0;
    case SO_KEEPALIVE:
        change(s, OPT_KEEPALIVE, i != 0);
        return 0;
    case SO_BROADCAST:
        change(s, OPT_BROADCAST, i != 0);
        return 0;
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
        change(s, OPT_SNDBUF, ring_bytes(i));
        return 0;
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
        change(s, OPT_RCVBUF, ring_bytes(i));
        return 0;
    case SO_RCVLOWAT:
        s->rcvlowat = i < 1 ? 1 : i;
        return 0;
    case SO_RCVTIMEO:
        return set_timeout(&s->rcvtimeo_ns, v, len);
    case SO_SNDTIMEO:
        return set_timeout(&s->sndtimeo_ns, v, len);
    case SO_TIMESTAMP:
        s->stamp = i != 0;
        return 0;
    case SO_TIMESTAMPNS:
        s->stamp = i != 0 ? 2 : 0;
        return 0;
    case SO_LINGER: {
        struct linger l;
        if (len < sizeof l)
            return -EINVAL;
        memcpy(&l, v, sizeof l);
        s->linger = l.l_onoff ? l.l_linger : -1;
        return 0;
    }
    default:
        return 1;
    }
}

static int set_tcp(struct sock *s, int name, int i, const void *v, socklen_t len)
{
    switch (name) {
    case TCP_NODELAY:
        change(s, OPT_NODELAY, i != 0);
        return 0;
    case TCP_CORK:
        change(s, OPT_CORK, i != 0);
        return 0;
    case TCP_QUICKACK:
        change(s, OPT_QUICKACK, i != 0);
        return 0;
    case TCP_KEEPIDLE:
        if (i < 1 || i > 32767)
            return -EINVAL;
        change(s, OPT_KEEPIDLE, i);
        return 0;
    case TCP_KEEPINTVL:
        if (i < 1 || i > 32767)
            return -EINVAL;
        change(s, OPT_KEEPINTVL, i);
        return 0;
    case TCP_KEEPCNT:
        if (i < 1 || i > 127)
            return -EINVAL;
        change(s, OPT_KEEPCNT, i);
        return 0;
    case TCP_USER_TIMEOUT:
        if (i < 0)
            return -EINVAL;
        change(s, OPT_USER_TIMEOUT, i);
        return 0;
    case TCP_MAXSEG:
        if (i != 0 && (i < 88 || i > 32767))
            return -EINVAL;
        change(s, OPT_MAXSEG, i);
        return 0;
    case TCP_DEFER_ACCEPT:
        change(s, OPT_DEFER_ACCEPT, i < 0 ? 0 : i);
        return 0;
    case TCP_SYNCNT:
    case TCP_LINGER2:
    case TCP_WINDOW_CLAMP:
    case TCP_FASTOPEN:
    case TCP_FASTOPEN_CONNECT:
    case TCP_NOTSENT_LOWAT:
        return 0; /* hints that this stack does not need */
    case TCP_CONGESTION: {
        char algorithm[16] = "";
        memcpy(algorithm, v, len < sizeof algorithm - 1 ? len : sizeof algorithm - 1);
        if (strcmp(algorithm, "cubic") == 0)
            change(s, OPT_CONGESTION, 1);
        else if (strcmp(algorithm, "reno") == 0)
            change(s, OPT_CONGESTION, 0);
        else
            return -ENOENT;
        return 0;
    }
    default:
        return 1;
    }
}

static int set_ip(struct sock *s, int level, int name, int i)
{
    if (level == IPPROTO_IP) {
        switch (name) {
        case IP_TOS:
            change(s, OPT_TOS, i & 0xff);
            return 0;
        case IP_TTL:
            if (i != -1 && (i < 1 || i > 255))
                return -EINVAL;
            change(s, OPT_TTL, i == -1 ? 64 : i);
            return 0;
        case IP_PKTINFO:
            s->pktinfo = i != 0;
            return 0;
        case IP_RECVTTL:
            s->recvttl = i != 0;
            return 0;
        case IP_RECVTOS:
            s->recvtos = i != 0;
            return 0;
        case IP_RECVERR:
            s->recverr = i != 0;
            return 0;
        }
    } else {
        switch (name) {
        case IPV6_V6ONLY:
            if (s->phase != PH_FRESH)
                return -EINVAL;
            s->v6only = i != 0;
            return 0;
        case IPV6_RECVPKTINFO:
            s->pktinfo6 = i != 0;
            return 0;
        case IPV6_RECVHOPLIMIT:
            s->recvttl = i != 0;
            return 0;
        case IPV6_UNICAST_HOPS:
            change(s, OPT_TTL, i < 1 ? 64 : i & 0xff);
            return 0;
        case IPV6_TCLASS:
            change(s, OPT_TOS, i < 0 ? 0 : i & 0xff);
            return 0;
        case IPV6_RECVERR:
            s->recverr = i != 0;
            return 0;
        }
    }
    return 1;
}

int option_set(int fd, struct sock *s, int level, int name, const void *v, socklen_t len)
{
    int i = 0, r = 1;
    if (v == NULL && len > 0)
        return -EFAULT;
    if (len >= sizeof i)
        memcpy(&i, v, sizeof i);
    else if (len >= 1)
        i = *(const uint8_t *)v;
    if (len >= sizeof i || level == IPPROTO_IP ||
        (level == IPPROTO_TCP && name == TCP_CONGESTION && len > 0)) {
        if (level == SOL_SOCKET)
            r = set_socket(s, name, i, v, len);
        else if (level == IPPROTO_TCP && !s->dgram)
            r = set_tcp(s, name, i, v, len);
        else if (level == IPPROTO_IP || (level == IPPROTO_IPV6 && s->family == AF_INET6))
            r = set_ip(s, level, name, i);
    } else if (level == SOL_SOCKET || level == IPPROTO_TCP) {
        return -EINVAL;
    }
    if (r < 0)
        return r;
    remember(s, level, name, v, len);
    if (r == 1 && real()->setsockopt(fd, level, name, v, len) != 0)
        return -errno;
    return 0;
}

/* ---- getsockopt ---- */

/* The connection's own view is asked for, so that it is of now; the call waits for the answer as
 * any other request does. */
static int get_info(struct sock *s, void *v, socklen_t *len)
{
    struct sock_info i = {.state = TCP_CLOSE};
    enum phase ph = conn_refresh(s);
    if (ph == PH_LISTEN) {
        i.state = TCP_LISTEN;
        i.unacked = load_relaxed(&s->down->pending);
        i.sacked = (uint32_t)s->backlog;
    } else if (ph == PH_CONNECTING) {
        i.state = TCP_SYN_SENT;
    } else if (ph == PH_ACTIVE && !conn_foreign(s)) {
        struct request ask = {.op = OP_INFO};
        request(s, &ask);
        if (conn_refresh(s) == PH_ACTIVE)
            i = lib.info_tcp[s->slot];
    }
    if (*len > INFO_SIZE)
        *len = INFO_SIZE;
    memcpy(v, &i, *len);
    return 0;
}

static int give(void *v, socklen_t *len, const void *from, socklen_t n)
{
    if (*len > n)
        *len = n;
    memcpy(v, from, *len);
    return 0;
}

static int get_socket(struct sock *s, int name, int *i)
{
    switch (name) {
    case SO_TYPE:
        *i = s->dgram ? SOCK_DGRAM : SOCK_STREAM;
        return 0;
    case SO_DOMAIN:
        *i = s->family;
        return 0;
    case SO_PROTOCOL:
        *i = s->dgram ? IPPROTO_UDP : IPPROTO_TCP;
        return 0;
    case SO_ERROR:
        conn_refresh(s);
        *i = conn_take_error(s);
        return 0;
    case SO_ACCEPTCONN:
        *i = s->phase == PH_LISTEN;
        return 0;
    case SO_REUSEADDR:
        *i = s->reuse_addr;
        return 0;
    case SO_REUSEPORT:
        *i = s->reuse_port;
        return 0;
    case SO_KEEPALIVE:
        *i = s->opt[OPT_KEEPALIVE];
        return 0;
    case SO_BROADCAST:
        *i = s->opt[OPT_BROADCAST];
        return 0;
    case SO_SNDBUF:
        *i = s->opt[OPT_SNDBUF];
        return 0;
    case SO_RCVBUF:
        *i = s->opt[OPT_RCVBUF];
        return 0;
    case SO_RCVLOWAT:
        *i = s->rcvlowat;
        return 0;
    case SO_SNDLOWAT:
        *i = 1;
        return 0;
    case SO_TIMESTAMP:
        *i = s->stamp == 1;
        return 0;
    case SO_TIMESTAMPNS:
        *i = s->stamp == 2;
        return 0;
    default:
        return 1;
    }
}

static int get_tcp(struct sock *s, int name, int *i)
{
    static const struct {
        int name, option;
    } known[] = {{TCP_NODELAY, OPT_NODELAY},           {TCP_CORK, OPT_CORK},
                 {TCP_QUICKACK, OPT_QUICKACK},         {TCP_KEEPIDLE, OPT_KEEPIDLE},
                 {TCP_KEEPINTVL, OPT_KEEPINTVL},       {TCP_KEEPCNT, OPT_KEEPCNT},
                 {TCP_USER_TIMEOUT, OPT_USER_TIMEOUT}, {TCP_DEFER_ACCEPT, OPT_DEFER_ACCEPT}};
    if (name == TCP_MAXSEG) {
        uint32_t mss = 0;
        if (conn_refresh(s) == PH_ACTIVE && !conn_foreign(s))
            mss = load_relaxed(&lib.info_tcp[s->slot].snd_mss);
        *i = mss != 0 ? (int)mss : s->opt[OPT_MAXSEG] != 0 ? s->opt[OPT_MAXSEG] : 536;
        return 0;
    }
    for (unsigned k = 0; k < sizeof known / sizeof known[0]; k++)
        if (known[k].name == name) {
            *i = s->opt[known[k].option];
            return 0;
        }
    return 1;
}

static int get_ip(struct sock *s, int level, int name, int *i)
{
    if (level == IPPROTO_IP) {
        switch (name) {
        case IP_TOS:
            *i = s->opt[OPT_TOS];
            return 0;
        case IP_TTL:
            *i = s->opt[OPT_TTL];
            return 0;
        case IP_PKTINFO:
            *i = s->pktinfo;
            return 0;
        case IP_RECVERR:
            *i = s->recverr;
            return 0;
        }
    } else {
        switch (name) {
        case IPV6_V6ONLY:
            *i = s->v6only;
            return 0;
        case IPV6_RECVPKTINFO:
            *i = s->pktinfo6;
            return 0;
        case IPV6_UNICAST_HOPS:
            *i = s->opt[OPT_TTL];
            return 0;
        case IPV6_TCLASS:
            *i = s->opt[OPT_TOS];
            return 0;
        }
    }
    return 1;
}

int option_get(int fd, struct sock *s, int level, int name, void *v, socklen_t *len)
{
    int i = 0, r = 1;
    if (v == NULL || len == NULL)
        return -EFAULT;
    if ((int)*len < 0)
        return -EINVAL;
    if (level == SOL_SOCKET && name == SO_LINGER) {
        struct linger l = {s->linger >= 0, s->linger >= 0 ? s->linger : 0};
        return give(v, len, &l, sizeof l);
    }
    if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
        int64_t ns = name == SO_RCVTIMEO ? s->rcvtimeo_ns : s->sndtimeo_ns;
        struct timeval tv = {(time_t)(ns / 1000000000), (suseconds_t)(ns % 1000000000 / 1000)};
        return give(v, len, &tv, sizeof tv);
    }
    if (level == IPPROTO_TCP && !s->dgram && name == TCP_INFO)
        return get_info(s, v, len);
    if (level == IPPROTO_TCP && !s->dgram && name == TCP_CONGESTION) {
        char algorithm[16] = "reno";
        if (s->opt[OPT_CONGESTION] == 1)
            memcpy(algorithm, "cubic", 6);
        return give(v, len, algorithm, sizeof algorithm);
    }
    if (level == SOL_SOCKET)
        r = get_socket(s, name, &i);
    else if (level == IPPROTO_TCP && !s->dgram)
        r = get_tcp(s, name, &i);
    else if (level == IPPROTO_IP || (level == IPPROTO_IPV6 && s->family == AF_INET6))
        r = get_ip(s, level, name, &i);
    if (r == 1)
        return real()->getsockopt(fd, level, name, v, len) != 0 ? -errno : 0;
    return give(v, len, &i, sizeof i);
}
