/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The kinds of faults that `eft crash` puts into a running server, by name.
 */
#ifndef EFT_CRASH_CLASS_H
#define EFT_CRASH_CLASS_H

#include <stdbool.h>
#include <stddef.h>

enum crash_class {
    /* how a process ends or stands still */
    CRASH_KILL,
    CRASH_ABORT,
    CRASH_SEGV,
    CRASH_EXIT,
    CRASH_STOP,
    CRASH_SPIN,
    /* one instruction of it changed */
    CRASH_FLIP,
    CRASH_NOP,
    CRASH_SOURCE,
    CRASH_DESTINATION,
    CRASH_POINTER,
    CRASH_BRANCH,
    CRASH_CONDITION,
    CRASH_OFF_BY_ONE,
    CRASH_IMMEDIATE,
    CRASH_INIT,
    CRASH_ARGUMENT,
    CRASH_MUTATE, /* any of these */
    CRASH_CLASSES
};

/* What is done to the victim. */
enum crash_means {
    MEANS_KILL,   /* eft-rs is asked, so that several die at once */
    MEANS_SIGNAL, /* a signal */
    MEANS_STUB,   /* code of ours over the victim's, where it executes */
    MEANS_MUTATE, /* the victim's code changed in place */
};

enum { MUTATE_FIRST = CRASH_FLIP, MUTATE_LAST = CRASH_ARGUMENT };

struct crash_kind {
    const char *name;
    enum crash_means means;
    const char *help; /* in one line */
};

const struct crash_kind *crash_kind(enum crash_class c);
/* 0, or -EINVAL when there is no such class. */
int crash_class_parse(const char *name, enum crash_class *c);

#endif
