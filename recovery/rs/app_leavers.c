/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Applications that have closed their control socket. Most of them go on; one that has become
 * another program by exec maps nothing of ours any more, and has gone although its process lives.
 * So those who hung up are looked at again and again (mapped.h), a little at a time.
 */
#include "mapped.h"
#include "rs.h"

/* How often all of them are looked at; and within that, how much at once: about a millisecond in
 * fifty. */
#define LEAVERS_EVERY_NS 1000000000ull
#define LEAVERS_STEP_NS  50000000ull
enum { LEAVER_READS = 32 };

void app_hung_up(struct rs *rs, struct application *a)
{
    struct mapped m;

    /* One that has just become another program has few mappings: the answer comes at once. */
    enum mapped_answer answer = mapped_begin(&m, a->pid, a->region[APP_UP].ro);
    if (answer == MAPPED_MORE)
        answer = mapped_step(&m, LEAVER_READS);
    mapped_end(&m);
    if (answer == MAPPED_NO)
        app_gone(rs, a);
    else if (rs->leavers_at == UINT64_MAX)
        rs->leavers_at = rs_now() + LEAVERS_EVERY_NS;
}

/* The next one from `from` on that closed its control socket and may have gone by exec. */
static struct application *next_leaver(const struct rs *rs, unsigned from)
{
    for (unsigned i = from; i < APPS_MAX; i++) {
        struct application *a = rs->app[i];
        if (a != NULL && a->hung_up && (a->state == APP_LIVE || a->state == APP_JOINING))
            return a;
    }
    return NULL;
}

void app_leavers(struct rs *rs, uint64_t now)
{
    static struct mapped m = {.fd = -1};
    static unsigned number;     /* of the one that is looked at, or to be looked at next */
    static uint32_t generation; /* of the one that is looked at */
    unsigned reads = LEAVER_READS;
    struct application *a;

    while ((a = next_leaver(rs, number)) != NULL && reads > 0) {
        enum mapped_answer answer = MAPPED_MORE;

        if (m.fd >= 0 && (a->number != number || a->generation != generation))
            mapped_end(&m); /* that one has ended meanwhile */
        number = a->number;
        generation = a->generation;
        if (m.fd < 0) {
            answer = mapped_begin(&m, a->pid, a->region[APP_UP].ro);
            reads--;
        }
        for (; answer == MAPPED_MORE && reads > 0; reads--)
            answer = mapped_step(&m, 1);
        if (answer == MAPPED_MORE)
            break;
        number++;
        if (answer == MAPPED_NO)
            app_gone(rs, a);
    }
    if (a != NULL) {
        rs->leavers_at = now + LEAVERS_STEP_NS;
        return;
    }
    /* All were looked at: again later, if there are any. */
    mapped_end(&m);
    number = 0;
    rs->leavers_at = next_leaver(rs, 0) != NULL ? now + LEAVERS_EVERY_NS : UINT64_MAX;
}
