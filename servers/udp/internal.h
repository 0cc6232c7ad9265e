/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The inside of the UDP server.
 *
 *   record.c   records in two copies, journals, what applications see of a socket
 *   table.c    who gets a datagram: ports, addresses, ephemeral ports
 *   request.c  requests of applications
 *   receive.c  from IP into the receive rings; ICMP errors
 *   send.c     from the send rings to IP
 *   server.c   the component: queues, applications, order of a turn
 *
 * Order of a turn: datagrams from IP first, and their release, before any request. So a socket that
 * a request makes cannot meet an input that its predecessor in the same record already got.
 */
#ifndef EFT_UDP_INTERNAL_H
#define EFT_UDP_INTERNAL_H

#include "block.h"
#include "libchan/edge/frame_return.h"
#include "libchan/edge/syscall_ctl.h"
#include "libchan/edge/udp_ip.h"
#include "state.h"
#include "udp.h"

enum {
    NO_SOCK = 0xffffffff,
    NO_APP = 0xffff,
    CONN_BUCKETS = 16384,
    SLOT_BUCKETS = 16384,
    NOTIFY_MAX = 256,
    SEND_BATCH = 32,
};

/* A socket as this incarnation knows it. Links are index + 1; 0 ends a list. */
struct sock {
    struct udp_record rec; /* equals the selected copy, except inside of a request */
    uint32_t port_next, conn_next, slot_next, app_next;
    bool live;     /* in the lists of slots and of its application */
    bool listed;   /* in the tables of ports */
    bool queued;   /* in the send queue */
    uint32_t heir; /* 1 + (application << 16 | slot) whose OP_INHERIT waits; 0: none */
};

struct app_state {
    bool ready, gone;
    bool scan;      /* look at all slots */
    uint32_t first; /* sockets of this application */
    struct block_map up, down;
};

struct udp {
    struct component *c;
    const struct stack_config *cfg;
    struct app_layout layout;
    uint64_t now;

    struct chan_rx from_ip, from_syscall;
    struct chan_tx to_ip, to_syscall;
    struct chan_tx to_owner[1 + CONFIG_INTERFACES]; /* returns: to ip, to drivers */
    bool has_owner[1 + CONFIG_INTERFACES];

    struct udp_sock_shm *shm;
    struct udp_app_shm *app_shm;
    struct udp_buffer *buffer;
    const uint32_t *buffer_done; /* in IP's region */
    uint8_t *pool;
    uint64_t pool_off; /* of the pool in our region */
    uint32_t buffers, next_buffer;
    bool recovered, starved, queue_full;

    uint32_t socks; /* records */
    uint32_t free_top;
    uint32_t free[UDP_SOCKETS_MAX];
    struct sock sock[UDP_SOCKETS_MAX];

    uint32_t port_head[65536];
    uint32_t conn_head[CONN_BUCKETS];
    uint32_t slot_head[SLOT_BUCKETS];
    uint64_t port_seed; /* raised with each ephemeral port */

    /* Sockets with something to send, each at most once. */
    uint32_t send_first, send_count;
    uint32_t send_queue[UDP_SOCKETS_MAX];

    struct app_state app[APPS_MAX];
    uint16_t apps[APPS_MAX]; /* numbers of those that are ready */
    unsigned app_count;

    struct app_ring notify[NOTIFY_MAX];
    unsigned notify_count;
};

static inline void count(struct udp *u, enum udp_counter which, uint64_t n)
{
    uint64_t *c = &u->c->block->counter[which];

    shm_store(c, load_relaxed(c) + n);
}

/* --- record.c --- */

