/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What ICMP says about our packets (RFC 5927), and the path MTU: from ICMP (RFC 1191, 8201), and
 * where ICMP is lost, from retransmissions that get nowhere (RFC 4821, 8899 4.3). What was learnt
 * is kept by destination for mtu_interval_s, so that the next connection begins with it.
 *
 * A restart loses the table: connections begin again with the MTU of their route, and learn anew.
 * There is no search upwards within a connection: the next one after mtu_interval_s finds out.
 */
#include "engine.h"

#include <errno.h>

enum {
    BLACK_HOLE_TIMEOUTS = 3, /* as Linux: tcp_retries1 */
    FLOOR_V4 = 552,          /* against forged tiny values (RFC 1191 7.4: 576 and options) */
    FLOOR_V6 = 1280,         /* RFC 8200 5 */
};

/* --- by destination --- */

static struct tcp_pmtu *entry(struct tcp *t, const struct ip_addr *to)
{
    return &t->pmtu[tcp_hash(t->cfg->secret + 16, to, sizeof *to) % TCP_PMTU_ENTRIES];
}

/* 0: nothing is known. */
uint32_t tcp_pmtu_get(struct tcp *t, const struct ip_addr *to)
{
    const struct tcp_pmtu *e = entry(t, to);
    return e->mtu && t->now < e->until && ip_addr_equal(&e->to, to) ? e->mtu : 0;
}

static void remember(struct tcp *t, const struct ip_addr *to, uint32_t mtu)
{
    uint64_t until = t->now + t->cfg->tcp_mtu_interval_s * SEC;
    *entry(t, to) = (struct tcp_pmtu){.to = *to, .until = until, .mtu = mtu};
}

/* --- a smaller MTU --- */

/* True: segments are smaller now. What was too large is lost, but no sign of congestion (RFC 8899
 * 3): it leaves again at once, and the window stays. */
static bool shrink(struct tcp *t, struct tcp_conn *k, uint32_t mtu)
{
    uint32_t old = k->mss;
    tcp_conn_set_mss(t, k, mtu);
    if (k->mss >= old) {
        k->mss = old;
        return false;
    }
    k->gso = k->gso / k->mss * k->mss;
    if (k->gso < k->mss)
        k->gso = k->mss;
    remember(t, &k->r.remote.addr, mtu);
    tcp_count(t, TCP_C_PMTU_LESS);
    return true;
}

/* An old router does not say which MTU it has: the next one in use below what it dropped (RFC 1191
 * 7.1, table 7-1, and what tunnels over Ethernet have). */
static uint32_t plateau(uint32_t dropped)
{
    static const uint16_t in_use[] = {32000, 17914, 8166, 4352, 2002,    1492,
                                      1480,  1400,  1280, 1006, FLOOR_V4};
    for (unsigned i = 0; i < sizeof in_use / sizeof in_use[0]; i++)
        if (in_use[i] < dropped)
            return in_use[i];
    return FLOOR_V4;
}

/* The retransmission timer has expired: perhaps because nothing as large as this arrives. */
void tcp_pmtu_timeout(struct tcp *t, struct tcp_conn *k)
{
    bool v4 = k->r.remote.addr.family == 4;
    uint32_t headers = (v4 ? 20 : 40) + 20 + (k->r.flags & TCPF_TIMESTAMPS ? 12 : 0);
    uint32_t least = v4 ? FLOOR_V4 : FLOOR_V6, want;
    if (t->cfg->tcp_mtu_probing == CONFIG_MTU_OFF || !conn_synchronised(k) ||
        k->tries < BLACK_HOLE_TIMEOUTS || k->snd_wnd == 0 || k->snd_max - k->tx_una < k->mss)
        return;
    /* To the base first, then by halves. */
    want = k->mss > t->cfg->tcp_base_mss ? t->cfg->tcp_base_mss : k->mss / 2;
    if (want < t->cfg->tcp_min_mss)
        want = t->cfg->tcp_min_mss;
    if (want + headers > least)
        least = want + headers;
    if (shrink(t, k, least))
        tcp_count(t, TCP_C_BLACK_HOLES);
}

/* --- ICMP --- */

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
        uint32_t least = v4 ? FLOOR_V4 : FLOOR_V6, mtu = p->mss;
        if (syn)
            return true;
        if (mtu == 0 && v4)
            mtu = plateau((uint32_t)(p->hdr[p->l3 + 2] << 8 | p->hdr[p->l3 + 3]));
        if (shrink(t, k, mtu > least ? mtu : least)) {
            tcp_loss_too_big(t, k);
            tcp_conn_dirty(t, k);
        }
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
