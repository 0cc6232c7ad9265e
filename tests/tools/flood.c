/* SPDX-License-Identifier: BSD-2-Clause
 *
 * flood DEVICE IP PORT COUNT RATE SEED: sends COUNT SYNs to IP:PORT, RATE a second, each from
 * another address of 198.18.0.0/15 (RFC 2544: nobody is there) with another port and ISN. They look
 * like those of Linux. The neighbour's MAC is the one that /proc/net/arp has. Prints how many left,
 * and in what time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME = 14 + 20 + 40, BATCH = 64 };

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

static void build(uint8_t *f, const uint8_t mac[6], uint32_t dst, unsigned port)
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
    put32(ip + 12, 0xc6120000u | (next() & 0x1ffff));
    put32(ip + 16, dst);
    put_sum(ip + 10, sum16(ip, 20));
    put16(tcp, 1024 + next() % 64000);
    put16(tcp + 2, port);
    put32(tcp + 4, next());
    tcp[12] = 0xa0;
    tcp[13] = 2;
    put16(tcp + 14, 64240);
    memcpy(tcp + 20, options, sizeof options);
    put_sum(tcp + 16, sum16(ip + 12, 8) + 6 + 40 + sum16(tcp, 40));
}

int main(int argc, char **argv)
{
    static uint8_t frame[BATCH][FRAME];
    struct iovec iov[BATCH];
    struct mmsghdr msg[BATCH] = {0};
    struct in_addr dst;
    uint8_t mac[6];
    if (argc != 7 || inet_pton(AF_INET, argv[2], &dst) != 1) {
        fprintf(stderr, "usage: flood DEVICE IP PORT COUNT RATE SEED\n");
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
            build(frame[i], mac, ntohl(dst.s_addr), port);
            iov[i] = (struct iovec){frame[i], FRAME};
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
    printf("%llu SYNs in %llu ms\n", (unsigned long long)done, (unsigned long long)ms);
    return 0;
}
