/* SPDX-License-Identifier: BSD-2-Clause */
#include "hang.h"

bool hang_suspicious(const struct hang *h, const struct hang_sample *s)
{
    return h->seen && s->turns == h->turns && (s->work || !s->asleep || h->suspect);
}

static enum hang_verdict no_turn(struct hang *h, const struct hang_sample *s, uint64_t now)
{
    if (s->state == 'T')
        return HANG_KILL;
    if (!h->suspect || s->state == 't') {
        h->suspect = true;
        h->since = now;
        h->cpu_ns = s->cpu_ns;
        h->run_delay_ns = s->run_delay_ns;
        return HANG_RING;
    }
    if (s->cpu_ns - h->cpu_ns >= HANG_CPU_NS)
        return HANG_KILL;
    const uint64_t wall = now - h->since, waited = s->run_delay_ns - h->run_delay_ns;
    /* ready to run and not running: the delay of the present wait is not yet accounted for */
    if (s->state == 'R' || wall < waited)
        return HANG_FINE;
    return wall - waited >= (s->state == 'D' ? HANG_KERNEL_NS : HANG_SLEEP_NS) ? HANG_KILL
                                                                               : HANG_FINE;
}

static enum hang_verdict no_move(struct hang *h, const struct hang_sample *s, uint64_t now)
{
    /* Heads only grow: when their sum stands still, what waited then waits now. */
    if (!h->seen || !h->waiting || !s->waiting || s->moved != h->moved || s->excused) {
        h->stuck = false;
        return HANG_FINE;
    }
    if (!h->stuck) {
        h->stuck = true;
        h->stuck_since = now;
        h->stuck_turns = s->turns;
    }
    if (now - h->stuck_since >= HANG_STUCK_NS && s->turns - h->stuck_turns >= HANG_STUCK_TURNS)
        return HANG_KILL;
    return HANG_RING; /* so that it takes the turns by which it is judged */
}

enum hang_verdict hang_step(struct hang *h, const struct hang_sample *s, uint64_t now)
{
    enum hang_verdict v;

    if (hang_suspicious(h, s)) {
        v = no_turn(h, s, now);
    } else {
        h->suspect = false;
        v = no_move(h, s, now);
    }
    h->seen = true;
    h->turns = s->turns;
    h->moved = s->moved;
    h->waiting = s->waiting;
    return v;
}
