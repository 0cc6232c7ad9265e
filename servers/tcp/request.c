/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Requests of applications, exactly once. Where a request has an effect, effect and request id are
 * committed in the same record, and the reply is derived from that record, by us or by a successor.
 * Where it fails without a record, executing it twice does no harm.
 */
#include "engine.h"

#include <errno.h>

/* A reply for a slot without a record. */
static void reply_bare(struct tcp *t, unsigned app, uint32_t slot, const struct up_slot *up,
                       int result)
{
    struct down_slot *d = tcp_app_down_slot(t, app, slot);
    if (load_relaxed(&d->generation) != up->generation)
        shm_store(&d->generation, up->generation);
    if (load_relaxed(&d->state) != SOCK_FREE)
        shm_store_release(&d->state, (uint32_t)SOCK_FREE);
    shm_store(&d->result, result);
    shm_store_release(&d->req_done, up->req_id);
    if (result < 0)
        tcp_count(t, TCP_C_BAD_REQUESTS);
    /* Who waits for a claim waits for its listener, whichever that was. */
    tcp_news(t, app, up->op == OP_ACCEPT ? WAIT_ANY : slot);
}

static struct tcp_conn *socket_new(struct tcp *t, unsigned app, uint32_t slot,
                                   const struct up_slot *up)
{
    struct tcp_conn *k = tcp_conn_new(t);
    if (k == NULL)
        return NULL;
    k->r.kind = TCP_KIND_SOCKET;
    k->r.generation = up->generation;
    k->r.req_id = up->req_id;
    tcp_conn_attach(t, k, app, slot);
    return k;
}

/* Undoes socket_new() before anything was committed. */
static void socket_forget(struct tcp *t, struct tcp_conn *k)
{
    tcp_conn_free_rings(t, k);
    tcp_conn_detach(t, k);
    tcp_timer_stop_all(t, k);
    k->r.kind = TCP_KIND_FREE;
    k->ready = false;
    t->free[t->n_free++] = k->idx;
}

static bool may_use_port(const struct tcp *t, unsigned app, uint16_t port)
{
    const struct tcp_app_shm *a = &t->app_shm[app];
    if (port == 0 || port >= 1024)
        return true;
    return a->generation == t->app[app]->generation && (a->granted[port / 64] >> port % 64 & 1);
}

static bool is_ours(const struct tcp *t, const struct ip_addr *a)
{
    if (ip_addr_any(a) || route_local(t->cfg, a) >= 0)
        return true;
    if (a->family == 4)
        return a->v6[0] == 127;
    static const uint8_t loopback[16] = {[15] = 1};
    return a->family == 6 && memcmp(a->v6, loopback, 16) == 0;
}

static uint32_t bind_flags(const struct up_slot *up)
{
    return (up->flags & BIND_REUSEADDR ? TCPF_REUSEADDR : 0u) |
           (up->flags & BIND_REUSEPORT ? TCPF_REUSEPORT : 0u);
}

/* Gives `k` the local name `want` (port 0: choose). Not committed. */
static int bind_to(struct tcp *t, struct tcp_conn *k, unsigned app, const struct up_slot *up,
                   bool listening)
{
    struct sock_name name = tcp_name_copy(&up->local);
    if (name.addr.family == 0)
        name.addr.family = 4;
    if (name.addr.family != 4 && name.addr.family != 6)
        return -EAFNOSUPPORT;
    if (!is_ours(t, &name.addr))
        return -EADDRNOTAVAIL;
    if (!may_use_port(t, app, name.port))
        return -EACCES;
    uint32_t flags =
        bind_flags(up) | (k->r.flags & (TCPF_REUSEADDR | TCPF_REUSEPORT | TCPF_V6ONLY));
    int rc = name.port ? tcp_port_conflict(t, k, &name, flags, listening)
                       : tcp_port_choose(t, k, &name, NULL);
    if (rc == -EADDRINUSE && name.port && tcp_app_evict(t, name.port))
        rc = tcp_port_conflict(t, k, &name, flags, listening);
    if (rc)
        return rc;
    k->r.local = name;
    k->r.flags |= flags | TCPF_BOUND_PORT;
    return 0;
}

