/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What to do when a server has died: a pure function of (state, event, now). The state is one
 * struct policy per process; the caller does what the action says.
 *
 * A plain kill says nothing about the server: its successor starts at once. A fault, a hang or an
 * exit may come again at once: the first successor starts at once, those after it with a growing
 * delay, for ever: nobody has to be called. A server that has lived for POLICY_SETTLED_NS after
 * being ready starts with a clean slate. Only before the stack has come up for the first time does
 * the policy give up, because then there is an operator who waits for the answer and nobody who
 * uses the stack.
 */
#ifndef EFT_RS_POLICY_H
#define EFT_RS_POLICY_H

#include "libchan/edge/rs.h"

#define POLICY_SETTLED_NS 10000000000ull

enum {
    POLICY_FIRST_TRIES = 3, /* faults of one server until the first start is given up */
    POLICY_KILLS = 50,      /* unsettled plain kills in a row that are answered without delay */
};

enum policy_event {
    POLICY_READY, /* the process answered RS_READY */
    POLICY_DEATH, /* it is dead and reaped; `end` says how */
    POLICY_UP,    /* all processes have been ready for the first time */
};

enum policy_what { POLICY_NOTHING, POLICY_RESTART, POLICY_GIVE_UP };

struct policy_action {
    enum policy_what what;
    uint64_t at; /* POLICY_RESTART: when; ns of CLOCK_MONOTONIC */
};

struct policy {
    uint32_t faults, kills; /* in a row, without a settled life in between */
    uint64_t ready_at;      /* 0: not ready in this life */
    bool up;
};

struct policy_action policy_step(struct policy *p, enum policy_event event, enum rs_end end,
                                 uint64_t now);

#endif
