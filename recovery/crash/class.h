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
    /* its memory */
    CRASH_WILD,
    /* what it tells its neighbours */
    CRASH_GARBAGE,
    CRASH_RANGE,
    CRASH_OPCODE,
    CRASH_REPLAY,
    CRASH_TAIL,
    CRASH_HEAD,
    CRASH_MESSAGE, /* any of these */
    /* what it may have of the machine */
    CRASH_DESCRIPTORS,
    CRASH_MEMORY,
    CRASH_MEMLOCK,
    /* what an application tells the stack */
    CRASH_JUMP,
    CRASH_BACK,
    CRASH_OVERLAP,
    CRASH_REQUEST,
    CRASH_WORK,
    CRASH_RELEASE,
    CRASH_BYZANTINE, /* any of these */
    CRASH_CLASSES
};

/* What is done to the victim. */
enum crash_means {
    MEANS_KILL,      /* eft-rs is asked, so that several die at once */
    MEANS_SIGNAL,    /* a signal */
    MEANS_STUB,      /* code of ours over the victim's, where it executes */
    MEANS_MUTATE,    /* the victim's code changed in place */
    MEANS_WILD,      /* stores anywhere in its memory */
    MEANS_MESSAGE,   /* stores to the ends of its queues */
    MEANS_LIMIT,     /* prlimit() */
    MEANS_BYZANTINE, /* stores to the memory of an application, which is the victim */
};

struct random;

struct crash_kind {
    const char *name;
    enum crash_means means;
    const char *help; /* in one line */
};

const struct crash_kind *crash_kind(enum crash_class c);
/* 0, or -EINVAL when there is no such class. */
int crash_class_parse(const char *name, enum crash_class *c);
/* mutate, message, byzantine: one of their classes, by chance; any other class: itself. */
enum crash_class crash_class_draw(enum crash_class c, struct random *r);

#endif
