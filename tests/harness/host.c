/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See host.h.
 */
#include "host.h"

#include "libchan/atomic.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <syslog.h>

enum { PUNCH_GARBAGE = 1 << 20 }; /* bytes */

struct host {
    bool done[APPS_MAX];
    uint64_t forgotten; /* bytes */
};

__attribute__((format(printf, 3, 4))) static void say(struct component *c, int priority,
                                                      const char *fmt, ...)
{
    va_list ap;

    if (priority > LOG_WARNING)
        return;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", server_id_name(c->id));
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

/* Whoever still needed the bytes will notice. */
static void forget(struct component *c, region_id region, uint64_t off, uint64_t len)
{
    const struct region *r = &c->map->entry[region];
    if (r->base == NULL || off > r->size || len > r->size - off)
        abort();
    SHM_CRASHPOINT();
    /* Garbage, so that whoever still reads it shows. What nobody ever touched would become resident
     * by that: of a large piece (all that is free, after a restart) only the beginning. */
    memset(r->base + off, 0xdd, len < PUNCH_GARBAGE ? len : PUNCH_GARBAGE);
    if (len > PUNCH_GARBAGE)
        madvise(r->base + off + PUNCH_GARBAGE, len - PUNCH_GARBAGE, MADV_DONTNEED);
    ((struct host *)c->host)->forgotten += len;
}

uint64_t host_forgotten(const struct component *c)
{
    return ((const struct host *)c->host)->forgotten;
}

static void app_done(struct component *c, unsigned app)
{
    ((struct host *)c->host)->done[app] = true;
    c->app[app].used = false;
}

static int watch(struct component *c, int fd, uint32_t events)
{
    (void)c, (void)fd, (void)events;
    return 0;
}

static int unwatch(struct component *c, int fd)
{
    (void)c, (void)fd;
    return 0;
}

static int send_rs(struct component *c, const struct rs_message *m, const int *fds, unsigned nfds)
{
    (void)c, (void)m, (void)fds, (void)nfds;
    return 0;
}

struct component *host_new(const struct component_ops *ops, server_id id, struct region_map *map)
{
    struct component *c = calloc(1, sizeof *c);

    c->state = calloc(1, ops->size);
    c->host = calloc(1, sizeof(struct host));
    c->ops = ops;
    c->id = id;
    c->map = map;
    c->app_done = app_done;
    c->forget = forget;
    c->watch = watch;
    c->unwatch = unwatch;
    c->send_rs = send_rs;
    c->log = say;
    for (unsigned i = 0; i < COMPONENT_BELLS; i++)
        c->bell[i].fd = -1;
    for (unsigned a = 0; a < APPS_MAX; a++) {
        c->app[a].bell = -1;
        for (unsigned w = 0; w < WAITERS_MAX; w++)
            c->app[a].waiter[w].fd = -1;
    }
    host_reset(c);
    return c;
}

void host_reset(struct component *c)
{
    memset(c->state, 0, c->ops->size);
    c->neighbours = 0;
    /* Applications are many and few of them used: a crash should not cost a megabyte of stores. */
    for (unsigned a = 0; a < APPS_MAX && c->app[a].generation != 0; a++)
        c->app[a].used = c->app[a].gone = ((struct host *)c->host)->done[a] = false;
    c->own = &c->map->entry[REGION_OF_SERVER(c->id)];
    c->block = wiring_block(c->own);
    c->cfg = (const struct stack_config *)c->map->entry[REGION_CONFIG].base;
    c->page = (struct public_page *)c->map->entry[REGION_PUBLIC(c->id)].base;
}

int host_start(struct component *c, uint64_t now, enum rs_end predecessor)
{
    c->predecessor = predecessor;
    c->epoch = c->block->epoch + 1;
    shm_store_release(&c->block->epoch, c->epoch);
    if (c->page != NULL)
        shm_store_release(&c->page->epoch, c->epoch);
    shm_store(&c->block->cold, c->start & START_COLD ? 1u : 0u);
    quarantine_blame(c->block, predecessor, 0, now);
    return c->ops->start(c, now);
}

void host_add_app(struct component *c, unsigned app, uint32_t generation)
{
    c->app[app].used = true;
    c->app[app].generation = generation;
    if (c->ops->app_added != NULL)
        c->ops->app_added(c, app);
}

void host_app_gone(struct component *c, unsigned app)
{
    c->app[app].gone = true;
    if (c->ops->app_gone != NULL)
        c->ops->app_gone(c, app);
}

bool host_app_done(const struct component *c, unsigned app)
{
    return ((const struct host *)c->host)->done[app];
}

void host_free(struct component *c)
{
    free(c->host);
    free(c->state);
    free(c);
}
