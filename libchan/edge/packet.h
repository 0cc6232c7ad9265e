/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The packet descriptor: one slot of every edge that carries packets above the driver.
 *
 * Headers travel in the slot, payload stays where it is. Whoever puts a packet into a slot copies
 * the headers into it, so that what pf judges and what a driver or TCP uses later is IP's own copy:
 * nobody else can change a port after the verdict. Payload is named by up to four rich pointers and
 * is never judged.
 *
 * Lifetime of payload:
 *   received   one piece in the driver's pool. The frame (frame, frame_generation of driver
 *              `interface`) is ours until tcp, udp or ip puts it on its return queue.
 *   sent       pieces in an application's up region (TCP), in UDP's pool or in IP's pool, held by
 *              the chain (chain, chain_generation) of the sender. IP marks the chain done in its
 *              done-table when the driver's head has passed the frame, or when it dropped the
 *              packet. Marking is idempotent.
 */
#ifndef EFT_EDGE_PACKET_H
#define EFT_EDGE_PACKET_H

#include "../addr.h"
#include "../chan.h"

enum { PACKET_PIECES = 4, PACKET_HEADERS = 176, PACKET_L4_MAX = 64 };

enum packet_csum {
    CSUM_NONE = 0,    /* received: not verified. sent: complete, nothing to do */
    CSUM_PARTIAL = 1, /* pseudo-header sum is in the checksum field. sent: driver or device
                         completes it. received: came from a local peer, payload is as trusted as
                         its memory */
    CSUM_GOOD = 2,    /* received: the device verified it */
};

struct packet {
    struct slot_head head;
    /* 16 */
    uint16_t hdr_len;  /* bytes valid in hdr */
    uint8_t l3;        /* offset of the IP header in hdr; when there is none: hdr_len */
    uint8_t l4;        /* offset of the transport header in hdr */
    uint8_t protocol;  /* IP protocol number */
    uint8_t direction; /* enum rule_direction: RULE_IN or RULE_OUT */
    uint8_t interface; /* driver instance; to send, from tcp or udp: ignored (routing decides) */
    uint8_t csum;      /* enum packet_csum, of the transport checksum */
    /* 24 */
    uint16_t gso_size; /* payload bytes per segment; 0: one segment */
    uint8_t pieces;
    uint8_t origin;       /* server_id that owns the chain; for received ones the driver */
    uint32_t payload_len; /* sum of pieces; bytes */
    /* 32 */
    uint32_t chain; /* chain of origin, or frame number of the driver */
    uint32_t chain_generation;
    uint64_t stamp_ns; /* received: CLOCK_MONOTONIC; sent: 0 */
    /* 48 */
    uint16_t mss;                 /* IP -> TCP with an ICMP error: new MTU or 0 */
    uint8_t tos, ttl;             /* to send: ttl 0 means the default */
    uint8_t icmp_type, icmp_code; /* ip -> tcp/udp: non-zero type: this is an ICMP error; hdr holds
                                     the quoted IP header and at least 8 bytes behind it */
    uint16_t reserved;
    uint8_t flags; /* PACKET_* */
    uint8_t reserved1[7];
    /* 64 */
    struct rptr piece[PACKET_PIECES];
    /* 160 */
    struct ip_addr src, dst; /* received: as in the header. sent by tcp/udp: src may be any */
    uint8_t reserved2[8];
    /* 208 */
    uint8_t hdr[PACKET_HEADERS]; /* sent by tcp/udp: transport header only, l4 = 0 */
};
_Static_assert(sizeof(struct packet) == 384, "packet is six lines");

enum { PACKET_DONT_FRAGMENT = 1, PACKET_BROADCAST = 2 /* received: was not to us alone */ };

/* Bytes of a slot worth copying: all up to the valid headers. */
static inline size_t packet_used(const struct packet *p)
{
    return p->hdr_len <= PACKET_HEADERS ? offsetof(struct packet, hdr) + p->hdr_len
                                        : sizeof(struct packet);
}

/* Copies a packet out of a foreign slot and checks the copy: counts, lengths, offsets. Pieces are
 * checked where they are resolved. False: garbage, count and pass. */
bool packet_copy(struct packet *dst, const void *slot);
/* Fills a reserved slot from `p`, leaving the slot's own head (provenance) alone. */
void packet_put(void *slot, const struct packet *p);

#endif
