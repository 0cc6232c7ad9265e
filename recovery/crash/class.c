/* SPDX-License-Identifier: BSD-2-Clause */
#include "class.h"

#include <errno.h>
#include <string.h>

static const struct crash_kind kinds[CRASH_CLASSES] = {
    [CRASH_KILL] = {"kill", MEANS_KILL, "SIGKILL; several servers die at once"},
    [CRASH_ABORT] = {"abort", MEANS_SIGNAL, "SIGABRT, as of a failed assertion"},
    [CRASH_SEGV] = {"segv", MEANS_STUB, "a load from address 8 where it executes"},
    [CRASH_EXIT] = {"exit", MEANS_STUB, "exit_group(1) where it executes"},
    [CRASH_STOP] = {"stop", MEANS_SIGNAL, "SIGSTOP: it stands still without using time"},
    [CRASH_SPIN] = {"spin", MEANS_STUB,
                    "a jump to itself where it executes: it uses time for nothing"},
};

const struct crash_kind *crash_kind(enum crash_class c)
{
    return &kinds[c];
}

int crash_class_parse(const char *name, enum crash_class *c)
{
    for (unsigned i = 0; i < CRASH_CLASSES; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *c = (enum crash_class)i;
            return 0;
        }
    }
    return -EINVAL;
}
