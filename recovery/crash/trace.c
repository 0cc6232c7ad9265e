/* SPDX-License-Identifier: BSD-2-Clause */
#include "trace.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { WAIT_US = 5000 };

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static int64_t elapsed_us(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000000ll + (now.tv_nsec - since->tv_nsec) / 1000;
}

int trace_take(struct trace *tr, struct target *t, const struct symbols *s)
{
    struct timespec begin;
    struct user_regs_struct r;
    int rc = 0;

    *tr = (struct trace){.address = malloc(TRACE_STEPS * sizeof *tr->address)};
    if (tr->address == NULL)
        return -ENOMEM;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (tr->steps < TRACE_STEPS && elapsed_us(&begin) < TRACE_MS * 1000) {
        rc = target_registers(t, &r);
        if (rc < 0)
            break;
        if (symbols_find(s, r.rip) != NULL)
            tr->address[tr->n++] = r.rip;
        tr->steps++;
        rc = target_step(t, WAIT_US);
        if (rc == -EINTR) /* a signal for it, which it gets when it goes on */
            break;
        if (rc < 0 && rc != -ETIMEDOUT)
            break;
    }
    if (rc == -ESRCH) {
        trace_free(tr);
        return rc;
    }
    qsort(tr->address, tr->n, sizeof *tr->address, by_value);
    unsigned kept = 0;
    for (unsigned i = 0; i < tr->n; i++)
        if (kept == 0 || tr->address[kept - 1] != tr->address[i])
            tr->address[kept++] = tr->address[i];
    tr->n = kept;
    return 0;
}

void trace_free(struct trace *tr)
{
    free(tr->address);
    *tr = (struct trace){0};
}
