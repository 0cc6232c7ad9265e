/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The sandbox that every server closes around itself once it holds all that it needs. rs has
 * already set its user, taken its capabilities and set no_new_privs before exec.
 */
#ifndef EFT_SERVERS_RUN_SANDBOX_H
#define EFT_SERVERS_RUN_SANDBOX_H

#include "libchan/region.h"

/* Allows the system calls that a server of these kinds (bit 1 << enum server_kind) needs. Any other
 * is not made, and ends the process by SIGSYS, which is a fault (fault.h). F_SETFL is among the
 * refused: whoever shares a descriptor could make it blocking. Returns 0 or -errno. A build with
 * sanitizers does nothing.
 */
int sandbox_enter(unsigned kinds);

#endif
