/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The stack's regions, mapped from outside: whatever a process of the stack has mapped can be
 * opened by root as /proc/PID/map_files/…, so that eft-rs need not be asked, nor even live.
 */
#ifndef EFT_CRASH_SHARED_H
#define EFT_CRASH_SHARED_H

#include "target.h"

#include "libchan/region.h"

/* Maps the region `id` of the stack that `t` belongs to. 0, -ENOENT: the process does not have it,
 * or -errno. Unmapped by region_unmap(). */
int shared_map(struct region *r, const struct target *t, region_id id, bool writable);

#endif
