/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sockets by local port: who listens, who may bind what, which port is free. Connections that were
 * accepted are not in here, those that were made are not either: they are in the index (lookup.c).
 * Private; complete only after the walk.
 */
#include "engine.h"

#include <errno.h>

void tcp_port_add(struct tcp *t, struct tcp_conn *k)
{
    uint32_t *head = &t->port[k->r.local.port];
    k->port_next = *head;
    *head = k->idx + 1;
}

void tcp_port_remove(struct tcp *t, struct tcp_conn *k)
{
    uint32_t *at = &t->port[k->r.local.port];
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
    for (uint32_t i = t->port[name->port]; i; i = t->conn[i - 1].port_next) {
        const struct tcp_conn *o = &t->conn[i - 1];
        if (o == k || !overlap(&o->r.local.addr, o->r.flags, &name->addr, flags))
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

static bool busy(struct tcp *t, const struct tcp_conn *k, const struct sock_name *local,
                 const struct sock_name *remote)
{
    if (remote == NULL)
        return tcp_port_conflict(t, k, local, 0, true) != 0;
    return tcp_lookup_find(t, local, remote) != NULL ||
           tcp_port_conflict(t, k, local, TCPF_REUSEADDR, false) != 0;
}

/* Chooses an ephemeral port (RFC 6056, algorithm 3: keyed offset plus a counter). With a remote
 * name only the whole 4-tuple must be free. Ports that were given out in a row are busy in a row:
 * after a few of them we look elsewhere, at random, so that with nine ports of ten in use ten looks
 * are enough. The last resort is one look at each. */
int tcp_port_choose(struct tcp *t, const struct tcp_conn *k, struct sock_name *local,
                    const struct sock_name *remote)
{
    static const struct sock_name nobody;
    enum { IN_A_ROW = 4, AT_RANDOM = 2044 };
    uint32_t first = t->cfg->port_first, range = (uint32_t)t->cfg->port_last - first + 1;
    local->port = 0;
    uint64_t off = tcp_tuple_hash(t, TCP_PURPOSE_PORT, local, remote ? remote : &nobody);
    /* The counter is private; the time keeps a successor from the same row of ports. */
    uint64_t at = (uint32_t)off + t->port_salt++ + (uint32_t)(t->now / (100 * MSEC)), jump = off;
    for (uint32_t i = 0; i < IN_A_ROW + AT_RANDOM + range; i++) {
        t->spent += i % 64 == 63; /* so many looks are as much work as a request */
        if (i >= IN_A_ROW && i < IN_A_ROW + AT_RANDOM) {
            jump = (jump + at + 1) * 6364136223846793005ull + 1442695040888963407ull; /* Knuth */
            at = jump >> 32;
        }
        local->port = (uint16_t)(first + at++ % range);
        if (!busy(t, k, local, remote))
            return 0;
    }
    return -EADDRNOTAVAIL;
}

struct tcp_conn *tcp_port_listener(struct tcp *t, const struct sock_name *local,
                                   const struct sock_name *remote)
{
    struct tcp_conn *best = NULL;
    uint64_t best_score = 0;
    for (uint32_t i = t->port[local->port]; i; i = t->conn[i - 1].port_next) {
        struct tcp_conn *o = &t->conn[i - 1];
        if (o->r.kind != TCP_KIND_LISTEN)
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
        uint64_t score = tcp_tuple_hash(t, TCP_PURPOSE_PORT, &salt, remote) >> 2;
        if (!any)
            score |= 1ull << 63;
        if (best == NULL || score > best_score) {
            best = o;
            best_score = score;
        }
    }
    return best;
}
