/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the UDP server keeps in its own region so that a successor can go on. Written by udp alone.
 *
 * Slow state (addresses, options, rings, the last request) is one record in two copies: the other
 * copy is written, then `select` flips, so that the effect of a request and its number appear in
 * one store. What the applications see in their down regions is derived from it.
 *
 * Hot state is two journals per socket. A journal says what the store of a counter, that follows
 * it, is about: "input `source` takes the counter to `target`". A successor that sees the input
 * again looks whether the counter is there. Two entries, so that the one that counts is never half
 * written.
 */
#ifndef EFT_UDP_STATE_H
#define EFT_UDP_STATE_H

#include "libchan/edge/app.h"

/* More sockets than this in the configuration are not used. */
enum { UDP_SOCKETS_MAX = 16384 };

enum udp_state {
    UDP_FREE = 0,
    UDP_OPEN = 1,
    UDP_CLOSING = 2, /* gone for the network's side; what the application sent is sent first */
};

enum udp_option {
    UDP_REUSEADDR = 1,
    UDP_REUSEPORT = 2,
    UDP_V6ONLY = 4,
    UDP_BROADCAST = 8,
    UDP_RECVERR = 16,
    UDP_PKTINFO = 32,
    UDP_AUTO_ADDRESS = 64, /* local address came with the connect, and goes with it */
};

struct udp_record {
    uint32_t version;        /* raised at each commit */
    uint32_t checksum;       /* over the record with this field 0 */
    uint16_t state;          /* enum udp_state */
    uint16_t use;            /* number of this use of the record; names it in udp_buffer.sock */
    uint16_t app;            /* application and slot that own the socket */
    uint16_t moved_app;      /* INHERIT: whose slot it was, 0xffff when the old one knows */
    uint32_t app_generation; /* of the application */
    uint32_t slot;           /* in its up and down regions */
    uint32_t generation;     /* up_slot.generation of this use of the slot */
    uint32_t moved_slot;     /* INHERIT: the old slot */
    uint32_t req_id;         /* last request whose effect is in this record */
    int32_t result;          /* of it */
    uint32_t options;        /* enum udp_option */
    uint8_t tos, ttl;        /* of outgoing datagrams; ttl 0: the default */
    uint8_t reserved[2];
    uint32_t uid; /* REUSEPORT groups belong to one user */
    uint32_t reserved1;
    uint64_t tx_base, rx_base;      /* offsets at which this use began */
    uint64_t rx_start;              /* rx_nxt is at least this: what INHERIT brought along */
    struct sock_name local, remote; /* port 0: not bound; remote.addr.family 0: not connected */
    struct ring_desc tx, rx;
    uint8_t reserved2[32];
};
_Static_assert(sizeof(struct udp_record) == 256, "udp_record");

struct udp_journal {
    struct {
        uint64_t target; /* value of the counter when it is done; stored first */
        uint64_t source; /* 1 + index of the input */
    } entry[2];
};

/* TABLE_UDP_SOCKS */
struct udp_sock_shm {
    uint64_t select; /* which copy is valid */
    uint64_t reserved;
    struct udp_journal deliver; /* counter: down_slot.rx_nxt */
    struct udp_journal error;   /* counter: down_slot.error_seq */
    uint8_t pad[48];
    struct udp_record copy[2];
};
_Static_assert(sizeof(struct udp_sock_shm) == 10 * 64, "udp_sock_shm");

/* TABLE_UDP_APPS, APPS_MAX elements, by application number. */
struct udp_app_shm {
    uint32_t
        generation; /* of the application that `granted` is about; stored after it was cleared */
    uint8_t pad[60];
    uint64_t granted[16]; /* bit per privileged port (0..1023) that it may bind */
};
_Static_assert(sizeof(struct udp_app_shm) == 192, "udp_app_shm");

#endif
