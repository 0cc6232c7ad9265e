/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rs after its own death: the servers and the applications live, and go on without noticing; the
 * next rs takes them over as they are. What its predecessor knew, and how we learn it:
 *
 *   configuration          its region. The file is not read again: it may have changed
 *   regions, bells,        descriptors in the store, by name (fdstore.h). Generations of servers'
 *   devices, lock,         regions are 1, sizes the region's own
 *   listening sockets
 *   neighbours, inputs     computed from the regions
 *   which roles            computed from the configuration; users from the name service
 *   how a role has fared   record rs.role: policy, restarts, when it is to be started
 *   programs, updates      record rs.role; parked with each incarnation: which of them
 *   who plays it           record rs.role: which process
 *   everybody's processes  parked: pidfd and channel. Dead meanwhile: the pidfd says so
 *   has a spare taken      it has said so in its channel, which is read before pidfds
 *   over
 *   how the dead ended     their successor says it, or their own record of faults
 *   is it ready            it is asked: RS_START, RS_STANDBY; RS_READY, RS_STANDING again
 *   what it has mapped     it is told everything again and acknowledges again; map
 *                          generations have the number of our life in the upper bits, so
 *                          that no answer to a predecessor is taken for one to us
 *   what was to be said    everything is said again, also that what is gone is gone
 *   what it has said       is in its channel until the effects were recorded
 *   applications           record rs.app: state, generation, who has let go, open requests;
 *                          parked: regions, bells, waiters, pidfd, control socket
 *   who they are           their control socket: the kernel's word
 *   attaches under way     begin again; the reply may come twice, with the same id
 *   waiters under way      the same
 *   free numbers           record rs.app: generation
 *   deaths, hang-ups       the descriptors say so at once
 *   do they map memory     looked at again (mapped.h)
 *   up, stopping, since    record rs.stack
 *   when, how often rs
 *   was started
 *   operators              lost: they ask again. Who connects meanwhile waits
 *   hang detector          begins anew
 *   who waits for eft up   eft-keeper keeps that descriptor until the stack is up
 *
 * A child that was forked and not yet parked has been told nothing: its channel closes with us, and
 * it ends. What cannot be adopted (another layout, something missing or damaged) ends in a cold
 * start.
 */
#include "servers/run/fault.h"

#include "fdstore.h"
#include "log.h"
#include "rs.h"
#include "state.h"

#include <errno.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

bool adopt_begin(struct rs *rs)
{
    const int fd = fdstore_take("state");
    struct state_stack s;

    if (fd < 0)
        return false;
    if (state_open(rs, fd) < 0 || state_load_stack(rs, &s) < 0 || !s.complete ||
        s.adoptions >= STATE_ADOPTIONS_MAX) {
        log_say(LOG_ERR, "", "the state of the last eft-rs cannot be used");
        state_close(rs);
        return false;
    }
    rs->lives = s.lives + 1;
    rs->seq = rs->lives << 40;
    rs->started_at = s.started_at;
    rs->up = s.up != 0;
    rs->stopping = s.stopping != 0;
    rs->exit_status = s.exit_status;
    rs->complete = true;
    rs->adoptions = s.adoptions + 1;
    state_save_stack(rs);
    return true;
}

static int adopt_role(struct rs *rs, struct process *p)
{
    struct parked what;
    int fds[PARK_FDS];
    pid_t running;
    const int rc = state_load_role(rs, p, &running);

    if (rc == -EPROTO) {
        log_say(LOG_WARNING, p->name, "its record is damaged, and begins anew");
        running = (pid_t)load_relaxed(&p->block->pid); /* as it says itself */
    }
    p->state = rs->stopping ? PROCESS_ENDED : PROCESS_WAITING;
    for (unsigned i = 0; i < INCARNATIONS; i++) {
        struct incarnation *who = &p->incarnation[i];
        park_rewind(&who->park);
        const int n = park_next(&who->park, &what, fds);
        if (n < 0)
            return n;
        if (n == 2)
            server_adopt(rs, who, &what, fds[0], fds[1], what.pid == running);
    }
    if (running != 0 && p->running == NULL) {
        /* its death was seen, and its park cleared, but that was not yet recorded */
        const struct incarnation dead = {.process = p};
        server_ended(p, &dead, fault_end(p->block, p->shared), false, rs_now());
        state_save_role(rs, p);
    }
    update_resume(rs, p);
    return 0;
}

int adopt_stack(struct rs *rs)
{
    const uint64_t began = rs_now();
    unsigned servers = 0;

    for (unsigned i = 0; i < rs->processes; i++) {
        const int rc = adopt_role(rs, &rs->process[i]);
        if (rc < 0)
            return rc;
        servers += rs->process[i].running != NULL;
    }
    for (unsigned i = 0; i < APPS_MAX; i++) {
        struct state_app s;
        int rc = state_load_app(rs, i, &s);
        if (rc != -ENOENT)
            rc = app_adopt(rs, i, rc == 0 ? &s : NULL);
        if (rc < 0 && rc != -ENOENT)
            return rc;
    }
    server_retell(rs);
    app_resume(rs);
    rs->adoptions = 0;
    state_save_stack(rs);
    log_say(LOG_NOTICE, "",
            "process %d is eft-rs from now on: took over %u servers and %u applications in %.2f ms",
            getpid(), servers, app_count(rs), (double)(rs_now() - began) / 1e6);
    if (rs->up)
        sd_notifyf(0, "READY=1\nSTATUS=%u servers are running; eft-rs was restarted %llu times",
                   rs->processes, (unsigned long long)rs->lives - 1);
    if (rs->stopping) {
        rs->stopping = false;
        rs_stop(rs, rs->exit_status);
    }
    runtime_pids(rs);
    return 0;
}
