/* SPDX-License-Identifier: BSD-2-Clause
 *
 * First fit over a bitmap of pages. Sizes are few and sockets live long, so that nothing cleverer
 * pays.
 */
#include "block.h"

void block_init(struct block_map *m, uint64_t from, uint64_t to)
{
    *m = (struct block_map){
        .first = (from + BLOCK_UNIT - 1) / BLOCK_UNIT,
        .end = to / BLOCK_UNIT,
    };
    m->base = m->first;
    if (m->end < m->first)
        m->end = m->first;
    if (m->end - m->base > BLOCK_UNITS_MAX)
        m->end = m->base + BLOCK_UNITS_MAX;
}

/* Words with the bits of [unit, unit + n) that lie in word `w`. */
static uint64_t mask_in_word(uint64_t bit, uint64_t n, uint64_t w)
{
    const uint64_t lo = w * 64 > bit ? w * 64 : bit;
    const uint64_t hi = (w + 1) * 64 < bit + n ? (w + 1) * 64 : bit + n;
    const uint64_t count = hi - lo;

    return (count == 64 ? ~0ull : (1ull << count) - 1) << (lo % 64);
}

static bool all_free(const struct block_map *m, uint64_t bit, uint64_t n)
{
    for (uint64_t w = bit / 64; w <= (bit + n - 1) / 64; w++)
        if ((m->used[w] & mask_in_word(bit, n, w)) != 0)
            return false;
    return true;
}

static void mark(struct block_map *m, uint64_t bit, uint64_t n, bool used)
{
    for (uint64_t w = bit / 64; w <= (bit + n - 1) / 64; w++) {
        if (used)
            m->used[w] |= mask_in_word(bit, n, w);
        else
            m->used[w] &= ~mask_in_word(bit, n, w);
    }
}

static bool valid_size(uint32_t size)
{
    return size >= BLOCK_UNIT && (size & (size - 1)) == 0;
}

uint64_t block_alloc(struct block_map *m, uint32_t size)
{
    if (!valid_size(size))
        return 0;
    const uint64_t n = size / BLOCK_UNIT;
    for (uint64_t u = (m->first + n - 1) / n * n; u + n <= m->end; u += n) {
        if (u == 0 || !all_free(m, u - m->base, n))
            continue;
        mark(m, u - m->base, n, true);
        return u * BLOCK_UNIT;
    }
    return 0;
}

bool block_take(struct block_map *m, uint64_t off, uint32_t size)
{
    if (!valid_size(size) || off % size != 0)
        return false;
    const uint64_t u = off / BLOCK_UNIT, n = size / BLOCK_UNIT;
    if (u < m->first || u >= m->end || n > m->end - u || !all_free(m, u - m->base, n))
        return false;
    mark(m, u - m->base, n, true);
    return true;
}

void block_free(struct block_map *m, uint64_t off, uint32_t size)
{
    if (valid_size(size) && off / BLOCK_UNIT >= m->first &&
        off / BLOCK_UNIT + size / BLOCK_UNIT <= m->end)
        mark(m, off / BLOCK_UNIT - m->base, size / BLOCK_UNIT, false);
}
