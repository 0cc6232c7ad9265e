/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See state.h.
 */
#include "state.h"

#include "fdstore.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    uint32_t count, length;
} table[STATE_TABLES] = {
    [STATE_STACK] = {"rs.stack", 1, sizeof(struct state_stack)},
    [STATE_ROLE] = {"rs.role", RS_PROCESSES, sizeof(struct state_role)},
    [STATE_APP] = {"rs.app", APPS_MAX, sizeof(struct state_app)},
};

static uint64_t state_size(void)
{
    uint64_t size = 0;

    for (unsigned t = 0; t < STATE_TABLES; t++)
        size += store_size(table[t].count, table[t].length);
    return (size + 4095) & ~4095ull;
}

int state_open(struct rs *rs, int fd)
{
    const uint64_t size = state_size();
    const bool fresh = fd < 0;
    struct stat st;
    int rc = 0;

    if (!fdstore_there())
        return 0;
    rs->state_fd = fresh ? region_create("eft:rs-state", size) : fd;
    if (rs->state_fd < 0)
        return rs->state_fd;
    if (fstat(rs->state_fd, &st) < 0 || (uint64_t)st.st_size != size)
        return -EPROTO;
    uint8_t *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, rs->state_fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    rs->state_base = base;
    for (unsigned t = 0; t < STATE_TABLES && rc == 0; t++) {
        const size_t bytes = store_size(table[t].count, table[t].length);
        if (fresh)
            store_format(&rs->state[t], base, table[t].name, STATE_LAYOUT, table[t].count,
                         table[t].length);
        else
            rc = store_attach(&rs->state[t], base, bytes, table[t].name, STATE_LAYOUT,
                              table[t].count, table[t].length);
        base += bytes;
    }
    return rc == 0 && fresh ? fdstore_put("state", rs->state_fd) : rc;
}

void state_close(struct rs *rs)
{
    if (rs->state_base != NULL)
        munmap(rs->state_base, state_size());
    if (rs->state_fd >= 0)
        close(rs->state_fd);
    rs->state_base = NULL;
    rs->state_fd = -1;
}

void state_save_stack(struct rs *rs)
{
    const struct state_stack s = {
        .lives = rs->lives,
        .started_at = rs->started_at,
        .complete = rs->complete,
        .up = rs->up,
        .stopping = rs->stopping,
        .exit_status = rs->exit_status,
        .adoptions = rs->adoptions,
    };

    if (rs->state_base != NULL)
        store_write(&rs->state[STATE_STACK], 0, &s);
}

void state_save_role(struct rs *rs, const struct process *p)
{
    struct state_role s = {
        .policy = p->policy,
        .running = p->running != NULL ? p->running->pid : 0,
        .end = p->end,
        .restart_at = p->restart_at,
        .ready_at = p->ready_at,
        .died_at = p->died_at,
        .restarts = p->restarts,
        .hangs = p->hangs,
        .last_gap_ns = p->last_gap_ns,
        .program = p->program,
        .update = p->update,
    };

    if (rs->state_base == NULL)
        return;
    memcpy(s.name, p->name, sizeof s.name);
    store_write(&rs->state[STATE_ROLE], (uint32_t)(p - rs->process), &s);
}

void state_save_app(struct rs *rs, const struct application *a)
{
    struct state_app s = {
        .state = a->state,
        .generation = a->generation,
        .uid = a->uid,
        .pid = a->pid,
        .cookie = a->cookie,
        .request_id = a->request_id,
        .hung_up = a->hung_up,
        .done = {a->done[0], a->done[1]},
    };

    for (unsigned n = 0; n < WAITERS_MAX; n++)
        s.waiting |= (uint64_t)a->waiter[n].waiting << n;
    if (rs->state_base != NULL)
        store_write(&rs->state[STATE_APP], a->number, &s);
}

static int load(const struct rs *rs, enum state_table t, uint32_t index, void *payload)
{
    switch (store_read(&rs->state[t], index, payload)) {
    case STORE_EMPTY:
        return -ENOENT;
    case STORE_VALID:
        return 0;
    case STORE_DAMAGED:
        break;
    }
    return -EPROTO;
}

int state_load_stack(const struct rs *rs, struct state_stack *s)
{
    return load(rs, STATE_STACK, 0, s);
}

int state_load_role(const struct rs *rs, struct process *p, pid_t *running)
{
    struct state_role s;
    const int rc = load(rs, STATE_ROLE, (uint32_t)(p - rs->process), &s);

    *running = 0;
    if (rc < 0)
        return rc;
    if (strncmp(s.name, p->name, sizeof s.name) != 0 || s.end > END_HANG ||
        s.update.state > UPDATE_ROLLED_BACK)
        return -EPROTO;
    *running = s.running;
    p->policy = s.policy;
    p->end = (enum rs_end)s.end;
    p->restart_at = s.restart_at;
    p->ready_at = s.ready_at;
    p->died_at = s.died_at;
    p->restarts = s.restarts;
    p->hangs = s.hangs;
    p->last_gap_ns = s.last_gap_ns;
    p->program = s.program;
    p->update = s.update;
    p->update.heir = NULL;
    return 0;
}

int state_load_app(const struct rs *rs, unsigned number, struct state_app *s)
{
    const int rc = load(rs, STATE_APP, number, s);

    return rc == 0 && s->state > APP_GONE ? -EPROTO : rc;
}
