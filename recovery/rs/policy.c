/* SPDX-License-Identifier: BSD-2-Clause */
#include "policy.h"

static const uint64_t fault_delay_ms[] = {0, 1, 10, 100, 1000};
enum { FAULT_DELAYS = sizeof fault_delay_ms / sizeof fault_delay_ms[0], KILL_DELAY_MS = 10 };

static struct policy_action death(struct policy *p, enum rs_end end, uint64_t now)
{
    struct policy_action action = {.what = POLICY_RESTART, .at = now};

    if (p->ready_at != 0 && now - p->ready_at >= POLICY_SETTLED_NS)
        p->faults = p->kills = 0;
    p->ready_at = 0;
    switch (end) {
    case END_NONE:
        break;
    case END_KILLED:
        if (p->kills >= POLICY_KILLS)
            action.at += KILL_DELAY_MS * 1000000ull;
        else
            p->kills++;
        break;
    case END_FAULT:
    case END_HANG: {
        uint32_t n = p->faults < FAULT_DELAYS ? p->faults : FAULT_DELAYS - 1;
        action.at += fault_delay_ms[n] * 1000000ull;
        p->faults++;
        if (!p->up && p->faults >= POLICY_FIRST_TRIES)
            action.what = POLICY_GIVE_UP;
        break;
    }
    }
    return action;
}

struct policy_action policy_step(struct policy *p, enum policy_event event, enum rs_end end,
                                 uint64_t now)
{
    switch (event) {
    case POLICY_READY:
        p->ready_at = now;
        break;
    case POLICY_UP:
        p->up = true;
        p->faults = p->kills = 0;
        break;
    case POLICY_DEATH:
        return death(p, end, now);
    }
    return (struct policy_action){.what = POLICY_NOTHING};
}
