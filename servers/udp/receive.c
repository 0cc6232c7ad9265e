/* SPDX-License-Identifier: BSD-2-Clause
 *
 * From IP into the receive rings.
 *
 * One input after the other: journal, copy, rx_nxt; then the frame goes on its return queue; at the
 * end of the batch the returns are published and the inputs released. A successor that sees an
 * input again asks the journal of each socket concerned whether it has it, and the return queue
 * whether the frame went back.
 */
#include "internal.h"
#include "servers/wire/checksum.h"
#include "servers/wire/route.h"

#include <errno.h>

struct udp_header {
    uint16_t sport, dport, len, csum; /* network byte order */
};

static uint16_t be16(uint16_t v)
{
    return __builtin_bswap16(v);
}

/* Room behind rx_nxt, from what the reader says. */
static bool rx_room(struct udp *u, uint32_t i, uint64_t nxt, uint64_t *room)
{
    const struct sock *s = &u->sock[i];
    const struct ring_desc *r = &s->rec.rx;
    const bool second = r->block[1].size != 0;
    uint64_t read = load_acquire(&sock_up(u, s)->rx_read) & OFF_MASK;

    if (read < s->rec.rx_base)
        read = s->rec.rx_base; /* the last user of the slot stopped there */
    if (read > nxt) {
        count(u, UDP_RING_BROKEN, 1);
        return false;
    }
    /* The larger block's size bounds both together: its reader takes more for a broken ring. */
    const uint64_t size = r->block[second ? 1 : 0].size;
    if (nxt - read > size) {
        count(u, UDP_RING_BROKEN, 1);
        return false;
    }
    *room = size - (nxt - read);
    return true;
}

/* A byte range of a packet's payload, from its pieces. */
struct cursor {
    const uint8_t *at[PACKET_PIECES];
    uint32_t len[PACKET_PIECES];
    unsigned pieces;
};

/* Resolves the pieces. False: one of them points nowhere. */
static bool cursor_init(struct udp *u, struct cursor *c, const struct packet *p)
{
    c->pieces = p->pieces;
    for (unsigned i = 0; i < p->pieces; i++) {
        c->at[i] = region_resolve(u->c->map, &p->piece[i]);
        c->len[i] = p->piece[i].len;
        if (c->at[i] == NULL)
            return false;
    }
    return true;
}

/* Takes up to `max` bytes that lie in one place. */
static const uint8_t *cursor_take(struct cursor *c, uint64_t max, uint64_t *n)
{
    unsigned i = 0;

    while (i < c->pieces && c->len[i] == 0)
        i++;
    if (i == c->pieces) {
        *n = 0;
        return NULL;
    }
    const uint8_t *p = c->at[i];
    *n = c->len[i] < max ? c->len[i] : max;
    c->at[i] += *n;
    c->len[i] -= (uint32_t)*n;
    return p;
}

/* Sum of the transport header and, when `c` is given, of `len` bytes of payload. */
static uint32_t sum_headers(const struct packet *p, uint32_t udp_len)
{
    return csum_partial(p->hdr + p->l4, sizeof(struct udp_header),
                        csum_pseudo(&p->src, &p->dst, 17, udp_len));
}

static bool sum_wanted(const struct packet *p, const struct udp_header *h)
{
    return h->csum != 0 && p->csum == CSUM_NONE;
}

/* The same check for a datagram that nobody takes: no answer to what may be garbage. */
static bool sum_good(struct cursor c, const struct packet *p, const struct udp_header *h,
                     uint32_t len)
{
    uint32_t sum = sum_headers(p, len + (uint32_t)sizeof *h);
    uint64_t done = 0, n;

    if (!sum_wanted(p, h))
        return true;
    while (done < len) {
        const uint8_t *at = cursor_take(&c, len - done, &n);
        if (at == NULL)
            return false;
        sum = csum_add_at(sum, csum_partial(at, n, 0), done);
        done += n;
    }
    return csum_fold(sum) == 0;
}

