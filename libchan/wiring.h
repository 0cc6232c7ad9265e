/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Wiring: which server talks to which, over which queue, and where in the regions it lies.
 *
 * The table of edges is here and nowhere else (wiring.c). When rs makes a server's region it
 * writes a directory behind the header: one entry per queue that the server produces into or
 * consumes from, and one per table. Both ends find their parts by the directory, so that sizes
 * are decided in one place, once, and a layout is self-describing (`eft maps`, audits).
 *
 *   region of the producer: chan_out (tail, want) and the slots
 *   region of the consumer: chan_in (head)
 */
#ifndef EFT_LIBCHAN_WIRING_H
#define EFT_LIBCHAN_WIRING_H

#include "config.h"
#include "region.h"

enum edge {
    EDGE_NONE = 0,
    EDGE_DRIVER_IP,   /* received frames              edge/driver_ip.h  */
    EDGE_IP_DRIVER,   /* frames to send               edge/ip_driver.h  */
    EDGE_IP_PF,       /* questions                    edge/ip_pf.h      */
    EDGE_PF_IP,       /* verdicts                     edge/pf_ip.h      */
    EDGE_IP_TCP,      /* received segments            edge/ip_tcp.h     */
    EDGE_TCP_IP,      /* segments to send             edge/tcp_ip.h     */
    EDGE_IP_UDP,      /* received datagrams           edge/ip_udp.h     */
    EDGE_UDP_IP,      /* datagrams to send            edge/udp_ip.h     */
    EDGE_IP_RETURN,   /* ip  -> driver: frame is free edge/frame_return.h */
    EDGE_TCP_RETURN,  /* tcp -> driver                edge/frame_return.h */
    EDGE_UDP_RETURN,  /* udp -> driver                edge/frame_return.h */
    EDGE_SYSCALL_TCP, /* control requests             edge/syscall_ctl.h  */
    EDGE_TCP_SYSCALL, /* control replies              edge/syscall_ctl.h  */
    EDGE_SYSCALL_UDP,
    EDGE_UDP_SYSCALL,
    EDGES
};

/* Tables: arrays in the owner's region, read by a neighbour, that are no queue. */
enum wiring_table {
    TABLE_NONE = 0,
    TABLE_TCP_CHAINS,     /* tcp: struct tcp_chain[]; edge/tcp_ip.h                     */
    TABLE_TCP_CHAIN_DONE, /* ip : uint32_t[], completed generation of each TCP chain    */
    TABLE_UDP_BUFFERS,    /* udp: struct udp_buffer[]; edge/udp_ip.h                    */
    TABLE_UDP_BUFFER_DONE,
    TABLE_UDP_POOL,   /* udp: payload of outgoing datagrams                         */
    TABLE_IP_POOL,    /* ip : its own packets (ICMP, fragments, reassembly)         */
    TABLE_IP_PENDING, /* ip : held-list of packets that wait for a neighbour        */
    TABLE_IP_STATE,   /* ip : ARP cache and what else survives                      */
    TABLE_TCP_CONNS,  /* tcp: connection records; servers/tcp/record.h              */
    TABLE_TCP_INDEX,  /* tcp: lookup index                                          */
    TABLE_TCP_STATE,  /* tcp: how many records were ever used                       */
    TABLE_TCP_APPS,   /* tcp: per-application state                                 */
    TABLE_UDP_SOCKS,  /* udp: socket records                                        */
    TABLE_UDP_APPS,
    TABLE_DRIVER_FRAMES, /* driver: one struct per frame; drivers/driver.h             */
    TABLE_DRIVER_POOL,   /* driver: the frames themselves, page aligned                */
    TABLE_DRIVER_STATE,  /* driver: journal, indices                                   */
    TABLE_PF_STATE,      /* pf: generation of the rules, counters per rule             */
    TABLE_SYSCALL_STATE, /* syscall: clients                                           */
    TABLE_TCP_OOO,       /* tcp: received out of order, by connection record           */
    TABLE_TCP_FORENSIC,  /* tcp: copies of connections that failed their check         */
    TABLE_QUARANTINE,    /* every server: items dropped; quarantine.h                  */
    TABLES
};

enum wiring_role { WIRING_OUT = 1, WIRING_IN = 2, WIRING_TABLE = 3 };

/* Directory entry, 32 bytes; written by rs, constant. */
struct wiring_entry {
    uint8_t role; /* enum wiring_role */
    uint8_t what; /* enum edge, or enum wiring_table */
    uint8_t peer; /* server_id at the other end (for a table: 0 or the reader) */
    uint8_t reserved;
    uint32_t size;  /* of a slot or an element; bytes */
    uint64_t count; /* slots (a power of two) or elements */
    uint64_t off;   /* of chan_out, chan_in or the first element */
    uint64_t reserved1;
};
_Static_assert(sizeof(struct wiring_entry) == 32, "wiring entry");

