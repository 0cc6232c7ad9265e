/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between the files of the IP server. Private state of one incarnation: all of it can be rebuilt
 * from the own region (recover.c).
 */
#ifndef EFT_SERVERS_IP_INTERNAL_H
#define EFT_SERVERS_IP_INTERNAL_H

#include "counters.h"
#include "ip.h"
#include "libchan/edge/driver_ip.h"
#include "libchan/edge/frame_return.h"
#include "libchan/edge/ip_driver.h"
#include "libchan/edge/ip_pf.h"
#include "libchan/edge/ip_tcp.h"
#include "libchan/edge/ip_udp.h"
#include "libchan/edge/pf_ip.h"
#include "libchan/edge/tcp_ip.h"
#include "libchan/edge/udp_ip.h"
#include "servers/wire/ipv4.h"
#include "servers/wire/route.h"
#include "state.h"

#define SECOND 1000000000ull

enum {
    NO_CHAIN = TCP_NO_CHAIN,
    DEFAULT_TTL = 64,
    QUESTION_HDR = 14, /* l3 of what we send: room for the Ethernet header */
};

/* In src_index of frames that have no input (src 0): ours, not an entry of the pending list. */
#define OWN_INDEX (1ull << 63)

/* One driver instance. */
struct port {
    struct chan_rx in;
    struct chan_tx out, ret;
    const struct config_interface *ifc;
    const struct region *region;
    uint64_t pool_off; /* of its frames, in its region */
    uint64_t frames;
    uint32_t frame_size;
    uint64_t out_resets; /* seen */
    uint64_t defended_ns;
    uint64_t udp_sent; /* index behind the last frame that holds a buffer of udp */
    bool waits;        /* the driver is to wake us when its head moves */
};

struct ip {
    struct component *c;
    const struct stack_config *cfg;
    struct ip_state *shm;
    unsigned ports;
    struct port port[CONFIG_INTERFACES];
    struct chan_rx tcp, udp, verdict, tcp_ret, udp_ret;
    struct chan_tx question, to_tcp, to_udp;
    uint64_t question_resets, verdict_resets; /* seen */

    unsigned quota;          /* items per input and turn: less than half of any queue */
    uint64_t answered;       /* shm->answered plus what is not yet published */
    struct chan_tx *blocked; /* the full queue for which verdicts wait; NULL */
    unsigned blocked_for;    /* slots that the verdict needs of it */

    uint32_t *tcp_done, *udp_done;
    const struct tcp_chain *tcp_chain; /* in tcp's region: as many */
    uint64_t tcp_next;                 /* slot of tcp that we look at next */
    uint64_t tcp_chains, udp_buffers;
    bool completed; /* since bells were last considered */

    uint8_t *pool;
    uint64_t pool_off; /* in our region */
    uint32_t buffers;
    uint32_t free_buffer[IP_BUFFERS_MAX], free_buffers;

    struct ip_pending *pending;
    uint32_t pending_slots, pending_used;
    uint32_t pending_end; /* no entry from here on; what is looked at per packet while some wait */
    uint64_t arp_next, reasm_next; /* deadlines; NEVER */
    unsigned reasm_open;

    uint64_t own_index; /* running number of frames without an input */
    uint64_t icmp_tokens_ns, icmp_tokens;
    uint64_t random;
    uint64_t rx_frames, tx_frames, completions; /* not yet in the counters */
};

/* One more of `which`. Before the drop takes effect: see counters.h. */
static inline void count(struct ip *ip, enum ip_counter which)
{
    uint64_t *n = &ip->c->block->counter[which];
    shm_store(n, *n + 1);
}

/* Replay. After a crash an input is seen again, and a second decision about it could differ from
 * the first (a queue is no longer full, a neighbour got known) and pass on what was given back
 * already. passed(): a predecessor published an output of this input, or of a later one, on this
 * queue: so whatever it wanted to put there for this input is there. made(): it published an output
 * of this very input there. Within one batch nothing is published before the batch's end, except
 * where a comment says so: ip->quota sees to it. */
static inline bool passed(const struct chan_tx *tx, uint16_t src, uint64_t index)
{
    return src < CHAN_INPUTS && tx->last[src].valid && index <= tx->last[src].index;
}
bool made(const struct chan_tx *tx, uint16_t src, uint64_t index);

/* ---- ip.c ---- */
/* Room for n questions? Those of ICMP, made while a verdict is handled, may use the last few slots:
 * if received packets could fill the ring, nothing would ever be answered. */
bool ip_question_room(struct ip *ip, unsigned n, bool internal);
/* Puts a question. CHAN_OK also when a predecessor did it. */
int ip_ask(struct ip *ip, const struct packet *p, uint16_t src, uint64_t index);
void ip_publish(struct ip *ip);

/* ---- buffer.c: pool, completions, frames ---- */
/* A buffer, HELD, or -1. */
int64_t buffer_take(struct ip *ip);
/* Frees it, if this is still its use and it is not free. */
bool buffer_free(struct ip *ip, uint32_t buffer, uint32_t generation);
bool buffer_in_use(const struct ip *ip, uint32_t buffer, uint32_t generation);
void buffer_pass_up(struct ip *ip, uint32_t buffer);
static inline uint8_t *buffer_at(struct ip *ip, uint32_t buffer)
{
    return ip->pool + (uint64_t)buffer * IP_BUFFER_SIZE;
}
struct rptr buffer_piece(const struct ip *ip, uint32_t buffer, uint64_t off, uint32_t len);
/* The payload of a packet to send is not needed any more. Idempotent. */
void chain_complete(struct ip *ip, const struct packet *p);
bool chain_is_complete(const struct ip *ip, const struct packet *p);
/* Does tcp's table say, too, that the slot `index` of its queue names this chain? */
bool chain_is_of_slot(const struct ip *ip, const struct packet *p, uint64_t index);
/* tcp's slots [from, to) said nothing sensible, or are gone with a reset of the queue: the chains
 * that they named, after tcp's table, are done. Their space would never come back. */
