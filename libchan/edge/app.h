/* SPDX-License-Identifier: BSD-2-Clause
 *
 * application <-> tcp, udp: sockets as shared memory. Version APP_VERSION; servers speak the last
 * two versions.
 *
 * Each application process has four regions, one writer each:
 *   up        the application: send data, counters, requests, waiters. Mapped read-only by tcp, udp
 *             and the drivers. Nothing in it is trusted: read once, check, use the copy.
 *   down-tcp  tcp: receive data, counters, replies
 *   down-udp  udp: the same
 *   down-ctl  syscall: who we are to the stack
 * and it sees the public pages of tcp and udp (struct public_page): asleep flags.
 *
 * COUNTERS. tx_end, rx_read, rx_nxt, tx_una, tx_free are 63-bit byte offsets that only ever grow,
 * over all uses of a slot; they are never reset. Bit 63 (OFF_MARK) belongs to the present
 * generation of the slot and is cleared by its writer when the next generation begins: tx_end: shut
 * down for writing; rx_nxt: FIN received. What offset a connection began at (its base) is in its
 * record.
 *
 * RINGS. A ring is one or two blocks. A block lies in the region at a multiple of its size; sizes
 * are powers of two (>= 4096). Offset o of the stream is at block.off + (o & (block.size - 1)), in
 * the second block when o >= switch_at. tcp alone (udp alone, for udp) assigns blocks, in both
 * regions; the application reads the ring descriptors from down. A ring grows while both sides use
 * it: the application loads rx_nxt or tx_free first, then the descriptor. What these let it reach
 * is described by any descriptor that is not older.
 *
 * SLOTS. Slot i of up and slot i of down are two halves of one socket. The application picks a free
 * slot, raises its generation and makes a request. A slot is free when down.state == SOCK_FREE and
 * down.generation == up.generation: the server has let go. The server frees a slot only after the
 * application published released == generation (no thread is inside), or is dead. up.generation is
 * raised by the application alone, and only on a free slot.
 *
 * REQUESTS. One at a time per slot: the application fills the arguments, then stores req_id
 * (release) = the previous one + 1, pushes the slot number to the work queue, and rings. The server
 * executes a request once: effect and id are committed together in the socket's record; the reply
 * (req_done == req_id, result) is derived from it. A request without effect may be executed twice.
 * While a server is away, requests and their callers wait.
 *
 * WORK QUEUE. Whenever a counter or request of a slot has changed in a way that the server should
 * act upon, the application pushes the slot's number (after its store). The server consumes, and
 * advances its head (in down) after it has read the counters. When the queue is full the
 * application sets `scan` (a count, raised), and the server looks at all slots.
 *
 * WAKING. application -> server: after the push: fence, look at public_page.asleep, send one byte
 * on the application's bell (unix datagram, MSG_DONTWAIT) if set. server -> application: a thread
 * that is about to sleep takes a waiter slot of its own, stores what it waits for, raises `armed`
 * to an odd value, fence, re-checks its condition, then polls the waiter's descriptor; afterwards
 * it raises `armed` to even. A server that has published progress of a socket: fence, then rings
 * each waiter whose `armed` is odd and that waits for this socket or for any, at most once per
 * value of armed. Spurious rings are allowed at any time.
 */
#ifndef EFT_EDGE_APP_H
#define EFT_EDGE_APP_H

#include "../addr.h"
#include "../region.h"

#include <stddef.h>

enum { APP_VERSION = 1, WORK_SLOTS = 4096, APP_PAGE = 4096 };
#define OFF_MARK (1ull << 63)
#define OFF_MASK (OFF_MARK - 1)

/* ---- up: written by the application ---- */

enum { WAIT_ANY = 0xffffffff, WAIT_UDP = 0x80000000 /* or'ed to a slot number of udp */ };

struct app_waiter {  /* one line */
    uint32_t armed;  /* odd: a thread sleeps or is about to; raised at each change */
    uint32_t socket; /* slot number, | WAIT_UDP for udp; WAIT_ANY */
    uint8_t reserved[56];
};

struct app_work {
    uint64_t tail; /* next entry */
    uint64_t scan; /* raised when an entry could not be pushed */
    uint8_t pad[48];
    uint32_t slot[WORK_SLOTS];
};

