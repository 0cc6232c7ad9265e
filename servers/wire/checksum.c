/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The Internet checksum, RFC 1071.
 *
 * The sum is made of 32-bit halves in 64-bit accumulators: a carry cannot get lost before 2^32 of
 * them were added, so that the loops have no branch and no carry chain. Every result is folded to
 * 16 bits: callers may add a few of them without thinking of overflow. Sums are in memory order;
 * RFC 1071 section 2(B) shows that the byte order does not matter.
 */
#include "checksum.h"
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static uint32_t fold64(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)sum;
}

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The last 0..7 bytes, as if zeroes followed. */
static inline uint64_t load_tail(const uint8_t *p, size_t len)
{
    uint64_t v = 0;
    memcpy(&v, p, len);
    return v;
}

static inline uint64_t halves(uint64_t v)
{
    return (v & 0xffffffff) + (v >> 32);
}

static uint64_t sum_words(const uint8_t *p, size_t len)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (; len >= 32; p += 32, len -= 32) {
        a += halves(load64(p));
        b += halves(load64(p + 8));
        c += halves(load64(p + 16));
        d += halves(load64(p + 24));
    }
    for (; len >= 8; p += 8, len -= 8)
        a += halves(load64(p));
    return a + b + c + d + halves(load_tail(p, len));
}

static uint64_t copy_words(uint8_t *to, const uint8_t *p, size_t len)
{
    uint64_t a = 0, b = 0;
    for (; len >= 16; p += 16, to += 16, len -= 16) {
        uint64_t v = load64(p), w = load64(p + 8);
        memcpy(to, &v, 8);
        memcpy(to + 8, &w, 8);
        a += halves(v);
        b += halves(w);
    }
    if (len >= 8) {
        uint64_t v = load64(p);
        memcpy(to, &v, 8);
        a += halves(v);
        p += 8, to += 8, len -= 8;
    }
    /* One load of what may change under us: the sum is that of the bytes which were stored. */
    uint64_t v = load_tail(p, len);
    memcpy(to, &v, len);
    return a + b + halves(v);
}

#if defined(__x86_64__)
static bool have_avx2(void)
{
    static int8_t known = -1; /* the same answer whoever stores it */
    int8_t k = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (k < 0) {
        k = __builtin_cpu_supports("avx2") ? 1 : 0;
        __atomic_store_n(&known, k, __ATOMIC_RELAXED);
    }
    return k == 1;
}

__attribute__((target("avx2"))) static inline uint64_t lanes(__m256i v)
{
    uint64_t l[4];
    memcpy(l, &v, sizeof l);
    return l[0] + l[1] + l[2] + l[3];
}

/* `len` is a multiple of 64. With `to` NULL it only adds. */
__attribute__((target("avx2"))) static uint64_t blocks_avx2(uint8_t *to, const uint8_t *p,
                                                            size_t len)
{
    const __m256i low = _mm256_set1_epi64x(0xffffffff);
    __m256i a = _mm256_setzero_si256(), b = a;
    for (; len >= 64; p += 64, len -= 64) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
        __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
        if (to != NULL) {
            _mm256_storeu_si256((__m256i *)(void *)to, v);
            _mm256_storeu_si256((__m256i *)(void *)(to + 32), w);
            to += 64;
        }
        a = _mm256_add_epi64(a, _mm256_and_si256(v, low));
        b = _mm256_add_epi64(b, _mm256_srli_epi64(v, 32));
        a = _mm256_add_epi64(a, _mm256_and_si256(w, low));
        b = _mm256_add_epi64(b, _mm256_srli_epi64(w, 32));
    }
    return lanes(_mm256_add_epi64(a, b));
}
#endif

uint32_t csum_partial(const void *p, size_t len, uint32_t sum)
{
    const uint8_t *s = p;
    uint64_t total = sum;
#if defined(__x86_64__)
    if (len >= 128 && have_avx2()) {
        size_t n = len & ~(size_t)63;
        total += blocks_avx2(NULL, s, n);
        s += n;
        len -= n;
    }
#endif
    return fold64(total + sum_words(s, len));
}

uint32_t csum_copy(void *dst, const void *src, size_t len, uint32_t sum)
{
    const uint8_t *s = src;
    uint8_t *d = dst;
    uint64_t total = sum;
#if defined(__x86_64__)
    if (len >= 128 && have_avx2()) {
        size_t n = len & ~(size_t)63;
        total += blocks_avx2(d, s, n);
        s += n;
        d += n;
        len -= n;
    }
#endif
    return fold64(total + copy_words(d, s, len));
}

uint32_t csum_add_at(uint32_t sum, uint32_t block_sum, size_t off)
{
    uint32_t b = fold64(block_sum);
    if (off & 1)
        b = (b & 0xff) << 8 | b >> 8;
    return fold64((uint64_t)sum + b);
}

uint32_t csum_pseudo(const struct ip_addr *src, const struct ip_addr *dst, uint8_t protocol,
                     uint32_t len)
{
    uint64_t sum = 0;
    unsigned words = src->family == 6 ? 4 : 1;
    for (unsigned i = 0; i < words; i++)
        sum += (uint64_t)src->word[i] + dst->word[i];
    /* Both fields are big-endian 32-bit words (RFC 8200 section 8.1; the same sum for IPv4). */
    sum += __builtin_bswap32(protocol);
    sum += __builtin_bswap32(len);
    return fold64(sum);
}

uint16_t csum_fold_partial(uint32_t sum)
{
    return (uint16_t)fold64(sum);
}

uint16_t csum_fold(uint32_t sum)
{
    return (uint16_t)~fold64(sum);
}
