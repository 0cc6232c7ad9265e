/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flood DEVICE IP PORT COUNT RATE SEED [KIND [PEER]]: sends COUNT frames to IP:PORT, RATE a second.
 * The neighbour's MAC is the one that /proc/net/arp has. Prints how many left, and in what time.
 *
 * KIND  syn        (default) each from another address of 198.18.0.0/15 (RFC 2544: nobody is there)
 *                  with another port and ISN; they look like those of Linux
 *       rst, ack   blind: as if from PEER, any port of it, with any sequence number; an ACK brings
 * data malformed  one of those, with up to eight bytes from the Ethernet type on changed, or cut
 * short fragments  of datagrams that never become whole, overlap, or end behind their end
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME = 14 + 20 + 40, BATCH = 64, SYN = 2, RST = 4, ACK = 16 };

static uint64_t state;

static uint32_t next(void) /* xorshift64* (Vigna) */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1dull) >> 32);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint32_t sum16(const uint8_t *p, unsigned len)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < len; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    return sum;
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

static void put_sum(uint8_t *p, uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    put16(p, ~sum);
}

static void neighbour(const char *ip, uint8_t mac[6])
{
    char line[256], addr[64], hw[32];
    FILE *f = fopen("/proc/net/arp", "r");
    if (f == NULL)
        die("/proc/net/arp");
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%63s %*s %*s %31s", addr, hw) == 2 && strcmp(addr, ip) == 0 &&
            sscanf(hw, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
                   &mac[5]) == 6) {
            fclose(f);
            return;
        }
    }
    fprintf(stderr, "no neighbour %s\n", ip);
    exit(1);
}

static const char *kind = "syn";
static uint32_t peer; /* 0: strangers */

static bool is(const char *name)
{
    return strcmp(kind, name) == 0;
}

/* Checksums of what is there by now. */
static void finish(uint8_t *f)
{
    uint8_t *ip = f + 14, *tcp = f + 34;
    put16(ip + 10, 0);
    put_sum(ip + 10, sum16(ip, 20));
    if (ip[9] != 6)
        return;
    put16(tcp + 16, 0);
    put_sum(tcp + 16, sum16(ip + 12, 8) + 6 + 40 + sum16(tcp, 40));
}

static void build_segment(uint8_t *f, const uint8_t mac[6], uint32_t dst, unsigned port,
                          uint8_t flags)
{
    static const uint8_t options[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0,
                                      0, 1, 0, 0,    0, 0, 1, 3,  3, 7};
    uint8_t *ip = f + 14, *tcp = f + 34;
    memset(f, 0, FRAME);
    memcpy(f, mac, 6);
    f[6] = 2;
    put16(f + 12, ETHERTYPE_IP);
    ip[0] = 0x45;
    put16(ip + 2, FRAME - 14);
    ip[8] = 64;
    ip[9] = 6;
    put32(ip + 12, flags != SYN && peer ? peer : 0xc6120000u | (next() & 0x1ffff));
    put32(ip + 16, dst);
    put16(tcp, 1024 + next() % 64000);
    put16(tcp + 2, port);
    put32(tcp + 4, next());
    put32(tcp + 8, flags == SYN ? 0 : next());
    tcp[12] = flags == SYN ? 0xa0 : 0x50; /* without options the rest is data */
    tcp[13] = flags;
    put16(tcp + 14, 64240);
    if (flags == SYN)
        memcpy(tcp + 20, options, sizeof options);
}

static void build_fragment(uint8_t *f)
{
    uint8_t *ip = f + 14;
    put16(ip + 4, next() % 64); /* few datagrams: they meet */
    put16(ip + 6, (next() % 4 ? 0x2000 : 0) | (next() & (next() % 8 ? 0x1f : 0x1fff)));
    ip[9] = next() % 2 ? 17 : 6;
}

/* One frame; its length. */
static unsigned build(uint8_t *f, const uint8_t mac[6], uint32_t dst, unsigned port)
{
    static const uint8_t any[] = {SYN, RST, ACK, SYN | ACK};
    const uint8_t flags = is("rst")   ? RST
                          : is("ack") ? ACK
                          : is("syn") ? SYN
                                      : any[next() % sizeof any];

    build_segment(f, mac, dst, port, flags);
    if (is("fragments"))
        build_fragment(f);
    finish(f);
    if (!is("malformed"))
        return FRAME;
    for (unsigned i = 1 + next() % 8; i > 0; i--)
        f[12 + next() % (FRAME - 12)] = (uint8_t)next();
    return next() % 4 ? FRAME : 14 + next() % (FRAME - 14);
}

int main(int argc, char **argv)
{
    static uint8_t frame[BATCH][FRAME];
    struct iovec iov[BATCH];
    struct mmsghdr msg[BATCH] = {0};
    struct in_addr dst;
    uint8_t mac[6];
    struct in_addr from = {0};
    if (argc < 7 || argc > 9 || inet_pton(AF_INET, argv[2], &dst) != 1 ||
        (argc > 8 && inet_pton(AF_INET, argv[8], &from) != 1)) {
        fprintf(stderr, "usage: flood DEVICE IP PORT COUNT RATE SEED [KIND [PEER]]\n");
        return 2;
    }
    peer = ntohl(from.s_addr);
    if (argc > 7)
        kind = argv[7];
    if (!is("syn") && !is("rst") && !is("ack") && !is("malformed") && !is("fragments")) {
        fprintf(stderr, "flood: no such kind: %s\n", kind);
        return 2;
    }
    unsigned port = (unsigned)atoi(argv[3]);
    uint64_t count = strtoull(argv[4], NULL, 0), rate = strtoull(argv[5], NULL, 0), done = 0;
    state = strtoull(argv[6], NULL, 0) * 2 + 1;
    neighbour(argv[2], mac);
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll to = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_IP),
                             .sll_ifindex = (int)if_nametoindex(argv[1])};
    if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die(argv[1]);
    uint64_t begin = now_ns();
    while (done < count) {
        unsigned n = count - done < BATCH ? (unsigned)(count - done) : BATCH;
        for (unsigned i = 0; i < n; i++) {
            iov[i] = (struct iovec){frame[i], build(frame[i], mac, ntohl(dst.s_addr), port)};
            msg[i].msg_hdr.msg_iov = &iov[i];
            msg[i].msg_hdr.msg_iovlen = 1;
        }
        for (unsigned at = 0; at < n;) {
            int sent = sendmmsg(fd, msg + at, n - at, 0);
            if (sent < 0 && errno != ENOBUFS && errno != EINTR)
                die("sendmmsg");
            at += sent > 0 ? (unsigned)sent : 0;
        }
        done += n;
        /* Not before its time. */
        uint64_t due = begin + done * 1000000000 / rate, now = now_ns();
        if (due > now)
            usleep((useconds_t)((due - now) / 1000));
    }
    uint64_t ms = (now_ns() - begin) / 1000000;
    printf("%llu frames (%s) in %llu ms\n", (unsigned long long)done, kind, (unsigned long long)ms);
    return 0;
}
