/* SPDX-License-Identifier: BSD-2-Clause */
#include "hang.h"

bool hang_suspicious(const struct hang *h, const struct hang_sample *s)
{
    return h->seen && s->turns == h->turns && (s->work || !s->asleep || h->suspect);
}

enum hang_verdict hang_step(struct hang *h, const struct hang_sample *s, uint64_t now)
{
    if (!hang_suspicious(h, s)) {
        *h = (struct hang){.seen = true, .turns = s->turns};
        return HANG_FINE;
    }
    if (s->state == 'T')
        return HANG_KILL;
    if (!h->suspect) {
        h->suspect = true;
        h->since = now;
        h->cpu_ns = s->cpu_ns;
        h->run_delay_ns = s->run_delay_ns;
        return HANG_RING;
    }
    if (s->cpu_ns - h->cpu_ns >= HANG_CPU_NS)
        return HANG_KILL;
    uint64_t wall = now - h->since, waited = s->run_delay_ns - h->run_delay_ns;
    /* ready to run and not running: the delay of the present wait is not yet accounted for */
    if (s->state == 'R' || wall < waited)
        return HANG_FINE;
    return wall - waited >= HANG_WALL_NS ? HANG_KILL : HANG_FINE;
}
