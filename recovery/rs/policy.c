/* SPDX-License-Identifier: BSD-2-Clause */
#include "policy.h"

static const uint64_t fault_delay_ms[] = {0, 0, 0, 1, 10, 100, 1000};
enum { FAULT_DELAYS = sizeof fault_delay_ms / sizeof fault_delay_ms[0], KILL_DELAY_MS = 10 };

static void forgive(struct policy *p, uint64_t life)
{
    const uint64_t n = life / POLICY_FORGIVE_NS, points = n * POLICY_BLIND;

    p->faults -= n < p->faults ? (uint32_t)n : p->faults;
    p->points -= points < p->points ? (uint32_t)points : p->points;
    if (life >= POLICY_SETTLED_NS)
        p->faults = p->kills = p->points = 0;
}

static void fault(struct policy *p, struct policy_action *action)
{
    const uint32_t n = p->faults < FAULT_DELAYS ? p->faults : FAULT_DELAYS - 1;

    action->at += fault_delay_ms[n] * 1000000ull;
    p->faults++;
    p->points += p->item ? 1 : POLICY_BLIND;
    action->previous = p->updated && p->points >= POLICY_PREVIOUS;
    if (p->points >= POLICY_FRUGAL)
        action->start |= START_FRUGAL;
    if (p->points >= POLICY_COLD)
        action->start |= START_COLD;
    if (!p->up && p->faults >= POLICY_FIRST_TRIES)
        action->what = POLICY_GIVE_UP;
}

static struct policy_action death(struct policy *p, enum rs_end end, uint64_t now)
{
    struct policy_action action = {.what = POLICY_RESTART, .at = now};

    forgive(p, p->ready_at != 0 ? now - p->ready_at : 0);
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
    case END_HANG:
        fault(p, &action);
        break;
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
        p->faults = p->kills = p->points = 0;
        break;
    case POLICY_DEATH:
        return death(p, end, now);
    }
    return (struct policy_action){.what = POLICY_NOTHING};
}
