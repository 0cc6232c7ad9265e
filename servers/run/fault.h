/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How a server ended, in memory: its successor may run before rs has reaped it, and a postmortem
 * wants to know where it was.
 *
 * Kept over a restart: the record of the last fault. Not promised: a record of a server that
 * destroyed its stack pointer or its mapping of its own region; it counts as killed.
 */
#ifndef EFT_SERVERS_RUN_FAULT_H
#define EFT_SERVERS_RUN_FAULT_H

#include "libchan/edge/rs.h"
#include "libchan/wiring.h"

/* Catches the signals of faults from now on: a record in `block`, then the death that the signal
 * means. `stack_top`: an address in the outermost frame. One per process. */
void fault_catch(struct server_block *block, const void *stack_top);
/* We end by ourselves, because something is wrong. */
void fault_exit(struct server_block *block);
/* How did the incarnation end whose epoch the block still shows? */
enum rs_end fault_end(const struct server_block *block, const struct rs_role *role);

#endif
