/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Parsing and emitting TCP headers (RFC 9293 3.1, RFC 7323, RFC 2018).
 */
#include "segment.h"

#include "servers/wire/checksum.h"
#include <errno.h>

enum {
    OPT_END = 0,
    OPT_NOP = 1,
    OPT_MSS = 2,
    OPT_WSCALE = 3,
    OPT_SACK_OK = 4,
    OPT_SACK = 5,
    OPT_TS = 8
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint8_t *put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    return put16(put16(p, (uint16_t)(v >> 16)), (uint16_t)v);
}

/* An option whose length is wrong for its kind is passed over; one that leaves the header ends the
 * options (RFC 9293 3.1: robust against illegal lengths). */
static void parse_options(struct tcp_seg *s, const uint8_t *o, unsigned len)
{
    for (unsigned i = 0; i < len;) {
        unsigned kind = o[i];
        if (kind == OPT_END)
            return;
        if (kind == OPT_NOP) {
            i++;
            continue;
        }
        if (i + 1 >= len)
            return;
        unsigned n = o[i + 1];
        if (n < 2 || n > len - i)
            return;
        const uint8_t *v = o + i + 2;
        bool syn = s->flags & TH_SYN;
        if (kind == OPT_MSS && n == 4 && syn) {
            s->mss = get16(v);
        } else if (kind == OPT_WSCALE && n == 3 && syn) {
            s->has_wscale = true;
            s->wscale = v[0] > 14 ? 14 : v[0]; /* RFC 7323 2.3 */
        } else if (kind == OPT_SACK_OK && n == 2 && syn) {
            s->sack_ok = true;
        } else if (kind == OPT_TS && n == 10) {
            s->has_ts = true;
            s->tsval = get32(v);
            s->tsecr = get32(v + 4);
        } else if (kind == OPT_SACK && n >= 10 && (n - 2) % 8 == 0 && !syn) {
            unsigned blocks = (n - 2) / 8;
            s->sacks = blocks > TCP_SACK_BLOCKS ? TCP_SACK_BLOCKS : blocks;
            for (unsigned b = 0; b < s->sacks; b++)
                s->sack[b] = (struct tcp_range){get32(v + 8 * b), get32(v + 8 * b + 4)};
        }
        i += n;
    }
}

int tcp_segment_parse(struct tcp_seg *s, const struct packet *p)
{
    *s = (struct tcp_seg){0};
    if (p->l4 > p->hdr_len || p->hdr_len > PACKET_HEADERS || p->hdr_len - p->l4 < 20)
        return -EBADMSG;
    const uint8_t *h = p->hdr + p->l4;
    unsigned hlen = (h[12] >> 4) * 4u;
    if (hlen < 20 || hlen > (unsigned)(p->hdr_len - p->l4))
        return -EBADMSG;
    s->local = (struct sock_name){.addr = p->dst, .port = get16(h + 2)};
    s->remote = (struct sock_name){.addr = p->src, .port = get16(h)};
    s->seq = get32(h + 4);
    s->ack = get32(h + 8);
    s->flags = h[13];
    s->ecn = p->tos & 3;
    s->wnd = get16(h + 14);
    s->len = p->payload_len;
    s->gso = p->gso_size && p->gso_size < p->payload_len ? p->gso_size : p->payload_len;
    if (s->local.port == 0 || s->remote.port == 0)
        return -EBADMSG;
    parse_options(s, h + 20, hlen - 20);
    if (p->csum == CSUM_NONE) {
        s->sum = csum_pseudo(&p->src, &p->dst, 6, hlen + p->payload_len);
        s->sum = csum_partial(h, hlen, s->sum);
        if (s->len == 0 && csum_fold(s->sum) != 0)
            return -EILSEQ;
        s->verify = s->len != 0;
    }
    return 0;
}

unsigned tcp_segment_options(const struct tcp_seg *s)
{
    unsigned n = 0;
    if (s->mss)
        n += 4;
    if (s->flags & TH_SYN) {
        if (s->sack_ok && s->has_ts)
            n += 12; /* SACK-permitted in the place of the two NOPs, as Linux */
        else if (s->has_ts)
            n += 12;
        else if (s->sack_ok)
            n += 4;
        if (s->has_wscale)
            n += 4;
    } else {
        if (s->has_ts)
            n += 12;
        if (s->sacks)
            n += 4 + 8 * s->sacks;
    }
    return n;
}

unsigned tcp_segment_emit(uint8_t *h, const struct tcp_seg *s)
{
    unsigned hlen = 20 + tcp_segment_options(s);
    uint8_t *p = h;
    p = put16(p, s->local.port);
    p = put16(p, s->remote.port);
    p = put32(p, s->seq);
    p = put32(p, s->ack);
    *p++ = (uint8_t)(hlen / 4 << 4);
    *p++ = s->flags;
    p = put16(p, s->wnd);
    uint16_t pseudo =
        csum_fold_partial(csum_pseudo(&s->local.addr, &s->remote.addr, 6, hlen + s->len));
    memcpy(p, &pseudo, 2); /* sums are kept in memory order */
    p = put16(p + 2, 0);
    /* MSS, SACK-permitted, timestamps, NOP, window scale: the order of Linux. */
    if (s->mss) {
        *p++ = OPT_MSS;
        *p++ = 4;
        p = put16(p, s->mss);
    }
    bool syn = s->flags & TH_SYN;
    if (syn && s->sack_ok) {
        if (!s->has_ts) {
            *p++ = OPT_NOP;
            *p++ = OPT_NOP;
        }
        *p++ = OPT_SACK_OK;
        *p++ = 2;
    } else if (s->has_ts) {
        *p++ = OPT_NOP;
        *p++ = OPT_NOP;
    }
    if (s->has_ts) {
        *p++ = OPT_TS;
        *p++ = 10;
        p = put32(p, s->tsval);
        p = put32(p, s->tsecr);
    }
    if (syn && s->has_wscale) {
        *p++ = OPT_NOP;
        *p++ = OPT_WSCALE;
        *p++ = 3;
        *p++ = s->wscale;
    }
    if (!syn && s->sacks) {
        *p++ = OPT_NOP;
        *p++ = OPT_NOP;
        *p++ = OPT_SACK;
        *p++ = (uint8_t)(2 + 8 * s->sacks);
        for (unsigned i = 0; i < s->sacks; i++) {
            p = put32(p, s->sack[i].start);
            p = put32(p, s->sack[i].end);
        }
    }
    return hlen;
}