static int do_bind(struct tcp *t, struct tcp_conn *k, unsigned app, const struct up_slot *up)
{
    if (k->r.kind != TCP_KIND_SOCKET || k->r.local.port)
        return -EINVAL;
    int rc = bind_to(t, k, app, up, false);
    if (rc == 0)
        tcp_port_add(t, k);
    return rc;
}

static int do_listen(struct tcp *t, struct tcp_conn *k, unsigned app, const struct up_slot *up)
{
    uint32_t backlog = up->arg0 > 65535 ? 65535 : up->arg0;
    if (k->r.kind == TCP_KIND_LISTEN) {
        k->r.backlog = backlog;
        return 0;
    }
    if (k->r.kind != TCP_KIND_SOCKET)
        return -EINVAL;
    int rc = 0;
    bool fresh = k->r.local.port == 0;
    if (fresh)
        rc = bind_to(t, k, app, up, true);
    else if (!may_use_port(t, app, k->r.local.port))
        rc = -EACCES;
    else /* two may be bound with REUSEADDR; only one may listen */
        rc = tcp_port_conflict(t, k, &k->r.local, k->r.flags, true);
    if (rc)
        return rc;
    if (fresh)
        tcp_port_add(t, k);
    k->r.backlog = backlog;
    k->r.group = tcp_group_fresh(t);
    k->r.token = up->share_token;
    k->r.kind = TCP_KIND_LISTEN;
    return 0;
}

/* Everything but the commit. */
static int prepare_connect(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                           const struct up_slot *up)
{
    struct sock_name remote = tcp_name_copy(&up->remote), local = k->r.local;
    struct down_slot *d = tcp_app_down_slot(t, app, slot);
    struct route r;
    if (remote.addr.family != 4 && remote.addr.family != 6)
        return -EAFNOSUPPORT;
    if (remote.port == 0)
        return -ECONNREFUSED;
    if (up->tx_base > 1ull << 62 || up->tx_base < (load_relaxed(&d->tx_free) & OFF_MASK))
        return -EINVAL;
    if (ip_addr_any(&local.addr)) {
        if (local.port == 0 && up->local.addr.family) {
            local = tcp_name_copy(&up->local);
            if (!is_ours(t, &local.addr))
                return -EADDRNOTAVAIL;
            if (!may_use_port(t, app, local.port))
                return -EACCES;
        }
    }
    if (ip_addr_any(&local.addr)) {
        if (is_ours(t, &remote.addr) && !ip_addr_any(&remote.addr))
            local.addr = remote.addr; /* to ourselves */
        else if (route_lookup(t->cfg, &remote.addr, &r) == 0)
            local.addr = r.source;
        else
            return -ENETUNREACH;
    } else if (!is_ours(t, &remote.addr) && route_lookup(t->cfg, &remote.addr, &r) != 0) {
        return -ENETUNREACH;
    }
    if (local.addr.family != remote.addr.family)
        return -EAFNOSUPPORT;
    int rc = 0;
    if (local.port == 0)
        rc = tcp_port_choose(t, k, &local, &remote);
    else if (tcp_lookup_find(t, &local, &remote) != NULL)
        rc = -EADDRINUSE;
    if (rc)
        return rc;
    if ((rc = tcp_conn_alloc_tx(t, k)) != 0)
        return rc;
    if ((rc = tcp_conn_alloc_rx(t, k, app)) != 0) {
        tcp_ring_release(&t->app[app]->up_space, k->r.tx.page[0], k->r.tx.shift[0]);
        k->r.tx = (struct tcp_ring){.switch_at = UINT64_MAX};
        return rc;
    }
    if (k->r.local.port)
        tcp_port_remove(t, k);
    k->r.local = local;
    k->r.remote = remote;
    k->r.rx_base = tcp_rx_base_for(d, &k->r.rx);
    k->r.tx_base = up->tx_base;
    return 0;
}

static int do_connect(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                      const struct up_slot *up)
{
    if (k->r.kind != TCP_KIND_SOCKET)
        return k->r.kind == TCP_KIND_CONN && k->r.state == TCP_SYN_SENT ? -EALREADY : -EISCONN;
    int rc = prepare_connect(t, k, app, slot, up);
    if (rc)
        return rc;
    tcp_count(t, TCP_C_ACTIVE_OPENS);
    k->r.kind = TCP_KIND_CONN;
    k->r.state = TCP_SYN_SENT;
    tcp_conn_start_sending(t, k);
    tcp_conn_route(t, k);
    k->r.flags |= TCPF_WAITING;
    k->r.req_id = up->req_id;
    /* Port, ISS and request id before a SYN leaves (DESIGN 6.5). */
    tcp_record_commit(t, k);
    tcp_lookup_add(t, k);
    tcp_conn_publish(t, k);
    tcp_timer_rexmt_arm(t, k);
    tcp_conn_dirty(t, k);
    return -EINPROGRESS;
}

