/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Software checksums and segmentation. Keeps nothing.
 *
 * The payload may lie in an application's memory, and the application may change it between our
 * sum and the device's copy. Then its own segment is dropped by the peer and sent again by TCP:
 * nobody else's.
 */
#include "segment.h"

#include "servers/wire/checksum.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

enum { TCP_HEADER = 20, TCP_CSUM = 16, TCP_FIN_PSH = 0x09, TCP_CWR = 0x80 };

int segment_csum_offset(uint8_t protocol)
{
    switch (protocol) {
    case IPPROTO_TCP:
        return 16;
    case IPPROTO_UDP:
        return 6;
    case IPPROTO_ICMPV6:
        return 2;
    default:
        return -1;
    }
}

int segment_count(const struct driver_tx *tx)
{
    const struct packet *p = &tx->p;

    if (p->csum == CSUM_PARTIAL) {
        const int off = segment_csum_offset(p->protocol);
        if (off < 0 || p->l3 != DRIVER_ETHERNET || p->l4 <= p->l3 || p->l4 + off + 2 > p->hdr_len)
            return -EINVAL;
    }
    if (p->gso_size == 0 || p->payload_len <= p->gso_size)
        return 1;
    /* RFC 9293 3.1: the data offset says where the payload begins; hdr must end there. */
    if (p->csum != CSUM_PARTIAL || p->protocol != IPPROTO_TCP || p->l4 < p->l3 + 20 ||
        p->l4 + TCP_HEADER > p->hdr_len || p->l4 + (p->hdr[p->l4 + 12] >> 4) * 4 != p->hdr_len)
        return -EINVAL;
    if (p->hdr[p->l3] >> 4 == 6 && p->l4 < p->l3 + 40)
        return -EINVAL;
    return (int)((p->payload_len + p->gso_size - 1) / p->gso_size);
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* Bytes [from, from + len) of the payload. */
static void slice(const struct driver_tx *tx, uint32_t from, uint32_t len, struct segment *s)
{
    s->payload = len;
    s->niov = 0;
    for (unsigned i = 0; i < tx->p.pieces && len != 0; i++) {
        const uint32_t size = tx->p.piece[i].len;

        if (from >= size) {
            from -= size;
            continue;
        }
        const uint32_t n = size - from < len ? size - from : len;
        s->iov[s->niov].iov_base = (void *)(uintptr_t)(tx->piece[i] + from);
        s->iov[s->niov++].iov_len = n;
        from = 0;
        len -= n;
    }
}

/* Lengths, identification, sequence number and flags of segment `i`, and the pseudo header's sum.
 */
static void adapt_headers(const struct packet *p, uint32_t from, bool last, unsigned i,
                          struct segment *s)
{
    uint8_t *ip = s->hdr + p->l3, *tcp = s->hdr + p->l4;
    const uint32_t l4_len = p->hdr_len - p->l4 + s->payload;
    uint32_t sum;

    if (ip[0] >> 4 == 4) {
        put16(ip + 2, p->hdr_len - p->l3 + s->payload);
        put16(ip + 4, get16(ip + 4) + i); /* RFC 6864: unique where fragments are possible */
        put16(ip + 10, 0);
        const uint16_t fold = csum_fold(csum_partial(ip, p->l4 - p->l3, 0));
        memcpy(ip + 10, &fold, 2);
        sum = csum_partial(ip + 12, 8, 0);
    } else {
        put16(ip + 4, p->hdr_len - p->l3 - 40 + s->payload);
        sum = csum_partial(ip + 8, 32, 0);
    }
    const uint32_t seq = get32(tcp + 4) + from;
    put16(tcp + 4, seq >> 16);
    put16(tcp + 6, seq);
    if (!last)
        tcp[13] &= (uint8_t)~TCP_FIN_PSH;
    if (i != 0)
        tcp[13] &= (uint8_t)~TCP_CWR; /* RFC 3168 6.1.2: on the first new data only */
    const uint8_t tail[4] = {0, p->protocol, (uint8_t)(l4_len >> 8), (uint8_t)l4_len};
    const uint16_t pseudo = csum_fold_partial(csum_partial(tail, 4, sum));
    memcpy(tcp + TCP_CSUM, &pseudo, 2);
}

/* The field holds the pseudo header's sum and is part of what is summed. */
static void complete_checksum(const struct packet *p, struct segment *s)
{
    const unsigned field = p->l4 + (unsigned)segment_csum_offset(p->protocol);
    size_t off = p->hdr_len - p->l4;
    uint32_t sum = csum_partial(s->hdr + p->l4, off, 0);

    for (unsigned i = 0; i < s->niov; i++) {
        sum = csum_add_at(sum, csum_partial(s->iov[i].iov_base, s->iov[i].iov_len, 0), off);
        off += s->iov[i].iov_len;
    }
    uint16_t fold = csum_fold(sum);
    if (fold == 0 && p->protocol == IPPROTO_UDP)
        fold = 0xffff; /* RFC 768: zero means none */
    memcpy(s->hdr + field, &fold, 2);
}

void segment_make(const struct driver_tx *tx, unsigned i, struct segment *s)
{
    const struct packet *p = &tx->p;
    const uint32_t size = p->gso_size != 0 ? p->gso_size : p->payload_len;
    const uint32_t from = i * size;
    const uint32_t len = p->payload_len - from < size ? p->payload_len - from : size;

    memcpy(s->hdr, p->hdr, p->hdr_len);
    s->hdr_len = p->hdr_len;
    slice(tx, from, len, s);
    if (len != p->payload_len)
        adapt_headers(p, from, from + len == p->payload_len, i, s);
    if (p->csum == CSUM_PARTIAL)
        complete_checksum(p, s);
}
