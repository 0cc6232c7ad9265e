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
    [CRASH_FLIP] = {"flip", MEANS_MUTATE, "a bit of an instruction flipped"},
    [CRASH_NOP] = {"nop", MEANS_MUTATE, "an instruction left out"},
    [CRASH_SOURCE] = {"source", MEANS_MUTATE, "another source register"},
    [CRASH_DESTINATION] = {"destination", MEANS_MUTATE, "another destination register"},
    [CRASH_POINTER] = {"pointer", MEANS_MUTATE,
                       "another base, index or displacement of an address"},
    [CRASH_BRANCH] = {"branch", MEANS_MUTATE, "a jump left out"},
    [CRASH_CONDITION] = {"condition", MEANS_MUTATE, "a condition inverted"},
    [CRASH_OFF_BY_ONE] = {"off-by-one", MEANS_MUTATE,
                          "< for <=, > for >=, and the other way round"},
    [CRASH_IMMEDIATE] = {"immediate", MEANS_MUTATE, "a constant one too large or too small"},
    [CRASH_INIT] = {"init", MEANS_MUTATE, "the initialisation of a local variable left out"},
    [CRASH_ARGUMENT] = {"argument", MEANS_MUTATE, "an argument of a call not set"},
    [CRASH_MUTATE] = {"mutate", MEANS_MUTATE, "any of flip to argument"},
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