static unsigned shift_for(uint64_t v)
{
    unsigned n = RING_PAGE_SHIFT;
    while (n < 24 && 1ull << n < v)
        n++;
    return n;
}

static void set_flag(struct tcp_conn *k, uint32_t flag, bool on)
{
    k->r.flags = on ? k->r.flags | flag : k->r.flags & ~flag;
}

static int do_setopt(struct tcp *t, struct tcp_conn *k, const struct up_slot *up)
{
    uint64_t v = up->arg1;
    bool bad16 = v > 32767;
    switch (up->arg0) {
    case OPT_NODELAY:
        set_flag(k, TCPF_NODELAY, v);
        break;
    case OPT_CORK:
        set_flag(k, TCPF_CORK, v);
        break;
    case OPT_KEEPALIVE:
        set_flag(k, TCPF_KEEPALIVE, v);
        break;
    case OPT_QUICKACK:
        set_flag(k, TCPF_QUICKACK, v);
        k->pingpong = !v; /* as Linux: 0 delays them at once */
        break;
    case OPT_REUSEADDR:
        set_flag(k, TCPF_REUSEADDR, v);
        break;
    case OPT_REUSEPORT:
        set_flag(k, TCPF_REUSEPORT, v);
        break;
    case OPT_V6ONLY:
        set_flag(k, TCPF_V6ONLY, v);
        break;
    case OPT_KEEPIDLE:
        if (bad16 || v == 0)
            return -EINVAL;
        k->r.keepidle = (uint16_t)v;
        break;
    case OPT_KEEPINTVL:
        if (bad16 || v == 0)
            return -EINVAL;
        k->r.keepintvl = (uint16_t)v;
        break;
    case OPT_KEEPCNT:
        if (v == 0 || v > 127)
            return -EINVAL;
        k->r.keepcnt = (uint8_t)v;
        break;
    case OPT_USER_TIMEOUT:
        k->r.user_timeout = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
        break;
    case OPT_MAXSEG:
        if (v != 0 && (v < 88 || bad16))
            return -EINVAL;
        k->r.maxseg = (uint16_t)v;
        break;
    case OPT_CONGESTION:
        if (tcp_cc_select(k, v) != 0)
            return -ENOENT;
        break;
    case OPT_SNDBUF:
        k->r.sndbuf_shift = (uint8_t)shift_for(v);
        break;
    case OPT_RCVBUF:
        k->r.rcvbuf_shift = (uint8_t)shift_for(v);
        break;
    case OPT_LINGER:
        k->r.linger = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
        break;
    case OPT_TOS:
        k->r.tos = (uint8_t)(v & 0xfc); /* the low bits are ECN's */
        break;
    case OPT_TTL:
        if (v > 255)
            return -EINVAL;
        k->r.ttl = (uint8_t)v;
        break;
    case OPT_DEFER_ACCEPT:
        k->r.defer_accept = v > 255 ? 255 : (uint8_t)v;
        break;
    default:
        return -ENOPROTOOPT;
    }
    tcp_timer_keep_arm(t, k);
    tcp_conn_dirty(t, k); /* what NODELAY or CORK kept back may go now */
    return 0;
}

/* The socket that a request names, if whoever asks knows its token. */
struct tcp_conn *tcp_request_target(struct tcp *t, unsigned app, const struct up_slot *up)
{
    const struct up_slot *their = tcp_app_up_slot(t, up->target_app, up->target_slot);
    if (their == NULL)
        return NULL;
    uint32_t i = t->app[up->target_app]->slot_conn[up->target_slot];
    struct tcp_conn *k = i ? &t->conn[i - 1] : NULL;
    if (k == NULL || k->r.generation != up->target_generation || (k->r.flags & TCPF_CLOSED_BY_APP))
        return NULL;
    uint64_t token = k->r.kind == TCP_KIND_LISTEN ? k->r.token : load_relaxed(&their->share_token);
    if (up->target_app != app && (token == 0 || token != up->token))
        return NULL;
    return k;
}

