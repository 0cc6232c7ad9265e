/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One operation, played to its end: a victim and a peer open a connection, move their streams and
 * close, while the operation's own step does what is special about it. An operation is one element
 * of a table in ops_*.c.
 */
#ifndef EFT_TESTS_CRASHPOINT_PLAY_H
#define EFT_TESTS_CRASHPOINT_PLAY_H

#include "world.h"

#include <setjmp.h>

enum play_close {
    CLOSE_PEER_FIRST = 0,
    CLOSE_VICTIM_FIRST,
    CLOSE_TOGETHER,
    CLOSE_PEER_HALF,   /* at once; the victim sends only after it has seen the end */
    CLOSE_VICTIM_HALF, /* the other way round */
    CLOSE_BY_STEP,     /* the operation's step does it; streams need not be complete */
};

struct play;

struct op {
    const char *name;
    bool victim_connects; /* else it listens */
    bool heir;            /* the victim has a second application */
    bool listener_apart;  /* the victim's listener belongs to that one */
    bool late_claim;      /* only when a connection waits */
    bool no_claim;
    bool late_connect; /* of the peer: by the operation's step */
    bool two;          /* connections at once: what is judged by sequence numbers is of no use */
    bool resets;       /* they are part of it */
    bool may_fail;     /* both sockets may see errors: `step` judges them */
    bool may_resend;   /* something that only a retransmission can find out */
    uint64_t victim_sends, peer_sends;
    enum tcp_counter counts; /* of the victim: is not 0 at the end, if nobody is killed */
    unsigned write_max;      /* of the victim; bytes in one step */
    unsigned rounds;         /* connections one after the other on the same slots; 0: 1 */
    uint16_t peer_port;      /* the peer connects from it; 0: any */
    uint64_t chain_delay;    /* steps; 0: 2 */
    enum play_close close;
    struct wire_faults faults;
    void (*adjust)(struct stack_config *cfg);
    /* Makes the victim's first request, in place of connect and claim. */
    void (*open)(struct play *p);
    /* Once per step. False: the victim's socket does not move in this one. */
    bool (*step)(struct play *p);
    /* Is all that the operation uses free again? NULL: both sockets are closed and free. */
    bool (*done)(struct play *p);
};

/* a: the victim's socket, b: the peer's; v: whose turn it is at the victim, a or its heir. */
struct play {
    const struct op *op;
    struct world *w;
    struct side *victim, *peer;
    struct sock listener, second, a, heir, b, *v;
    struct sock also_a, also_b; /* another connection, of the operation */
    unsigned stage, heirs_app, round;
    uint64_t since;     /* step in which the connection was begun */
    uint64_t since_now; /* for the operation */
    bool bound;
};

/* How a turn of the victim is taken: with or without a crash in it. */
typedef unsigned victim_turn_fn(struct side *victim);
/* Violations; `first` (128 bytes) says what the first was. */
unsigned play_run(const struct op *op, victim_turn_fn *turn, bool quiet, char *first);

struct op_group {
    const struct op *op;
    unsigned n;
};
extern const struct op_group ops_open, ops_data, ops_ring, ops_close, ops_inherit;
/* A step: in the middle of the streams the connection goes to the heir. */
bool inherit_step(struct play *p);
/* All of them, by running number; NULL behind the last. */
const struct op *play_op(unsigned n);

#endif