/* Puts one datagram behind `off`; returns the offset behind it, and adds to the sum. */
static uint64_t put(struct udp *u, uint32_t i, uint64_t off, struct cursor *c, uint32_t len,
                    const struct dgram *h, uint32_t *sum)
{
    const struct sock *s = &u->sock[i];
    uint8_t *down = (uint8_t *)app_down(u, s->rec.app);
    uint64_t room, done = 0;

    /* All of this lies above rx_nxt: nobody looks at it before that is stored. */
    shm_copy(ring_at(down, &s->rec.rx, off, &room), h, sizeof *h);
    off += sizeof *h;
    while (done < len) {
        uint64_t n;
        uint8_t *dst = ring_at(down, &s->rec.rx, off + done, &room);
        const uint8_t *src = cursor_take(c, len - done < room ? len - done : room, &n);
        if (src == NULL)
            break;
        SHM_CRASHPOINT();
        *sum = csum_add_at(*sum, csum_copy(dst, src, n, 0), done);
        done += n;
    }
    return off - sizeof *h + DGRAM_SPACE(len);
}

/* Delivers to one socket. `len` bytes, in datagrams of `gso` bytes when that is not 0. */
static void deliver(struct udp *u, uint32_t i, const struct packet *p, const struct udp_header *h,
                    struct cursor c, uint32_t len, uint64_t source)
{
    struct udp_journal *j = &u->shm[i].deliver;
    struct down_slot *d = sock_down(u, &u->sock[i]);
    const uint64_t nxt = d->rx_nxt & OFF_MASK;
    const uint32_t gso = p->gso_size != 0 && p->gso_size < len ? p->gso_size : 0;
    uint64_t room, off = nxt, datagrams = 0, bytes = 0;
    uint32_t sum = sum_headers(p, len + (uint32_t)sizeof *h);

    if (journal_done(j, source, nxt)) {
        count(u, UDP_IN_REPLAYED, 1);
        return;
    }
    ring_settle(u, i);
    if (!rx_room(u, i, nxt, &room))
        return;
    struct dgram header = {
        .remote = {.addr = p->src, .port = be16(h->sport)},
        .local = p->dst,
        .interface = p->interface,
        .tos = p->tos,
        .ttl = p->ttl,
        .stamp_ns = p->stamp_ns + u->c->clock_offset,
    };
    uint32_t left = len;
    do {
        const uint32_t n = gso != 0 && gso < left ? gso : left;
        if (DGRAM_SPACE(n) > room) {
            count(u, UDP_DROP_FULL, 1);
            break;
        }
        header.len = n;
        room -= DGRAM_SPACE(n);
        off = put(u, i, off, &c, n, &header, &sum);
        left -= n;
        datagrams++;
        bytes += n;
    } while (left > 0);
    if (datagrams == 0)
        return;
    /* The sum is over the copy: what was verified is what is read. Merged ones were verified, or
     * made, by a device. */
    if (sum_wanted(p, h) && (gso != 0 || csum_fold(sum) != 0)) {
        count(u, UDP_DROP_CHECKSUM, 1);
        return;
    }
    journal_begin(j, source, off);
    shm_store_release(&d->rx_nxt, off);
    count(u, UDP_IN_DATAGRAMS, datagrams);
    count(u, UDP_IN_BYTES, bytes);
    notify(u, u->sock[i].rec.app, u->sock[i].rec.slot);
}

/* Asks IP for a port unreachable (RFC 1122 4.1.3.1). Never for what was not sent to us alone. */
static void unreachable(struct udp *u, const struct packet *p, uint64_t index)
{
    void *slot;

    if ((p->flags & PACKET_BROADCAST) != 0 || addr_multicast(&p->dst) ||
        addr_broadcast(u->cfg, &p->dst) || ip_addr_any(&p->src) || addr_multicast(&p->src))
        return;
    struct packet out = {
        .hdr_len = (uint16_t)(p->hdr_len - p->l3),
        .l4 = (uint8_t)(p->l4 - p->l3),
        .protocol = p->protocol,
        .direction = RULE_OUT,
        .interface = p->interface,
        .origin = u->c->id,
        .chain = UINT32_MAX,
        .flags = PACKET_UNREACHABLE,
        .src = p->dst,
        .dst = p->src,
    };
    memcpy(out.hdr, p->hdr + p->l3, out.hdr_len);
    /* Full: an ICMP error may be lost (and IP limits their rate anyway). */
    if (chan_tx_reserve(&u->to_ip, u->from_ip.number, index, 0, &slot) != CHAN_OK)
        return;
    packet_put(slot, &out);
    chan_tx_commit(&u->to_ip);
    count(u, UDP_UNREACHABLE, 1);
}

