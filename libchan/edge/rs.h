/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rs <-> servers: a unix seqpacket pair per process, descriptor 3 of the server. rs speaks first:
 * it sends every region, bell and device that the process's components have, then RS_START; the
 * process maps, recovers, drops its privileges, answers RS_READY, and enters its loop. A successor
 * gets the same descriptors again.
 *
 * A region is used by its writer only after every running server that maps it has acknowledged its
 * announcement: rs counts RS_ACKs, then lets the writer know (RS_APP). Messages to a dead process
 * are void; its successor is told everything anew.
 *
 * A spare is told the same, then RS_STANDBY, and answers RS_STANDING. From then on it sleeps, hears
 * of everything that the running one hears of, and takes over by itself (servers/run/standby.h) or
 * on RS_TAKE: RS_TAKEN after its first store, RS_READY as any successor. Nobody waits for a spare's
 * acknowledgement: what rs has sent is in its socket, and it reads all of that before it looks at
 * any state. So a spare whose socket is full is of no use; rs replaces it.
 */
#ifndef EFT_EDGE_RS_H
#define EFT_EDGE_RS_H

#include "../region.h"

enum { RS_VERSION = 2, RS_CHANNEL_FD = 3, RS_FDS = 8 };

enum rs_op {
    /* rs -> server */
    RS_REGION = 1,    /* fd: map region `id` (generation), writable or not, for component `to` */
    RS_UNMAP = 2,     /* forget region `id` */
    RS_BELL_SELF = 3, /* fd: the eventfd by which others wake this process (one per process) */
    RS_BELL_PEER = 4, /* fd: the eventfd of server `arg` */
    RS_DEVICE = 5,    /* fds of the driver's device, in an order that the driver kind defines
                         (drivers/driver.h); arg: enum config_driver */
    RS_APP = 6,    /* application `arg` exists: its regions were announced before; fd: the server's
                      end of its bell (tcp, udp). uid, pid, generation. */
    RS_WAITER = 7, /* fd: waiter `id` of application `arg` (to ring it) */
    RS_APP_GONE = 8, /* application `arg` died. Finish its connections, then answer RS_APP_DONE */
    RS_START = 9,    /* everything was sent; arg: how the predecessor ended (enum rs_end) */
    RS_STOP = 10,    /* finish the turn and exit 0 */
    RS_CLIENT =
        11, /* syscall: fd: server's end of application `arg`'s control socket, after a restart */
    RS_LISTEN = 12,  /* syscall: fd: the listening control socket */
    RS_REFUSED = 13, /* syscall: RS_APP_NEW for client `id` failed: result */
    RS_STANDBY = 14, /* in place of RS_START: be a spare */
    RS_FELLOW = 15, /* fds: pidfd of another process `pid` of the same role, and its /proc/PID/stat;
                       arg: 1 it runs, 0 it is a spare; request_id: its epoch, if it runs */
    RS_TAKE = 16,   /* spare: take over, whoever seems to own the lock */
    RS_HANDOVER = 17, /* the one that runs: at the top of the loop make `pid`, a spare, the owner of
                         the lock, and exit 0 */
    /* server -> rs */
    RS_READY = 32,      /* map_generation: newest announcement that is mapped; request_id: epoch */
    RS_ACK = 33,        /* generation: announcements up to here are mapped */
    RS_APP_NEW = 34,    /* syscall: make an application for the caller on fd (control socket); uid,
                           pid;    request_id to be answered with. rs replies to the caller itself, and
                           sends    RS_CLIENT to syscall */
    RS_APP_WAITER = 35, /* syscall: application `arg` asks for waiter `id`; request_id */
    RS_APP_DONE = 36,   /* tcp, udp: nothing refers to application `arg` any more */
    RS_STANDING = 37,   /* the spare sleeps; arg: REGION_LAYOUT_VERSION */
    RS_TAKEN = 38, /* the spare has taken over: its epoch is raised; arg: how the predecessor ended
                      (enum rs_end); id: 1 if anything was in progress then; request_id: epoch;
                      time_ns: when it woke */
};

enum rs_end {
    END_NONE = 0 /* first start, or asked for */,
    END_KILLED = 1,
    END_FAULT = 2,
    END_HANG = 3
};

/* How a successor is to start, when those before it could not live (recovery/rs/policy.h). */
enum rs_start {
    START_FRUGAL = 1, /* without state that it can do without */
    START_COLD = 2,   /* without anything but what applications would miss: sockets that are bound
                         and listeners stay, connections are reset, what waits is dropped */
};

struct rs_message {
    uint32_t version;
    uint16_t op; /* enum rs_op */
    uint8_t to;  /* server_id of the component meant; from servers: of the sender */
    uint8_t writable;
    uint32_t arg;
    uint16_t id;  /* region or waiter number */
    uint8_t kind; /* enum bell_kind, of bells */
    uint8_t nfds;
    uint32_t generation; /* of the region or application */
    int32_t result;
    uint32_t uid, pid;
    uint64_t map_generation; /* RS_REGION, RS_UNMAP, RS_WAITER, RS_APP: running number; RS_ACK
                                answers with it */
    uint64_t request_id;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint8_t reserved[8];
};
_Static_assert(sizeof(struct rs_message) == 64, "rs_message");

/* What rs says about each role without being asked, by the server_id of its first component. */
struct rs_role {
    uint32_t generation; /* futex: raised when there are messages that spares should read */
    uint32_t start;      /* enum rs_start: how a successor is to start, spare or not */
    uint64_t hung_epoch; /* rs kills, or has killed, this incarnation for a hang */
    uint8_t pad[48];
};
_Static_assert(sizeof(struct rs_role) == 64, "a line each");

/* The region of rs: written by it, read by every server. */
struct rs_page {
    struct region_header header;
    struct rs_role role[SERVER_KINDS * SERVER_INSTANCES];
};

#endif
