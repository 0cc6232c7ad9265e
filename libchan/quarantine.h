/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Quarantine: an item that makes its server fault or hang again and again is not tried for ever.
 *
 * A server names what it works on, before it looks at it, in server_block.in_progress. A successor
 * whose predecessor faulted or hung (a plain kill says nothing about the item) raises that item's
 * count in server_block.suspect. From QUARANTINE_TIMES on the item is *condemned*: its server drops
 * it instead of handling it, answers whoever waits for an answer, and keeps a copy for inspection
 * (TABLE_QUARANTINE, `eft store dump`).
 *
 * The name of an item is the same in every incarnation: an index that never goes back, or a number
 * together with something that changes when the number is used again.
 *
 * A restart keeps: names, counts, copies. Of the suspects the last few: two items that fault in
 * turn are both caught, a dozen at the same time may not be. Not promised: that the item named is
 * the cause; a fault that an earlier item planted is blamed on the one that met it.
 */
#ifndef EFT_LIBCHAN_QUARANTINE_H
#define EFT_LIBCHAN_QUARANTINE_H

#include "edge/rs.h"
#include "wiring.h"

enum {
    QUARANTINE_TIMES = 3,      /* take-overs with fault or hang until the item is dropped */
    QUARANTINE_TRUST_MS = 400, /* who lives for so long with an ITEM_RECORD clears it */
    QUARANTINE_COPIES = 16,    /* the last ones are kept */
    QUARANTINE_BYTES = 2048    /* of each */
};

/* Kinds of items, in the high 8 bits of a name. Below ITEM_REQUEST: a slot of the input queue of
 * that number (chan_rx.number), by its index. */
enum item_kind {
    ITEM_REQUEST = 64, /* of an application: application, slot, number of the request */
    ITEM_RECORD,       /* a connection or socket that time, its application or the start works on */
    ITEM_DATAGRAM,     /* that an application sends: socket, offset in its ring */
    ITEM_FRAME,        /* received from the device: frame and its generation */
    ITEM_CONTROL,      /* a message on a control socket: application or process, its id */
    ITEM_FLOW,         /* whose packets were condemned: time, hash of its addresses and ports */
};

#define ITEM_NAME(kind, what) ((uint64_t)(kind) << 56 | ((uint64_t)(what)&0xffffffffffffffull))
#define ITEM_KIND(item)       ((unsigned)((item) >> 56))
#define ITEM_WHAT(item)       ((item)&0xffffffffffffffull)

static inline uint64_t item_slot(unsigned input, uint64_t index)
{
    return ITEM_NAME(input, index + 1);
}
static inline uint64_t item_request(unsigned app, uint32_t slot, uint32_t id)
{
    return ITEM_NAME(ITEM_REQUEST, (uint64_t)app << 46 | (uint64_t)(slot & 0x3fff) << 32 | id);
}
/* `use`: anything that differs between two uses of the number. */
static inline uint64_t item_numbered(enum item_kind kind, uint32_t number, uint32_t use)
{
    return ITEM_NAME(kind, (uint64_t)(number & 0xffffff) << 32 | use);
}

/* The two marks. Read by rs, and by a successor after our death: no order is needed, and neither is
 * a point at which a crash could matter. */
static inline void item_begin(struct server_block *b, uint64_t item)
{
    if (SHM_KEEP)
        __atomic_store_n(&b->in_progress, item, __ATOMIC_RELAXED);
    compiler_barrier();
}
static inline void item_end(struct server_block *b)
{
    compiler_barrier();
    if (SHM_KEEP)
        __atomic_store_n(&b->in_progress, 0, __ATOMIC_RELAXED);
}

/* How often was it in progress at a take-over with fault or hang? 0 for nearly all, after one look
 * at one word. */
unsigned quarantine_count(const struct server_block *b, uint64_t item);
static inline unsigned item_times(const struct server_block *b, uint64_t item)
{
    return b->condemned == 0 ? 0 : quarantine_count(b, item);
}
static inline bool item_condemned(const struct server_block *b, uint64_t item)
{
    return item_times(b, item) >= QUARANTINE_TIMES;
}

/* First thing of a successor after its epoch. `end`: how the predecessor ended; `life`: how long it
 * had run, ns. `now`: ns of CLOCK_MONOTONIC. */
void quarantine_blame(struct server_block *b, enum rs_end end, uint64_t life, uint64_t now);
/* Raises the count of an item that is to blame for the fate of another. */
void quarantine_accuse(struct server_block *b, uint64_t item, uint64_t now);

/* --- what is kept --- */

struct quarantine_copy {
    uint64_t item;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t epoch;   /* of the incarnation that dropped it */
    uint32_t times;   /* that it was in progress */
    uint32_t bytes;   /* kept below */
    uint32_t length;  /* of the item; bytes */
    uint8_t reserved[28];
    uint8_t data[QUARANTINE_BYTES];
};
_Static_assert(sizeof(struct quarantine_copy) == 64 + QUARANTINE_BYTES, "quarantine_copy");

/* TABLE_QUARANTINE: one element. Copy n of all is copy[n % QUARANTINE_COPIES]. */
struct quarantine {
    uint64_t taken; /* copies ever made; raised after each */
    uint64_t reserved[7];
    struct quarantine_copy copy[QUARANTINE_COPIES];
};
_Static_assert(sizeof(struct quarantine) == 64 + 16 * 2112, "quarantine");

/* A part of an item: what was in the slot, then what it points to. */
struct item_part {
    const void *data;
    size_t len;
};

/* Keeps a copy of an item that is being dropped, and counts it. Once for each item: false when a
 * predecessor did it. `own`: the server's region; it may lack the table (tests). */
bool quarantine_keep(const struct region *own, uint64_t item, uint64_t now,
                     const struct item_part *part, unsigned parts);
/* The name for people: "slot 81 of input 2", "request 7 of application 3, slot 12". */
void item_print(uint64_t item, char *text, size_t size);

#endif