/* The request waits, as a record of its own. */
static int do_claim(struct tcp *t, unsigned app, uint32_t slot, const struct up_slot *up,
                    uint32_t group)
{
    struct tcp_conn *k = socket_new(t, app, slot, up);
    if (k == NULL)
        return -ENOMEM;
    k->r.kind = TCP_KIND_CLAIM;
    k->r.flags |= TCPF_WAITING;
    k->r.group = group;
    k->r.order = ++t->order_last;
    tcp_record_commit(t, k);
    tcp_conn_publish(t, k);
    tcp_group_enqueue(t, k, QUEUE_CLAIMS);
    return -EINPROGRESS;
}

static int do_accept(struct tcp *t, unsigned app, uint32_t slot, const struct up_slot *up)
{
    struct tcp_conn *l = tcp_request_target(t, app, up);
    if (l == NULL)
        return -EBADF;
    if (l->r.kind != TCP_KIND_LISTEN)
        return -EINVAL;
    struct tcp_group *g = tcp_group_get(t, l->r.group, false);
    if (g == NULL)
        return -EINVAL;
    if (g->queue[QUEUE_CLAIMS].count == 0 && g->queue[QUEUE_PENDING].count)
        return tcp_listen_assign(t, &t->conn[g->queue[QUEUE_PENDING].first], app, slot, up,
                                 up->req_id)
                   ?: -EINPROGRESS;
    return do_claim(t, app, slot, up, l->r.group);
}

static int do_inherit(struct tcp *t, unsigned app, uint32_t slot, const struct up_slot *up)
{
    struct tcp_conn *o = tcp_request_target(t, app, up);
    if (o == NULL)
        return -EBADF;
    if (o->r.kind == TCP_KIND_CONN) {
        int rc = tcp_conn_move(t, o, app, slot, up, up->req_id);
        return rc == -EAGAIN ? do_claim(t, app, slot, up, TCP_GROUP_MOVERS) : rc ?: -EINPROGRESS;
    }
    if (o->r.kind != TCP_KIND_LISTEN && o->r.kind != TCP_KIND_SOCKET)
        return -EINVAL;
    struct tcp_conn *k = socket_new(t, app, slot, up);
    if (k == NULL)
        return -ENOMEM;
    k->r.kind = o->r.kind;
    k->r.flags |= o->r.flags & ~(uint32_t)(TCPF_WAITING | TCPF_CLOSED_BY_APP);
    k->r.local = o->r.local;
    k->r.group = o->r.group;
    k->r.backlog = o->r.backlog;
    k->r.token = up->share_token ? up->share_token : o->r.token;
    k->r.maxseg = o->r.maxseg;
    k->r.keepidle = o->r.keepidle;
    k->r.keepintvl = o->r.keepintvl;
    k->r.keepcnt = o->r.keepcnt;
    k->r.sndbuf_shift = o->r.sndbuf_shift;
    k->r.rcvbuf_shift = o->r.rcvbuf_shift;
    k->r.congestion = o->r.congestion;
    k->r.user_timeout = o->r.user_timeout;
    k->r.linger = o->r.linger;
    k->r.defer_accept = o->r.defer_accept;
    k->r.tos = o->r.tos;
    k->r.ttl = o->r.ttl;
    if (k->r.local.port)
        tcp_port_add(t, k);
    tcp_conn_reply(t, k, 0);
    if (k->r.kind == TCP_KIND_LISTEN)
        tcp_group_join(t, k);
    return -EINPROGRESS;
}

