/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The one run loop. Every server's main() is run_main() with its component; the fused shape hosts
 * several in one process.
 *
 *   take what rs sends (regions, bells, devices, applications) until RS_START, or RS_STANDBY: then
 *   close the sandbox and sleep until it is our turn (standby.h)
 *   raise the epoch, start the components, ring every neighbour, close the sandbox, say RS_READY
 *   for ever: turn every component; when none had anything to do, sleep on one epoll descriptor
 *
 * A restart keeps: everything in regions and every descriptor, as rs has them. It loses: what
 * components keep in private memory. Not promised: that the loop ends other than by RS_STOP, by the
 * death of rs, or by a fault.
 */
#include "run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "sandbox.h"

uint64_t run_clock(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

__attribute__((format(printf, 3, 4))) static void say(struct component *c, int priority,
                                                      const char *fmt, ...)
{
    char text[512];
    va_list ap;
    int n = snprintf(text, sizeof text, "<%d>eft-%s: ", priority, server_id_name(c->id));

    va_start(ap, fmt);
    n += vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof text - 1)
        n = sizeof text - 1;
    text[n] = '\n';
    /* The journal's prefix for the level; one write, so that lines of several servers do not mix.
     * And nothing but a write: dprintf() seeks first, which the sandbox does not allow. */
    ssize_t written = write(STDERR_FILENO, text, (size_t)n + 1);
    (void)written;
}

/* epoll's data: who is meant. */
static uint64_t source_key(enum run_source s, unsigned component, int fd)
{
    return (uint64_t)s << 56 | (uint64_t)component << 32 | (uint32_t)fd;
}

int run_watch(struct run *run, enum run_source source, unsigned component, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u64 = source_key(source, component, fd)};

    if (epoll_ctl(run->epoll, EPOLL_CTL_ADD, fd, &e) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    return epoll_ctl(run->epoll, EPOLL_CTL_MOD, fd, &e) == 0 ? 0 : -errno;
}

static unsigned component_index(const struct run *run, const struct component *c)
{
    for (unsigned i = 0; i < run->count; i++)
        if (run->component[i] == c)
            return i;
    return 0;
}

static int service_watch(struct component *c, int fd, uint32_t events)
{
    struct run *run = c->host;

    return run_watch(run, RUN_SOURCE_COMPONENT, component_index(run, c), fd, events);
}

static int service_unwatch(struct component *c, int fd)
{
    struct run *run = c->host;

    return epoll_ctl(run->epoll, EPOLL_CTL_DEL, fd, NULL) == 0 ? 0 : -errno;
}

static int service_send(struct component *c, const struct rs_message *m, const int *fds,
                        unsigned nfds)
{
    struct rs_message copy = *m;

    copy.version = RS_VERSION;
    copy.to = c->id;
    return channel_send(RS_CHANNEL_FD, &copy, fds, nfds);
}

static void service_app_done(struct component *c, unsigned app)
{
    struct app *a = &c->app[app];
    const struct rs_message m = {.op = RS_APP_DONE, .arg = app, .generation = a->generation};

    run_forget_app(c, app);
    service_send(c, &m, NULL, 0);
}

static void service_forget(struct component *c, region_id region, uint64_t off, uint64_t len)
{
    const struct region *r = &c->map->entry[region];

    if (r->base == NULL || !r->writable || off > r->size || len > r->size - off)
        return;
    uint8_t *at = r->base + off;
    if (madvise(at, len, MADV_REMOVE) == 0 || errno != EINVAL)
        return;
    /* It is locked, and the kernel keeps what is locked here. Elsewhere it does not matter. */
    if (munlock(at, len) == 0) {
        madvise(at, len, MADV_REMOVE);
        mlock2(at, len, MLOCK_ONFAULT);
    }
}

static struct component *component_new(struct run *run, const struct component_ops *ops,
                                       server_id id)
{
    struct component *c = calloc(1, sizeof *c);

    if (c == NULL || (c->state = calloc(1, ops->size)) == NULL ||
        (c->map = calloc(1, sizeof *c->map)) == NULL)
        return NULL;
    c->ops = ops;
    c->id = id;
    c->host = run;
    c->app_done = service_app_done;
    c->forget = service_forget;
    c->watch = service_watch;
    c->unwatch = service_unwatch;
    c->send_rs = service_send;
    c->log = say;
    for (unsigned i = 0; i < COMPONENT_BELLS; i++)
        c->bell[i].fd = -1;
    for (unsigned a = 0; a < APPS_MAX; a++) {
        c->app[a].bell = -1;
        for (unsigned w = 0; w < WAITERS_MAX; w++)
            c->app[a].waiter[w].fd = -1;
    }
    return c;
}

