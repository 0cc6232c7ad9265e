/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What TCP keeps in its own region: one element of TABLE_TCP_CONNS per socket of any kind, the
 * lookup index, and what belongs to an application. This memory is the only state that a successor
 * has; everything else (congestion, RTT, SACK board, timers, free blocks) is rebuilt.
 *
 * Offsets in this file are relative: 0 is the first byte of data of the connection (ISS + 1,
 * IRS + 1), so that a pending connection can move to any slot of any application by giving it
 * other bases. Absolute offset in a ring = base + relative offset.
 *
 * A restart keeps all of it. It does not promise that the bytes make sense: recover.c checks every
 * record and every relation between counters before use.
 */
#ifndef EFT_SERVERS_TCP_RECORD_H
#define EFT_SERVERS_TCP_RECORD_H

#include "libchan/edge/app.h"

enum tcp_kind {
    TCP_KIND_FREE = 0,
    TCP_KIND_SOCKET = 1, /* bound, or has options only */
    TCP_KIND_LISTEN = 2, /* one process's share of a listener; `group` says which */
    TCP_KIND_CLAIM = 3,  /* OP_ACCEPT waits */
    TCP_KIND_CONN = 4,   /* a connection; app == TCP_NO_APP: pending, orphaned or in TIME-WAIT */
    TCP_KIND_DEAD = 5,   /* slot and record are being let go; the reply still stands here */
};

enum tcp_state {
    TCP_CLOSED = 0,
    TCP_SYN_SENT,
    TCP_SYN_RCVD,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT_1,
    TCP_FIN_WAIT_2,
    TCP_CLOSING,
    TCP_TIME_WAIT,
    TCP_CLOSE_WAIT,
    TCP_LAST_ACK,
    TCP_STATES
};

enum { TCP_NO_APP = 0xffff, TCP_OOO_RANGES = 128 };
#define TCP_NO_FIN UINT64_MAX

/* tcp_record.flags */
enum {
    TCPF_TIMESTAMPS = 1 << 0, /* agreed */
    TCPF_SACK = 1 << 1,       /* agreed */
    TCPF_WSCALE = 1 << 2,     /* agreed */
    TCPF_WAITING = 1 << 3,    /* the reply to req_id is not due yet */
    TCPF_CLOSED_BY_APP = 1 << 4,
    TCPF_PASSIVE = 1 << 5, /* came through a listener */
    TCPF_RX_SHUT = 1 << 6, /* received data is of no use to anybody */
    TCPF_NODELAY = 1 << 7,
    TCPF_CORK = 1 << 8,
    TCPF_KEEPALIVE = 1 << 9,
    TCPF_QUICKACK = 1 << 10,
    TCPF_REUSEADDR = 1 << 11,
    TCPF_REUSEPORT = 1 << 12,
    TCPF_V6ONLY = 1 << 13,
    TCPF_BOUND_PORT = 1 << 14, /* OP_BIND chose or was given a port */
    TCPF_ECN = 1 << 15,        /* agreed */
    TCPF_ECN_PLAIN = 1 << 16,  /* but nothing of ours may be marked: ecn.c */
};

/* One or two blocks of a ring; page = offset in the region / 4096. shift 0: no block. */
struct tcp_ring {
    uint64_t switch_at; /* relative offset; from here on the second block */
    uint32_t page[2];
    uint8_t shift[2];
    uint8_t reserved[6];
};
_Static_assert(sizeof(struct tcp_ring) == 24, "tcp_ring");

/* Slow state, in two copies: the other one is written, then `select` names its version. */
struct tcp_record {
    uint32_t checksum; /* over all that follows */
    uint32_t version;  /* raised by each write; its low bit is the copy that it lies in */
    uint64_t epoch;    /* of the incarnation that wrote it */
    uint8_t kind;      /* enum tcp_kind */
    uint8_t state;     /* enum tcp_state */
    uint16_t mss;      /* largest payload that the peer takes; bytes */
    uint32_t flags;    /* TCPF_* */
    /* owner */
    uint16_t app, rx_app; /* rx_app: whose down region holds the receive ring */
    uint32_t slot;
    uint32_t app_generation;
    uint32_t generation; /* of the slot */
    /* the connection */
    struct sock_name local, remote;
    uint32_t iss, irs;
    uint64_t tx_base, rx_base; /* absolute offset of relative offset 0 in the owner's counters */
    uint64_t tx_fin;           /* relative offset of our FIN; TCP_NO_FIN */
    uint64_t token;            /* share_token of the slot, for a listener */
    uint64_t expiry;           /* TIME-WAIT, orphans: CLOCK_MONOTONIC, ns */
    uint32_t req_id;           /* last request taken */
    int32_t result;            /* of it, unless TCPF_WAITING */
    uint32_t group;            /* listener group: of a listener, its claims, its connections */
    uint32_t backlog;
    uint32_t ts_offset;    /* our timestamps = milliseconds + this */
    uint32_t user_timeout; /* ms; 0: none */
    struct tcp_ring tx, rx;
    uint64_t order;  /* running number: claims and pending connections are served in this order */
    uint32_t linger; /* seconds + 1; 0 off */
    uint16_t maxseg, error;
    uint16_t keepidle, keepintvl; /* s; 0 default */
    uint8_t keepcnt, tos, ttl, congestion;
    uint8_t snd_wscale, rcv_wscale, sndbuf_shift, rcvbuf_shift; /* buf shifts: 0 default */
    uint8_t defer_accept, reserved[3];
    uint32_t error_seq;
    uint32_t reserved1;
    uint64_t rx_start; /* relative offset at which the present owner began to read */
};
_Static_assert(sizeof(struct tcp_record) == 256, "tcp_record");

