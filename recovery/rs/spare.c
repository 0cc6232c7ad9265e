/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Spares: processes that have been told everything and sleep (servers/run/standby.h). A spare takes
 * over by itself, faster than we hear of the death. What is left to us:
 *
 *   make them          after the one that runs is ready, one by one; in a crash loop not before the
 *                      policy would have restarted it
 *   tell them          all that the running one is told, at once; they are woken to read it a
 * little later, so that a take-over has little left to read see that it works  the one that ran is
 * reaped and nobody has said RS_TAKEN: wake all; after TAKE_AFTER_NS tell one to take over; after
 * COLD_AFTER_NS more end all of them, and start afresh
 *
 * A restart of a role keeps its other spare. Not promised: that there is a spare at every moment.
 * When there is none, the role is started afresh, which takes longer and loses nothing else.
 */
#include "log.h"
#include "rs.h"
#include "state.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TAKE_AFTER_NS  1000000ull
#define COLD_AFTER_NS  20000000ull
#define READY_LIMIT_NS 10000000000ull

enum { STILLBORN_SHIFT_MAX = 10 }; /* of SPARE_AFTER_NS: 20 s */

static unsigned wanted(const struct rs *rs, const struct process *p)
{
    unsigned n = 1;

    if (!SHM_KEEP)
        return 0; /* nobody could take over */
    if (rs->cfg->spares != SPARES_DEFAULT)
        return rs->cfg->spares;
    /* those through which every packet goes, and which a fault hits first, have one more */
    for (unsigned i = 0; i < p->components; i++) {
        const enum server_kind kind = SERVER_ID_KIND(p->id[i]);
        if (kind == SERVER_TCP || kind == SERVER_IP || kind == SERVER_DRIVER)
            n = SPARES_MAX;
    }
    return n;
}

static bool is_spare(const struct process *p, const struct incarnation *who)
{
    return who != p->running &&
           (who->state == INCARNATION_STARTING || who->state == INCARNATION_STANDBY);
}

static bool stands(const struct incarnation *who)
{
    return who->state == INCARNATION_STANDBY && who->ready > 0;
}

unsigned spare_count(const struct process *p)
{
    unsigned n = 0;

    for (unsigned i = 0; i < INCARNATIONS; i++)
        n += stands(&p->incarnation[i]);
    return n;
}

/* ---- telling ---- */

