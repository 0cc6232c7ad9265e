/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who gets a datagram.
 *
 * Private memory, rebuilt from the records at a restart. Connected sockets are found by their
 * four-tuple, the others in the list of their port; the most specific one wins, a group of equals
 * that share a port (SO_REUSEPORT) is spread by a keyed hash, so that one flow stays with one
 * socket.
 */
#include "internal.h"

#include <errno.h>

static uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 over whole words: an outsider cannot choose addresses that collide, nor foretell a
 * port (RFC 6056). */
static uint64_t keyed_hash(const struct udp *u, const uint64_t *word, size_t n)
{
    uint64_t key[2];
    memcpy(key, u->cfg->secret + 16, sizeof key);
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
                     key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull};

    for (size_t i = 0; i <= n; i++) {
        const uint64_t m = i < n ? word[i] : (uint64_t)n << 59;
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t flow_hash(const struct udp *u, const struct ip_addr *remote, uint16_t rport,
                          uint16_t lport)
{
    uint64_t w[3];

    memcpy(w, remote->v6, 16);
    w[2] = (uint64_t)remote->family << 32 | (uint32_t)rport << 16 | lport;
    return keyed_hash(u, w, 3);
}

bool addr_multicast(const struct ip_addr *a)
{
    return a->family == 6 ? a->v6[0] == 0xff : a->family == 4 && (a->v6[0] & 0xf0) == 0xe0;
}

bool addr_broadcast(const struct stack_config *cfg, const struct ip_addr *a)
{
    if (a->family != 4)
        return false;
    const uint32_t host = __builtin_bswap32(a->v4);
    if (host == 0xffffffff)
        return true;
    for (unsigned i = 0; i < cfg->interfaces && i < CONFIG_INTERFACES; i++) {
        const struct config_interface *f = &cfg->interface[i];

        if (f->addr.family != 4 || f->prefix == 0 || f->prefix > 30)
            continue;
        const uint32_t low = 0xffffffffu >> f->prefix;
        if (host == (__builtin_bswap32(f->addr.v4) | low))
            return true;
    }
    return false;
}

/* Does the socket's local address take in `dst`? */
static bool takes(const struct udp_record *rec, const struct ip_addr *dst)
{
    const struct ip_addr *a = &rec->local.addr;

    if (!ip_addr_any(a))
        return ip_addr_equal(a, dst);
    return a->family == dst->family || (a->family == 6 && (rec->options & UDP_V6ONLY) == 0);
}

static bool connected(const struct udp_record *rec)
{
    return rec->remote.addr.family != 0;
}

static bool connected_to(const struct udp_record *rec, const struct ip_addr *src, uint16_t sport)
{
    return rec->remote.port == sport && ip_addr_equal(&rec->remote.addr, src);
}

static uint32_t *conn_bucket(struct udp *u, const struct udp_record *rec)
{
    return &u->conn_head[flow_hash(u, &rec->remote.addr, rec->remote.port, rec->local.port) %
                         CONN_BUCKETS];
}

void table_insert(struct udp *u, uint32_t i)
{
    struct sock *s = &u->sock[i];

    if (s->listed || s->rec.local.port == 0 || s->rec.state != UDP_OPEN)
        return;
    s->listed = true;
    s->port_next = u->port_head[s->rec.local.port];
    u->port_head[s->rec.local.port] = i + 1;
    if (connected(&s->rec)) {
        uint32_t *head = conn_bucket(u, &s->rec);
        s->conn_next = *head;
        *head = i + 1;
    }
}

void table_remove(struct udp *u, uint32_t i)
{
    struct sock *s = &u->sock[i];

    if (!s->listed)
        return;
    s->listed = false;
    uint32_t *p = &u->port_head[s->rec.local.port];
    while (*p != 0 && *p != i + 1)
        p = &u->sock[*p - 1].port_next;
    if (*p != 0)
        *p = s->port_next;
    if (!connected(&s->rec))
        return;
    p = conn_bucket(u, &s->rec);
    while (*p != 0 && *p != i + 1)
        p = &u->sock[*p - 1].conn_next;
    if (*p != 0)
        *p = s->conn_next;
}

uint32_t table_lookup(const struct udp *u, const struct ip_addr *src, uint16_t sport,
                      const struct ip_addr *dst, uint16_t dport)
{
    uint32_t best = NO_SOCK;
    int best_score = 0;
    unsigned equals = 0;
    const uint64_t hash = flow_hash(u, src, sport, dport);

    for (uint32_t n = u->conn_head[hash % CONN_BUCKETS]; n != 0; n = u->sock[n - 1].conn_next) {
        const struct udp_record *rec = &u->sock[n - 1].rec;
        if (rec->local.port == dport && connected_to(rec, src, sport) && takes(rec, dst))
            return n - 1;
    }
    for (uint32_t n = u->port_head[dport]; n != 0; n = u->sock[n - 1].port_next) {
        const struct udp_record *rec = &u->sock[n - 1].rec;
        if (connected(rec) || !takes(rec, dst))
            continue;
        const int score =
            1 + (rec->local.addr.family == dst->family) + 2 * !ip_addr_any(&rec->local.addr);
        if (score > best_score) {
            best_score = score;
            best = n - 1;
            equals = 1;
        } else if (score == best_score && (rec->options & UDP_REUSEPORT) != 0 &&
                   (u->sock[best].rec.options & UDP_REUSEPORT) != 0) {
            /* The n-th of n equals is taken with probability 1/n, by the flow. */
            const uint64_t w[2] = {hash, ++equals};
            if (keyed_hash(u, w, 2) % equals == 0)
                best = n - 1;
        }
    }
    return best;
}

uint32_t table_next(const struct udp *u, uint32_t from, const struct ip_addr *src, uint16_t sport,
                    const struct ip_addr *dst, uint16_t dport)
{
    uint32_t n = from == NO_SOCK ? u->port_head[dport] : u->sock[from].port_next;

    for (; n != 0; n = u->sock[n - 1].port_next) {
        const struct udp_record *rec = &u->sock[n - 1].rec;
        if (takes(rec, dst) && (!connected(rec) || connected_to(rec, src, sport)))
            return n - 1;
    }
    return NO_SOCK;
}

static bool overlap(const struct udp_record *a, const struct sock_name *name,
                    const struct udp_record *b)
{
    const struct ip_addr *x = &name->addr, *y = &b->local.addr;

    if (x->family == y->family)
        return ip_addr_any(x) || ip_addr_any(y) || ip_addr_equal(x, y);
    /* Of two families: only a :: that takes IPv4 as well meets an IPv4 address. */
    return (x->family == 6 && ip_addr_any(x) && (a->options & UDP_V6ONLY) == 0) ||
           (y->family == 6 && ip_addr_any(y) && (b->options & UDP_V6ONLY) == 0);
}

int table_conflict(const struct udp *u, const struct udp_record *rec, const struct sock_name *name)
{
    for (uint32_t n = u->port_head[name->port]; n != 0; n = u->sock[n - 1].port_next) {
        const struct udp_record *other = &u->sock[n - 1].rec;
        const uint32_t both = rec->options & other->options;

        if (!overlap(rec, name, other))
            continue;
        if ((both & UDP_REUSEADDR) != 0 || ((both & UDP_REUSEPORT) != 0 && rec->uid == other->uid))
            continue;
        return -EADDRINUSE;
    }
    return 0;
}

uint16_t table_ephemeral(struct udp *u, const struct udp_record *rec, const struct sock_name *name)
{
    const uint16_t first = u->cfg->port_first != 0 ? u->cfg->port_first : 32768;
    const uint16_t last = u->cfg->port_last > first ? u->cfg->port_last : 60999;
    const uint32_t n = last > first ? (uint32_t)(last - first) + 1 : 1;
    const uint64_t w[3] = {u->now, ++u->port_seed, (uint64_t)rec->app << 32 | rec->slot};
    const uint64_t start = keyed_hash(u, w, 3);
    /* Nobody asked for this port, so that nobody wants to share it. */
    struct udp_record alone = *rec;
    struct sock_name try = *name;

    alone.options &= ~(uint32_t)(UDP_REUSEADDR | UDP_REUSEPORT);
    for (uint32_t i = 0; i < n; i++) {
        try.port = (uint16_t)(first + (start + i) % n);
        if (table_conflict(u, &alone, &try) == 0)
            return try.port;
    }
    return 0;
}

static uint32_t *slot_bucket(struct udp *u, unsigned app, uint32_t slot)
{
    return &u->slot_head[(app * 1009u + slot) % SLOT_BUCKETS];
}

void slot_list_insert(struct udp *u, uint32_t i)
{
    struct sock *s = &u->sock[i];
    uint32_t *head = slot_bucket(u, s->rec.app, s->rec.slot);

    s->slot_next = *head;
    *head = i + 1;
    s->app_next = u->app[s->rec.app].first;
    u->app[s->rec.app].first = i + 1;
    s->live = true;
}

void slot_list_remove(struct udp *u, uint32_t i)
{
    struct sock *s = &u->sock[i];
    uint32_t *p = slot_bucket(u, s->rec.app, s->rec.slot);

    while (*p != 0 && *p != i + 1)
        p = &u->sock[*p - 1].slot_next;
    if (*p != 0)
        *p = s->slot_next;
    p = &u->app[s->rec.app].first;
    while (*p != 0 && *p != i + 1)
        p = &u->sock[*p - 1].app_next;
    if (*p != 0)
        *p = s->app_next;
    s->live = false;
}

uint32_t slot_find(const struct udp *u, unsigned app, uint32_t slot)
{
    for (uint32_t n = u->slot_head[(app * 1009u + slot) % SLOT_BUCKETS]; n != 0;
         n = u->sock[n - 1].slot_next)
        if (u->sock[n - 1].rec.app == app && u->sock[n - 1].rec.slot == slot)
            return n - 1;
    return NO_SOCK;
}