static int parse_arguments(struct run *run, int argc, char **argv,
                           const struct component_ops *const *ops)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        server_id id;
        const struct component_ops *const *o = ops;

        if (strcmp(argv[i], "--name") != 0 || server_id_parse(argv[i + 1], &id) < 0)
            break;
        while (*o != NULL && (*o)->kind != SERVER_ID_KIND(id))
            o++;
        if (*o == NULL || run->count == RUN_COMPONENTS)
            break;
        run->component[run->count] = component_new(run, *o, id);
        if (run->component[run->count] == NULL)
            return -ENOMEM;
        run->count++;
    }
    if (run->count == 0 || argc != 1 + 2 * (int)run->count) {
        fprintf(stderr,
                "usage: %s --name SERVER…   (started by eft-rs, with its channel as "
                "descriptor %d)\n",
                argv[0], RS_CHANNEL_FD);
        return -EINVAL;
    }
    return 0;
}

static int find_parts(struct component *c)
{
    c->own = &c->map->entry[REGION_OF_SERVER(c->id)];
    c->block = wiring_block(c->own);
    c->cfg = (const struct stack_config *)c->map->entry[REGION_CONFIG].base;
    c->page = (struct public_page *)c->map->entry[REGION_PUBLIC(c->id)].base;
    if (c->block == NULL || !c->own->writable || c->cfg == NULL) {
        say(c, LOG_ERR, "rs sent no region or no configuration");
        return -EPROTO;
    }
    return 0;
}

/* The first stores of a new incarnation: the epoch, before anything else of ours is visible. */
static void raise_epoch(struct component *c, uint64_t now)
{
    /* If it did not fault, its death was a moment ago, or rs has let us wait. */
    const struct server_fault *f = &((struct run *)c->host)->component[0]->block->fault;
    const uint64_t died =
        c->predecessor == END_FAULT && f->time_ns > c->block->started_ns ? f->time_ns : now;

    c->predecessor_life = died - c->block->started_ns;
    c->epoch = load_relaxed(&c->block->epoch) + 1;
    shm_store_release(&c->block->epoch, c->epoch);
    shm_store(&c->block->asleep, 0u);
    if (c->page != NULL) {
        shm_store_release(&c->page->epoch, c->epoch);
        shm_store(&c->page->asleep, 0u);
    }
    shm_store(&c->block->pid, (uint32_t)getpid());
    shm_store(&c->block->started_ns, now);
    shm_store(&c->block->pending, 1u);
    shm_store(&c->block->excused, 0u);
    shm_store(&c->block->cold, c->start & START_COLD ? 1u : 0u); /* before queues are attached */
    shm_store_release(&c->block->map_generation, ((struct run *)c->host)->mapped);
}

/* What the predecessor worked on, if it faulted or hung, is under suspicion. */
static void blame(struct component *c, uint64_t now)
{
    char name[80];

    if (c->predecessor == END_HANG && load_relaxed(&c->block->in_progress) == 0)
        item_begin(c->block, chan_rx_waiting(c->map, c->own, c->id));
    const uint64_t item = load_relaxed(&c->block->in_progress);
    quarantine_blame(c->block, c->predecessor, c->predecessor_life, now);
    const unsigned times = item != 0 ? quarantine_count(c->block, item) : 0;
    if (times == 0)
        return;
    item_print(item, name, sizeof name);
    say(c, LOG_WARNING, "the one before worked on %s when it ended, %u times now%s", name, times,
        times >= QUARANTINE_TIMES ? ": it is dropped" : "");
}

static int begin(struct component *c, uint64_t now)
{
    if (!SHM_KEEP && c->epoch > 1) {
        say(c, LOG_ERR, "built without recovery: nothing was kept for a successor");
        return -ENOTSUP;
    }
    blame(c, now);
    int rc = c->ops->start(c, now);
    if (rc < 0) {
        say(c, LOG_ERR, "cannot start: %s", strerror(-rc));
        return rc;
    }
    for (unsigned app = 0; app < APPS_MAX; app++) {
        if (!c->app[app].used)
            continue;
        if (c->ops->app_added != NULL)
            c->ops->app_added(c, app);
        if (c->app[app].gone && c->ops->app_gone != NULL)
            c->ops->app_gone(c, app);
    }
    shm_store(&c->block->started, c->block->started + 1);
    return 0;
}

