/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Queues between servers: one producer, one consumer, fixed slots, in shared memory.
 *
 * The producer's region holds the slots and the tail, the consumer's region holds the head: each
 * side writes only to its own. Indices are 64 bits and never wrap or go back.
 *
 *   producer                                consumer
 *   chan_tx_reserve()  fill slot            chan_rx_peek()   copy, check the copy
 *   chan_tx_commit()   private              effects, its own outputs published
 *   chan_tx_publish()  tail := release ---> sees tail (acquire)
 *   sees head (acquire) <------------------ chan_rx_release() head := release
 *
 * Exactly once over crashes. The consumer publishes its outputs first and advances the head last,
 * so that its successor sees unfinished slots again. Every output slot carries its provenance
 * (input queue, index, sub-index). A successor scans the outputs that it published last; when it
 * meets an input again, chan_tx_reserve() says that this output was already made (CHAN_DUP), and
 * it goes on to the next output of the same input. Requirements on a component:
 *   - it handles the inputs of one queue in order,
 *   - it publishes at least once every capacity/2 outputs (chan_tx_reserve enforces it: CHAN_FULL),
 *   - one input makes at most 65535 outputs on one queue.
 *
 * A restart keeps: slots, tail, head. It loses: what was reserved or committed and not published;
 * the input is still in its queue. Not promised: that the other side's indices make sense. Indices
 * that cannot be lead to a reset of the edge (chan_reset handshake), which drops and counts what is
 * in it.
 */
#ifndef EFT_LIBCHAN_CHAN_H
#define EFT_LIBCHAN_CHAN_H

#include "quarantine.h"
#include "wake.h"
#include "wiring.h"

/* First bytes of each slot. Written by chan_tx_reserve(). */
struct slot_head {
    uint64_t src_index; /* index in that input; for items that have no input: a running number */
    uint16_t src;       /* input number of the producer (chan_rx.number), 0: no input */
    uint16_t src_sub;   /* n-th output of that input on this queue */
    uint32_t epoch;     /* of the producer that wrote it (low 32 bits) */
};
_Static_assert(sizeof(struct slot_head) == 16, "slot head");

/* In the producer's region; slots follow. */
struct chan_out {
    uint64_t tail; /* next slot to be produced */
    uint32_t generation;
    uint32_t reserved;
    uint8_t pad0[48];
    uint32_t want; /* 1: producer waits for the head to advance; consumer rings when it did */
    uint8_t pad1[60];
};
_Static_assert(sizeof(struct chan_out) == 128, "chan_out");

/* In the consumer's region. */
struct chan_in {
    uint64_t head; /* next slot to be consumed; all below are finished with all their effects */
    uint8_t pad0[56];
    uint32_t generation; /* on a line of its own: the producer looks at it with each batch */
    uint8_t pad1[60];
};
_Static_assert(sizeof(struct chan_in) == 128, "chan_in");

enum { CHAN_OK = 0, CHAN_FULL = 1, CHAN_DUP = 2, CHAN_INPUTS = 64 };

struct chan_tx {
    struct chan_out *out;     /* own region */
    const struct chan_in *in; /* consumer's region */
    uint8_t *slots;
    struct bell *bell; /* consumer's */
    uint64_t tail;     /* private: includes reserved and committed, unpublished slots */
    uint64_t published;
    uint64_t head; /* cached copy of in->head */
    uint64_t mask;
    uint32_t slot_size;
    uint32_t epoch;
    uint32_t generation;
    /* provenance of the last output per input: at attach from the scan, then kept up to date, so
     * that an input whose second output found the queue full may simply be handled again */
    struct {
        uint64_t index;
        uint16_t sub;
        bool valid;
    } last[CHAN_INPUTS];
    bool wanting;  /* `want` is set because there was no room */
    uint64_t full; /* times that reserve found it full */
    uint64_t resets;
};

