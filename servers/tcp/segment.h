/* SPDX-License-Identifier: BSD-2-Clause
 *
 * TCP segments: parsed once from a packet into a checked value, and emitted into one. Behind this
 * file nobody looks at header bytes. Pure.
 */
#ifndef EFT_SERVERS_TCP_SEGMENT_H
#define EFT_SERVERS_TCP_SEGMENT_H

#include "libchan/edge/packet.h"
#include "record.h"

enum {
    TH_FIN = 1,
    TH_SYN = 2,
    TH_RST = 4,
    TH_PUSH = 8,
    TH_ACK = 16,
    TH_URG = 32,
    TH_ECE = 64,
    TH_CWR = 128,
};
enum tcp_ecn_codepoint { ECN_NOT_ECT = 0, ECN_ECT1, ECN_ECT0, ECN_CE }; /* RFC 3168 5 */
enum { TCP_SACK_BLOCKS = 4, TCP_HEADER_MAX = 60 };

struct tcp_seg {
    struct sock_name local, remote;
    uint32_t seq, ack;
    uint16_t wnd; /* unscaled */
    uint8_t flags;
    uint8_t ecn;            /* enum tcp_ecn_codepoint of its packet */
    uint32_t len;           /* payload; bytes */
    uint32_t gso;           /* payload of each of the merged segments; == len for one */
    const uint8_t *payload; /* in the driver's memory */
    bool verify;            /* checksum to be verified over header and payload */
    uint32_t sum;           /* partial sum of pseudo header and header */
    /* options */
    uint16_t mss; /* 0: none */
    bool has_wscale, sack_ok, has_ts;
    uint8_t wscale;
    uint32_t tsval, tsecr;
    unsigned sacks;
    struct tcp_range sack[TCP_SACK_BLOCKS];
};

/* Parses header and options of a received packet (not of an ICMP error). 0, -EBADMSG for a bad
 * header, -EILSEQ when a segment without payload has a bad checksum. The payload pointer is set by
 * the caller. */
int tcp_segment_parse(struct tcp_seg *s, const struct packet *p);

/* Writes the header of `s` and its options into `h` (TCP_HEADER_MAX bytes), checksum field with
 * the pseudo-header sum. Returns the header's length. */
unsigned tcp_segment_emit(uint8_t *h, const struct tcp_seg *s);
/* Length of the options that tcp_segment_emit() will write. */
unsigned tcp_segment_options(const struct tcp_seg *s);

#endif
