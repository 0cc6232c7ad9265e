/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Loss detection and recovery, the sender's side: RACK-TLP (RFC 8985) decides by time what is lost,
 * PRR (RFC 9937) how much may be sent while it is repaired, Eifel (RFC 3522), DSACK (RFC 3708) and
 * F-RTO (RFC 5682) whether it was no loss at all. A peer without SACK: three duplicate ACKs and
 * NewReno (RFC 6582).
 *
 *   sent.c       what is under way           sack.c      what an ACK says about it
 *   rack.c       lost or late, tail probes   recovery.c  the reaction, and taking it back
 *   rexmt.c      retransmission and persist timers
 *
 * One ACK, in this order: acknowledged records go, SACKed ones are marked (struct tcp_ack collects
 * what was learnt), RACK learns the newest transmission that arrived, undo, detection, recovery.
 *
 * All of it is private. A successor knows only that [tx_una, snd_max) was published: that is one
 * record, in flight since the restart. ACKs and SACKs of it are taken as they come; a hole in it is
 * found as any other, except that only what is sent after the restart says how long a round trip
 * is; the last resort is a tail probe and the timeout. The window is the initial one, in slow
 * start. Nothing that happened before is undone, and the reordering window begins small again, so
 * that a path that reorders costs some needless retransmissions.
 */
#ifndef EFT_SERVERS_TCP_LOSS_H
#define EFT_SERVERS_TCP_LOSS_H

#include "segment.h"
#include "sent.h"

struct tcp_ack { /* one acknowledgement, while it is processed */
    const struct tcp_seg *s;
    uint64_t una;                    /* tx_una before it */
    uint64_t flight;                 /* snd_max - tx_una before it; bytes */
    uint64_t advanced;               /* tx_una moved by; bytes */
    uint64_t acked;                  /* of that, what was not SACKed before; bytes */
    uint64_t sacked;                 /* newly SACKed; bytes */
    uint64_t rtt;                    /* of the newest of what was sent once; ns; 0: none */
    uint64_t dsack_start, dsack_end; /* arrived twice; equal: nothing */
    bool
        original; /* something that was sent once, before `recover`, is now known to have arrived */
    bool repeated;  /* tx_una passed something that was sent again */
    bool duplicate; /* RFC 5681 2 */
    bool reordered; /* something that was sent once arrived behind what was sent later */
};

struct tcp_rack {
    uint64_t at, end; /* newest transmission that arrived: its time (0: none), its end */
    uint64_t rtt;     /* of it; ns */
    uint64_t highest; /* end of the highest that arrived */
    uint64_t due;     /* when the next record is late enough to be lost; NEVER */
    uint64_t round;   /* one widening per round trip, until this is acknowledged; 0: none */
    uint64_t probe;   /* snd_max after a tail loss probe; 0: none is out */
    uint8_t wider;    /* the reordering window in quarters of the least RTT, less one */
    uint8_t persist;  /* recoveries for which it stays so */
    bool reordering;  /* the path was seen to reorder */
    bool probe_again; /* the probe was a retransmission */
    bool timer;       /* TIMER_LOSS waits for `due`, else for a probe */
};

struct tcp_prr {                     /* RFC 9937 */
    uint64_t delivered, out, flight; /* bytes; flight: RecoverFS */
};

enum tcp_frto { FRTO_OFF = 0, FRTO_WAIT, FRTO_NEW };

struct tcp_undo {
    uint64_t from;  /* tx_una when the event began */
    uint64_t again; /* segments sent again that no DSACK has shown to be needless */
    uint32_t tsval; /* timestamp of the first of them */
    bool may;       /* there is something to take back */
    bool sent;      /* at least one was sent again */
};

/* --- sack.c --- */
/* tx_una moves to `ack`. */
void tcp_sack_advance(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a, uint64_t ack);
void tcp_sack_blocks(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a);

/* --- rack.c --- */
void tcp_rack_delivered(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a,
                        const struct tcp_sent *r, uint64_t end);
void tcp_rack_dsack(struct tcp_conn *k);
void tcp_rack_recovered(struct tcp_conn *k);
/* Marks what is lost by now, notes when to look again. Returns the bytes. */
uint64_t tcp_rack_detect(struct tcp *t, struct tcp_conn *k);
/* At a timeout (RFC 8985 6.3). */
void tcp_rack_timeout(struct tcp *t, struct tcp_conn *k);
/* Something was sent or acknowledged: reordering timer, or tail loss probe. */
void tcp_rack_arm(struct tcp *t, struct tcp_conn *k);
/* A tail loss probe instead of a timeout. False: nothing could be sent. */
bool tcp_rack_probe(struct tcp *t, struct tcp_conn *k);
void tcp_rack_expire(struct tcp *t, struct tcp_conn *k);
/* True: the probe has repaired a loss. */
bool tcp_rack_probe_acked(struct tcp_conn *k, const struct tcp_ack *a);

/* --- recovery.c --- */
/* Bytes that are believed to be in the network. */
uint64_t tcp_loss_pipe(const struct tcp_conn *k);
void tcp_loss_ack(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a);
/* RACK's timer found a loss. */
void tcp_loss_late(struct tcp *t, struct tcp_conn *k);
void tcp_loss_timeout(struct tcp *t, struct tcp_conn *k);
/* `segs` segments were sent again; bytes were sent. */
void tcp_loss_sent_again(struct tcp *t, struct tcp_conn *k, uint32_t segs);
/* The packets were too large for the path: all again, at the same window (RFC 8899). */
void tcp_loss_too_big(struct tcp *t, struct tcp_conn *k);
/* A predecessor sent [tx_una, snd_max). False: there is no memory to know that. */
bool tcp_loss_restore(struct tcp *t, struct tcp_conn *k);

#endif
