/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The timer wheel. See wheel.h. A restart loses it.
 */
#include "wheel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

int wheel_init(struct wheel *w, uint32_t n, uint64_t now)
{
    *w = (struct wheel){.cur = now >> WHEEL_TICK_BITS};
    w->node = calloc(n, sizeof *w->node);
    return w->node != NULL ? 0 : -ENOMEM;
}

void wheel_fini(struct wheel *w)
{
    free(w->node);
    w->node = NULL;
}

static unsigned digit(uint64_t tick, unsigned level)
{
    return (unsigned)(tick >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
}

/* First tick of a slot, seen from `cur`. */
static uint64_t begins(const struct wheel *w, unsigned level, unsigned slot)
{
    const unsigned shift = level * WHEEL_BITS;
    const uint64_t span = (uint64_t)WHEEL_SLOTS << shift; /* 0 at the top: all of the time */
    return (w->cur & ~(span - 1)) | (uint64_t)slot << shift;
}

static void link_node(struct wheel *w, uint32_t id, uint64_t at)
{
    uint64_t tick = at >> WHEEL_TICK_BITS;
    if (tick < w->cur)
        tick = w->cur; /* overdue */
    const uint64_t differs = tick ^ w->cur;
    const unsigned level = differs ? (63 - (unsigned)__builtin_clzll(differs)) / WHEEL_BITS : 0;
    const unsigned slot = digit(tick, level);
    const bool empty = !(w->occupied[level] >> slot & 1);
    uint32_t *head = &w->head[level][slot];

    w->node[id] = (struct wheel_node){
        .at = at, .next = empty ? 0 : *head, .where = (uint16_t)(1 + level * WHEEL_SLOTS + slot)};
    if (!empty)
        w->node[*head - 1].prev = id + 1;
    *head = id + 1;
    if (empty || at < w->min[level][slot])
        w->min[level][slot] = at;
    w->occupied[level] |= 1ull << slot;
}

void wheel_take(struct wheel *w, uint32_t id)
{
    struct wheel_node *n = &w->node[id];
    if (n->where == 0)
        return;
    const unsigned level = (n->where - 1u) / WHEEL_SLOTS, slot = (n->where - 1u) % WHEEL_SLOTS;
    if (n->next)
        w->node[n->next - 1].prev = n->prev;
    if (n->prev)
        w->node[n->prev - 1].next = n->next;
    else
        w->head[level][slot] = n->next;
    if (w->head[level][slot] == 0)
        w->occupied[level] &= ~(1ull << slot);
    n->where = 0;
}

void wheel_put(struct wheel *w, uint32_t id, uint64_t at)
{
    wheel_take(w, id);
    link_node(w, id, at);
}

uint64_t wheel_at(const struct wheel *w, uint32_t id)
{
    return w->node[id].where ? w->node[id].at : WHEEL_NEVER;
}

/* Is a slot half taken apart? What is left in it may be due before anything in lower levels. */
static bool half_done(const struct wheel *w)
{
    return w->cascading && (w->occupied[w->cascading] >> digit(w->cur, w->cascading) & 1);
}

uint64_t wheel_next(const struct wheel *w)
{
    uint64_t at = WHEEL_NEVER;
    if (half_done(w))
        at = w->min[w->cascading][digit(w->cur, w->cascading)];
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t slots = w->occupied[level];
        if (half_done(w) && level == w->cascading)
            slots &= ~(1ull << digit(w->cur, level));
        if (slots == 0)
            continue;
        const uint64_t first = w->min[level][__builtin_ctzll(slots)];
        return first < at ? first : at;
    }
    return at;
}

/* One entry of the tick `cur` that is due to the nanosecond. */
static uint32_t pop_due(struct wheel *w, unsigned slot, uint64_t now)
{
    uint64_t min = WHEEL_NEVER;
    for (uint32_t i = w->head[0][slot]; i; i = w->node[i - 1].next) {
        const uint64_t at = w->node[i - 1].at;
        if (at <= now) {
            wheel_take(w, i - 1);
            return i - 1;
        }
        min = at < min ? at : min;
    }
    w->min[0][slot] = min;
    return WHEEL_NONE;
}

uint32_t wheel_pop(struct wheel *w, uint64_t now, unsigned *budget)
{
    const uint64_t now_tick = now >> WHEEL_TICK_BITS;
    for (;;) {
        unsigned level = 0;
        if (half_done(w)) {
            level = w->cascading;
        } else {
            while (level < WHEEL_LEVELS && w->occupied[level] == 0)
                level++;
            w->cascading = 0;
        }
        if (level == WHEEL_LEVELS)
            break;
        const unsigned slot =
            w->cascading ? digit(w->cur, level) : (unsigned)__builtin_ctzll(w->occupied[level]);
        const uint64_t begin = w->cascading ? w->cur : begins(w, level, slot);
        if (begin > now_tick)
            break;
        w->cur = begin;
        if (level == 0)
            return pop_due(w, slot, now);
        w->cascading = level;
        while (w->head[level][slot]) {
            if (*budget == 0)
                return WHEEL_NONE;
            --*budget;
            const uint32_t id = w->head[level][slot] - 1;
            wheel_put(w, id, w->node[id].at);
        }
    }
    /* All that is left begins later: what is filed from now on goes to the lowest level it can. */
    if (w->cur < now_tick)
        w->cur = now_tick;
    return WHEEL_NONE;
}
