/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A server that faults whenever it handles one certain item: at the first store that it makes with
 * the item in progress. For the tests of quarantine; they link the libraries with crash points.
 */
#ifndef EFT_TESTS_UNIT_POISON_H
#define EFT_TESTS_UNIT_POISON_H

#include "libchan/quarantine.h"

#include <setjmp.h>

enum { ANY_SLOT = 0 }; /* kind: a slot of any input queue */

static struct {
    const struct server_block *block;
    unsigned kind; /* enum item_kind, ANY_SLOT, or the number of an input */
    uint64_t item; /* the one: the first of that kind that is met */
    bool armed;
    unsigned faults, kills_first; /* the first deaths are plain kills */
    jmp_buf out;
} poison;

void shm_crashpoint(const char *file, int line)
{
    (void)line;
    /* The predecessor's mark still stands when a successor makes its first stores. */
    if (!poison.armed || strstr(file, "quarantine.c") != NULL || strstr(file, "host.c") != NULL)
        return;
    const uint64_t item = load_relaxed(&poison.block->in_progress);
    const unsigned kind = ITEM_KIND(item);
    const bool of_kind =
        item != 0 && (poison.kind == ANY_SLOT ? kind < ITEM_REQUEST : kind == poison.kind);

    /* What is done instead of handling a condemned one is not what faults. */
    if ((poison.item != 0 ? item != poison.item : !of_kind) || item_condemned(poison.block, item))
        return;
    poison.item = item;
    poison.armed = false;
    poison.faults++;
    longjmp(poison.out, 1);
}

/* Lets work() run; each time that it faults a successor comes, and it runs again. */
static inline void poison_run(const struct server_block *block, unsigned kind, void (*work)(void),
                              void (*successor)(enum rs_end))
{
    poison.block = block;
    poison.kind = kind;
    poison.item = 0;
    poison.faults = 0;
    if (setjmp(poison.out) != 0) {
        assert_true(poison.faults < 20); /* nobody drops it */
        const enum rs_end end = poison.faults <= poison.kills_first ? END_KILLED : END_FAULT;
        poison.armed = true;
        successor(end);
    }
    poison.armed = true;
    work();
    poison.armed = false;
}

/* The one copy in the quarantine, which is of the poisoned item. */
static inline const struct quarantine_copy *poison_copy(const struct region *own)
{
    const struct quarantine *q = wiring_table(own, TABLE_QUARANTINE, NULL);

    assert_non_null(q);
    assert_int_equal(q->taken, 1);
    assert_int_equal(q->copy[0].item, poison.item);
    assert_int_equal(wiring_block(own)->dropped, 1);
    return &q->copy[0];
}

#endif
