/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A component: what the run loop hosts. Each server is one; a process has one of them (split shape)
 * or several (fused shape), and neither can tell the difference. A component is pure: it works on
 * mapped regions, takes the time as an argument and makes no system call in work(), other than
 * those of a driver's device. The same component runs under the simulator (tests/sim) on ordinary
 * memory and in virtual time.
 *
 * Order of life:
 *   start()     all regions of the configuration are mapped. Attach queues, validate and rebuild
 * state from the own region. The loop has already raised the epoch (first store). app_added() for
 * each application that exists, and for each that comes work()      again and again There is no
 * stop(): a component can end after any instruction.
 */
#ifndef EFT_SERVERS_RUN_COMPONENT_H
#define EFT_SERVERS_RUN_COMPONENT_H

#include "libchan/chan.h"
#include "libchan/config.h"
#include "libchan/edge/app.h"
#include "libchan/edge/rs.h"

enum { COMPONENT_BELLS = SERVER_KINDS * SERVER_INSTANCES, WORK_QUOTA = 64 };
#define NEVER UINT64_MAX

struct component;

/* An application as tcp, udp and syscall see it. */
struct app {
    bool used;
    bool gone; /* its process is dead */
    uint32_t generation, uid, pid;
    int bell;                        /* the server's end; the loop reads it */
    struct bell waiter[WAITERS_MAX]; /* fd -1 where there is none; asleep unused */
    unsigned waiters;                /* entries of waiter[] in use: highest number + 1 */
    uint32_t rung[WAITERS_MAX];      /* value of `armed` for which the waiter was rung */
};

struct component_ops {
    enum server_kind kind;
    const char *name;
    size_t size; /* of the private state, zeroed before start() */
    int (*start)(struct component *c, uint64_t now);
    /* Handles at most about WORK_QUOTA items per input, publishes, marks bells (bell_due) and
     * releases its inputs. Returns the number of items handled: 0 means idle. */
    unsigned (*work)(struct component *c, uint64_t now);
    /* Is there anything to do? Only looks. Called between asleep := 1 and sleeping. */
    bool (*pending)(struct component *c);
    /* When work() wants to be called even if nothing arrives; ns of CLOCK_MONOTONIC, or NEVER. */
    uint64_t (*deadline)(struct component *c);
    /* Optional; an application came (regions mapped) or died. For gone ones the component calls
     * c->app_done(c, app) when it holds nothing of it any more. */
    void (*app_added)(struct component *c, unsigned app);
    void (*app_gone)(struct component *c, unsigned app);
    /* Optional; a message of rs that the loop does not know: devices, clients. Owns the fds. Comes
     * before start() as well; app_gone() of such a component, too: a spare gives back what it got.
     */
    void (*message)(struct component *c, const struct rs_message *m, const int *fds);
    /* Optional; a descriptor that the component registered became ready. */
    void (*ready)(struct component *c, int fd, uint32_t events, uint64_t now);
    /* Optional; runs while sleeping is being prepared: may ask the kernel for wake-ups. */
    void (*before_sleep)(struct component *c);
};

struct component {
    const struct component_ops *ops;
    void *state;
    server_id id;
    const struct stack_config *cfg;
    struct region_map *map;
    struct region *own; /* &map->entry[REGION_OF_SERVER(id)], writable */
    struct server_block *block;
    struct public_page *page; /* tcp, udp; else NULL */
    uint64_t epoch;
    enum rs_end predecessor;
    unsigned start;            /* enum rs_start */
    uint64_t predecessor_life; /* how long it ran; ns */
    /* Bells of neighbours, by server_id; asleep points into their region. */
    struct bell bell[COMPONENT_BELLS];
    struct bell *neighbour[COMPONENT_BELLS]; /* those that queues are attached to */
    unsigned neighbours;
    struct app app[APPS_MAX];
    uint64_t clock_offset; /* CLOCK_REALTIME - CLOCK_MONOTONIC, ns */
    /* Services of the host (run loop or simulator). */
    void *host;
    void (*app_done)(struct component *c, unsigned app);
    /* Bytes of a region of ours that are of no use to anybody; whole pages. They read as zero from
     * now on, and take no memory. */
    void (*forget)(struct component *c, region_id region, uint64_t off, uint64_t len);
    int (*watch)(struct component *c, int fd, uint32_t events); /* epoll; ready() is called */
    int (*unwatch)(struct component *c, int fd);
    int (*send_rs)(struct component *c, const struct rs_message *m, const int *fds, unsigned nfds);
    void (*log)(struct component *c, int priority, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
};

/* Attaches by edge and peer, with the right bell. Fatal reasons are logged. */
int component_tx(struct component *c, struct chan_tx *tx, enum edge edge, server_id peer);
int component_rx(struct component *c, struct chan_rx *rx, enum edge edge, server_id peer);
/* Rings the waiters of applications that wait for these sockets (slot | WAIT_UDP for udp;
 * WAIT_ANY). Call after the progress was published. The fence between that and the look at the
 * waiters is in here, once for the whole list, because whoever forgot it would lose a wake-up once
 * in a thousand runs (edge/app.h, WAKING). */
struct app_ring {
    uint16_t app;
    uint32_t socket;
};
void component_ring_apps(struct component *c, const struct app_ring *list, unsigned n);
/* One turn: work() until the component is idle or `turns` are done, bells flushed after each. What
 * the simulator calls; the process loop adds sleeping. Returns items handled. */
unsigned component_turn(struct component *c, uint64_t now);

/* main() of every server: argv as rs passes it (--name tcp0 [--name …]). Never returns on success.
 */
int run_main(int argc, char **argv, const struct component_ops *const *ops);

#endif