void spare_wake(struct process *p)
{
    p->wake_at = UINT64_MAX;
    shm_store_release(&p->shared->generation, p->shared->generation + 1);
    syscall(SYS_futex, &p->shared->generation, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void tell_fellow(struct rs *rs, struct incarnation *to, const struct incarnation *about)
{
    const bool runs = about == about->process->running && about->epoch != 0;
    const int fds[2] = {about->pidfd.fd, about->stat};

    if (about->state != INCARNATION_NONE && about->stat >= 0)
        channel_post(rs, to,
                     (struct rs_message){.op = RS_FELLOW,
                                         .to = to->process->id[0],
                                         .arg = runs,
                                         .pid = (uint32_t)about->pid,
                                         .request_id = about->epoch},
                     fds, 2);
}

void spare_tell_running(struct rs *rs, struct process *p)
{
    for (unsigned i = 0; i < INCARNATIONS; i++)
        if (is_spare(p, &p->incarnation[i]))
            tell_fellow(rs, &p->incarnation[i], p->running);
}

/* ---- making ---- */

struct incarnation *spare_make(struct rs *rs, struct process *p, const struct program *program,
                               uint64_t now)
{
    struct incarnation *who = server_beget(rs, p, program, now, true);

    p->replenish_at = now + SPARE_AFTER_NS;
    if (who == NULL)
        return NULL;
    server_tell_all(rs, who);
    for (unsigned i = 0; i < INCARNATIONS; i++) {
        struct incarnation *other = &p->incarnation[i];
        if (other == who)
            continue;
        tell_fellow(rs, who, other);
        /* before it can take over, so that the others know whom they may have to end */
        if (is_spare(p, other))
            tell_fellow(rs, other, who);
    }
    channel_stand_by(rs, who);
    return who;
}

/* Spares of another program than the role's are no use any more, once there are others. */
static void dismiss(struct process *p)
{
    for (unsigned i = 0; i < INCARNATIONS; i++) {
        struct incarnation *who = &p->incarnation[i];
        if (is_spare(p, who) && who->program.build != p->program.build)
            server_kill(who, false);
    }
}

void spare_retell(struct rs *rs, struct process *p)
{
    for (unsigned i = 0; i < INCARNATIONS; i++) {
        struct incarnation *who = &p->incarnation[i];
        if (!is_spare(p, who))
            continue;
        server_tell_all(rs, who);
        for (unsigned k = 0; k < INCARNATIONS; k++)
            if (k != i)
                tell_fellow(rs, who, &p->incarnation[k]);
        channel_stand_by(rs, who);
        who->ready = 1; /* it slept before, most likely; should it not, RS_TAKE waits for it */
    }
    spare_wake(p);
}

static void replenish(struct rs *rs, struct process *p, uint64_t now)
{
    unsigned n = 0, standing = 0;

    if (update_keeps_spares(p)) {
        p->replenish_at = UINT64_MAX; /* its end is told */
        return;
    }
    for (unsigned i = 0; i < INCARNATIONS; i++) {
        const struct incarnation *who = &p->incarnation[i];
        const bool current = is_spare(p, who) && who->program.build == p->program.build;
        n += current;
        standing += current && stands(who);
    }
    if (n < wanted(rs, p)) {
        spare_make(rs, p, &p->program, now);
        return;
    }
    p->replenish_at = UINT64_MAX;
    if (standing == n)
        dismiss(p);
}

void spare_standing(struct rs *rs, struct incarnation *who, const struct rs_message *m)
{
    if (who->state != INCARNATION_STANDBY || m->arg != REGION_LAYOUT_VERSION) {
        server_kill(who, false);
        return;
    }
    spawn_stand_by(rs, who);
    who->ready = 1;
    who->process->stillborn = 0;
    if (who->program.build == who->process->program.build)
        who->process->replenish_at = rs_now(); /* others may be dismissed now */
    update_standing(rs, who);
}

void spare_died(struct process *p, bool stood, uint64_t now)
{
    const unsigned shift = p->stillborn < STILLBORN_SHIFT_MAX ? p->stillborn : STILLBORN_SHIFT_MAX;
    const uint64_t at = now + (SPARE_AFTER_NS << shift);

    if (!stood)
        p->stillborn++;
    if (p->replenish_at == UINT64_MAX || p->replenish_at < at)
        p->replenish_at = at;
}

/* ---- taking over ---- */

bool spare_orphaned(struct process *p, uint64_t now)
{
    if (spare_count(p) == 0)
        return false;
    p->take_at = now + TAKE_AFTER_NS;
    p->take_told = false;
    spare_wake(p);
    return true;
}

void spare_taken(struct rs *rs, struct incarnation *who, const struct rs_message *m, uint64_t now)
{
    struct process *p = who->process;
    struct incarnation *before = p->running;
    enum rs_end end = m->arg <= END_HANG ? (enum rs_end)m->arg : END_FAULT;
    bool previous = false;

    if (who->state != INCARNATION_STANDBY) {
        log_say(LOG_WARNING, p->name, "process %d took over, which is no spare", who->pid);
        server_kill(who, false);
        return;
    }
    if (before != NULL) {
        if (before->hung)
            end = END_HANG;
        else if (before->handing && who == p->update.heir && end == END_KILLED)
            end = END_NONE;
        previous = server_ended(p, before, end, m->id != 0, now).previous;
        before->state = INCARNATION_ENDING;
        server_kill(before, false);
    }
    if (m->time_ns < p->died_at)
        p->died_at = m->time_ns; /* it knew before us */
    p->take_at = UINT64_MAX;
    update_taken(rs, p, who, end, now);
    if (previous)
        update_go_back(rs, p);
    p->running = who;
    p->state = PROCESS_STARTING;
    who->state = INCARNATION_STARTING;
    who->ready = 0;
    who->started_at = now;
    who->limit_at = now + READY_LIMIT_NS;
    who->epoch = m->request_id;
    state_save_role(rs, p);
    if (who->adopted) /* that it is ready it may have said to a predecessor of ours */
        channel_post(rs, who, (struct rs_message){.op = RS_START, .to = p->id[0]}, NULL, 0);
    spare_tell_running(rs, p);
}

static bool stopped(const struct incarnation *who)
{
    struct hang_sample s = {0};

    return watchdog_process(who->pid, &s) < 0 || s.state == 'T' || s.state == 't';
}

/* The spare that has the lock, and is on its way; it may have to wait for a processor. */
static const struct incarnation *taking(const struct process *p)
{
    const uint32_t lock = load_relaxed(&p->block->lock);

    for (unsigned i = 0; i < INCARNATIONS; i++) {
        const struct incarnation *who = &p->incarnation[i];
        if (stands(who) && ((uint32_t)who->pid | FUTEX_WAITERS) == lock)
            return who;
    }
    return NULL;
}

static void next_step(struct rs *rs, struct process *p, uint64_t now)
{
    struct incarnation *spare = NULL;

    if (!p->take_told && taking(p) != NULL && !stopped(taking(p))) {
        p->take_told = true;
        p->take_at = now + COLD_AFTER_NS;
        return;
    }
    for (unsigned i = 0; i < INCARNATIONS && spare == NULL; i++)
        if (stands(&p->incarnation[i]) && !stopped(&p->incarnation[i]))
            spare = &p->incarnation[i];
    if (!p->take_told && spare != NULL) {
        p->take_told = true;
        p->take_at = now + COLD_AFTER_NS;
        channel_post(rs, spare, (struct rs_message){.op = RS_TAKE, .to = p->id[0]}, NULL, 0);
        spare_wake(p);
        log_say(LOG_NOTICE, p->name, "nobody took over, telling spare %d to", spare->pid);
        return;
    }
    log_say(LOG_WARNING, p->name, "no spare took over, starting afresh");
    p->take_at = UINT64_MAX;
    for (unsigned i = 0; i < INCARNATIONS; i++)
        server_kill(&p->incarnation[i], false);
}

/* ---- time ---- */

static bool may_make(const struct rs *rs, const struct process *p)
{
    return rs->up && !rs->stopping && p->state == PROCESS_RUNNING;
}

void spare_timers(struct rs *rs, uint64_t now)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        struct process *p = &rs->process[i];

        if (p->wake_at <= now)
            spare_wake(p);
        if (p->take_at <= now && !rs->stopping)
            next_step(rs, p, now);
        if (p->replenish_at <= now && may_make(rs, p))
            replenish(rs, p, now);
        for (unsigned k = 0; k < INCARNATIONS; k++) {
            struct incarnation *who = &p->incarnation[k];
            if (is_spare(p, who) && !stands(who) && who->killed_at == 0 &&
                now - who->started_at > READY_LIMIT_NS) {
                log_say(LOG_ERR, p->name, "spare %d is not ready, killing it", who->pid);
                server_kill(who, false);
            }
        }
    }
}

uint64_t spare_deadline(const struct rs *rs)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < rs->processes; i++) {
        const struct process *p = &rs->process[i];

        at = p->wake_at < at ? p->wake_at : at;
        if (!rs->stopping && p->take_at < at)
            at = p->take_at;
        if (may_make(rs, p) && p->replenish_at < at)
            at = p->replenish_at;
        for (unsigned k = 0; k < INCARNATIONS; k++) {
            const struct incarnation *who = &p->incarnation[k];
            if (is_spare(p, who) && !stands(who) && who->killed_at == 0 &&
                who->started_at + READY_LIMIT_NS < at)
                at = who->started_at + READY_LIMIT_NS + 1;
        }
    }
    return at;
}
