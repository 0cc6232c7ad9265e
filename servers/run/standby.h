/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life of a spare: it has mapped everything and closed its sandbox, and sleeps until the one
 * that runs dies, or rs has something to say. It uses no processor time meanwhile.
 *
 * The lock word (server_block.lock of the role's first component) holds the thread id of the one
 * that runs and FUTEX_WAITERS, and is on that one's robust list: at its death, before its memory is
 * torn down, the kernel replaces the id by FUTEX_OWNER_DIED and wakes one spare. That is fast, and
 * nothing to rely on: the word is memory of a server that has just gone wrong. So a spare that sees
 * the mark
 *
 *   1. puts its own id there (of two spares one wins; the other sleeps again),
 *   2. ends its predecessor: SIGKILL by pidfd, then waits until the kernel says that it is exiting
 * and will never run another instruction of its own. If the epoch is not what rs said of the
 * running one, somebody unknown may run: then all fellows are ended,
 *   3. looks again: is the lock still its own, the epoch unchanged? The dead change nothing, so
 * this answer stays. If not, somebody else is at it, and it sleeps again,
 *   4. reads all that rs has sent, and raises the epoch.
 *
 * When the one that runs hands over in peace it puts the id of its heir there instead; to the heir
 * this is the same as the mark, to the others it is nothing.
 *
 * So there is at most one that writes, whatever the word said (tests/model/takeover.pml); that
 * somebody takes over is up to rs, which sees the death by itself and sends RS_TAKE, then starts
 * afresh.
 *
 * A restart keeps nothing of this: a spare that dies is replaced by rs.
 */
#ifndef EFT_SERVERS_RUN_STANDBY_H
#define EFT_SERVERS_RUN_STANDBY_H

#include <sys/types.h>

#include "libchan/edge/rs.h"
#include "libchan/wiring.h"

enum { FELLOWS = 8 };

/* Another process of the same role, as rs has told us. */
struct fellow {
    pid_t pid;       /* 0: free place */
    int pidfd, stat; /* of it; stat: /proc/PID/stat */
    bool running;
    uint64_t epoch; /* if running */
};

struct standby {
    struct server_block *block;
    const struct rs_role *role;
    uint32_t self; /* our thread id */
    bool take;     /* rs says so */
    struct fellow fellow[FELLOWS];
};

enum standby_verdict {
    STANDBY_SLEEP,
    STANDBY_TAKE,     /* ours, once the running one is ended */
    STANDBY_TAKE_ALL, /* ours, once all fellows are ended */
};

/* What to do about this lock word and this epoch. Pure. */
enum standby_verdict standby_decide(const struct standby *s, uint32_t lock, uint64_t epoch);
/* After the fellows were ended: may we go on? Pure. */
bool standby_confirm(const struct standby *s, uint32_t lock, uint64_t epoch, uint64_t epoch_before);

/* RS_FELLOW; owns the descriptors. */
void standby_fellow(struct standby *s, const struct rs_message *m, int pidfd, int stat);
/* The lock word on this thread's robust list, which does nothing as long as it is not the owner. */
void standby_register(struct standby *s);
/* For the first of all, and for one that rs starts afresh: nobody else is left. */
void standby_own(struct standby *s);
/* Makes the spare whose thread id is `heir` the owner, wakes all, and exits. */
void standby_hand_over(struct standby *s, uint32_t heir) __attribute__((noreturn));
/* Sleeps until the lock or the generation is not what it was. */
void standby_sleep(const struct standby *s, uint32_t lock, uint32_t generation);
/* One attempt, steps 1 to 3. True: we are the one that runs, and have not stored anything yet. */
bool standby_try(struct standby *s);
/* Closes what a spare has and a running one does not need. */
void standby_end(struct standby *s);

#endif
