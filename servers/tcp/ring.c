/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A binary buddy allocator with one bitmap per order, so that a certain block can be reserved when
 * the records are walked, and a release merges at once. A restart loses all of it.
 */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t words(const struct ring_space *s, unsigned order)
{
    return ((((uint64_t)s->end) >> order) + 64) / 64;
}

static bool test(const struct ring_space *s, unsigned order, uint32_t page)
{
    uint32_t bit = page >> order;
    return s->map[order][bit / 64] >> (bit % 64) & 1;
}

static void put(struct ring_space *s, unsigned order, uint32_t page)
{
    uint32_t bit = page >> order;
    s->map[order][bit / 64] |= 1ull << (bit % 64);
    s->count[order]++;
    if (bit / 64 < s->hint[order])
        s->hint[order] = bit / 64;
}

/* Pages [page, page + n). */
static void mark_stale(struct ring_space *s, uint32_t page, uint32_t n, bool stale)
{
    while (s->stale != NULL && n > 0) {
        uint32_t bit = page % 64, run = n < 64 - bit ? n : 64 - bit;
        uint64_t *w = &s->stale[page / 64], mask = (run == 64 ? 0 : 1ull << run) - 1;
        uint64_t old = *w;
        *w = stale ? old | mask << bit : old & ~(mask << bit);
        s->stale_pages += (uint64_t)(__builtin_popcountll(*w) - __builtin_popcountll(old));
        page += run;
        n -= run;
    }
}

static void take(struct ring_space *s, unsigned order, uint32_t page)
{
    uint32_t bit = page >> order;
    s->map[order][bit / 64] &= ~(1ull << (bit % 64));
    s->count[order]--;
}

int tcp_ring_space_init(struct ring_space *s, uint64_t from, uint64_t to)
{
    *s = (struct ring_space){0};
    s->first = (uint32_t)((from + 4095) >> RING_PAGE_SHIFT);
    s->end = (uint32_t)(to >> RING_PAGE_SHIFT);
    if (s->end < s->first)
        s->end = s->first;
    for (unsigned o = 0; o < RING_ORDERS; o++) {
        s->map[o] = calloc(words(s, o), sizeof(uint64_t));
        if (s->map[o] == NULL) {
            tcp_ring_space_fini(s);
            return -ENOMEM;
        }
    }
    /* The fewest natural blocks that cover [first, end). */
    for (uint32_t page = s->first; page < s->end;) {
        unsigned o = 0;
        while (o + 1 < RING_ORDERS && (page & ((2u << o) - 1)) == 0 && page + (2u << o) <= s->end)
            o++;
        put(s, o, page);
        page += 1u << o;
    }
    s->free_pages = s->end - s->first;
    return 0;
}

void tcp_ring_space_fini(struct ring_space *s)
{
    for (unsigned o = 0; o < RING_ORDERS; o++) {
        free(s->map[o]);
        s->map[o] = NULL;
    }
    free(s->stale);
    s->stale = NULL;
}

int tcp_ring_space_watch(struct ring_space *s, bool all)
{
    s->stale = calloc(words(s, 0), sizeof(uint64_t));
    if (s->stale == NULL)
        return -ENOMEM;
    for (unsigned o = 0; all && o < RING_ORDERS; o++)
        for (uint64_t w = 0; w < words(s, o); w++)
            for (uint64_t left = s->map[o][w]; left; left &= left - 1)
                mark_stale(s, (uint32_t)(w * 64 + (unsigned)__builtin_ctzll(left)) << o, 1u << o,
                           true);
    return 0;
}

uint32_t tcp_ring_take_stale(struct ring_space *s, uint32_t most, uint32_t *page)
{
    if (s->stale_pages == 0)
        return 0;
    uint32_t at = s->stale_at, n = 0;
    while (s->stale[at / 64] >> at % 64 == 0) /* no more in this word */
        at = at / 64 + 1 < words(s, 0) ? (at / 64 + 1) * 64 : 0;
    at += (uint32_t)__builtin_ctzll(s->stale[at / 64] >> at % 64);
    while (n < most && at + n < s->end && s->stale[(at + n) / 64] >> (at + n) % 64 & 1)
        n++;
    mark_stale(s, at, n, false);
    s->stale_at = at;
    *page = at;
    return n;
}

/* Takes the free block (page, from) and gives back all of it but (page, want): halves. */
static void split(struct ring_space *s, uint32_t keep, unsigned from, unsigned want)
{
    take(s, from, keep >> from << from);
    while (from > want) {
        from--;
        uint32_t buddy = (keep >> from ^ 1) << from;
        put(s, from, buddy);
    }
    s->free_pages -= 1ull << want;
    mark_stale(s, keep, 1u << want, false);
}

int64_t tcp_ring_alloc(struct ring_space *s, unsigned shift)
{
    if (shift < RING_PAGE_SHIFT || shift - RING_PAGE_SHIFT >= RING_ORDERS)
        return -ENOSPC;
    unsigned want = shift - RING_PAGE_SHIFT, o = want;
    while (o < RING_ORDERS && s->count[o] == 0)
        o++;
    if (o == RING_ORDERS)
        return -ENOSPC;
    uint64_t w = s->hint[o];
    while (s->map[o][w] == 0)
        w++;
    s->hint[o] = (uint32_t)w;
    uint32_t page = (uint32_t)(w * 64 + (unsigned)__builtin_ctzll(s->map[o][w])) << o;
    split(s, page, o, want);
    return page;
}

int tcp_ring_reserve(struct ring_space *s, uint32_t page, unsigned shift)
{
    if (shift < RING_PAGE_SHIFT || shift - RING_PAGE_SHIFT >= RING_ORDERS)
        return -EEXIST;
    unsigned want = shift - RING_PAGE_SHIFT;
    if ((page & ((1u << want) - 1)) != 0 || page < s->first || page >= s->end ||
        (1u << want) > s->end - page)
        return -EEXIST;
    for (unsigned o = want; o < RING_ORDERS; o++) {
        if (test(s, o, page)) {
            split(s, page, o, want);
            return 0;
        }
    }
    return -EEXIST;
}

void tcp_ring_release(struct ring_space *s, uint32_t page, unsigned shift)
{
    unsigned o = shift - RING_PAGE_SHIFT;
    s->free_pages += 1ull << o;
    mark_stale(s, page, 1u << o, true);
    while (o + 1 < RING_ORDERS) {
        uint32_t buddy = page ^ (1u << o);
        /* A buddy outside of the space is never marked free. */
        if (buddy >= s->end || !test(s, o, buddy))
            break;
        take(s, o, buddy);
        page &= ~(1u << o);
        o++;
    }
    put(s, o, page);
}
