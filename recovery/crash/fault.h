/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Faults of code and of processes, and their undoing.
 *
 * Whoever injects keeps the struct: it says what was changed where, and can put it back while the
 * victim lives. Nothing here is kept on disk; a successor of the victim has none of it.
 */
#ifndef EFT_CRASH_FAULT_H
#define EFT_CRASH_FAULT_H

#include "mutate.h"
#include "trace.h"
#include "watch.h"

enum { FAULT_BYTES = 16, FAULT_SYMBOL = 96 };

/* One change of the victim's code. */
struct fault {
    enum crash_class class;
    uint64_t address;
    uint64_t offset; /* of the address from the program's first byte; 0: not in the program */
    uint8_t before[FAULT_BYTES], after[FAULT_BYTES];
    unsigned len;
    char symbol[FAULT_SYMBOL]; /* function+0x12 */
    char before_text[CODE_TEXT], after_text[CODE_TEXT];
    struct watch_point point; /* fd -1: nothing is known about its activation */
};

/* SIGABRT, SIGSTOP: 0 or -errno. */
int fault_signal(const struct target *t, enum crash_class c);
/* Writes the code of segv, exit or spin over the next instruction of the victim's first thread. If
 * it waits in a system call, the call ends. 0 or -errno. */
int fault_stub(struct target *t, enum crash_class c, const struct symbols *s, struct fault *f);
/* Which instructions are to be changed, and how. Nothing is written yet. */
struct fault_plan {
    enum crash_class class;    /* of MEANS_MUTATE */
    unsigned count;            /* how many instructions */
    const struct trace *trace; /* NULL: any instruction of the program may be chosen */
    uint64_t at;               /* this one; 0: chosen by the random numbers */
};
/* Fills `list`; the number of faults, fewer than `count` when no more can be found, or -errno. */
int fault_choose(const struct target *t, const struct symbols *s, const struct fault_plan *plan,
                 struct random *r, struct fault *list);
/* Says where a fault is and what it does to the code, for people. */
void fault_describe(struct code *code, const struct symbols *s, struct fault *f);
/* Writes it into the stopped target, watched if there is a breakpoint left for it. 0 or -errno. */
int fault_write(const struct target *t, struct fault *f);
/* Puts the bytes back. 0 or -errno. */
int fault_restore(const struct target *t, const struct fault *f);

#endif