/* Writes the socket's record to the copy that is not selected, then selects it. */
void record_commit(struct udp *u, uint32_t i);
/* Reads the selected copy. False: broken. */
bool record_load(const struct udp *u, uint32_t i, struct udp_record *rec);
/* Did `source` take the counter to its target, or was it passed over? */
bool journal_done(const struct udp_journal *j, uint64_t source, uint64_t counter);
/* Before the counter is stored: says what the store is about. */
void journal_begin(struct udp_journal *j, uint64_t source, uint64_t target);
const struct up_region *app_up(const struct udp *u, unsigned app);
struct down_region *app_down(const struct udp *u, unsigned app);
const struct up_slot *up_slot_of(const struct udp *u, unsigned app, uint32_t slot);
struct down_slot *down_slot_of(const struct udp *u, unsigned app, uint32_t slot);
const struct up_slot *sock_up(const struct udp *u, const struct sock *s);
struct down_slot *sock_down(const struct udp *u, const struct sock *s);
/* Makes the application's view equal to the record. Idempotent. */
void slot_publish(struct udp *u, uint32_t i);
/* Address of offset `off` in the ring, and how many bytes follow without a break. */
uint8_t *ring_at(uint8_t *region, const struct ring_desc *r, uint64_t off, uint64_t *len);
/* Rings this socket's waiters at the end of the turn, after all was published. */
void notify(struct udp *u, unsigned app, uint32_t slot);
void notify_flush(struct udp *u);
/* Tells the application of an error, once per `source` (0: always). */
void sock_error(struct udp *u, uint32_t i, uint32_t error, uint64_t source);

/* --- table.c --- */

void table_insert(struct udp *u, uint32_t i);
void table_remove(struct udp *u, uint32_t i);
/* The best socket for a datagram to `dst`, or NO_SOCK. */
uint32_t table_lookup(const struct udp *u, const struct ip_addr *src, uint16_t sport,
                      const struct ip_addr *dst, uint16_t dport);
/* For broadcast and multicast: the next socket after `from` (NO_SOCK: first) that matches. */
uint32_t table_next(const struct udp *u, uint32_t from, const struct ip_addr *src, uint16_t sport,
                    const struct ip_addr *dst, uint16_t dport);
/* May the socket with record `rec` (not listed) use this name? 0 or -EADDRINUSE. */
int table_conflict(const struct udp *u, const struct udp_record *rec, const struct sock_name *name);
/* A free port for `name`, or 0. */
uint16_t table_ephemeral(struct udp *u, const struct udp_record *rec, const struct sock_name *name);
bool addr_multicast(const struct ip_addr *a);
bool addr_broadcast(const struct stack_config *cfg, const struct ip_addr *a);
void slot_list_insert(struct udp *u, uint32_t i);
void slot_list_remove(struct udp *u, uint32_t i);
uint32_t slot_find(const struct udp *u, unsigned app, uint32_t slot);

/* --- request.c --- */

/* Serves the slot's request if there is a new one. */
void request_serve(struct udp *u, unsigned app, uint32_t slot);
/* Frees a slot that has no socket when its application says that it is done with it. */
void slot_settle(struct udp *u, unsigned app, uint32_t slot);
/* Frees a closing socket when it has sent everything and its application let go. */
void sock_finish(struct udp *u, uint32_t i);
/* Off the tables, state CLOSING; not yet committed. */
void sock_close(struct udp *u, uint32_t i);
/* Completes what a move by INHERIT left to do in the old slot. */
void sock_moved(struct udp *u, uint32_t i);
/* Gives the old block of a ring that has grown back, once everything in it was read. */
void ring_settle(struct udp *u, uint32_t i);

/* --- receive.c --- */

unsigned receive(struct udp *u);

/* --- send.c --- */

/* After a restart: what did the predecessor publish that counters do not show yet? */
void send_recover(struct udp *u);
void send_enqueue(struct udp *u, uint32_t i);
/* Works on the send queue. Returns datagrams handled. */
unsigned send_work(struct udp *u);
/* Is any buffer free? The last look before sleeping for want of one. */
bool send_buffer_free(const struct udp *u);

/* --- server.c --- */

void app_check_done(struct udp *u, unsigned app);

#endif
