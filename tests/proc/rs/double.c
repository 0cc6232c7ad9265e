/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A server that does nothing, under the real run loop: every kind of component, so that rs can be
 * tested without the rest of the stack. Lets go of an application as soon as it is told to. The
 * tests make it fault and hang by signals; an application can make tcp loop (double.h).
 */
#include "double.h"

#include "servers/run/component.h"

#include <stddef.h>
#include <unistd.h>

static int start(struct component *c, uint64_t now)
{
    (void)c, (void)now;
    return 0;
}

/* An application whose up region has the version DOUBLE_SPIN makes tcp hang; with DOUBLE_MUTE it
 * leaves rs. */
static unsigned work(struct component *c, uint64_t now)
{
    (void)now;
    for (unsigned i = 0; c->ops->kind == SERVER_TCP && i < 16; i++) {
        const struct region *r = &c->map->entry[REGION_OF_APP(i, APP_UP)];
        const struct up_region *up = (const struct up_region *)r->base;
        if (!c->app[i].used || up == NULL)
            continue;
        if (load_relaxed(&up->version) == DOUBLE_MUTE)
            close(RS_CHANNEL_FD);
        if (load_relaxed(&up->version) != DOUBLE_SPIN)
            continue;
        for (;;)
            compiler_barrier();
    }
    return 0;
}

static void app_gone(struct component *c, unsigned app)
{
    c->app_done(c, app);
}

static bool pending(struct component *c)
{
    (void)c;
    return false;
}

static uint64_t deadline(struct component *c)
{
    (void)c;
    return NEVER;
}

#define DOUBLE(k, n)                                                                               \
    {                                                                                              \
        .kind = k, .name = n, .size = 8, .start = start, .work = work, .pending = pending,         \
        .deadline = deadline, .app_gone = app_gone                                                 \
    }

static const struct component_ops all[] = {
    DOUBLE(SERVER_DRIVER, "driver"), DOUBLE(SERVER_IP, "ip"),   DOUBLE(SERVER_PF, "pf"),
    DOUBLE(SERVER_TCP, "tcp"),       DOUBLE(SERVER_UDP, "udp"), DOUBLE(SERVER_SYSCALL, "syscall"),
};

int main(int argc, char **argv)
{
    const struct component_ops *list[sizeof all / sizeof all[0] + 1];

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        list[i] = &all[i];
    list[sizeof all / sizeof all[0]] = NULL;
    return run_main(argc, argv, list);
}
