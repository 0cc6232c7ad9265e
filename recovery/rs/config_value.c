/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Values of the configuration: numbers, addresses, prefixes. Pure.
 */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

int config_number(const char *text, uint64_t lo, uint64_t hi, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return -1;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0)
        return -1;
    unsigned shift = 0;
    switch (*end) {
    case 'K':
        shift = 10;
        break;
    case 'M':
        shift = 20;
        break;
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    if (shift != 0)
        end++;
    if (*end != '\0' || v > (UINT64_MAX >> shift))
        return -1;
    v <<= shift;
    if (v < lo || v > hi)
        return -1;
    *value = v;
    return 0;
}

int config_addr(const char *text, struct ip_addr *addr)
{
    struct in_addr in;

    if (inet_pton(AF_INET, text, &in) != 1)
        return -1;
    *addr = ip_addr_v4(in.s_addr);
    return 0;
}

int config_prefix(const char *text, struct ip_addr *addr, uint8_t *prefix, bool whole)
{
    char host[64];
    uint64_t bits = 32;
    const char *slash = strchr(text, '/');

    if (slash == NULL && !whole)
        return -1;
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof host)
        return -1;
    memcpy(host, text, len);
    host[len] = '\0';
    if (slash != NULL && config_number(slash + 1, 0, 32, &bits) != 0)
        return -1;
    *prefix = (uint8_t)bits;
    return config_addr(host, addr);
}

uint32_t config_mask(uint8_t prefix)
{
    return prefix == 0 ? 0 : htonl(UINT32_MAX << (32 - prefix));
}
