/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Addresses: the program's sockaddr and the stack's sock_name. An IPv4 address in an IPv6 socket
 * is ::ffff:a.b.c.d to the program (RFC 4291 2.5.5.2) and plain IPv4 to the stack.
 */
#include "sock.h"

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int name_from(struct sock_name *n, const struct sockaddr *sa, socklen_t len, int family)
{
    memset(n, 0, sizeof *n);
    if (sa == NULL || len < sizeof sa->sa_family)
        return -EINVAL;
    if (family == AF_INET) {
        struct sockaddr_in in;
        if (len < sizeof in)
            return -EINVAL;
        memcpy(&in, sa, sizeof in);
        /* Linux takes AF_UNSPEC with the wildcard address for AF_INET. */
        if (in.sin_family != AF_INET &&
            (in.sin_family != AF_UNSPEC || in.sin_addr.s_addr != INADDR_ANY))
            return -EAFNOSUPPORT;
        n->addr = ip_addr_v4(in.sin_addr.s_addr);
        n->port = ntohs(in.sin_port);
        return 0;
    }
    struct sockaddr_in6 in6;
    if (sa->sa_family == AF_INET)
        return -EAFNOSUPPORT;
    if (len < 24) /* SIN6_LEN_RFC2133: without the scope */
        return -EINVAL;
    memset(&in6, 0, sizeof in6);
    memcpy(&in6, sa, len < sizeof in6 ? len : sizeof in6);
    if (in6.sin6_family != AF_INET6)
        return -EAFNOSUPPORT;
    n->port = ntohs(in6.sin6_port);
    if (memcmp(&in6.sin6_addr, mapped, sizeof mapped) == 0) {
        n->addr.family = 4;
        memcpy(&n->addr.v4, (const uint8_t *)&in6.sin6_addr + 12, 4);
    } else {
        n->addr.family = 6;
        memcpy(n->addr.v6, &in6.sin6_addr, 16);
    }
    return 0;
}

void name_to(const struct sock_name *n, int family, struct sockaddr *sa, socklen_t *len)
{
    if (sa == NULL || len == NULL)
        return;
    if (family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(n->port)};
        if (n->addr.family == 4)
            in.sin_addr.s_addr = n->addr.v4;
        memcpy(sa, &in, *len < sizeof in ? *len : sizeof in);
        *len = sizeof in;
        return;
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(n->port)};
    if (n->addr.family == 6) {
        memcpy(&in6.sin6_addr, n->addr.v6, 16);
    } else if (n->addr.family == 4 && n->addr.v4 != 0) {
        memcpy(&in6.sin6_addr, mapped, sizeof mapped);
        memcpy((uint8_t *)&in6.sin6_addr + 12, &n->addr.v4, 4);
    }
    memcpy(sa, &in6, *len < sizeof in6 ? *len : sizeof in6);
    *len = sizeof in6;
}

bool name_loopback(const struct sock_name *n)
{
    static const uint8_t one[16] = {[15] = 1};
    if (n->addr.family == 4)
        return (ntohl(n->addr.v4) >> 24) == 127;
    return n->addr.family == 6 && memcmp(n->addr.v6, one, 16) == 0;
}
