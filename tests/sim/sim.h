/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The simulator: whole stacks in one process, in virtual time. Every component is the real one;
 * only the device (a seeded virtual wire) and the applications (scripts that play libsock's side of
 * the shared memory) are the simulator's. Everything that happens follows from the seed.
 */
#ifndef EFT_TESTS_SIM_SIM_H
#define EFT_TESTS_SIM_SIM_H

#include "tests/harness/host.h"

enum { SIM_STACKS = 2, SIM_COMPONENTS = 5 }; /* driver, ip, pf, tcp, udp */
#define SIM_MS 1000000ull

/* --- random numbers: SplitMix64 --- */

struct rng {
    uint64_t s;
};
uint64_t rng_next(struct rng *r);
/* Uniform in 0..n-1. */
uint64_t rng_below(struct rng *r, uint64_t n);
bool rng_chance(struct rng *r, double p);

/* --- the wire --- */

struct wire_conditions { /* each direction alike */
    double loss, duplicate, reorder, corrupt;
    uint64_t delay_ns, jitter_ns; /* jitter applies to reordered frames */
    unsigned queue;               /* frames under way before the tail is dropped */
};
struct wire_frame {
    struct wire_frame *next;
    uint64_t at;
    size_t len;
    uint8_t data[];
};
struct wire_end {              /* what arrives at one stack */
    struct wire_frame *coming; /* by time */
    unsigned n;
    uint64_t sent, delivered, lost;
};

/* --- a stack --- */

struct stack {
    struct sim *sim;
    unsigned number;
    struct region_map *map;
    struct stack_config cfg;
    struct component *component[SIM_COMPONENTS];
    struct wire_end in;
    unsigned apps;
};

struct sim {
    struct rng rng;
    uint64_t now;
    struct wire_conditions wire;
    struct stack stack[SIM_STACKS];
    uint64_t crashes;
    double crash_chance; /* per component and turn */
};

void sim_create(struct sim *s, uint64_t seed, const struct wire_conditions *wire);
void sim_destroy(struct sim *s);
/* Kills component `i` of `st` between two turns and starts its successor. */
void sim_crash(struct stack *st, unsigned i);
/* One turn of every component of every stack, in random order, with crashes as configured. Returns
 * the items handled. */
unsigned sim_turn(struct sim *s);
/* When nothing is to do: the next time at which something happens (deadline or frame), or NEVER. */
uint64_t sim_next(const struct sim *s);
/* A new application of the stack: its number. */
unsigned sim_add_app(struct stack *st);
/* Frames of the driver's pool that are neither free nor given to the device. */
unsigned sim_frames_out(const struct stack *st);

/* --- wire.c, for sim.c --- */

extern const struct device_ops sim_device;
void wire_clear(struct wire_end *e);

/* --- a scripted application (app.c): one socket per struct --- */

enum peer_role { PEER_CONNECT, PEER_ACCEPT };

struct sim_socket {
    struct stack *st;
    unsigned app, slot;
    uint32_t generation;
    bool requested, established, finished, failed, unreachable;
    uint64_t tx_base, rx_base; /* known once established */
    uint64_t to_send, sent, received;
    uint64_t pattern; /* seed of what we send; `expect` of what we receive */
    uint64_t expect;
    bool shut, eof;
    bool slow; /* reads little at a time */
};

/* Makes a request and kicks the work queue. */
void socket_listen(struct sim_socket *k, uint16_t port);
void socket_claim(struct sim_socket *k, const struct sim_socket *listener);
void socket_connect(struct sim_socket *k, const struct ip_addr *addr, uint16_t port);
void socket_close(struct sim_socket *k);
/* Has the last request been answered? */
bool socket_done(const struct sim_socket *k);
/* Reads, writes, notices; checks every byte. Sets failed with a message on the first wrong one. */
void socket_step(struct sim_socket *k, struct rng *rng);

#endif
