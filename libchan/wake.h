/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Bells: how one side wakes the other.
 *
 *   producer                                  consumer
 *   publish (tail, counter)                   asleep := 1
 *   fence_full()                              fence_full()
 *   if (asleep) ring                          look for work once more; if any: asleep := 0, go on
 *                                             sleep; when woken: asleep := 0
 *
 * Both fences are needed: without either, both sides may read the old value of the other's word and
 * the consumer sleeps on work (tests/model/wake.pml shows it).
 *
 * Between servers a ring is a write to the consumer's eventfd. Between an application and a server
 * it is a datagram with MSG_DONTWAIT on a unix datagram pair: whoever shares an eventfd can make it
 * blocking and full, and so stop the writer; a datagram socket cannot be used so. EAGAIN means that
 * it is already ringing.
 */
#ifndef EFT_LIBCHAN_WAKE_H
#define EFT_LIBCHAN_WAKE_H

#include "atomic.h"
#include <stdbool.h>

enum bell_kind { BELL_NONE = 0, BELL_EVENTFD = 1, BELL_DGRAM = 2 };

/* The writer's side of somebody's bell. */
struct bell {
    const uint32_t *asleep; /* in the sleeper's region; NULL: not known yet, ring always */
    int fd;                 /* -1: cannot ring (tests) */
    uint8_t kind;           /* enum bell_kind */
    bool due;               /* something was published since the last flush */
    uint64_t rings;         /* times that a system call was made */
};

/* Something was published for the owner of this bell. Cheap; no fence, no system call. */
static inline void bell_due(struct bell *b)
{
    if (b != NULL)
        b->due = true;
}
/* Rings those of the `n` bells that are due and whose owners sleep: one fence for all. */
void bell_flush(struct bell *const *bells, unsigned n);
/* Rings without looking. A successor's first act towards its neighbours. */
void bell_ring(struct bell *b);
/* The sleeper's side: empties an eventfd, or takes a few datagrams, never more than it has time
 * for. */
void bell_drain(int fd, enum bell_kind kind);

#endif
