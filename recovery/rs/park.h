/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Descriptors that come and go, kept over the death of rs. A park is a pair of connected sockets
 * that is put into the descriptor store once; what is sent into the one end and not received at the
 * other is kept by the kernel as long as the store keeps the pair. So to park a handful of
 * descriptors with what is to be known about them is one system call, without a word to anybody and
 * all or nothing; they are found again in the order in which they were parked.
 *
 * Each application number and each place of a role has a park of its own, as what is parked can
 * only be cleared together.
 */
#ifndef EFT_RS_PARK_H
#define EFT_RS_PARK_H

#include <stdint.h>

struct park {
    int in, out; /* -1: none */
};
#define PARK_NONE                                                                                  \
    (struct park)                                                                                  \
    {                                                                                              \
        .in = -1, .out = -1                                                                        \
    }

enum { PARK_FDS = 16 };
enum park_kind {
    PARK_INCARNATION = 1, /* pidfd, channel; pid, since */
    PARK_APP = 2,         /* see app.c; generation */
    PARK_WAITER = 3,      /* ends of server and application; generation, number, request */
};

struct parked {
    uint32_t version, kind; /* enum park_kind */
    uint32_t generation;    /* of the application */
    uint32_t number;        /* of the waiter */
    int64_t pid;
    uint64_t since; /* CLOCK_MONOTONIC, ns */
    uint64_t request;
    uint64_t reserved;
};
_Static_assert(sizeof(struct parked) == 48, "parked");

/* The park of this name: the one that was left in the store, or a new one, which is put there
 * (fdstore_sync() is the caller's). Without a store there is none, and nothing is parked. 0 or
 * -errno. */
int park_open(struct park *p, const char *name);
/* Parks up to PARK_FDS descriptors, which stay the caller's. 0 or -errno. */
int park_put(const struct park *p, const struct parked *what, const int *fds, unsigned nfds);
/* Begins to look at what is parked. */
void park_rewind(const struct park *p);
/* The next one that was parked; it stays there. Returns the number of descriptors in fds, the
 * caller's; 0 when there is none any more; -errno. */
int park_next(const struct park *p, struct parked *what, int fds[PARK_FDS]);
/* Lets go of everything that is parked there. */
void park_clear(const struct park *p);
void park_close(struct park *p);

#endif
