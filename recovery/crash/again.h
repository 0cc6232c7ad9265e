/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A second death during recovery: the successor is awaited in the region of the server, whose epoch
 * is its first store, and killed some time later, most often before it is ready.
 */
#ifndef EFT_CRASH_AGAIN_H
#define EFT_CRASH_AGAIN_H

#include "random.h"
#include "shared.h"

#include "libchan/wiring.h"

enum { AGAIN_MAX = 8, AGAIN_SPREAD_US = 400 };

struct again {
    pid_t pid;
    uint64_t epoch;
    uint64_t at_ns;    /* CLOCK_REALTIME of the kill */
    uint64_t delay_ns; /* from the sight of the epoch to the kill */
    bool ready;        /* it had reached its loop before */
};

/* Takes the caller off the victim's processor, to the front of another one. Before its death. */
void again_get_ready(pid_t victim);
/* Watches `block`, of a region that the victim `was` has mapped too. 0; -ETIMEDOUT: no successor
 * within `limit_ms`; or -errno. Spins: the moment counts. */
int again_kill(const struct server_block *block, pid_t was, uint64_t epoch, unsigned limit_ms,
               struct random *r, struct again *a);

#endif