struct chan_rx {
    struct chan_in *in;         /* own region */
    const struct chan_out *out; /* producer's region */
    const uint8_t *slots;
    struct bell *bell; /* producer's, for `want` */
    const struct region *own;
    struct server_block *block;
    uint64_t cold; /* what waited here at a cold start lies below this index */
    uint64_t head; /* private: next to look at */
    uint64_t released;
    uint64_t tail; /* cached copy of out->tail */
    uint64_t mask;
    uint32_t slot_size;
    uint32_t generation;
    bool asked;      /* we asked for a reset, and the producer has not followed yet */
    uint16_t number; /* this input's number in slot_head.src: 1 + position in the directory */
    uint64_t resets;
};

/* Attach one end. Both regions mapped; `bell` may be NULL (never rings: tests). Called once by each
 * incarnation of the owner, before its first work. Returns 0, -ENOENT (no such edge in the
 * directory) or -EPROTO (the peer's directory disagrees). `epoch` as in the own server_block. */
int chan_tx_attach(struct chan_tx *tx, const struct region *own, const struct region *peer,
                   enum edge edge, server_id self, server_id peer_id, uint64_t epoch,
                   struct bell *bell);
int chan_rx_attach(struct chan_rx *rx, const struct region *own, const struct region *peer,
                   enum edge edge, server_id self, server_id peer_id, struct bell *bell);

/* --- producer only --- */

/* Next slot to fill, provenance already in it. CHAN_OK: *slot is set; the caller must fill and
 * commit it. CHAN_DUP: this output was made already, by us or a predecessor; go on with the next
 * one. CHAN_FULL: publish, leave the input where it is, retry when the consumer has moved (sets
 * `want`). */
int chan_tx_reserve(struct chan_tx *tx, uint16_t src, uint64_t src_index, uint16_t src_sub,
                    void **slot);
/* Room for n more? For inputs that need several outputs or none. Sets `want` when there is not. */
bool chan_tx_room(struct chan_tx *tx, uint64_t n);
static inline void chan_tx_commit(struct chan_tx *tx)
{
    tx->tail++;
}
/* One store publishes all committed slots. The bell is marked, and rung by bell_flush(). */
void chan_tx_publish(struct chan_tx *tx);
/* Slot by index, for index in [tail - capacity, tail): completions look at what they completed. */
static inline void *chan_tx_slot(const struct chan_tx *tx, uint64_t index)
{
    return tx->slots + (index & tx->mask) * tx->slot_size;
}
/* How far the consumer is (acquire). Everything below is completed. */
uint64_t chan_tx_consumed(struct chan_tx *tx);

/* --- consumer only --- */

/* Next unseen slot in the producer's memory, or NULL. It may change under us: copy, then check. */
const void *chan_rx_peek(struct chan_rx *rx);
/* The index that peek's slot has: provenance for our outputs. Marks the item as in progress. */
static inline uint64_t chan_rx_index(const struct chan_rx *rx)
{
    return rx->head;
}
static inline uint64_t chan_rx_item(const struct chan_rx *rx)
{
    return item_slot(rx->number, rx->head);
}
/* Did the slot that peek returned bring down predecessors again and again, or did it wait at a cold
 * start? Then it is dropped. */
static inline bool chan_rx_condemned(const struct chan_rx *rx)
{
    return rx->head < rx->cold || item_condemned(rx->block, chan_rx_item(rx));
}
/* Before such a slot is passed: keeps a copy of it, and of the payload that it names, if any.
 * False: a predecessor did. */
bool chan_rx_keep(const struct chan_rx *rx, uint64_t now, const void *payload, size_t len);
static inline void chan_rx_next(struct chan_rx *rx)
{
    rx->head++;
}
/* Publishes the head: every item passed with chan_rx_next() is finished, its outputs published. */
void chan_rx_release(struct chan_rx *rx);
/* The first item that waits in any input of the server whose region `own` is; 0: none. What a
 * server that took turns and no item is blamed for. */
uint64_t chan_rx_waiting(const struct region_map *map, const struct region *own, server_id self);
/* Is there work? Looks at the producer's tail; the re-check before sleeping. */
bool chan_rx_pending(struct chan_rx *rx);

#endif