struct tcp_range {
    uint32_t start, end; /* sequence numbers */
};

struct tcp_conn_shm {
    /* line 0: hot words, each meaningful alone */
    uint64_t rx_nxt;  /* relative end of in-order data in the ring; OFF_MARK: FIN followed */
    uint64_t tx_una;  /* relative; acknowledged, our FIN counts one */
    uint64_t snd_max; /* relative; end of all that was ever given to ip; stored before publishing */
    uint64_t tx_free; /* relative; space given back to the application */
    uint64_t rx_edge; /* relative right edge that was advertised; stored before publishing */
    uint32_t rx_acked;  /* low bits of the relative (FIN counts one) ACK published; stored after */
    uint32_t snd_wnd;   /* bytes behind tx_una that the peer takes; stored before tx_una moves */
    uint32_t ooo;       /* bit 0: valid copy; from bit 8: count; other bits: running number */
    uint32_t ts_recent; /* may lag, never lead */
    uint32_t select;    /* version of the record that holds; bit 0: which copy that is */
    uint32_t rx_told;   /* low bits of rx_edge as it was published; stored after */
    struct tcp_record record[2];
};
_Static_assert(sizeof(struct tcp_conn_shm) == 576, "tcp_conn_shm");
_Static_assert(sizeof(struct tcp_conn_shm) % 64 == 0, "tcp_conn_shm is whole lines");

/* TABLE_TCP_OOO, beside the record of the same number: out-of-order data that is in the ring, in
 * ascending order; tcp_conn_shm.ooo says which copy holds and how much of it. A queue that
 * overflows takes every other packet of a burst: who forgets the rest has it sent again. Apart, so
 * that a connection without holes needs no memory for it. */
struct tcp_ooo_shm {
    struct tcp_range range[2][TCP_OOO_RANGES];
};
_Static_assert(sizeof(struct tcp_ooo_shm) == 2048, "tcp_ooo_shm");

/* TABLE_TCP_STATE. Records from the mark on were never used: a successor does not look at them, so
 * that neither the memory nor the time that it takes grows with what the table could hold. Raised
 * before the record is first committed, by one store: the number in the low half, its complement in
 * the high one. Where the two do not fit each other, all records are walked. */
struct tcp_state_shm {
    uint64_t used;
    uint64_t index; /* lookup table that holds (lookup.c); low half, and its complement */
    uint64_t reserved[6];
};
_Static_assert(sizeof(struct tcp_state_shm) == 64, "tcp_state_shm");

/* TABLE_TCP_FORENSIC: the last connections that recovery had to reset, as it found them, for
 * whoever looks into what happened. Nobody recovers from these. Element n of all is in copy[n %
 * size]. */
enum tcp_forensic_reason {
    TCP_FORENSIC_NO_RECORD = 1, /* neither copy of the record holds */
    TCP_FORENSIC_RECORD = 2,    /* the valid copy does not hold; the other one says whose it was */
    TCP_FORENSIC_OWNER = 3,     /* names an application, a slot or a block that cannot be its own */
    TCP_FORENSIC_COUNTERS = 4,  /* the hot words contradict each other */
    TCP_FORENSIC_SUSPECT = 5,   /* brought tcp down again and again (libchan/quarantine.h) */
};
enum { TCP_FORENSIC_COPIES = 16 };

struct tcp_forensic_copy {
    uint64_t time_ns;         /* CLOCK_MONOTONIC */
    uint64_t epoch;           /* of the incarnation that found it */
    uint32_t index;           /* in TABLE_TCP_CONNS */
    uint32_t reason;          /* enum tcp_forensic_reason */
    uint64_t tx_end, rx_read; /* the application's counters at that time, 0 if it has gone */
    uint8_t reserved[24];
    struct tcp_conn_shm found; /* record and hot words */
};
_Static_assert(sizeof(struct tcp_forensic_copy) == 640, "tcp_forensic_copy");

struct tcp_forensic {
    uint64_t taken; /* copies ever made; raised after each */
    uint64_t reserved[7];
    struct tcp_forensic_copy copy[TCP_FORENSIC_COPIES];
};
_Static_assert(sizeof(struct tcp_forensic) == 64 + 16 * 640, "tcp_forensic");

/* Open addressing over the keyed hash of addresses and ports. One 64-bit store each. The table
 * holds tables of 2^n entries, for each n one, from element 2^n on. */
struct tcp_index_entry {
    uint64_t word; /* high 32 bits: hash; low: record number + 1; 0: empty */
};
_Static_assert(sizeof(struct tcp_index_entry) == 8, "tcp_index_entry");

struct tcp_app_shm {
    uint32_t generation; /* of the application for which the rest holds */
    uint32_t reserved[15];
    uint64_t granted[16]; /* privileged ports that syscall granted, a bit each */
};
_Static_assert(sizeof(struct tcp_app_shm) == 192, "tcp_app_shm");

#endif
