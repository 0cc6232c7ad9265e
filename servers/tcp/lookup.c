/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who gets a segment: connections by a keyed hash of addresses and ports, in TCP's region, so that
 * a successor finds a connection before it has walked all records; sockets by local port, private,
 * complete only after the walk.
 *
 * The index is a hint. Every hit is compared with the record; an entry that does not match is
 * passed over. Removing shifts entries back (copy first, clear after), so that a crash leaves at
 * most an entry twice, never one missing.
 */
#include "engine.h"

#include <errno.h>

enum { PURPOSE_ISN = 0, PURPOSE_INDEX = 1, PURPOSE_PORT = 2 };

static uint32_t index_hash(const struct tcp *t, const struct sock_name *l,
                           const struct sock_name *r)
{
    return (uint32_t)tcp_tuple_hash(t, PURPOSE_INDEX, l, r);
}

static uint64_t word(const struct tcp *t, uint64_t pos)
{
    return load_relaxed(&t->index[pos & t->index_mask].word);
}

void tcp_lookup_add(struct tcp *t, struct tcp_conn *k)
{
    uint64_t hash = index_hash(t, &k->r.local, &k->r.remote);
    uint64_t want = hash << 32 | (k->idx + 1);
    k->indexed = true;
    for (uint64_t i = 0; i <= t->index_mask; i++) {
        uint64_t w = word(t, hash + i);
        if (w == want)
            return;
        if (w == 0) {
            shm_store(&t->index[(hash + i) & t->index_mask].word, want);
            return;
        }
    }
}

/* Knuth 6.4 R, with the copy before the clearing. */
static void index_delete(struct tcp *t, uint64_t hole)
{
    for (uint64_t i = hole + 1;; i++) {
        uint64_t w = word(t, i);
        if (w == 0)
            break;
        uint64_t home = w >> 32;
        /* May the entry at i move to the hole? Only if its home is not behind the hole. */
        if (((i - home) & t->index_mask) >= ((i - hole) & t->index_mask)) {
            shm_store(&t->index[hole & t->index_mask].word, w);
            hole = i;
        }
        if (((i + 1 - hole) & t->index_mask) > t->index_mask)
            break;
    }
    shm_store(&t->index[hole & t->index_mask].word, 0ull);
}

void tcp_lookup_remove(struct tcp *t, struct tcp_conn *k)
{
    if (!k->indexed)
        return;
    k->indexed = false;
    uint64_t hash = index_hash(t, &k->r.local, &k->r.remote);
    uint64_t want = hash << 32 | (k->idx + 1);
    for (uint64_t i = 0; i <= t->index_mask; i++) {
        uint64_t w = word(t, hash + i);
        if (w == want) {
            index_delete(t, hash + i);
            return;
        }
        if (w == 0)
            return;
    }
}

struct tcp_conn *tcp_lookup_find(struct tcp *t, const struct sock_name *local,
                                 const struct sock_name *remote)
{
    uint64_t hash = index_hash(t, local, remote);
    for (uint64_t i = 0; i <= t->index_mask; i++) {
        uint64_t w = word(t, hash + i);
        if (w == 0)
            return NULL;
        if (w >> 32 != (uint32_t)hash)
            continue;
        uint32_t idx = (uint32_t)w - 1;
        if (idx >= t->n_conns)
            continue;
        struct tcp_conn *k = tcp_conn_get(t, idx);
        if (k != NULL && k->r.kind == TCP_KIND_CONN && k->r.state != TCP_CLOSED &&
            memcmp(&k->r.local, local, sizeof *local) == 0 &&
            memcmp(&k->r.remote, remote, sizeof *remote) == 0)
            return k;
    }
    return NULL;
}

/* --- sockets by local port --- */

void tcp_port_add(struct tcp *t, struct tcp_conn *k)
{
    uint32_t *head = &t->port[k->r.local.port % TCP_PORT_HASH];
    k->port_next = *head;
    *head = k->idx + 1;
}

void tcp_port_remove(struct tcp *t, struct tcp_conn *k)
{
    uint32_t *at = &t->port[k->r.local.port % TCP_PORT_HASH];
    while (*at && *at != k->idx + 1)
        at = &t->conn[*at - 1].port_next;
    if (*at)
        *at = k->port_next;
    k->port_next = 0;
}

