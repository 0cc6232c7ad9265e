/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between the parts of the run loop (run.c: the loop, orders.c: what rs says). Private to
 * servers/run.
 */
#ifndef EFT_SERVERS_RUN_RUN_H
#define EFT_SERVERS_RUN_RUN_H

#include <time.h>

#include "channel.h"
#include "component.h"
#include "standby.h"

enum { RUN_COMPONENTS = 32, RUN_LOOK_EVERY = 64 };

enum run_source {
    RUN_SOURCE_BELL = 1,
    RUN_SOURCE_CHANNEL = 2,
    RUN_SOURCE_APP_BELL = 3,
    RUN_SOURCE_COMPONENT = 4
};

struct run {
    struct component *component[RUN_COMPONENTS];
    unsigned count;
    int epoll;
    int bell;        /* our eventfd */
    uint64_t mapped; /* newest announcement of rs that was handled, by whichever component */
    uint32_t heir;   /* the spare that rs wants to run in our place; 0: none */
    bool started, stop;
    bool standing;     /* we are, or were, a spare */
    uint64_t woken_ns; /* from our sleep as a spare */
    struct standby standby;
};

uint64_t run_clock(clockid_t clock);
int run_watch(struct run *run, enum run_source source, unsigned component, int fd, uint32_t events);
/* Handles every message that is there. */
void run_channel(struct run *run);
/* Waits for one message and handles it. Before the sandbox only. */
void run_channel_wait(struct run *run);
/* Says of every component that it is ready. */
void run_channel_ready(struct run *run);
/* A word to rs in the name of the first component. */
void run_tell_rs(struct run *run, struct rs_message m);
/* Closes an application's bell and waiters and forgets it; its regions stay until RS_UNMAP. */
void run_forget_app(struct component *c, unsigned app);

#endif
