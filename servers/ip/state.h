/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What ip keeps in its own region besides its queues, so that a successor finds it: ARP cache,
 * reassembly, ownership of its packet buffers, packets that wait for a neighbour. Everything here
 * is written by ip alone. A successor believes none of it unseen: ip_recover() (recover.c) checks
 * each entry and drops what does not hold together.
 */
#ifndef EFT_SERVERS_IP_STATE_H
#define EFT_SERVERS_IP_STATE_H

#include "libchan/edge/packet.h"

enum {
    IP_BUFFER_SIZE = 65536, /* element of TABLE_IP_POOL: the payload of any IPv4 datagram */
    IP_BUFFERS_MAX = 1024,
    ARP_WAYS = 8,
    ARP_SETS = 128,
    ARP_ENTRIES = ARP_WAYS * ARP_SETS,
    REASM_CONTEXTS = 64,
    REASM_FRAGMENTS = 128, /* of one datagram: 64 KiB in pieces of 552 bytes */
    IP_IDS = 1024,
};

/* An entry is valid when mac_check holds the check of key (arp.c): whoever writes stores
 * mac_check = 0, then the key, then mac_check, so that a torn entry has no MAC address. */
struct arp_entry {
    uint64_t key;          /* address | interface << 32 | 1 << 40; 0: free */
    uint64_t mac_check;    /* MAC address in the low 48 bits, check above; 0: not resolved */
    uint64_t confirmed_ns; /* last time that the neighbour proved to be there */
    uint64_t used_ns;      /* last time that a packet was sent to it; coarse */
    uint64_t tried_ns;     /* last request sent */
    uint32_t tries;        /* requests without an answer; 0: not probing */
    uint32_t reserved;
};
_Static_assert(sizeof(struct arp_entry) == 48, "arp_entry");

/* A buffer of TABLE_IP_POOL. The owner is stored before anything names the buffer. */
enum ip_buffer_owner {
    BUFFER_FREE = 0,
    BUFFER_HELD = 1, /* by reassembly, a question, the pending list or the queue to a driver */
    BUFFER_UP = 2,   /* passed to tcp or udp; comes back by their return queues */
};
struct ip_buffer {
    uint32_t generation; /* of this use; raised when the buffer is taken */
    uint32_t owner;      /* enum ip_buffer_owner */
};

enum reasm_state {
    REASM_FREE = 0,
    REASM_OPEN = 1,
    REASM_DONE = 2, /* the question that names the buffer is, or is about to be, in the queue */
};
struct reasm_range {
    uint16_t start, end; /* offsets in the payload; bytes */
};
struct reasm_context {
    uint32_t state; /* enum reasm_state; stored last when it opens, first when it ends */
    uint32_t src, dst;
    uint16_t id;
    uint8_t protocol, interface;
    uint32_t buffer;
    uint32_t buffer_generation;
    uint64_t started_ns;
    uint32_t total;   /* length of the payload; 0: the last fragment is not here yet */
    uint32_t count;   /* ranges valid; stored after the range and its bytes */
    uint16_t hdr_len; /* of the first fragment's IP header; 0: not here yet */
    uint8_t reserved[6];
    uint8_t hdr[64];
    struct reasm_range range[REASM_FRAGMENTS];
};

/* TABLE_IP_STATE, one element. */
struct ip_state {
    uint64_t version;     /* IP_STATE_VERSION once initialised; anything else: start afresh */
    uint64_t answered;    /* questions whose verdicts have had all their effects */
    uint64_t pending_seq; /* number of the newest entry of the pending list */
    uint64_t announced;   /* 1: gratuitous ARP was sent */
    uint64_t reaped[CONFIG_INTERFACES]; /* slots of the queue to each driver that are accounted */
    uint64_t id_seed;
    uint64_t reserved[51];
    uint16_t id[IP_IDS]; /* next identification for datagrams that may be fragmented */
    struct ip_buffer buffer[IP_BUFFERS_MAX];
    struct arp_entry arp[ARP_ENTRIES];
    struct reasm_context reasm[REASM_CONTEXTS];
};
enum { IP_STATE_VERSION = 1 };

/* TABLE_IP_PENDING: a packet that waits for its next hop's MAC address. Judged already. */
struct ip_pending {
    uint64_t seq;      /* 0: free; stored last. The frame's provenance (src 0) when it is sent */
    uint64_t question; /* index of its question */
    uint32_t next_hop; /* network order */
    uint32_t interface;
    uint8_t reserved[40];
    struct packet packet; /* as in the question */
};
_Static_assert(sizeof(struct ip_pending) == 448, "ip_pending");

#endif
