/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Faults of code and of processes, and their undoing.
 *
 * Whoever injects keeps the struct: it says what was changed where, and can put it back while the
 * victim lives. Nothing here is kept on disk; a successor of the victim has none of it.
 */
#ifndef EFT_CRASH_FAULT_H
#define EFT_CRASH_FAULT_H

#include "class.h"
#include "target.h"
#include "watch.h"

enum { FAULT_BYTES = 16 };

/* One change of the victim's code. */
struct fault {
    uint64_t address;
    uint64_t offset; /* of the address from the program's first byte; 0: not in the program */
    uint8_t before[FAULT_BYTES], after[FAULT_BYTES];
    unsigned len;
    struct watch_point point; /* fd -1: nothing is known about its activation */
};

/* SIGABRT, SIGSTOP: 0 or -errno. */
int fault_signal(const struct target *t, enum crash_class c);
/* Writes the code of segv, exit or spin over the next instruction of the victim's first thread. If
 * it waits in a system call, the call ends. 0 or -errno. */
int fault_stub(struct target *t, enum crash_class c, struct fault *f);
/* Puts the bytes back. 0 or -errno. */
int fault_restore(const struct target *t, const struct fault *f);

#endif
