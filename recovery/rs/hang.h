/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Is a server hung? A pure function over samples that rs takes every HANG_PERIOD_NS.
 *
 * The sign of life is server_block.turns: a server that lives completes a turn of its loop soon
 * after its bell was rung, even if it can do nothing about the work that waits (a full queue, a
 * neighbour that is away). So a server becomes a suspect when it has work, or is not asleep, and
 * completed no turn between two samples; it is rung, and convicted only if it completes no turn
 * although it had the time to: HANG_CPU_NS of processor time, or HANG_WALL_NS of time in which it
 * was not merely waiting for a processor. On a busy machine the second clock stands still, so that
 * there is no false alarm. A stopped process (state T) that has work is convicted at once.
 *
 * Not detected: a server that completes turns and does nothing (a logic error), and a stopped
 * server while nobody wants anything of it.
 */
#ifndef EFT_RS_HANG_H
#define EFT_RS_HANG_H

#include <stdbool.h>
#include <stdint.h>

#define HANG_PERIOD_NS 50000000ull
#define HANG_CPU_NS    150000000ull
#define HANG_WALL_NS   1000000000ull

struct hang_sample {
    bool work;   /* an input queue is not empty, a message of rs waits, or it says `pending` */
    bool asleep; /* server_block.asleep */
    uint64_t turns;
    /* read from /proc only for suspects (hang_suspicious) */
    char state;            /* of /proc/PID/stat */
    uint64_t cpu_ns;       /* processor time used */
    uint64_t run_delay_ns; /* time spent ready to run, waiting for a processor */
};

struct hang {
    bool suspect;
    bool seen; /* turns is valid */
    uint64_t turns, since, cpu_ns, run_delay_ns;
};

enum hang_verdict { HANG_FINE, HANG_RING, HANG_KILL };

/* Will hang_step() look at the fields that come from /proc? */
bool hang_suspicious(const struct hang *h, const struct hang_sample *s);
enum hang_verdict hang_step(struct hang *h, const struct hang_sample *s, uint64_t now);

#endif
