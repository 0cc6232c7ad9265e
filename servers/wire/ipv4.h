/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The IPv4 header, RFC 791. Pure.
 */
#ifndef EFT_WIRE_IPV4_H
#define EFT_WIRE_IPV4_H

#include "bytes.h"
#include <stdbool.h>
#include <stddef.h>

enum {
    IPV4_LEN = 20,
    IPV4_LEN_MAX = 60,
    IPV4_MAX = 65535,
    IPV4_DF = 0x4000,
    IPV4_MF = 0x2000,
    PROTO_ICMP = 1,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
};

struct ipv4 {
    uint8_t hdr_len; /* bytes, options included */
    uint8_t tos, ttl, protocol;
    uint16_t total_len; /* header and payload; bytes */
    uint16_t id;
    bool df, mf;
    uint16_t offset;   /* of the fragment; bytes */
    uint32_t src, dst; /* network order */
};

enum ipv4_error {
    IPV4_OK = 0,
    IPV4_SHORT,    /* the header does not fit */
    IPV4_VERSION,  /* not version 4, or IHL below 5 */
    IPV4_CHECKSUM, /* of the header */
    IPV4_TOTAL,    /* total length below the header's, or beyond what is there */
    IPV4_OPTIONS,  /* an option that does not end, or a source route */
};

/* Parses the header at p; `have` bytes of it are at hand, of a packet of `len` bytes (padding
 * included). Everything is checked except what the addresses mean. */
enum ipv4_error ipv4_parse(struct ipv4 *h, const uint8_t *p, size_t have, size_t len);
/* The header that an ICMP error quotes: no checksum (routers change it), and only the beginning of
 * the packet is there. */
bool ipv4_parse_quoted(struct ipv4 *h, const uint8_t *p, size_t have);
/* Writes 20 bytes, the checksum included. hdr_len is ignored: no options. */
void ipv4_emit(uint8_t *p, const struct ipv4 *h);

/* What an address can be, whatever our own are. */
static inline bool ipv4_loopback(uint32_t be)
{
    return (__builtin_bswap32(be) >> 24) == 127;
}
static inline bool ipv4_multicast(uint32_t be)
{
    return (__builtin_bswap32(be) >> 28) == 14;
}
/* 240/4, 255.255.255.255 included */
static inline bool ipv4_reserved(uint32_t be)
{
    return (__builtin_bswap32(be) >> 28) == 15;
}
/* 0/8, "this network" */
static inline bool ipv4_zero_net(uint32_t be)
{
    return (__builtin_bswap32(be) >> 24) == 0;
}
/* Never a source on the wire (RFC 1122 section 3.2.1.3). */
static inline bool ipv4_never_source(uint32_t be)
{
    return ipv4_zero_net(be) || ipv4_loopback(be) || ipv4_multicast(be) || ipv4_reserved(be);
}
static inline uint32_t ipv4_mask(unsigned prefix)
{
    return prefix == 0 ? 0 : __builtin_bswap32(0xffffffffu << (32 - (prefix > 32 ? 32 : prefix)));
}
/* Is `a` the directed broadcast of the network of `addr`/`prefix`? (RFC 3021: a /31 has none.) */
static inline bool ipv4_net_broadcast(uint32_t a, uint32_t addr, unsigned prefix)
{
    return prefix < 31 && a == (addr | ~ipv4_mask(prefix));
}

#endif
