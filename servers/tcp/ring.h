/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Blocks of ring memory in an application's region. A block is 2^n pages at a multiple of its own
 * size. The map of what is free is private: it is rebuilt from the records at each start. Pure.
 */
#ifndef EFT_SERVERS_TCP_RING_H
#define EFT_SERVERS_TCP_RING_H

#include "record.h"

enum { RING_ORDERS = 20, RING_PAGE_SHIFT = 12 };

struct ring_space {
    uint32_t first, end;         /* pages that may be given out */
    uint64_t free_pages;         /* sum over all free blocks */
    uint32_t count[RING_ORDERS]; /* free blocks of each order */
    uint32_t hint[RING_ORDERS];  /* no free block in words below */
    uint64_t *map[RING_ORDERS];  /* bit per naturally aligned block: free as a whole */
    uint64_t *stale;             /* bit per page: free, and may still hold memory; NULL: not kept */
    uint64_t stale_pages;
    uint32_t stale_at; /* where the search goes on; page */
};

/* [from, to) in bytes. 0 or -ENOMEM. */
int tcp_ring_space_init(struct ring_space *s, uint64_t from, uint64_t to);
void tcp_ring_space_fini(struct ring_space *s);
/* Notes from now on which free pages may hold memory; at first all of them, or none. 0 or -ENOMEM.
 */
int tcp_ring_space_watch(struct ring_space *s, bool all);
/* Some of them that follow each other, at most `most`; they hold none after this. Their number, or
 * 0: there are none. */
uint32_t tcp_ring_take_stale(struct ring_space *s, uint32_t most, uint32_t *page);
/* A block of 2^shift bytes (>= 12): its first page, or -ENOSPC. */
int64_t tcp_ring_alloc(struct ring_space *s, unsigned shift);
/* Takes a certain block, as a record says. 0, or -EEXIST: not inside or not free. */
int tcp_ring_reserve(struct ring_space *s, uint32_t page, unsigned shift);
void tcp_ring_release(struct ring_space *s, uint32_t page, unsigned shift);

/* Where absolute offset `abs` (relative `rel`) of a ring lies in its region; *contig bytes follow
 * without a wrap. */
static inline uint64_t ring_offset(const struct tcp_ring *r, uint64_t abs, uint64_t rel,
                                   uint64_t *contig)
{
    unsigned b = r->shift[1] && rel >= r->switch_at;
    uint64_t size = 1ull << r->shift[b], at = abs & (size - 1);
    *contig = size - at;
    if (!b && r->shift[1] && r->switch_at - rel < *contig)
        *contig = r->switch_at - rel;
    return ((uint64_t)r->page[b] << RING_PAGE_SHIFT) + at;
}

#endif
