/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The facts that only rs knows, as records (recovery/store) in a region of its own that is mapped
 * by nobody else. Written here, read by the next rs when it adopts a stack (adopt.c, which has the
 * list of all facts and says how each is learnt). Everything about descriptors is parked with them.
 *
 *   rs.stack     one: the stack as a whole
 *   rs.role      by index of rs.process[]: how the role has fared
 *   rs.app       by application number: its life, and that of its generations
 *
 * A record is written after what it says was prepared, and before anybody is told.
 */
#ifndef EFT_RS_STATE_H
#define EFT_RS_STATE_H

#include "recovery/store/store.h"
#include "rs.h"

enum { STATE_LAYOUT = 2, STATE_ADOPTIONS_MAX = 10 };

struct state_stack {
    uint64_t lives;      /* of rs: 1 in the first */
    uint64_t started_at; /* CLOCK_MONOTONIC, ns */
    uint32_t complete;   /* everything that an adoption needs is in the store */
    uint32_t up, stopping;
    int32_t exit_status;
    uint32_t adoptions; /* that were begun since one was completed */
    uint32_t reserved;
};

struct state_role {
    char name[32];
    struct policy policy;
    int32_t running; /* process that plays it; 0: nobody */
    uint32_t end;    /* enum rs_end */
    uint64_t restart_at, ready_at, died_at, restarts, hangs, last_gap_ns;
    struct program program;
    struct update update; /* its pointer means nothing */
};

struct state_app {
    uint32_t state; /* enum app_state */
    uint32_t generation, uid;
    int32_t pid;
    uint64_t cookie, request_id;
    uint64_t waiting; /* bit n: the request for waiter n has not been answered */
    uint8_t hung_up, done[2], reserved[5];
};

/* The region that a predecessor left (`fd`), or a new one (-1), which is put into the store.
 * -EPROTO: the one that was left is not one of ours, or of another layout. */
int state_open(struct rs *rs, int fd);
void state_close(struct rs *rs);

/* Write what is so now. Without a region (no store) they do nothing. */
void state_save_stack(struct rs *rs);
void state_save_role(struct rs *rs, const struct process *p);
void state_save_app(struct rs *rs, const struct application *a);

/* Read. -ENOENT: there is no such record; -EPROTO: it is damaged. */
int state_load_stack(const struct rs *rs, struct state_stack *s);
int state_load_role(const struct rs *rs, struct process *p, pid_t *running);
int state_load_app(const struct rs *rs, unsigned number, struct state_app *s);

#endif
