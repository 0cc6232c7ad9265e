/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Replacing the program of a role while it runs: the hand-over of a crash, announced.
 *
 *   PREPARING  a spare is made of the new program: the heir. It maps everything, so that another
 *              layout of the shared memory is refused here, and closes its sandbox
 *   HANDING    the one that runs is asked (RS_HANDOVER): at the top of its loop, with nothing half
 *              done, it makes the heir the owner of the lock, wakes it and exits
 *   TRIAL      the heir runs. Spares of the old program stay: if it ends within `trial_s`, one of
 *              them takes over as after any death, and with it the old program is back
 *   DONE       the spares of the old program are replaced by some of the new one. If the new one
 *              cannot live later on (policy.h), the old one comes back
 *
 * The role's program is that of whoever runs it; nothing else decides. A crash at any point leads
 * to a successor of the one or of the other program, and loses nothing.
 *
 * Not promised: that the new program is right, only that it starts, agrees about the layout and
 * lives for a while.
 */
#include "log.h"
#include "rs.h"
#include "state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

const char *update_state_name(enum update_state s)
{
    static const char *const names[] = {[UPDATE_NONE] = "none",
                                        [UPDATE_PREPARING] = "preparing",
                                        [UPDATE_HANDING] = "handing",
                                        [UPDATE_TRIAL] = "trial",
                                        [UPDATE_DONE] = "done",
                                        [UPDATE_REFUSED] = "refused",
                                        [UPDATE_ROLLED_BACK] = "rolled-back"};

    return names[s];
}

static bool under_way(const struct process *p)
{
    return p->update.state == UPDATE_PREPARING || p->update.state == UPDATE_HANDING;
}

__attribute__((format(printf, 4, 5))) static void
end_as(struct rs *rs, struct process *p, enum update_state state, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(p->update.why, sizeof p->update.why, fmt, ap);
    va_end(ap);
    p->update.state = state;
    p->update.heir = NULL;
    p->update.until = UINT64_MAX;
    state_save_role(rs, p);
    log_say(state == UPDATE_DONE ? LOG_NOTICE : LOG_ERR, p->name, "update %s: %s",
            update_state_name(state), p->update.why);
}

int update_begin(struct rs *rs, struct process *p, const char *path, char *error, size_t size)
{
    struct program program = {.build = p->update.builds + 1};
    const uint64_t now = rs_now();
    struct stat st;

    if (p->state != PROCESS_RUNNING || rs->stopping) {
        snprintf(error, size, "it is not running");
        return -EAGAIN;
    }
    if (under_way(p) || p->update.state == UPDATE_TRIAL) {
        snprintf(error, size, "an update of it is under way");
        return -EBUSY;
    }
    if (path[0] != '\0' && path[0] != '/') {
        snprintf(error, size, "expected the full path of a program");
        return -EINVAL;
    }
    if ((size_t)snprintf(program.path, sizeof program.path, "%s", path) >= sizeof program.path) {
        snprintf(error, size, "the path is longer than %zu bytes", sizeof program.path - 1);
        return -ENAMETOOLONG;
    }
    if (path[0] != '\0' &&
        (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, X_OK) < 0)) {
        snprintf(error, size, "%s is no program", path);
        return -ENOEXEC;
    }
    /* recorded before there is an heir: an rs that adopts one knows what it is */
    p->update = (struct update){
        .state = UPDATE_PREPARING, .builds = program.build, .next = program, .until = UINT64_MAX};
    state_save_role(rs, p);
    p->update.heir = spare_make(rs, p, &program, now);
    if (p->update.heir == NULL) {
        end_as(rs, p, UPDATE_REFUSED, "cannot start it");
        snprintf(error, size, "%s", p->update.why);
        return -EAGAIN;
    }
    log_say(LOG_NOTICE, p->name, "update to %s: process %d is to take over",
            path[0] != '\0' ? path : "the installed program", p->update.heir->pid);
    return 0;
}

/* Asks whoever runs; also a successor of the one that was asked. */
static void ask(struct rs *rs, struct process *p)
{
    p->running->handing = true;
    channel_post(rs, p->running,
                 (struct rs_message){
                     .op = RS_HANDOVER, .to = p->id[0], .pid = (uint32_t)p->update.heir->pid},
                 NULL, 0);
}

