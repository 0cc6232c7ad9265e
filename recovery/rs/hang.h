/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Is a server hung? A pure function over samples that rs takes every HANG_PERIOD_NS, and every
 * HANG_CLOSE_NS while it suspects anybody. There are two ways to hang.
 *
 * It takes no turn. A server that lives completes a turn of its loop (server_block.turns) soon
 * after its bell was rung, even if it can do nothing about the work that waits. One that has work,
 * or is not asleep, and completed no turn between two samples is rung, and convicted if it still
 * completes none although it had the time to: HANG_CPU_NS of processor time, or HANG_SLEEP_NS of
 * sleep. Time in which it merely waited for a processor, or for the kernel (state D), does not
 * count, so that there is no false alarm on a busy machine; what is stuck in the kernel for
 * HANG_KERNEL_NS does. A stopped process (state T) that has work is convicted at once.
 *
 * It takes turns, and nothing moves. An input waits, and no head of its inputs and no tail of its
 * outputs has moved for HANG_STUCK_NS and HANG_STUCK_TURNS turns. There are reasons for that which
 * are not its fault: it waits for room in a neighbour's queue, a neighbour is away or suspected
 * itself, the device takes nothing, connections are being taken over. Then it is excused.
 *
 * Not detected: one that a debugger has stopped, and one that moves its queues and does nonsense.
 * (Whether a server was stopped by a signal watchdog.c asks the kernel.)
 */
#ifndef EFT_RS_HANG_H
#define EFT_RS_HANG_H

#include <stdbool.h>
#include <stdint.h>

#define HANG_PERIOD_NS 20000000ull
#define HANG_CLOSE_NS  5000000ull
#define HANG_CPU_NS    30000000ull
#define HANG_SLEEP_NS  60000000ull
#define HANG_KERNEL_NS 1000000000ull
#define HANG_STUCK_NS  60000000ull
enum { HANG_STUCK_TURNS = 4 };

struct hang_sample {
    bool work;    /* an input queue is not empty, a message of rs waits, or it says `pending` */
    bool asleep;  /* server_block.asleep */
    bool waiting; /* an input queue is not empty */
    bool excused; /* there is a reason why nothing moves */
    uint64_t turns;
    uint64_t moved; /* sum of the heads of its inputs and the tails of its outputs */
    /* read from /proc only for suspects (hang_suspicious) */
    char state;            /* of /proc/PID/stat */
    uint64_t cpu_ns;       /* processor time used */
    uint64_t run_delay_ns; /* time spent ready to run, waiting for a processor */
};

struct hang {
    bool seen; /* the last sample is valid */
    bool waiting;
    uint64_t turns, moved;
    bool suspect; /* takes no turn */
    uint64_t since, cpu_ns, run_delay_ns;
    bool stuck; /* takes turns, and nothing moves */
    uint64_t stuck_since, stuck_turns;
};

enum hang_verdict { HANG_FINE, HANG_RING, HANG_KILL };

/* Will hang_step() look at the fields that come from /proc? */
bool hang_suspicious(const struct hang *h, const struct hang_sample *s);
enum hang_verdict hang_step(struct hang *h, const struct hang_sample *s, uint64_t now);
/* After hang_step(): is it worth a closer look? */
static inline bool hang_suspected(const struct hang *h)
{
    return h->suspect || h->stuck;
}

#endif