static void datagram(struct udp *u, const struct packet *p, uint64_t index)
{
    struct udp_header h;
    struct cursor c;

    if (p->protocol != 17 || p->l4 < p->l3 || p->hdr_len < p->l4 + sizeof h ||
        !cursor_init(u, &c, p)) {
        count(u, UDP_DROP_GARBAGE, 1);
        return;
    }
    memcpy(&h, p->hdr + p->l4, sizeof h);
    uint32_t len = p->payload_len;
    if (p->gso_size == 0) {
        /* IP may bring padding along; the datagram ends where its header says. */
        if (be16(h.len) < sizeof h || be16(h.len) - sizeof h > len) {
            count(u, UDP_DROP_LENGTH, 1);
            return;
        }
        len = be16(h.len) - (uint32_t)sizeof h;
    }
    if (h.csum == 0 && p->src.family == 6) { /* RFC 8200 8.1 */
        count(u, UDP_DROP_CHECKSUM, 1);
        return;
    }
    const uint16_t sport = be16(h.sport), dport = be16(h.dport);
    bool taken = false;

    if ((p->flags & PACKET_BROADCAST) != 0 || addr_multicast(&p->dst) ||
        addr_broadcast(u->cfg, &p->dst)) {
        for (uint32_t i = table_next(u, NO_SOCK, &p->src, sport, &p->dst, dport); i != NO_SOCK;
             i = table_next(u, i, &p->src, sport, &p->dst, dport)) {
            deliver(u, i, p, &h, c, len, index + 1);
            taken = true;
        }
    } else {
        const uint32_t i = table_lookup(u, &p->src, sport, &p->dst, dport);
        if (i != NO_SOCK) {
            deliver(u, i, p, &h, c, len, index + 1);
            taken = true;
        }
    }
    if (taken)
        return;
    if (!sum_good(c, p, &h, len)) {
        count(u, UDP_DROP_CHECKSUM, 1);
        return;
    }
    count(u, UDP_DROP_NOBODY, 1);
    unreachable(u, p, index);
}

/* What a program sees of an ICMP error, and whether it ends a call of a connected socket even
 * without IP_RECVERR (RFC 1122 4.2.3.9 calls the others soft). */
static uint32_t icmp_error(const struct packet *p, uint8_t family, bool *hard)
{
    *hard = false;
    if (family == 4) {
        switch (p->icmp_type) {
        case 3: {
            static const struct {
                uint8_t error, hard;
            } unreach[16] = {
                {ENETUNREACH, 0},  {EHOSTUNREACH, 0}, {ENOPROTOOPT, 1},  {ECONNREFUSED, 1},
                {EMSGSIZE, 0},     {EOPNOTSUPP, 0},   {ENETUNREACH, 1},  {EHOSTDOWN, 1},
                {ENONET, 1},       {ENETUNREACH, 1},  {EHOSTUNREACH, 1}, {ENETUNREACH, 0},
                {EHOSTUNREACH, 0}, {EHOSTUNREACH, 1}, {EHOSTUNREACH, 1}, {EHOSTUNREACH, 1},
            };
            if (p->icmp_code >= 16)
                return 0;
            *hard = unreach[p->icmp_code].hard != 0;
            return unreach[p->icmp_code].error;
        }
        case 11:
            return EHOSTUNREACH;
        case 12:
            *hard = true;
            return EPROTO;
        default:
            return 0;
        }
    }
    switch (p->icmp_type) {
    case 1: {
        static const uint8_t unreach[7] = {ENETUNREACH,  EACCES, EHOSTUNREACH, EHOSTUNREACH,
                                           ECONNREFUSED, EACCES, EACCES};
        if (p->icmp_code >= sizeof unreach)
            return EPROTO;
        *hard = p->icmp_code == 1 || p->icmp_code >= 4;
        return unreach[p->icmp_code];
    }
    case 2:
        return EMSGSIZE;
    case 3:
        return EHOSTUNREACH;
    case 4:
        *hard = true;
        return EPROTO;
    default:
        return 0;
    }
}

