/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What was sent and is not acknowledged: one record per packet handed to ip, which may be a
 * super-segment of many segments. The records of a connection are the scoreboard of RFC 6675 and
 * the transmission times of RFC 8985. They come from a slab that all connections share; a
 * connection with nothing outstanding owns none.
 *
 * Together the records of a connection cover [tx_una, snd_max) without a gap. Each is on one more
 * list by its state:
 *   SENT_OUT    in flight as far as we know; in order of their last transmission
 *   SENT_LOST   lost, to be sent again, in the order in which they were found
 *   SENT_SACKED arrived; on no list, merged with SACKed neighbours
 * In the no-loss case a packet costs one record from the free list, a few steps in a tree whose
 * depth is the logarithm of their number, and the same when it is acknowledged. Whatever blocks the
 * peer sends, each costs that logarithm and what it changes, and there are never many more records
 * than segments (tcp_sent_few): beyond that, parts of records are not remembered.
 *
 * Private, lost at a restart: the successor makes one record of all that is under way
 * (tcp_sent_restore). The slab grows as needed and is not given back.
 */
#ifndef EFT_SERVERS_TCP_SENT_H
#define EFT_SERVERS_TCP_SENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tcp;
struct tcp_conn;

enum sent_state { SENT_OUT = 0, SENT_LOST, SENT_SACKED };
enum { SENT_CHUNK = 1024, SENT_CHUNKS = 4096 };
#define SENT_NONE 0u /* the number of no record */

struct tcp_sent {
    uint64_t start, end; /* relative offsets; the FIN counts one */
    uint64_t at;         /* last transmission; ns */
    uint32_t seq_next, seq_prev;
    uint32_t list_next, list_prev; /* of its state; list_next: of the free list */
    uint32_t left, right;          /* tree by offset */
    uint32_t segs;                 /* segments on the wire */
    uint8_t state;                 /* enum sent_state */
    bool again;                    /* was, or may have been, sent more than once */
    bool unknown;                  /* by a predecessor, at `at` or before */
    uint8_t reserved;
};
_Static_assert(sizeof(struct tcp_sent) == 56, "tcp_sent");

struct sent_slab { /* struct tcp */
    struct tcp_sent *chunk[SENT_CHUNKS];
    uint32_t chunks, free; /* free: first of the free list */
    uint32_t used;         /* records that connections own */
};

struct sent_list {
    uint32_t first, last;
};

struct tcp_sent_board { /* struct tcp_conn; all zero: nothing outstanding */
    uint32_t root, n;
    struct sent_list seq, out, lost;
    uint64_t out_bytes, lost_bytes, sacked_bytes;
    uint32_t sacked_segs;
};

static inline struct tcp_sent *sent_of(const struct sent_slab *s, uint32_t id)
{
    return id == SENT_NONE ? NULL : &s->chunk[id / SENT_CHUNK][id % SENT_CHUNK];
}

void tcp_sent_fini(struct sent_slab *s);
/* Makes sure that the next tcp_sent_add() finds a record. False: there is no memory. */
bool tcp_sent_ready(struct tcp *t);
/* [snd_max, end) was sent now. Small ones may be merged with the one before. */
void tcp_sent_add(struct tcp *t, struct tcp_conn *k, uint64_t start, uint64_t end);
/* [start, end) was sent by a predecessor, nobody knows when and how often: one record. False: there
 * is no memory. */
bool tcp_sent_restore(struct tcp *t, struct tcp_conn *k, uint64_t start, uint64_t end);
/* May a record be cut for no other reason than what the peer says? */
bool tcp_sent_few(const struct tcp_conn *k);
/* Cuts at offset `at` inside; the second part is behind it in every order. NULL: no memory. */
struct tcp_sent *tcp_sent_cut(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r, uint64_t at);
/* A lost one, or with a probe one in flight, was sent again now. */
void tcp_sent_again(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r);
void tcp_sent_mark_lost(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r);
void tcp_sent_mark_all_lost(struct tcp *t, struct tcp_conn *k, bool sacked_too);
/* Nothing of it is lost after all. */
void tcp_sent_unmark_lost(struct tcp *t, struct tcp_conn *k);
/* Returns the record that covers its bytes now: its own or a neighbour's. */
struct tcp_sent *tcp_sent_mark_sacked(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r);
/* The record that covers `offset`; NULL: none. */
struct tcp_sent *tcp_sent_find(struct tcp *t, const struct tcp_conn *k, uint64_t offset);
/* The first one: gone, or without what is below `offset`. */
void tcp_sent_trim(struct tcp *t, struct tcp_conn *k, uint64_t offset);
void tcp_sent_clear(struct tcp *t, struct tcp_conn *k);

#endif