enum app_op {
    OP_NONE = 0,
    OP_BIND = 1,        /* local (port 0: choose; family 4/6, any allowed), flags */
    OP_LISTEN = 2,      /* local as bound, or binds to `local` (port 0: choose); arg0: backlog */
    OP_CONNECT = 3,     /* remote; local if bound (family 0: choose) */
    OP_ACCEPT = 4,      /* claim the next connection of listener (target_app, target_slot,
                           target_generation, token): this free slot becomes the connection. The
                           reply comes when there is one: claims of a listener are served in the
                           order in which tcp saw them. Waiters of the listener are rung too */
    OP_CLOSE = 5,       /* arg0: 0 orderly (RST when received data is unread), 1 abort (linger 0) */
    OP_SETOPT = 6,      /* arg0: enum app_option, arg1: value */
    OP_INHERIT = 7,     /* this free slot becomes the socket (target_…, token): after fork. For a
                           listener     both processes share it; any other socket moves. When
                           the target's application has died meanwhile, tcp keeps what it had
                           marked as forked for HEIR_WAIT_MS */
    OP_CONNECT_UDP = 8, /* udp: sets the peer; family 0 dissolves it */
    OP_CANCEL =
        9, /* withdraws a waiting OP_ACCEPT or OP_CONNECT of this slot. Result -ECANCELED and the
              slot is free, or 0 when it came too late (the socket is what was asked for) */
    OP_INFO = 10, /* tcp: writes the slot's sock_info as it is now */
};

enum app_option {
    OPT_NODELAY = 1,
    OPT_CORK = 2,
    OPT_KEEPALIVE = 3,
    OPT_KEEPIDLE = 4,
    OPT_KEEPINTVL = 5,
    OPT_KEEPCNT = 6,
    OPT_USER_TIMEOUT = 7,
    OPT_QUICKACK = 8,
    OPT_MAXSEG = 9,
    OPT_CONGESTION = 10 /* 0 newreno, 1 cubic */,
    OPT_SNDBUF = 11,
    OPT_RCVBUF = 12,
    OPT_LINGER = 13 /* seconds + 1; 0 off */,
    OPT_TOS = 14,
    OPT_TTL = 15,
    OPT_BROADCAST = 16,
    OPT_REUSEADDR = 17,
    OPT_REUSEPORT = 18,
    OPT_V6ONLY = 19,
    OPT_DEFER_ACCEPT = 20,
    OPT_RECVERR = 21,
    OPT_PKTINFO = 22,
};

enum { BIND_REUSEADDR = 1, BIND_REUSEPORT = 2 };
enum { HEIR_WAIT_MS = 1000 };

struct sock_name {
    struct ip_addr addr;
    uint16_t port; /* host byte order */
    uint16_t reserved;
};
_Static_assert(sizeof(struct sock_name) == 24, "sock_name");

/* TCP and UDP alike; 192 bytes. */
struct up_slot {
    /* line 0: hot */
    uint64_t tx_end;     /* offset behind what was written; OFF_MARK: no more will come */
    uint64_t rx_read;    /* offset of the next byte to read: all below is consumed */
    uint32_t generation; /* of this use of the slot; raised on a free slot only */
    uint32_t released;   /* == generation: the application is done with the slot */
    uint32_t req_id;     /* last request made */
    uint32_t accepted;   /* == generation: accept() has handed this connection to the program */
    uint32_t forked;     /* == generation: a child may hold a copy and not have asked for it yet */
    uint8_t pad0[28];
    /* line 1, 2: request arguments; constant from req_id's store until req_done == req_id */
    uint32_t op;      /* enum app_op */
    uint32_t flags;   /* BIND_* */
    uint64_t tx_base; /* CONNECT, ACCEPT, INHERIT: tx_end at this moment */
    uint64_t token;   /* INHERIT, ACCEPT: must equal the target's share_token */
    uint32_t target_slot, target_generation;
    uint32_t target_app;
    uint32_t arg0;
    uint64_t arg1;
    struct sock_name local, remote;
    uint8_t pad1[8];
    uint64_t
        share_token; /* random, made by the application with the slot; who knows it may share */
    uint8_t pad2[16];
};
_Static_assert(sizeof(struct up_slot) == 192, "up_slot");

