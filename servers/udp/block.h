/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Blocks of a region for socket rings: powers of two from APP_PAGE up, each at a multiple of its
 * size. The map is private memory and is rebuilt from the records after a restart (block_take).
 */
#ifndef EFT_UDP_BLOCK_H
#define EFT_UDP_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { BLOCK_UNIT = 4096, BLOCK_UNITS_MAX = 16384 /* 64 MiB; more of a region is not used */ };

struct block_map {
    uint64_t first, end; /* units of the region that may be given out: [first, end) */
    uint64_t base;       /* unit that bit 0 stands for */
    uint64_t used[BLOCK_UNITS_MAX / 64];
};

/* Blocks lie in [from, to) of the region; bytes. */
void block_init(struct block_map *m, uint64_t from, uint64_t to);
/* Offset of a free block, now taken, or 0 (no block begins at 0: headers do). */
uint64_t block_alloc(struct block_map *m, uint32_t size);
/* Marks a block that a record names. False: outside, misaligned, or taken already. */
bool block_take(struct block_map *m, uint64_t off, uint32_t size);
void block_free(struct block_map *m, uint64_t off, uint32_t size);

#endif
