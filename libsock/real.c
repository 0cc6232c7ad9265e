/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Finds the C library's functions. Two threads may do it at once: both store the same values.
 */
#include "real.h"

#include <dlfcn.h>

struct real real_table;
bool real_ready;

void real_init(void)
{
    void *p;
#define X(ret, name, args)                                                                         \
    p = dlsym(RTLD_NEXT, #name);                                                                   \
    __atomic_store_n((void **)&real_table.name, p, __ATOMIC_RELAXED);
    REAL_FUNCTIONS(X)
#undef X
    __atomic_store_n(&real_ready, true, __ATOMIC_RELEASE);
}