void tcp_request_close(struct tcp *t, struct tcp_conn *k, bool abort)
{
    if (k->r.flags & TCPF_CLOSED_BY_APP)
        return;
    k->r.flags |= TCPF_CLOSED_BY_APP;
    if (k->r.kind == TCP_KIND_CLAIM)
        tcp_listen_drop(t, k);
    if (k->r.kind != TCP_KIND_CONN || k->r.state == TCP_CLOSED) {
        if (k->r.flags & TCPF_WAITING) {
            k->r.flags &= ~(uint32_t)TCPF_WAITING;
            k->r.result = -ECANCELED;
        }
        tcp_record_commit(t, k);
        tcp_conn_publish(t, k);
        return;
    }
    bool unread = k->rx_nxt > k->rx_read && k->r.state != TCP_TIME_WAIT;
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD) {
        tcp_conn_abort(t, k, ECONNABORTED);
        return;
    }
    if (abort || unread) {
        /* Who closes without reading tells the peer that data was lost (RFC 9293 3.6.1). */
        if (unread && !abort)
            tcp_count(t, TCP_C_ABORTED_UNREAD);
        tcp_conn_abort(t, k, 0);
        return;
    }
    if (conn_has_fin(k)) {
        if (k->r.state == TCP_FIN_WAIT_2) {
            k->r.expiry = t->now + t->cfg->tcp_fin_timeout_s * SEC;
            tcp_timer_set(t, k, TIMER_LIFE, k->r.expiry);
        }
        tcp_record_commit(t, k);
    } else {
        tcp_conn_shutdown(t, k); /* commits */
    }
    tcp_conn_publish(t, k);
    tcp_conn_dirty(t, k);
    tcp_conn_orphan(t, k);
}

static int do_cancel(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.kind == TCP_KIND_CLAIM) {
        tcp_listen_drop(t, k);
        k->r.kind = TCP_KIND_DEAD;
        k->r.flags |= TCPF_CLOSED_BY_APP;
        return -ECANCELED;
    }
    if (k->r.kind == TCP_KIND_CONN && k->r.state == TCP_SYN_SENT) {
        tcp_timer_stop_all(t, k);
        tcp_lookup_remove(t, k);
        k->r.state = TCP_CLOSED;
        k->r.kind = TCP_KIND_DEAD;
        k->r.flags |= TCPF_CLOSED_BY_APP;
        return -ECANCELED;
    }
    return 0;
}

static void on_record(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                      const struct up_slot *up)
{
    int rc = 0;
    bool waits = (k->r.flags & TCPF_WAITING) != 0;
    k->r.req_id = up->req_id;
    if (up->op != OP_CLOSE)
        k->r.flags &= ~(uint32_t)TCPF_WAITING; /* the newer request gets the reply */
    switch (up->op) {
    case OP_BIND:
        rc = do_bind(t, k, app, up);
        break;
    case OP_LISTEN:
        rc = do_listen(t, k, app, up);
        break;
    case OP_CONNECT:
        rc = do_connect(t, k, app, slot, up);
        if (rc == -EINPROGRESS)
            return;
        if (rc == -EALREADY && waits) {
            k->r.flags |= TCPF_WAITING; /* the same attempt answers both */
            tcp_record_commit(t, k);
            return;
        }
        break;
    case OP_SETOPT:
        rc = do_setopt(t, k, up);
        break;
    case OP_CANCEL:
        rc = do_cancel(t, k);
        break;
    case OP_INFO:
        tcp_conn_publish_info(t, k);
        break;
    case OP_CLOSE: {
        bool abort = up->arg0 != 0;
        /* The close and its id in one record; the reply does not wait for the peer. */
        k->r.result = 0;
        k->r.flags &= ~(uint32_t)TCPF_WAITING;
        if (k->r.flags & TCPF_CLOSED_BY_APP)
            tcp_conn_reply(t, k, 0);
        else
            tcp_request_close(t, k, abort);
        if (k->ready)
            tcp_conn_detach_try(t, k);
        return;
    }
    default:
        rc = -EINVAL;
    }
    if (rc < 0 && rc != -ECANCELED)
        tcp_count(t, TCP_C_BAD_REQUESTS);
    bool joins = up->op == OP_LISTEN && rc == 0 && tcp_group_get(t, k->r.group, false) == NULL;
    tcp_conn_reply(t, k, rc);
    if (joins)
        tcp_group_join(t, k);
    if (k->r.kind == TCP_KIND_DEAD)
        tcp_conn_detach_try(t, k);
}