static void handle_event(struct run *run, const struct epoll_event *e, uint64_t now)
{
    const int fd = (int)(uint32_t)e->data.u64;
    struct component *c = run->component[e->data.u64 >> 32 & 0xff];

    switch (e->data.u64 >> 56) {
    case RUN_SOURCE_BELL:
        bell_drain(fd, BELL_EVENTFD);
        break;
    case RUN_SOURCE_APP_BELL:
        bell_drain(fd, BELL_DGRAM);
        /* A peer that closed its end would keep this descriptor ready for ever; its death comes
         * over the channel. */
        if (e->events & (EPOLLHUP | EPOLLERR))
            epoll_ctl(run->epoll, EPOLL_CTL_DEL, fd, NULL);
        break;
    case RUN_SOURCE_CHANNEL:
        run_channel(run);
        break;
    case RUN_SOURCE_COMPONENT:
        if (c->ops->ready != NULL)
            c->ops->ready(c, fd, e->events, now);
        break;
    }
}

/* Looks at descriptors, sleeping until `deadline` at most (0: not at all). */
static void look(struct run *run, uint64_t deadline)
{
    struct epoll_event events[32];
    struct timespec t = {0}, *timeout = &t;
    int n;

    if (deadline == NEVER) {
        timeout = NULL;
    } else if (deadline != 0) {
        const uint64_t now = run_clock(CLOCK_MONOTONIC);
        const uint64_t wait = deadline > now ? deadline - now : 0;

        t.tv_sec = (time_t)(wait / 1000000000ull);
        t.tv_nsec = (long)(wait % 1000000000ull);
    }
    n = epoll_pwait2(run->epoll, events, 32, timeout, NULL);
    const uint64_t now = run_clock(CLOCK_MONOTONIC);
    for (int i = 0; i < n; i++)
        handle_event(run, &events[i], now);
}

static void set_asleep(struct run *run, uint32_t asleep)
{
    for (unsigned i = 0; i < run->count; i++) {
        struct component *c = run->component[i];

        shm_store(&c->block->asleep, asleep);
        if (c->page != NULL)
            shm_store(&c->page->asleep, asleep);
        shm_store(&c->block->pending, asleep ? 0u : 1u);
    }
}

static void sleep_until_work(struct run *run)
{
    uint64_t deadline = NEVER;

    for (unsigned i = 0; i < run->count; i++) {
        struct component *c = run->component[i];
        const uint64_t d = c->ops->deadline != NULL ? c->ops->deadline(c) : NEVER;

        if (d < deadline)
            deadline = d;
        if (c->ops->before_sleep != NULL)
            c->ops->before_sleep(c);
    }
    set_asleep(run, 1);
    fence_full(); /* the flag before the last look: wake.h */
    bool pending = false;
    for (unsigned i = 0; i < run->count && !pending; i++)
        pending = run->component[i]->ops->pending(run->component[i]);
    if (!pending)
        look(run, deadline == 0 ? 1 : deadline);
    set_asleep(run, 0);
}

static int loop(struct run *run)
{
    uint64_t now = run_clock(CLOCK_MONOTONIC);
    unsigned since_look = 0;

    while (!run->stop) {
        unsigned n = 0;

        if (run->heir != 0) /* nothing is half done here */
            standby_hand_over(&run->standby, run->heir);

        for (unsigned i = 0; i < run->count; i++) {
            struct component *c = run->component[i];
            const unsigned items = component_turn(c, now);

            n += items;
            /* Seen by rs and eft only: no order is needed. */
            __atomic_store_n(&c->block->turns, c->block->turns + 1, __ATOMIC_RELAXED);
            if (items != 0)
                __atomic_store_n(&c->block->progress, c->block->progress + 1, __ATOMIC_RELAXED);
        }
        const uint64_t then = now;
        now = run_clock(CLOCK_MONOTONIC);
        if (n != 0) {
            struct server_block *b = run->component[0]->block;
            __atomic_store_n(&b->busy_ns, b->busy_ns + (now - then), __ATOMIC_RELAXED);
            /* Under load nobody sleeps; descriptors still want to be looked at. */
            if (++since_look < RUN_LOOK_EVERY)
                continue;
            since_look = 0;
            look(run, 0);
            continue;
        }
        since_look = 0;
        sleep_until_work(run);
        now = run_clock(CLOCK_MONOTONIC);
    }
    return 0;
}

