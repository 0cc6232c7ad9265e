/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Which instructions a process executes: it is stepped for a while, instruction by instruction.
 */
#ifndef EFT_CRASH_TRACE_H
#define EFT_CRASH_TRACE_H

#include "symbol.h"

/* A stepped server makes no more than about a hundredth of its usual progress: short enough that
 * eft-rs does not take it for hung. */
enum { TRACE_STEPS = 50000, TRACE_MS = 60 };

struct trace {
    uint64_t *address; /* of instructions of the program itself, in order, each once */
    unsigned n;
    unsigned steps; /* made */
};

/* Steps the stopped target. 0, or -errno: -ESRCH: it ended. */
int trace_take(struct trace *tr, struct target *t, const struct symbols *s);
void trace_free(struct trace *tr);

#endif