/* An item that was in progress when an incarnation faulted or hung (quarantine.h). */
struct server_suspect {
    uint64_t item;
    uint32_t times; /* take-overs with fault or hang */
    uint32_t last;  /* when it was blamed last; ms of CLOCK_MONOTONIC, low half */
};
enum { SERVER_SUSPECTS = 7 };

/* How a server ended, if by a fault: written by its signal handler (servers/run/fault.c), before it
 * dies of the signal. Read by the successor, and for the postmortem. Kept until the next fault.
 * Numbers of registers are those of <sys/ucontext.h>. */
struct server_fault {
    uint64_t epoch;    /* of the one that it happened to; stored last: all else holds. 0: none */
    uint32_t signo;    /* 0: it ended by itself, with an error */
    int32_t code;      /* si_code */
    uint64_t addr;     /* si_addr */
    uint64_t rip;      /* where */
    uint64_t regs[23]; /* gregs */
    uint64_t time_ns;  /* CLOCK_MONOTONIC */
    uint32_t pid;
    uint32_t depth;     /* entries of frame[] */
    uint64_t frame[32]; /* return addresses, innermost first */
};

/* State that every server shows about itself, at a fixed place behind the directory of its
 * region. Written by the server; read by rs, eft and neighbours. */
struct server_block {
    /* line 0: what neighbours look at on every publish */
    uint32_t asleep; /* 1: about to sleep or asleep; ring after publishing (wake.h) */
    uint32_t reserved0;
    uint64_t epoch; /* incarnation; raised by each successor's first store */
    uint8_t pad0[48];
    /* line 1: what rs looks at */
    uint64_t progress;   /* turns of the loop that did work */
    uint64_t turns;      /* turns of the loop */
    uint64_t busy_ns;    /* time in turns that did work */
    uint64_t started_ns; /* CLOCK_MONOTONIC of this incarnation's start */
    uint32_t pid;
    uint32_t pending;        /* 1: there is work that this server knows of */
    uint64_t map_generation; /* newest region announcement that it has mapped */
    uint64_t in_progress;    /* item being worked on (quarantine.h); 0 none */
    uint64_t started;        /* incarnations that reached their loop */
    /* lines 2 and 3: quarantine (kept over restarts) */
    uint32_t condemned; /* 0: no suspect has ever reached QUARANTINE_TIMES */
    uint32_t dropped;   /* items dropped for it */
    uint32_t excused;   /* 1: inputs may wait although it lives: connections are being taken over,
                         * the device takes nothing (recovery/rs/hang.h) */
    uint32_t cold;      /* 1: this incarnation drops what waited when it began */
    struct server_suspect suspect[SERVER_SUSPECTS];
    /* line 4: for spares. Of a process's components only the first one's is used. */
    uint32_t lock; /* robust futex: thread id of the one that runs; servers/run/standby.h */
    uint8_t pad1[60];
    /* named counters, meaning per server kind (servers/run/counters.h) */
    uint64_t counter[192];
    struct server_fault fault; /* of the process whose first component this is */
    uint8_t pad3[24];
};
_Static_assert(sizeof(struct server_fault) == 488, "server fault");
_Static_assert(sizeof(struct server_block) == 5 * 64 + 192 * 8 + 512, "server block");

/* Public page of tcp and udp: all that an application may see of a server itself. */
struct public_page {
    struct region_header header;
    uint32_t asleep; /* as in server_block, for applications */
    uint32_t reserved;
    uint64_t epoch;
    uint8_t pad[48];
};

/* Size of the region of server `id` under this configuration; what region_create() needs. */
uint64_t wiring_region_size(const struct stack_config *cfg, server_id id);
/* Writes header and directory into a new, zero region. rs only. */
void wiring_format(void *base, const struct stack_config *cfg, server_id id, uint32_t generation);
/* Everything below reads a mapped region's directory; a foreign directory is validated (inside the
 * region, power of two, size as the edge header says). NULL: not there, or not valid. */
const struct wiring_entry *wiring_find(const struct region *r, enum wiring_role role, unsigned what,
                                       server_id peer);
/* The same as a copy, which is what was validated: an entry of a neighbour may change under us. */
bool wiring_read(const struct region *r, enum wiring_role role, unsigned what, server_id peer,
                 struct wiring_entry *copy);
struct server_block *wiring_block(const struct region *r);
/* Address of a table in a mapped region, and its number of elements. */
void *wiring_table(const struct region *r, enum wiring_table table, uint64_t *count);
/* Is server `reader` to map region `id`? 0 no, 1 read-only, 2 read-write. The table of
 * docs/channels.md; rs hands out descriptors by it, `eft maps` checks /proc against it. */
int wiring_may_map(server_id reader, region_id id);
const char *edge_name(enum edge e);
uint32_t edge_slot_size(enum edge e);
/* Servers of this configuration, in start order (flow direction). Returns the count. */
unsigned wiring_servers(const struct stack_config *cfg, server_id *ids, unsigned max);

#endif
