/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Two TCP servers on ordinary memory, joined by a scripted IP server, a scripted driver and a wire.
 * Everything that the real neighbours would notice is checked while it happens: an ACK beyond what
 * was published, a window that moves back, a reset, a frame returned twice.
 */
#ifndef EFT_TESTS_CRASHPOINT_WORLD_H
#define EFT_TESTS_CRASHPOINT_WORLD_H

#include "servers/tcp/engine.h"
#include "servers/tcp/tcp.h"
#include "tests/harness/host.h"
#include "tests/harness/memory.h"

enum { WORLD_FRAMES = 64, WORLD_WIRE = 256, WORLD_SLOTS = 8, WORLD_APPS = 3 };

/* What the wire does to packets with data, counted per direction; 0: never. */
struct wire_faults {
    unsigned lose_every, swap_every; /* swapped: three steps late */
    unsigned repeat_every;           /* once more, three steps later */
    unsigned damage_every;  /* the same with a byte changed, and a checksum that shows it */
    unsigned mark_every;    /* congestion experienced, if it says that it understands that */
    unsigned overlap_every; /* the end of the one before and the beginning of this, in one packet */
    unsigned black_from, black_to; /* lost: packets with these numbers */
    bool black_syn, black_fin;     /* the first one of each side without data */
    uint32_t mtu;                  /* larger ones are lost, and an ICMP error says so */
};

struct wire_packet {
    struct packet p; /* hdr: the TCP header alone */
    uint64_t due;    /* step in which it arrives */
    uint8_t data[65536];
};

struct side {
    struct world *w;
    unsigned number;
    struct region_map *map;
    struct stack_config cfg;
    struct app_layout layout;
    struct component *tcp;
    struct chan_rx from_tcp, returned;
    struct chan_tx to_tcp;
    uint32_t *chain_done;
    uint8_t *pool;
    uint32_t frame_generation[WORLD_FRAMES];
    bool frame_out[WORLD_FRAMES];
    uint64_t sent;        /* packets with data that left this side */
    bool syn, fin;        /* one was sent */
    bool echoed, reduced; /* a congestion mark was; a window was, for that */
    uint32_t max_edge;
    bool edge_known;
    uint32_t data_max; /* sequence number behind all data that was published */
    bool data_known;
    struct { /* chains that the driver has not finished: it reads the bytes at the very end */
        uint32_t chain, generation, sum, pieces;
        uint64_t due;
        struct rptr piece[PACKET_PIECES];
    } open[WORLD_WIRE];
    unsigned n_open;
    unsigned apps;
    struct wire_packet *before;                /* the last one with data, for overlaps */
    uint64_t seen[WORLD_APPS][WORLD_SLOTS][3]; /* counters shown: rx_nxt, tx_una, tx_free */
};

struct world {
    struct side side[2];
    uint64_t now, step;
    struct wire_packet *wire[2][WORLD_WIRE]; /* towards side i */
    unsigned n_wire[2];
    struct wire_faults faults;
    uint64_t chain_delay; /* steps until a chain is complete */
    unsigned violations;
    char first[128]; /* the first violation */
    bool quiet;
    bool resets;   /* they belong to the scenario */
    bool two;      /* connections: edges are not compared */
    bool lossless; /* nothing is lost or late: no byte may be sent twice */
};

void world_create(struct world *w, void (*adjust)(struct stack_config *cfg));
void world_destroy(struct world *w);
unsigned world_add_app(struct side *s);
/* A new incarnation of side i's TCP on the same memory. */
void world_successor(struct side *s, enum rs_end how);
unsigned world_tcp_turn(struct side *s);
/* Bytes of a side's blocks, records and chains, when all of its sockets but a listener of the
 * application `listener` are closed. */
void world_audit(struct side *s, unsigned listener);
/* Moves packets and completes chains. Returns what was moved. */
unsigned world_wire(struct world *w);
/* Is anything under way, or due before `until`? Advances the time when nothing is. */
void world_time(struct world *w, bool busy);
void violation(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- the application's half of a socket --- */

struct sock {
    struct side *s;
    unsigned app;
    uint32_t slot, generation;
    uint64_t to_send, sent, received, seed_tx, seed_rx;
    uint64_t read_at; /* absolute offset of the next byte to read */
    bool open, eof, shut, closed, no_read, no_write;
    unsigned write_max; /* bytes in one step; 0: what there is room for */
    bool may_fail;      /* the other one resets it, or is expected to */
    uint32_t failed;
};

struct up_slot *sock_up(const struct sock *k);
struct down_slot *sock_down(const struct sock *k);
void sock_listen(struct sock *k, uint16_t port, unsigned backlog);
void sock_connect(struct sock *k, const struct side *to, uint16_t port);
void sock_claim(struct sock *k, const struct sock *listener);
void sock_close(struct sock *k, bool abort);
void sock_request(struct sock *k, enum app_op op, uint32_t arg0, uint64_t arg1);
struct up_slot *sock_fresh(struct sock *k);
void sock_inherit(struct sock *k, const struct sock *from);
void sock_kick(struct sock *k);
bool sock_replied(const struct sock *k, int *result);
/* Takes over the bases once connected; writes and reads what there is. True: something moved. */
bool sock_step(struct sock *k);
/* Writes no more once to_send is sent: shuts down. */
void sock_shutdown(struct sock *k);
/* Records of side s that are not free. */
unsigned world_records(const struct side *s, bool tombstones);

#endif