void chains_abandon(struct ip *ip, uint64_t from, uint64_t to);
/* Gives back the payload of any packet, received or to send. CHAN_FULL: try again later. */
int payload_release(struct ip *ip, const struct packet *p, uint16_t src, uint64_t index);
int frame_give_back(struct ip *ip, struct port *port, uint32_t frame, uint32_t generation,
                    uint16_t src, uint64_t index);
/* Accounts for what the driver has sent. */
void port_reap(struct ip *ip, struct port *port);
/* Room for n frames in the driver's queue, none of them over a slot that is not accounted for. */
bool port_room(struct ip *ip, struct port *port, unsigned n);
/* Buffers that tcp and udp gave back. */
unsigned buffer_returns(struct ip *ip, struct chan_rx *rx, uint64_t now);

/* ---- input.c: received frames ---- */
unsigned ip_input(struct ip *ip, struct port *port, uint64_t now);
/* Makes the question about a received packet. `b`: its first `have` bytes, from the IP header on;
 * `l4_off`: where its transport header is, in `region`. False: counted as bad, nothing made. */
bool packet_received(struct ip *ip, struct packet *p, const struct ipv4 *h, const uint8_t *b,
                     size_t have, const struct region *region, uint64_t l4_off);

/* ---- output.c: packets of tcp and udp ---- */
unsigned ip_output(struct ip *ip, struct chan_rx *rx, enum server_kind from, uint64_t now);
/* Begins a packet to send: IP header in front of l4_len bytes of transport header, which the
 * caller puts at hdr + l4. payload_len must be set. */
void packet_to_send(struct ip *ip, struct packet *p, const struct route *r, uint32_t src,
                    uint32_t dst, uint8_t l4_len, bool df);
/* Tells tcp or udp, in the form of an ICMP error, that `p` (to send, complete) cannot be sent. */
void ip_report(struct ip *ip, const struct packet *p, uint8_t type, uint8_t code, uint16_t mtu);

/* ---- verdict.c ---- */
unsigned ip_verdicts(struct ip *ip, uint64_t now);
/* After a reset of an edge to pf: what was held will not be answered. */
void ip_drop_held(struct ip *ip, uint64_t end);

/* ---- send.c: frames to a driver, packets that wait for a neighbour ---- */
/* Sends a judged packet: resolves the next hop, fragments. CHAN_FULL: later (ip->blocked is set).
 */
int ip_transmit(struct ip *ip, const struct packet *p, uint16_t src, uint64_t index, uint64_t now);
void pending_run(struct ip *ip, uint64_t now);

/* ---- arp.c ---- */
enum arp_answer { ARP_KNOWN, ARP_WAIT, ARP_NO };
void arp_input(struct ip *ip, struct port *port, const uint8_t *p, size_t len, uint64_t index,
               uint64_t now);
/* The MAC address of a neighbour; asks for it when it is not known. */
enum arp_answer arp_resolve(struct ip *ip, unsigned interface, uint32_t addr, uint8_t mac[6],
                            uint64_t now);
/* The same without asking: ARP_NO when nobody is asking. */
enum arp_answer arp_peek(struct ip *ip, unsigned interface, uint32_t addr, uint8_t mac[6]);
void arp_tick(struct ip *ip, uint64_t now);
/* Announces our addresses, once in the life of the stack. */
void arp_announce(struct ip *ip);
void arp_recover(struct ip *ip, uint64_t now);

/* ---- icmp.c ---- */
/* A received ICMP packet that passed. CHAN_FULL: later. */
int icmp_input(struct ip *ip, const struct packet *q, uint64_t index, uint64_t now);
/* Asks pf for leave to send an error about a received packet, whose first `len` bytes are at
 * `quote`, if the rules of RFC 1122 section 3.2.2 and the rate allow. src, index: provenance. */
void icmp_error(struct ip *ip, uint8_t type, uint8_t code, const uint8_t *quote, size_t len,
                uint16_t src, uint64_t index, uint64_t now);

/* ---- reassembly.c ---- */
enum reasm_result { REASM_KEPT, REASM_COMPLETE, REASM_REFUSED };
/* Takes a fragment: header at hdr, payload of `len` bytes at `data` (foreign memory). COMPLETE:
 * *out is the context. */
enum reasm_result reasm_insert(struct ip *ip, const struct ipv4 *h, const uint8_t *hdr,
                               const uint8_t *data, uint32_t len, unsigned interface, uint64_t now,
                               struct reasm_context **out);
/* Builds the question about a complete datagram. False: bad, the buffer is free again. */
bool reasm_packet(struct ip *ip, struct reasm_context *x, struct packet *p);
/* The question is published: the buffer is its own now. */
void reasm_end(struct ip *ip, struct reasm_context *x);
void reasm_tick(struct ip *ip, uint64_t now);

/* ---- recover.c ---- */
/* Checks the own region and rebuilds what is private. Queues are attached. */
void ip_recover(struct ip *ip, uint64_t now);

#endif
