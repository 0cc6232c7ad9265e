/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the syscall server keeps in its own region: next to nothing. Clients are known by their
 * descriptors, which rs keeps and sends again; a request stays in its socket until it was acted
 * upon. Here are only the running numbers, which must not go back. Written by syscall alone.
 */
#ifndef EFT_SYSCALL_STATE_H
#define EFT_SYSCALL_STATE_H

#include "libchan/region.h"

/* TABLE_SYSCALL_STATE, one element. */
struct syscall_state {
    uint64_t grants; /* running number of grant requests; provenance on the queues */
    uint8_t pad[56];
};
_Static_assert(sizeof(struct syscall_state) == 64, "syscall_state");

#endif
