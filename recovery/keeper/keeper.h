/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-keeper: the parent of eft-rs where systemd is not. It does for one program what systemd does
 * for a service of Type=notify with a descriptor store and a watchdog, and speaks the same protocol
 * (sd_notify(3), sd_listen_fds(3)), so that eft-rs need not know which of the two it has:
 *
 *   FDSTORE=1 FDNAME=…    keeps the descriptors that come along, over any death of the program
 *   FDSTOREREMOVE=1 FDNAME=…   closes those of that name
 *   BARRIER=1             closes the descriptor that comes along: all before it was done
 *   READY=1 WATCHDOG=1
 *
 * It starts the program again whenever it dies, or has said nothing for too long (then it is killed
 * first). It never gives up once the program was ready. It adopts the program's orphans, so that
 * they are somebody's to reap.
 *
 * What its own death loses: the store. The program lives on; when it dies too, all is over.
 * It trusts nobody but the program: messages of other processes are dropped, and its socket has no
 * name under which they could find it.
 */
#ifndef EFT_RECOVERY_KEEPER_H
#define EFT_RECOVERY_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { KEEPER_NAME = 64, KEEPER_FDS = 253 /* in one message: the kernel's limit */ };

struct held {
    int fd;
    char name[KEEPER_NAME];
};

struct keeper {
    struct held *held; /* in the order in which they came */
    unsigned count, room;
    pid_t child;       /* whose messages count */
    bool ready;        /* the program has said so, in this life or one before */
    uint64_t alive_at; /* it said something at; ns of CLOCK_MONOTONIC */
};

/* A message of process `from` with `nfds` descriptors, which are taken over. Anything that is not
 * understood is passed over. */
void keeper_message(struct keeper *k, pid_t from, char *text, const int *fds, unsigned nfds,
                    uint64_t now);
/* How long to wait before it is started again after the `deaths`-th short life in a row (0: it was
 * no short one); ns. That it was killed says nothing about it, unless that never ends. */
uint64_t keeper_delay(unsigned deaths, bool killed);
bool keeper_short_life(uint64_t started, uint64_t now);

#endif
