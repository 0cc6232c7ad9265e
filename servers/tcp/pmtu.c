/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What ICMP says about our packets (RFC 5927), and the path MTU that follows from it (RFC 1191,
 * 8201).
 */
#include "engine.h"

#include <errno.h>

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The packet that an error quotes: ours, so that its source is our name. */
static bool quoted(const struct packet *p, struct sock_name *local, struct sock_name *remote,
                   uint32_t *seq)
{
    unsigned len = p->hdr_len, ip = p->l3 < len ? p->l3 : 0, l4;
    const uint8_t *h = p->hdr + ip;
    len -= ip;
    if (len >= 28 && h[0] >> 4 == 4) {
        l4 = (h[0] & 15u) * 4;
        if (l4 < 20 || h[9] != 6)
            return false;
        *local = (struct sock_name){.addr = {.family = 4}};
        *remote = *local;
        memcpy(local->addr.v6, h + 12, 4);
        memcpy(remote->addr.v6, h + 16, 4);
    } else if (len >= 48 && h[0] >> 4 == 6) {
        l4 = 40;
        if (h[6] != 6)
            return false;
        *local = (struct sock_name){.addr = {.family = 6}};
        *remote = *local;
        memcpy(local->addr.v6, h + 8, 16);
        memcpy(remote->addr.v6, h + 24, 16);
    } else {
        return false;
    }
    if (l4 + 8 > len)
        return false;
    local->port = (uint16_t)(h[l4] << 8 | h[l4 + 1]);
    remote->port = (uint16_t)(h[l4 + 2] << 8 | h[l4 + 3]);
    *seq = be32(h + l4 + 4);
    return true;
}

bool tcp_icmp(struct tcp *t, const struct packet *p)
{
    struct sock_name local, remote;
    uint32_t seq;
    tcp_count(t, TCP_C_ICMP_IN);
    if (!quoted(p, &local, &remote, &seq)) {
        tcp_count(t, TCP_C_ICMP_IGNORED);
        return true;
    }
    struct tcp_conn *k = tcp_lookup_find(t, &local, &remote);
    if (k == NULL && !t->walked)
        return false;
    /* RFC 5927 4.1: it must quote something that is under way. */
    bool syn = k && (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD);
    if (k == NULL ||
        (syn ? seq != k->r.iss
             : seq_lt(seq, conn_seq(k, k->tx_una)) || seq_lt(conn_seq(k, k->snd_max), seq))) {
        tcp_count(t, TCP_C_ICMP_IGNORED);
        return true;
    }
    bool v4 = local.addr.family == 4;
    bool too_big = v4 ? p->icmp_type == 3 && p->icmp_code == 4 : p->icmp_type == 2;
    if (too_big) {
        /* A floor against forged tiny values: RFC 1191 and 8200. */
        uint32_t least = v4 ? 552 : 1280, mtu = p->mss > least ? p->mss : least, old = k->mss;
        if (syn)
            return true;
        tcp_conn_set_mss(t, k, mtu);
        if (k->mss >= old) {
            k->mss = old;
            return true;
        }
        k->gso = k->gso / k->mss * k->mss;
        if (k->gso < k->mss)
            k->gso = k->mss;
        /* What was too large is lost, but no sign of congestion (RFC 8899). */
        k->snd_nxt = k->tx_una;
        k->lost_state = true;
        k->recover = k->snd_max;
        tcp_conn_dirty(t, k);
        return true;
    }
    bool unreachable = v4 ? p->icmp_type == 3 : p->icmp_type == 1;
    if (!unreachable || !syn || (k->r.flags & TCPF_PASSIVE)) {
        tcp_count(t, TCP_C_ICMP_IGNORED); /* soft once synchronised (RFC 5927 5) */
        return true;
    }
    int error = EHOSTUNREACH;
    if (v4 ? p->icmp_code == 0 : p->icmp_code == 0)
        error = ENETUNREACH;
    else if (v4 ? p->icmp_code == 2 || p->icmp_code == 3 : p->icmp_code == 4)
        error = ECONNREFUSED;
    tcp_conn_end(t, k, error);
    return true;
}
