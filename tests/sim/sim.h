/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The simulator: whole stacks in one process, in virtual time. Every component is the real one;
 * only the device (a seeded virtual wire) and the applications (scripts that play libsock's side of
 * the shared memory) are the simulator's. Everything that happens follows from the seed.
 *
 *   run.c      seeds over processes, results         scenario.c  one run: what is drawn from a seed
 *   sim.c      stacks, time, crashes                 judge.c     what must hold when all is over
 *   wire.c     the device and the link               trace.c     packet traces (pcapng)
 *   app.c      sockets played by a plan              hostile.c   peers that do not keep the rules
 *   goodput.c  a table of goodput over loss and delay
 */
#ifndef EFT_TESTS_SIM_SIM_H
#define EFT_TESTS_SIM_SIM_H

#include "tests/harness/host.h"

enum { SIM_STACKS = 2, SIM_APPS = 4, SIM_COMPONENTS = 5 }; /* driver, ip, pf, tcp, udp */
enum { SIM_DRIVER, SIM_IP, SIM_PF, SIM_TCP, SIM_UDP };
#define SIM_US    1000ull
#define SIM_MS    1000000ull
#define SIM_S     1000000000ull
#define SIM_START (1000 * SIM_S)

/* --- random numbers: SplitMix64 --- */

struct rng {
    uint64_t s;
};
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
/* Uniform in 0..n-1. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return n == 0 ? 0 : rng_next(r) % n;
}
static inline bool rng_chance(struct rng *r, double p)
{
    return p > 0 && (double)(rng_next(r) >> 11) < p * 9007199254740992.0;
}

/* --- the wire (wire.c) --- */

struct trace;

/* One direction of a path. Probabilities are per frame. */
struct link {
    double loss, duplicate, reorder, corrupt;
    struct { /* Gilbert-Elliott: a bad state that a frame may meet the beginning of */
        double enter, loss; /* loss while in it */
        uint64_t ns;        /* how long it lasts, at most */
    } burst;
    uint64_t delay_ns;
    uint64_t jitter_ns; /* added at most; frames keep their order unless they are reordered */
    uint64_t rate;      /* of the bottleneck; bytes per second; 0: none */
    uint64_t queue;     /* before it; bytes; what does not fit is dropped */
    uint64_t mark;      /* bytes in the queue from which on ECT packets are marked; 0: never */
    double split;       /* a segment is cut in two on its way */
    double merge;       /* segments that wait are handed over as one */
    struct {            /* IP packets above `mtu` do not pass from `from` to `until`; ns */
        uint64_t from, until;
        uint32_t mtu;
        bool silent; /* a black hole: no ICMP */
    } narrow;
};

struct wire_frame {
    struct wire_frame *next;
    uint64_t at;
    uint32_t len, off; /* off: kept by who takes it piece by piece */
    uint8_t data[];
};

struct wire_end { /* what comes to one stack */
    struct link link;
    struct wire_frame *coming, *last;          /* by time */
    uint64_t bad_until;                        /* of the Gilbert-Elliott model */
    uint64_t free_at;                          /* when the bottleneck has sent what it holds */
    uint64_t last_at;                          /* arrival of the last frame that kept its order */
    uint64_t sent, delivered, lost, disturbed; /* disturbed: reordered, repeated, damaged, marked */
    uint64_t resets, harmful_resets;
    uint64_t bytes; /* of frames sent */
};

/* --- stacks --- */

struct stack {
    struct sim *sim;
    unsigned number;
    struct region_map *map;
    struct stack_config cfg;
    struct component *component[SIM_COMPONENTS];
    bool down[SIM_COMPONENTS]; /* dead, and its successor not yet started */
    uint64_t up_at[SIM_COMPONENTS];
    uint32_t crash_in[SIM_COMPONENTS]; /* stores to shared memory until it dies; 0: lives on */
    struct wire_end in;
    struct { /* a frame that was read from the wire and not yet described */
        bool valid;
        unsigned frame;
        uint32_t len;
        uint16_t gso_size;
    } reading;
    unsigned apps;
    struct {
        bool dead, done[SIM_COMPONENTS]; /* done: that component has let go of it */
    } app[SIM_APPS];
};

struct crashes {
    double chance;     /* of a component in a turn */
    double again;      /* that the successor dies while it takes over */
    uint64_t down_ns;  /* until the successor starts, at most */
    unsigned which;    /* bit per component; 0: all */
    unsigned storm;    /* so many deaths follow each other */
    uint64_t until_ns; /* virtual time from which on nobody dies */
};

struct sim {
    struct rng rng;
    uint64_t now;
    struct stack stack[SIM_STACKS];
    unsigned stacks; /* 1: the other end of the wire is a script's */
    struct crashes crash;
    uint64_t crashes, turns;
    uint64_t digest; /* of every frame and its time: two runs of a seed agree */
    struct trace *trace;
    const char *event; /* what happened since the last frame, for the trace */
    bool failed;       /* said by sim_fail() */
};

/* `adjust`, if any, changes the configuration of each stack. */
void sim_create(struct sim *s, uint64_t seed, unsigned stacks,
                void (*adjust)(struct stack_config *cfg, void *arg), void *arg);
void sim_destroy(struct sim *s);
/* One turn of every component of every stack, in random order, with crashes as configured. Returns
 * the items handled. */
