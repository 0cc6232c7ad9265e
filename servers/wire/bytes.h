/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Unaligned big-endian fields in byte buffers. Used by the parsers and emitters of this folder;
 * protocol logic works on the structs that they make.
 */
#ifndef EFT_WIRE_BYTES_H
#define EFT_WIRE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}
/* An IPv4 address stays in network order everywhere: no conversion, only alignment. */
static inline uint32_t get_be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void put_be32(uint8_t *p, uint32_t be)
{
    memcpy(p, &be, sizeof be);
}
/* A checksum stays in memory order, as checksum.h makes it. */
static inline void put_csum(uint8_t *p, uint16_t csum)
{
    memcpy(p, &csum, sizeof csum);
}

#endif
