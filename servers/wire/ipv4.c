/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The IPv4 header, RFC 791. Keeps nothing.
 */
#include "ipv4.h"
#include "checksum.h"

enum { OPT_END = 0, OPT_NOP = 1, OPT_LSRR = 131, OPT_SSRR = 137 };

/* Options are passed over: each must end inside the header. Source routes are refused, since
 * nobody honest sends them and a reply along one goes where the attacker likes (RFC 7126). */
static bool options_sane(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len;) {
        if (p[i] == OPT_END)
            return true;
        if (p[i] == OPT_NOP) {
            i++;
            continue;
        }
        if (p[i] == OPT_LSRR || p[i] == OPT_SSRR)
            return false;
        if (i + 1 >= len || p[i + 1] < 2 || p[i + 1] > len - i)
            return false;
        i += p[i + 1];
    }
    return true;
}

static void fields(struct ipv4 *h, const uint8_t *p)
{
    uint16_t frag = get16(p + 6);
    *h = (struct ipv4){
        .hdr_len = (uint8_t)((p[0] & 15) * 4),
        .tos = p[1],
        .total_len = get16(p + 2),
        .id = get16(p + 4),
        .df = (frag & IPV4_DF) != 0,
        .mf = (frag & IPV4_MF) != 0,
        .offset = (uint16_t)((frag & 0x1fff) * 8),
        .ttl = p[8],
        .protocol = p[9],
        .src = get_be32(p + 12),
        .dst = get_be32(p + 16),
    };
}

enum ipv4_error ipv4_parse(struct ipv4 *h, const uint8_t *p, size_t have, size_t len)
{
    if (have > len)
        have = len;
    if (have < IPV4_LEN)
        return IPV4_SHORT;
    fields(h, p);
    if (p[0] >> 4 != 4 || h->hdr_len < IPV4_LEN)
        return IPV4_VERSION;
    if (h->hdr_len > have)
        return IPV4_SHORT;
    if (csum_fold(csum_partial(p, h->hdr_len, 0)) != 0)
        return IPV4_CHECKSUM;
    if (h->total_len < h->hdr_len || h->total_len > len)
        return IPV4_TOTAL;
    if (!options_sane(p + IPV4_LEN, h->hdr_len - IPV4_LEN))
        return IPV4_OPTIONS;
    return IPV4_OK;
}

bool ipv4_parse_quoted(struct ipv4 *h, const uint8_t *p, size_t have)
{
    if (have < IPV4_LEN)
        return false;
    fields(h, p);
    return p[0] >> 4 == 4 && h->hdr_len >= IPV4_LEN && h->hdr_len <= have &&
           h->total_len >= h->hdr_len;
}

void ipv4_emit(uint8_t *p, const struct ipv4 *h)
{
    p[0] = 0x45;
    p[1] = h->tos;
    put16(p + 2, h->total_len);
    put16(p + 4, h->id);
    put16(p + 6, (uint16_t)((h->df ? IPV4_DF : 0) | (h->mf ? IPV4_MF : 0) | h->offset / 8));
    p[8] = h->ttl;
    p[9] = h->protocol;
    put16(p + 10, 0);
    put_be32(p + 12, h->src);
    put_be32(p + 16, h->dst);
    put_csum(p + 10, csum_fold(csum_partial(p, IPV4_LEN, 0)));
}
