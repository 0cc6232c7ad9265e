/* SPDX-License-Identifier: BSD-2-Clause */
#include "class.h"

#include "random.h"

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
    [CRASH_WILD] = {"wildwrite", MEANS_WILD, "random stores to memory that it may write"},
    [CRASH_GARBAGE] = {"garbage", MEANS_MESSAGE, "a message of random bytes"},
    [CRASH_RANGE] = {"range", MEANS_MESSAGE, "an offset, length or number out of range"},
    [CRASH_OPCODE] = {"opcode", MEANS_MESSAGE, "a kind of message that there is not"},
    [CRASH_REPLAY] = {"replay", MEANS_MESSAGE,
                      "an old message once more, or an old number or epoch"},
    [CRASH_TAIL] = {"tail", MEANS_MESSAGE, "2^32 messages that it did not write"},
    [CRASH_HEAD] = {"head", MEANS_MESSAGE, "2^32 messages that it did not get, taken as read"},
    [CRASH_MESSAGE] = {"message", MEANS_MESSAGE, "any of garbage to head"},
    [CRASH_DESCRIPTORS] = {"descriptors", MEANS_LIMIT, "no new descriptor (RLIMIT_NOFILE)"},
    [CRASH_MEMORY] = {"memory", MEANS_LIMIT, "no new mapping (RLIMIT_AS)"},
    [CRASH_MEMLOCK] = {"memlock", MEANS_LIMIT, "no new locked page (RLIMIT_MEMLOCK)"},
    [CRASH_JUMP] = {"jump", MEANS_BYZANTINE, "an application's ring counter jumps by 2^32"},
    [CRASH_BACK] = {"back", MEANS_BYZANTINE, "an application's ring counter runs backwards"},
    [CRASH_OVERLAP] = {"overlap", MEANS_BYZANTINE,
                       "an application claims more than its ring holds"},
    [CRASH_REQUEST] = {"request", MEANS_BYZANTINE, "an application makes a random request"},
    [CRASH_WORK] = {"work", MEANS_BYZANTINE, "an application's work queue names what is not there"},
    [CRASH_RELEASE] = {"release", MEANS_BYZANTINE,
                       "an application lets go of a socket that it uses"},
    [CRASH_BYZANTINE] = {"byzantine", MEANS_BYZANTINE, "any of jump to release"},
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

enum crash_class crash_class_draw(enum crash_class c, struct random *r)
{
    static const struct {
        enum crash_class any, first, last;
    } groups[] = {
        {CRASH_MUTATE, CRASH_FLIP, CRASH_ARGUMENT},
        {CRASH_MESSAGE, CRASH_GARBAGE, CRASH_HEAD},
        {CRASH_BYZANTINE, CRASH_JUMP, CRASH_RELEASE},
    };

    for (unsigned i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (groups[i].any == c)
            return (enum crash_class)(groups[i].first +
                                      random_below(r, groups[i].last - groups[i].first + 1u));
    return c;
}
