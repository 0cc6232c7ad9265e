/* SPDX-License-Identifier: BSD-2-Clause
 *
 * SipHash-2-4 (Aumasson and Bernstein), the keyed hash behind ISNs (RFC 6528), ports (RFC 6056),
 * timestamp offsets and the lookup index. The key is rs's and the same for all incarnations.
 */
#include "engine.h"

static uint64_t rotl(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void rounds(uint64_t v[4], unsigned n)
{
    while (n--) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] = rotl(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] = rotl(v[2], 32);
    }
}

uint64_t tcp_hash(const uint8_t key[16], const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t k[2], m;
    memcpy(k, key, 16);
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575ull, k[1] ^ 0x646f72616e646f6dull,
                     k[0] ^ 0x6c7967656e657261ull, k[1] ^ 0x7465646279746573ull};
    uint64_t last = (uint64_t)len << 56;
    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&m, p, 8);
        v[3] ^= m;
        rounds(v, 2);
        v[0] ^= m;
    }
    m = 0;
    memcpy(&m, p, len);
    m |= last;
    v[3] ^= m;
    rounds(v, 2);
    v[0] ^= m;
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t tcp_tuple_hash(const struct tcp *t, unsigned purpose, const struct sock_name *local,
                        const struct sock_name *remote)
{
    struct {
        struct sock_name local, remote;
    } in = {*local, *remote};
    /* Four keys of 16 bytes: a purpose each, so that one hash says nothing about another. */
    return tcp_hash(t->cfg->secret + 16 * (purpose & 3), &in, sizeof in);
}