void update_standing(struct rs *rs, struct incarnation *who)
{
    struct process *p = who->process;

    if (p->update.state != UPDATE_PREPARING || who != p->update.heir)
        return;
    p->update.state = UPDATE_HANDING;
    state_save_role(rs, p);
    if (p->running != NULL && p->state == PROCESS_RUNNING)
        ask(rs, p);
}

void update_ready(struct rs *rs, struct process *p)
{
    if (p->update.state == UPDATE_HANDING && p->running != p->update.heir)
        ask(rs, p); /* the one that was asked has died */
    else if (p->update.state == UPDATE_TRIAL)
        log_say(LOG_NOTICE, p->name, "runs the new program, for %u s on trial", rs->cfg->trial_s);
}

void update_taken(struct rs *rs, struct process *p, struct incarnation *who, enum rs_end end,
                  uint64_t now)
{
    struct update *u = &p->update;

    if (under_way(p) && who == u->heir) {
        u->state = UPDATE_TRIAL;
        u->heir = NULL;
        u->before = p->program;
        u->until = now + rs->cfg->trial_s * 1000000000ull;
    } else if (u->state == UPDATE_TRIAL && who->program.build != p->program.build) {
        end_as(rs, p, UPDATE_ROLLED_BACK, "the new program was ended (%s)", end_name(end));
    }
    p->program = who->program;
}

void update_bereaved(struct rs *rs, struct process *p, enum rs_end end)
{
    if (p->update.state != UPDATE_TRIAL)
        return;
    p->program = p->update.before;
    end_as(rs, p, UPDATE_ROLLED_BACK, "the new program was ended (%s), and there was no spare",
           end_name(end));
}

void update_go_back(struct rs *rs, struct process *p)
{
    p->program = p->update.before;
    /* who runs may be of the new one, and is the last of it */
    for (unsigned i = 0; i < INCARNATIONS; i++) {
        struct incarnation *who = &p->incarnation[i];
        if (who != p->running && who->state != INCARNATION_NONE &&
            who->program.build != p->program.build)
            server_kill(who, false);
    }
    end_as(rs, p, UPDATE_ROLLED_BACK, "the new program cannot live");
}

void update_lost(struct rs *rs, struct process *p, const struct incarnation *who, const char *how)
{
    if (under_way(p) && who == p->update.heir)
        end_as(rs, p, UPDATE_REFUSED, "the new program %s", how);
}

bool update_adopt(struct process *p, struct incarnation *who, unsigned build)
{
    const struct update *u = &p->update;

    if (build == p->program.build)
        who->program = p->program;
    else if (u->state == UPDATE_TRIAL && build == u->before.build)
        who->program = u->before;
    else if (under_way(p) && build == u->next.build)
        who->program = u->next;
    else
        return false;
    if (under_way(p) && build == u->next.build)
        p->update.heir = who;
    return true;
}

void update_resume(struct rs *rs, struct process *p)
{
    if (under_way(p) && p->update.heir == NULL)
        end_as(rs, p, UPDATE_REFUSED, "the new program ended, or was not yet started");
    if (p->update.state == UPDATE_HANDING && p->running != NULL)
        p->running->handing = true; /* it may have been asked */
}

bool update_keeps_spares(const struct process *p)
{
    return under_way(p) || p->update.state == UPDATE_TRIAL;
}

void update_timers(struct rs *rs, uint64_t now)
{
    for (unsigned i = 0; i < rs->processes; i++) {
        struct process *p = &rs->process[i];
        if (p->update.state == UPDATE_TRIAL && p->update.until <= now) {
            end_as(rs, p, UPDATE_DONE, "the new program has run for %u s", rs->cfg->trial_s);
            p->replenish_at = now;
        }
    }
}

uint64_t update_deadline(const struct rs *rs)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < rs->processes; i++)
        if (rs->process[i].update.state == UPDATE_TRIAL && rs->process[i].update.until < at)
            at = rs->process[i].update.until;
    return at;
}
