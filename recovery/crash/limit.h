/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a process may have of the machine.
 */
#ifndef EFT_CRASH_LIMIT_H
#define EFT_CRASH_LIMIT_H

#include "class.h"

#include <sys/resource.h>
#include <sys/types.h>

/* Which limit (RLIMIT_…) a class is about. */
int limit_of(enum crash_class c);
/* prlimit(): `now` and `old` may be NULL. 0 or -errno. */
int limit_set(pid_t pid, int resource, const struct rlimit *now, struct rlimit *old);

#endif