unsigned sim_turn(struct sim *s);
/* When nothing is to do: the next time at which something happens (deadline, frame, successor), or
 * NEVER. */
uint64_t sim_next(const struct sim *s);
/* Who lets a deadline pass. */
const char *sim_late(const struct sim *s);
/* A new application of the stack: its number. */
unsigned sim_add_app(struct stack *st);
/* Its process dies: what it had open is closed as the kernel would. */
void sim_kill_app(struct stack *st, unsigned app);
/* A property does not hold. Printed with the virtual time. */
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- wire.c --- */

extern const struct device_ops sim_device;
void wire_clear(struct wire_end *e);
/* A frame leaves stack `from` (or the script in its place). */
void wire_send(struct sim *s, unsigned from, const uint8_t *data, size_t len);
/* The next frame that has arrived at stack `to`, to be freed by the caller, or NULL. */
struct wire_frame *wire_take(struct sim *s, unsigned to);

/* A frame as a TCP segment over IPv4 without options or fragments. */
enum { SIM_ETH = 14 };
struct view {
    uint8_t *ip, *tcp, *payload;
    uint32_t ip_len, tcp_len, len; /* headers; payload */
};
/* False: it is something else. */
bool view_tcp(struct view *v, uint8_t *data, size_t len);
/* Lengths and checksums for a payload of v->len bytes. */
void view_seal(struct view *v);

/* --- trace.c --- */

struct trace *trace_open(const char *path, unsigned interfaces);
void trace_frame(struct trace *t, unsigned interface, bool out, uint64_t now, const uint8_t *data,
                 size_t len, const char *comment);
void trace_close(struct trace *t);

/* --- applications (app.c) --- */

enum ending {
    END_FIN,   /* shuts down when all is sent, and closes after the peer's end */
    END_RUDE,  /* closes when all is sent, whatever it has not read */
    END_ABORT, /* resets the connection when `abort_at` bytes are sent */
};

/* What a program does with its end of a connection. */
struct plan {
    uint64_t to_send;
    uint64_t pattern;             /* which stream it sends; the peer's `pattern` is expected */
    uint32_t write_max, read_max; /* bytes in one go, at most; 0: as many as possible */
    uint64_t think_ns;            /* between two actions, at most */
    uint64_t stall_at, stall_ns;  /* does not read for so long at this byte; 0: never */
    uint64_t pause_at, pause_ns;  /* does not write for so long at this byte */
    uint64_t abort_at;
    enum ending ending;
    bool keepalive, nodelay;
    bool patient; /* closes when the peer has acknowledged everything */
    bool resets;  /* the other end's plan may cost us the connection */
    bool lonely;  /* and so may one that is not there any more, and does not say so */
};

enum sim_stage {
    STAGE_NONE, /* the slot is free */
    STAGE_BIND,
    STAGE_WAIT, /* for the reply to connect, claim or listen */
    STAGE_OPTION,
    STAGE_OPEN,
    STAGE_CLOSE, /* waits for the slot */
    STAGE_LISTEN,
    STAGE_DONE,
};

struct sim_socket {
    struct stack *st;
    unsigned app, slot;
    uint32_t generation;
    struct up_region *up_region;
    struct down_region *down_region;
    struct up_slot *up;
    const struct down_slot *down;
    enum sim_stage stage;
    struct plan plan;
    uint64_t expect, expected; /* what the peer sends: pattern and length */
    bool connects;
    struct sock_name to;
    uint16_t bind_port; /* 0: none */
    unsigned options;   /* that have been set */
    uint64_t sent, received;
    const struct sim_socket *peer; /* whose program may die; NULL: does not */
    bool dead;                     /* with its program */
    uint64_t wake;                 /* does nothing before */
    uint64_t stalled, paused;
    bool shut, eof, reset, refused;
};

/* A socket in slot `slot` of an application, not yet used. */
void socket_init(struct sim_socket *k, struct stack *st, unsigned app, unsigned slot);
void socket_listen(struct sim_socket *k, uint16_t port, unsigned backlog);
void socket_claim(struct sim_socket *k, const struct sim_socket *listener);
/* To stack `to`; from `bind_port` if that is set. */
void socket_connect(struct sim_socket *k, const struct stack *to, uint16_t port);
void socket_cancel(struct sim_socket *k);
void socket_close(struct sim_socket *k, bool abort);
/* Its program has died. */
void socket_die(struct sim_socket *k);
/* Reads, writes, notices; checks every byte. True: it did something. Before the first call on an
 * open socket plan, expect and expected are set. */
bool socket_step(struct sim_socket *k, struct rng *rng);
/* Byte `at` of a stream and what follows; 131071 bytes at least may be read. */
const uint8_t *stream_at(uint64_t pattern, uint64_t at);
/* When it will do something of itself, or NEVER. */
uint64_t socket_next(const struct sim_socket *k);
static inline bool socket_replied(const struct sim_socket *k)
{
    return load_acquire(&k->down->req_done) == k->up->req_id;
}

/* --- judge.c --- */

/* All sockets are closed, everything has come to rest: what must hold now. */
void judge_rest(struct sim *s);
/* Prints what TCP has counted. */
void judge_explain(const struct sim *s);
/* While connections live: nothing was sent twice that needed not be. */
void judge_clean(struct sim *s);

#endif
