/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What becomes of a fault, asked of the kernel and not of the victim.
 *
 * Activation: a hardware breakpoint (perf event) on an instruction. It counts without stopping the
 * process or attaching to it, and switches itself off at the first hit, whose time it notes. The
 * processor has four; they are the process's alone and end with it.
 *
 * The end of a process: its pidfd, which from Linux 6.15 on also says how it ended, after eft-rs
 * has reaped it. On older kernels only eft-rs knows (`last_end` of eft status).
 */
#ifndef EFT_CRASH_WATCH_H
#define EFT_CRASH_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { WATCH_POINTS = 4 };

struct watch_point {
    int fd;       /* -1: none */
    void *ring;   /* with the sample of the first hit */
    size_t bytes; /* of it */
};

/* Begins watching `address` in the thread `tid`. 0 or -errno; -ENOSPC: all are in use. */
int watch_point_set(struct watch_point *w, pid_t tid, uint64_t address);
/* Was the instruction executed since? *at_ns: CLOCK_REALTIME of the first time. Also after its end.
 */
bool watch_point_hit(const struct watch_point *w, uint64_t *at_ns);
void watch_point_close(struct watch_point *w);

struct watch_end {
    bool known; /* what follows is */
    bool signalled;
    int number; /* of the signal, or the exit status */
};
/* How the process of a pidfd that has ended ended; waits a moment until it was reaped. */
void watch_how(int pidfd, struct watch_end *end);

uint64_t watch_realtime(void);

#endif
