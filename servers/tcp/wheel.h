/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A hierarchical timer wheel: who is to be looked at when. Filing, moving and taking out cost the
 * same for one entry and for a million, and allocate nothing; the next deadline is read, not
 * searched. An entry is a number below `n`, filed at one time at most. Pure: time is an argument.
 *
 * Level l has 64 slots of 64^l ticks each; an entry lies in the lowest level in which its tick and
 * `cur` differ, so that everything in a level is due before anything in the next one. Its slot is
 * taken apart into lower levels when its time begins. Each slot knows the earliest time in it, to
 * the nanosecond; taking an entry out does not raise that, so that wheel_next() may be early, never
 * late. Empty slots wake nobody.
 */
#ifndef EFT_SERVERS_TCP_WHEEL_H
#define EFT_SERVERS_TCP_WHEEL_H

#include <stdint.h>

enum { WHEEL_BITS = 6, WHEEL_SLOTS = 64, WHEEL_TICK_BITS = 10, WHEEL_LEVELS = 9 };
_Static_assert(WHEEL_TICK_BITS + WHEEL_BITS * WHEEL_LEVELS >= 64, "any time has its slot");
#define WHEEL_NONE  UINT32_MAX
#define WHEEL_NEVER UINT64_MAX

struct wheel_node {
    uint64_t at;         /* ns; meaningless while the entry is not filed */
    uint32_t next, prev; /* 1 + entry; 0: the slot's end */
    uint16_t where;      /* 1 + level * WHEEL_SLOTS + slot; 0: not filed */
};

struct wheel {
    struct wheel_node *node;
    uint64_t cur;                    /* tick; nothing is filed before it but in its own slot */
    unsigned cascading;              /* level whose slot at `cur` is being taken apart; 0: none */
    uint64_t occupied[WHEEL_LEVELS]; /* bit per slot */
    uint64_t min[WHEEL_LEVELS][WHEEL_SLOTS]; /* ns; valid while the slot is occupied */
    uint32_t head[WHEEL_LEVELS][WHEEL_SLOTS];
};

/* 0 or -ENOMEM. Memory is touched for entries that are filed only. */
int wheel_init(struct wheel *w, uint32_t n, uint64_t now);
void wheel_fini(struct wheel *w);
/* Files entry `id` at `at`, or moves it there. */
void wheel_put(struct wheel *w, uint32_t id, uint64_t at);
/* Takes it out, if it is filed. */
void wheel_take(struct wheel *w, uint32_t id);
/* When it is filed; WHEEL_NEVER: not. */
uint64_t wheel_at(const struct wheel *w, uint32_t id);
/* A time not after the earliest entry's; WHEEL_NEVER when there is none. */
uint64_t wheel_next(const struct wheel *w);
/* Takes out and returns an entry filed at or before `now`. WHEEL_NONE: there is none, or *budget is
 * used up, which counts entries that were moved to a lower level; then wheel_next() still tells
 * when to go on. */
uint32_t wheel_pop(struct wheel *w, uint64_t now, unsigned *budget);

#endif