/* Sleeps until this spare is the one that runs. False: it is not wanted any more. */
static bool stand_by(struct run *run)
{
    struct standby *s = &run->standby;

    run_tell_rs(run, (struct rs_message){.op = RS_STANDING, .arg = REGION_LAYOUT_VERSION});
    run->woken_ns = run_clock(CLOCK_MONOTONIC); /* it may be our turn before we sleep */
    for (;;) {
        /* before the messages, so that none is slept over */
        const uint32_t generation = load_acquire(&s->role->generation);
        const uint32_t lock = load_acquire(&s->block->lock);

        run_channel(run);
        if (run->stop)
            return false;
        if (standby_try(s))
            break;
        if (!s->take)
            standby_sleep(s, lock, generation);
        run->woken_ns = run_clock(CLOCK_MONOTONIC);
    }
    /* What rs has sent meanwhile: the predecessor may have used it. */
    run_channel(run);
    standby_end(s);
    return !run->stop;
}

/* Everybody's way to be the one that runs. 0, or the exit status. */
static int enter(struct run *run, unsigned kinds, const void *stack_top)
{
    struct component *first = run->component[0];
    struct standby *s = &run->standby;
    const struct region *page = &first->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_RS, 0))];

    for (unsigned i = 0; i < run->count; i++)
        if (find_parts(run->component[i]) < 0)
            return 1;
    if (page->base == NULL || page->size < sizeof(struct rs_page)) {
        say(first, LOG_ERR, "rs sent no page of its own");
        return 1;
    }
    s->block = first->block;
    s->role = &((const struct rs_page *)page->base)->role[first->id];
    fault_catch(s->block, stack_top);
    standby_register(s);
    if (!run->standing) {
        standby_own(s);
        return 0;
    }
    int rc = sandbox_enter(kinds);
    if (rc < 0) {
        say(first, LOG_ERR, "cannot enter the sandbox: %s", strerror(-rc));
        return 1;
    }
    if (!stand_by(run))
        return 0;
    const enum rs_end end = fault_end(s->block, s->role);
    for (unsigned i = 0; i < run->count; i++)
        run->component[i]->predecessor = end;
    run->started = true;
    return 0;
}

static int start_components(struct run *run, uint64_t now)
{
    const uint32_t start = load_relaxed(&run->standby.role->start);
    bool item = false;

    for (unsigned i = 0; i < run->count; i++) {
        run->component[i]->start = start;
        raise_epoch(run->component[i], now);
        item |= load_relaxed(&run->component[i]->block->in_progress) != 0;
    }
    if (run->standing)
        run_tell_rs(run, (struct rs_message){.op = RS_TAKEN,
                                             .arg = run->component[0]->predecessor,
                                             .id = item,
                                             .request_id = run->component[0]->epoch,
                                             .time_ns = run->woken_ns});
    for (unsigned i = 0; i < run->count; i++) {
        struct component *c = run->component[i];

        c->clock_offset = run_clock(CLOCK_REALTIME) - now;
        if (begin(c, now) < 0)
            return 1;
    }
    if (run->bell >= 0 && run_watch(run, RUN_SOURCE_BELL, 0, run->bell, EPOLLIN) < 0)
        return 1;
    /* The predecessor may have died between publishing and ringing. */
    for (unsigned i = 0; i < run->count; i++)
        for (unsigned b = 0; b < COMPONENT_BELLS; b++)
            if (run->component[i]->bell[b].fd >= 0)
                bell_ring(&run->component[i]->bell[b]);
    return 0;
}

int run_main(int argc, char **argv, const struct component_ops *const *ops)
{
    static struct run run;
    unsigned kinds = 0;

    run.bell = -1;
    if (parse_arguments(&run, argc, argv, ops) < 0)
        return 2;
    for (unsigned i = 0; i < run.count; i++)
        kinds |= 1u << run.component[i]->ops->kind;
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run.epoll < 0 || run_watch(&run, RUN_SOURCE_CHANNEL, 0, RS_CHANNEL_FD, EPOLLIN) < 0) {
        fprintf(stderr, "%s: no channel to eft-rs on descriptor %d: %s\n", argv[0], RS_CHANNEL_FD,
                strerror(errno));
        return 2;
    }
    while (!run.started && !run.standing && !run.stop)
        run_channel_wait(&run);
    if (run.stop)
        return 0;
    int rc = enter(&run, kinds, __builtin_frame_address(0));
    if (rc != 0 || run.stop)
        return rc;
    rc = start_components(&run, run_clock(CLOCK_MONOTONIC));
    if (rc == 0 && !run.standing && (rc = sandbox_enter(kinds)) < 0)
        say(run.component[0], LOG_ERR, "cannot enter the sandbox: %s", strerror(-rc));
    if (rc != 0) {
        fault_exit(run.standby.block);
        return 1;
    }
    run_channel_ready(&run);
    return loop(&run);
}