/* An ICMP error that quotes a datagram of ours: from its IP header on. */
static void icmp(struct udp *u, const struct packet *p, uint64_t index)
{
    const uint8_t *ip = p->hdr + p->l3;
    const unsigned len = p->hdr_len - p->l3;
    struct ip_addr local = {0}, remote = {0};
    unsigned l4;

    if (len >= 20 && ip[0] >> 4 == 4) {
        l4 = (ip[0] & 15u) * 4;
        local.family = remote.family = 4;
        memcpy(&local.v4, ip + 12, 4);
        memcpy(&remote.v4, ip + 16, 4);
        if (l4 < 20 || ip[9] != 17)
            goto nobody;
    } else if (len >= 40 && ip[0] >> 4 == 6) {
        /* Behind extension headers, if IP says so. */
        l4 = p->l4 >= p->l3 + 40 ? p->l4 - p->l3 : 40;
        local.family = remote.family = 6;
        memcpy(local.v6, ip + 8, 16);
        memcpy(remote.v6, ip + 24, 16);
        if (l4 == 40 && ip[6] != 17)
            goto nobody;
    } else {
        goto nobody;
    }
    if (len < l4 + 4)
        goto nobody;
    const uint16_t lport = (uint16_t)(ip[l4] << 8 | ip[l4 + 1]);
    const uint16_t rport = (uint16_t)(ip[l4 + 2] << 8 | ip[l4 + 3]);
    const uint32_t i = table_lookup(u, &remote, rport, &local, lport);
    bool hard;
    const uint32_t error = icmp_error(p, local.family, &hard);

    if (i == NO_SOCK || error == 0)
        goto nobody;
    const struct udp_record *rec = &u->sock[i].rec;
    if ((rec->options & UDP_RECVERR) == 0 && (rec->remote.addr.family == 0 || !hard))
        goto nobody;
    sock_error(u, i, error, index + 1);
    count(u, UDP_ICMP_IN, 1);
    return;
nobody:
    count(u, UDP_ICMP_NOBODY, 1);
}

static int owner_of(const struct udp *u, server_id origin)
{
    if (SERVER_ID_KIND(origin) == SERVER_IP && SERVER_ID_INSTANCE(origin) == 0)
        return u->has_owner[0] ? 0 : -1;
    const unsigned n = SERVER_ID_INSTANCE(origin);
    if (SERVER_ID_KIND(origin) != SERVER_DRIVER || n >= CONFIG_INTERFACES || !u->has_owner[1 + n])
        return -1;
    return (int)(1 + n);
}

unsigned receive(struct udp *u)
{
    unsigned n = 0;

    for (; n < WORK_QUOTA; n++) {
        const void *slot = chan_rx_peek(&u->from_ip);
        struct packet p;
        void *out;

        if (slot == NULL)
            break;
        const uint64_t index = chan_rx_index(&u->from_ip);
        if (!packet_copy(&p, slot)) {
            count(u, UDP_DROP_GARBAGE, 1);
            chan_rx_next(&u->from_ip);
            continue;
        }
        if (p.icmp_type != 0) {
            if (chan_rx_condemned(&u->from_ip)) {
                count(u, UDP_QUARANTINED, 1);
                chan_rx_keep(&u->from_ip, u->now, NULL, 0);
            } else {
                icmp(u, &p, index); /* quotes its packet: no frame comes with it */
            }
            chan_rx_next(&u->from_ip);
            continue;
        }
        const int owner = owner_of(u, p.origin);
        /* As large as the pool: it is full only when its owner is broken. Nothing was done yet. */
        if (owner >= 0 && !chan_tx_room(&u->to_owner[owner], 1))
            break;
        if (chan_rx_condemned(&u->from_ip)) {
            count(u, UDP_QUARANTINED, 1);
            chan_rx_keep(&u->from_ip, u->now, region_resolve(u->c->map, &p.piece[0]),
                         p.piece[0].len);
        } else {
            datagram(u, &p, index);
        }
        if (owner < 0) {
            count(u, UDP_RETURN_UNKNOWN, 1);
        } else if (chan_tx_reserve(&u->to_owner[owner], u->from_ip.number, index, 0, &out) ==
                   CHAN_OK) {
            const struct frame_return back = {.frame = p.chain, .generation = p.chain_generation};
            shm_copy((uint8_t *)out + sizeof back.head, (const uint8_t *)&back + sizeof back.head,
                     sizeof back - sizeof back.head);
            chan_tx_commit(&u->to_owner[owner]);
        }
        chan_rx_next(&u->from_ip);
    }
    if (n == 0)
        return 0;
    /* Outputs first, then the release: after it no successor will look at these inputs. */
    for (unsigned i = 0; i < 1 + CONFIG_INTERFACES; i++)
        if (u->has_owner[i])
            chan_tx_publish(&u->to_owner[i]);
    chan_tx_publish(&u->to_ip);
    chan_rx_release(&u->from_ip);
    return n;
}