/* Where things are in up. The counts are in down-ctl. Blocks begin at a multiple of APP_PAGE. */
struct up_region {
    struct region_header header;
    uint32_t version; /* APP_VERSION of the library that writes here */
    uint32_t pid;
    uint8_t pad[56];
    struct app_waiter waiter[WAITERS_MAX];
    struct app_work work_tcp, work_udp;
    /* struct up_slot tcp[n_tcp], udp[n_udp]; then blocks */
};

/* ---- down: written by tcp or udp ---- */

enum sock_state { /* down_slot.state */
                  SOCK_FREE = 0,
                  SOCK_BOUND = 1,
                  SOCK_LISTEN = 2,
                  SOCK_CLAIM = 3, /* OP_ACCEPT waits */
                  SOCK_CONNECTING = 4,
                  SOCK_ESTABLISHED = 5, /* and everything after it, until CLOSED */
                  SOCK_CLOSED = 6,      /* reset, failed or finished; down_slot.error says why */
                  SOCK_UDP = 7,
};

struct ring_block {
    uint64_t off;  /* in the region; multiple of size */
    uint32_t size; /* power of two; 0: no block */
    uint32_t reserved;
};

/* Two copies: the one that `select` does not name is written, then `select` changes: the bit flips,
 * and the number above both bits is raised, so that a reader who was away for two changes sees that
 * as well. A copy is consistent if `select` was the same before and after. */
struct ring_desc {      /* 48 bytes */
    uint64_t switch_at; /* offsets >= this are in block[1] */
    struct ring_block block[2];
    uint8_t reserved[8];
};

/* What getsockopt(TCP_INFO) gives: field for field Linux's struct tcp_info, so that libsock copies
 * it. One for each slot of tcp. Written at the beginning, now and then while something is sent, and
 * by OP_INFO; not consistent. Times in us, last_* in ms ago, windows in segments. */
enum { /* options */
       INFO_OPT_TIMESTAMPS = 1,
       INFO_OPT_SACK = 2,
       INFO_OPT_WSCALE = 4,
       INFO_OPT_ECN = 8,
       INFO_OPT_ECN_SEEN = 16,
};
enum { INFO_CA_OPEN = 0, INFO_CA_DISORDER, INFO_CA_CWR, INFO_CA_RECOVERY, INFO_CA_LOSS };
enum { INFO_RATE_APP_LIMITED = 1 }; /* flags */

struct sock_info {
    uint8_t state; /* Linux's numbers */
    uint8_t ca_state, retransmits, probes, backoff, options;
    uint8_t wscale; /* low half: the peer's, high half: ours */
    uint8_t flags;
    uint32_t rto, ato, snd_mss, rcv_mss;
    uint32_t unacked, sacked, lost, retrans, fackets;
    uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
    uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
    uint32_t rcv_rtt, rcv_space, total_retrans;
    uint64_t pacing_rate, max_pacing_rate; /* bytes/s; UINT64_MAX: none */
    uint64_t bytes_acked, bytes_received;
    uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
    uint64_t delivery_rate; /* bytes/s */
    uint64_t busy_time, rwnd_limited, sndbuf_limited;
    uint32_t delivered, delivered_ce;
    uint64_t bytes_sent, bytes_retrans;
    uint32_t dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash;
    uint16_t total_rto, total_rto_recoveries;
    uint32_t total_rto_time;
    uint8_t pad[8]; /* not Linux's */
};
enum { INFO_SIZE = 248 }; /* of Linux's struct */
_Static_assert(offsetof(struct sock_info, pad) == INFO_SIZE, "struct tcp_info of Linux");
_Static_assert(offsetof(struct sock_info, rtt) == 68, "struct tcp_info of Linux");
_Static_assert(offsetof(struct sock_info, bytes_acked) == 120, "struct tcp_info of Linux");
_Static_assert(offsetof(struct sock_info, snd_wnd) == 228, "struct tcp_info of Linux");
_Static_assert(sizeof(struct sock_info) == 256, "sock_info");