static void on_free_slot(struct tcp *t, unsigned app, uint32_t slot, const struct up_slot *up)
{
    struct tcp_conn *k;
    int rc;
    switch (up->op) {
    case OP_BIND:
    case OP_LISTEN:
    case OP_CONNECT:
    case OP_SETOPT:
        k = socket_new(t, app, slot, up);
        if (k == NULL) {
            rc = -ENOMEM;
            break;
        }
        if (up->op == OP_BIND)
            rc = do_bind(t, k, app, up);
        else if (up->op == OP_LISTEN)
            rc = do_listen(t, k, app, up);
        else if (up->op == OP_CONNECT)
            rc = do_connect(t, k, app, slot, up);
        else
            rc = do_setopt(t, k, up);
        if (rc == -EINPROGRESS)
            return;
        if (rc == 0) {
            tcp_conn_reply(t, k, 0);
            if (k->r.kind == TCP_KIND_LISTEN)
                tcp_group_join(t, k);
            return;
        }
        socket_forget(t, k);
        break;
    case OP_ACCEPT:
        rc = do_accept(t, app, slot, up);
        break;
    case OP_INHERIT:
        rc = do_inherit(t, app, slot, up);
        break;
    case OP_CLOSE:
        rc = 0;
        break;
    case OP_CANCEL:
        rc = -ECANCELED;
        break;
    default:
        rc = -EINVAL;
    }
    if (rc != -EINPROGRESS)
        reply_bare(t, app, slot, up, rc);
}

/* The request brought us down again and again: answered with an error, once. */
static void refuse(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                   const struct up_slot *up, uint64_t item)
{
    const struct item_part part = {up, sizeof *up};

    tcp_count(t, TCP_C_QUARANTINED);
    quarantine_keep(t->c->own, item, t->now, &part, 1);
    if (k == NULL) {
        reply_bare(t, app, slot, up, -EIO);
        return;
    }
    k->r.req_id = up->req_id;
    k->r.flags &= ~(uint32_t)TCPF_WAITING;
    tcp_conn_reply(t, k, -EIO);
}

/* Looks at everything that slot's application may have changed. */
void tcp_request_slot(struct tcp *t, unsigned app, uint32_t slot)
{
    const struct up_slot *live = tcp_app_up_slot(t, app, slot);
    struct tcp_app *a = t->app[app];
    if (live == NULL || a->gone)
        return;
    /* `released` before `req_id`: the application stores its last request (perhaps a close that
     * aborts), then `released`. Whoever sees the second must see the first; read the other way
     * round, such a close could come between, and look like a slot let go without one. */
    uint32_t released = load_acquire(&live->released);
    uint32_t gen = load_acquire(&live->generation), req = load_acquire(&live->req_id);
    uint32_t i = a->slot_conn[slot];
    struct tcp_conn *k = i ? &t->conn[i - 1] : NULL;
    if (k != NULL && k->r.generation != gen) {
        tcp_count(t, TCP_C_APP_VIOLATIONS); /* raised on a slot that is not free */
        return;
    }
    if (k != NULL) {
        tcp_conn_begin(t, k);
        tcp_conn_sync(t, k);
        i = a->slot_conn[slot];
        k = i ? &t->conn[i - 1] : NULL;
    }
    uint32_t last = k ? k->r.req_id : load_relaxed(&tcp_app_down_slot(t, app, slot)->req_done);
    if (req != last) {
        struct up_slot up;
        memcpy(&up, live, sizeof up);
        up.generation = gen;
        up.req_id = req;
        tcp_count(t, TCP_C_REQUESTS);
        const uint64_t item = item_request(app, slot, req);
        item_begin(t->c->block, item);
        if (item_condemned(t->c->block, item))
            refuse(t, k, app, slot, &up, item);
        else if (k != NULL)
            on_record(t, k, app, slot, &up);
        else
            on_free_slot(t, app, slot, &up);
        i = a->slot_conn[slot];
        k = i ? &t->conn[i - 1] : NULL;
        if (k != NULL)
            tcp_conn_begin(t, k);
    }
    if (k == NULL && released == gen) {
        /* The socket moved to an heir; this half of it goes now. */
        struct down_slot *d = tcp_app_down_slot(t, app, slot);
        if (load_relaxed(&d->generation) == gen && load_relaxed(&d->state) != SOCK_FREE)
            shm_store_release(&d->state, (uint32_t)SOCK_FREE);
    }
    if (k != NULL && released == k->r.generation) {
        if (!(k->r.flags & TCPF_CLOSED_BY_APP))
            tcp_request_close(t, k, false);
        if (k->ready && k->idx + 1 == i)
            tcp_conn_detach_try(t, k);
    }
}
