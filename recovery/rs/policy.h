/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What to do when a server has died: a pure function of (state, event, now). The state is one
 * struct policy per process; the caller does what the action says.
 *
 * A plain kill says nothing about the server: its successor starts at once. A fault, a hang or an
 * exit may come again at once. Two answers grow with their number.
 *
 * Delay, so that a server which cannot live does not take the processor from those which do: none
 * for the first three in a row (the third one condemns what was in progress, libchan/quarantine.h),
 * then more and more.
 *
 * Steps, each of which gives up more than the one before: the program before the last update, if
 * that was lately; a start without optional state; a cold start. They are for what quarantine does
 * not cure, so that a fault with nothing in progress counts as much as POLICY_BLIND others.
 *
 * Each POLICY_FORGIVE_NS of life takes one fault back, as a server that lives for so long between
 * two faults serves; POLICY_SETTLED_NS takes back all.
 *
 * For ever: nobody has to be called. Only before the stack has come up for the first time does the
 * policy give up, because then there is an operator who waits for the answer and nobody who uses
 * the stack.
 */
#ifndef EFT_RS_POLICY_H
#define EFT_RS_POLICY_H

#include "libchan/edge/rs.h"

#define POLICY_SETTLED_NS 10000000000ull
#define POLICY_FORGIVE_NS 250000000ull

enum {
    POLICY_FIRST_TRIES = 3, /* faults of one server until the first start is given up */
    POLICY_KILLS = 50,      /* unsettled plain kills in a row that are answered without delay */
    /* points: 1 for a fault with something in progress, POLICY_BLIND for one without */
    POLICY_BLIND = 4,
    POLICY_PREVIOUS = 12, /* from here on the previous program, if there was an update lately */
    POLICY_FRUGAL = 20,   /* from here on without optional state */
    POLICY_COLD = 32,     /* from here on cold */
};

enum policy_event {
    POLICY_READY, /* the process answered RS_READY */
    POLICY_DEATH, /* it is dead and reaped; `end` says how */
    POLICY_UP,    /* all processes have been ready for the first time */
};

enum policy_what { POLICY_NOTHING, POLICY_RESTART, POLICY_GIVE_UP };

struct policy_action {
    enum policy_what what;
    uint64_t at;    /* POLICY_RESTART: when; ns of CLOCK_MONOTONIC */
    uint16_t start; /* enum rs_start, of the successor */
    bool previous;  /* with the program before the last update */
};

struct policy {
    /* set by the caller before POLICY_DEATH */
    bool item;              /* something was in progress */
    bool updated;           /* its program was replaced lately, and the one before is there */
    uint32_t faults, kills; /* in a row; see above */
    uint32_t points;
    uint64_t ready_at; /* 0: not ready in this life */
    bool up;
};

struct policy_action policy_step(struct policy *p, enum policy_event event, enum rs_end end,
                                 uint64_t now);

#endif