/* 384 bytes. */
struct down_slot {
    /* line 0: hot */
    uint64_t rx_nxt;    /* offset behind the in-order data; OFF_MARK: FIN came after it */
    uint64_t tx_una;    /* acknowledged by the peer (udp: taken from the ring) */
    uint64_t tx_free;   /* space below may be written again: tx_end <= tx_free + size of the ring */
    uint32_t state;     /* enum sock_state */
    uint32_t error;     /* errno that ended the socket, or the last ICMP error */
    uint32_t error_seq; /* raised with each new error: SO_ERROR reports each once */
    uint32_t generation;
    uint32_t pending; /* listener: connections that wait for a claim */
    uint8_t pad0[20];
    /* line 1: reply */
    uint32_t req_done;         /* last request finished */
    int32_t result;            /* of it: 0 or -errno */
    uint64_t tx_base, rx_base; /* offsets at which this connection began */
    uint32_t record; /* tcp: 1 + number of what is behind this slot; a hint for a successor */
    uint32_t select; /* which copy of the rings is valid: bit 0 tx, bit 1 rx; above: changes */
    uint8_t pad1[32];
    struct sock_name local, remote; /* constant while state >= SOCK_ESTABLISHED */
    uint8_t pad2[16];
    struct ring_desc tx[2], rx[2];
};
_Static_assert(sizeof(struct down_slot) == 384, "down_slot");

static inline uint32_t ring_select_next(uint32_t select, unsigned bit)
{
    return (select ^ 1u << bit) + 4;
}

struct down_region {
    struct region_header header;
    uint64_t work_head; /* entries of the work queue that were seen */
    uint64_t scan_done; /* value of app_work.scan that was served */
    uint8_t pad[48];
    /* struct down_slot[n]; tcp: struct sock_info[n]; then blocks */
};

/* Written by syscall once, before the application gets it. */
struct ctl_region {
    struct region_header header;
    uint32_t version, app, app_generation;
    uint32_t n_tcp, n_udp; /* slots */
    uint32_t uid, pid;
    uint32_t default_sndbuf, default_rcvbuf, udp_sndbuf, udp_rcvbuf; /* ring sizes */
    uint16_t port_first, port_last;
    uint64_t up_tcp_slots, up_udp_slots;     /* offsets in up */
    uint64_t down_tcp_slots, down_udp_slots; /* offsets in down-tcp, down-udp */
    uint64_t down_tcp_info;                  /* of struct sock_info[n_tcp] in down-tcp */
    uint32_t tcp_keepidle, tcp_keepintvl, tcp_keepcnt, tcp_congestion; /* of a new socket */
    uint32_t addresses;
    struct ip_addr address[8]; /* of the stack's interfaces */
};

/* Layout, from the configuration; the same function for everybody. */
struct app_layout {
    uint32_t n_tcp, n_udp;
    uint64_t up_tcp_slots, up_udp_slots;
    uint64_t up_tcp_blocks, up_udp_blocks, up_end; /* [tcp_blocks, udp_blocks) is tcp's to assign */
    uint64_t down_tcp_slots, down_tcp_info, down_tcp_blocks, down_tcp_end;
    uint64_t down_udp_slots, down_udp_blocks, down_udp_end;
};
struct stack_config;
void app_layout(struct app_layout *l, const struct stack_config *cfg);

/* A datagram in a ring of udp: this header, then the payload, then padding to 64 bytes. Headers lie
 * at multiples of 64 and do not wrap (the ring's size is a multiple of 64); payload may. */
struct dgram {
    uint32_t len;            /* payload; bytes */
    uint32_t flags;          /* down: 1 truncated by the stack (never, as yet) */
    struct sock_name remote; /* up: destination (family 0: connected peer); down: source */
    struct ip_addr local;    /* down: the address that it was sent to */
    uint8_t interface, tos, ttl, reserved;
    uint64_t stamp_ns; /* down: CLOCK_REALTIME of reception */
};
_Static_assert(sizeof(struct dgram) == 64, "dgram");
#define DGRAM_SPACE(len) (sizeof(struct dgram) + (((uint64_t)(len) + 63) & ~63ull))

#endif