/* Can a packet be for both? A socket of IPv6 on any address takes IPv4 as well, unless it said
 * V6ONLY; programs that listen on 0.0.0.0 and on :: rely on that (RFC 3493 5.3). */
static bool overlap(const struct ip_addr *a, uint32_t a_flags, const struct ip_addr *b,
                    uint32_t b_flags)
{
    if (a->family == b->family)
        return ip_addr_any(a) || ip_addr_any(b) || ip_addr_equal(a, b);
    return a->family == 6 ? ip_addr_any(a) && (a_flags & TCPF_V6ONLY) == 0
                          : ip_addr_any(b) && (b_flags & TCPF_V6ONLY) == 0;
}

/* As Linux: two sockets may share a port if both say REUSEPORT, or if both say REUSEADDR and
 * neither listens. A connection that was accepted is no obstacle to its listener's successor when
 * REUSEADDR is set: accepted connections are not in this table at all. */
int tcp_port_conflict(struct tcp *t, const struct tcp_conn *k, const struct sock_name *name,
                      uint32_t flags, bool listening)
{
    for (uint32_t i = t->port[name->port % TCP_PORT_HASH]; i; i = t->conn[i - 1].port_next) {
        const struct tcp_conn *o = &t->conn[i - 1];
        if (o == k || o->r.local.port != name->port ||
            !overlap(&o->r.local.addr, o->r.flags, &name->addr, flags))
            continue;
        if (o->r.group && k && o->r.group == k->r.group)
            continue;
        if ((flags & o->r.flags & TCPF_REUSEPORT) != 0)
            continue;
        if ((flags & o->r.flags & TCPF_REUSEADDR) != 0 && !listening &&
            o->r.kind != TCP_KIND_LISTEN)
            continue;
        return -EADDRINUSE;
    }
    return 0;
}

/* Chooses an ephemeral port (RFC 6056, algorithm 3: keyed offset plus a counter). With a remote
 * name only the whole 4-tuple must be free. */
int tcp_port_choose(struct tcp *t, const struct tcp_conn *k, struct sock_name *local,
                    const struct sock_name *remote)
{
    static const struct sock_name nobody;
    uint32_t first = t->cfg->port_first, range = (uint32_t)t->cfg->port_last - first + 1;
    local->port = 0;
    uint32_t off = (uint32_t)tcp_tuple_hash(t, PURPOSE_PORT, local, remote ? remote : &nobody);
    /* The counter is private; the time keeps a successor from the same row of ports. */
    uint32_t salt = t->port_salt++ + (uint32_t)(t->now / (100 * MSEC));
    for (uint32_t i = 0; i < range; i++) {
        t->spent += i % 64 == 63; /* so many looks are as much work as a request */
        local->port = (uint16_t)(first + (off + salt + i) % range);
        bool busy = remote ? tcp_lookup_find(t, local, remote) != NULL ||
                                 tcp_port_conflict(t, k, local, TCPF_REUSEADDR, false) != 0
                           : tcp_port_conflict(t, k, local, 0, true) != 0;
        if (!busy)
            return 0;
    }
    return -EADDRNOTAVAIL;
}

struct tcp_conn *tcp_port_listener(struct tcp *t, const struct sock_name *local,
                                   const struct sock_name *remote)
{
    struct tcp_conn *best = NULL;
    uint64_t best_score = 0;
    for (uint32_t i = t->port[local->port % TCP_PORT_HASH]; i; i = t->conn[i - 1].port_next) {
        struct tcp_conn *o = &t->conn[i - 1];
        if (o->r.kind != TCP_KIND_LISTEN || o->r.local.port != local->port)
            continue;
        const struct ip_addr *a = &o->r.local.addr;
        bool any = ip_addr_any(a);
        if (!any && !ip_addr_equal(a, &local->addr))
            continue;
        if (any && a->family == 4 && local->addr.family == 6)
            continue;
        if (any && a->family == 6 && local->addr.family == 4 && (o->r.flags & TCPF_V6ONLY))
            continue;
        /* An exact address beats any; among REUSEPORT groups the peer's hash chooses, stably. */
        struct sock_name salt = {.port = (uint16_t)o->r.group};
        salt.addr.word[0] = o->r.group;
        uint64_t score = tcp_tuple_hash(t, PURPOSE_PORT, &salt, remote) >> 2;
        if (!any)
            score |= 1ull << 63;
        if (best == NULL || score > best_score) {
            best = o;
            best_score = score;
        }
    }
    return best;
}
