/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Requests and responses: so many flows, one request at a time on each.
 *
 *   rr echo tcp|udp PORT      blocking calls; TCP: one connection after the other
 *   rr serve PORT             TCP, any number of connections, by epoll
 *   rr load KIND ADDRESS PORT FLOWS SECONDS [PORTS]
 *
 * KIND is tcp or udp (64 bytes there and back), memcached (get of a value of 64 bytes under the key
 * k), or dns (host1.example.test). Flows are spread over PORTS ports from PORT on. With one flow
 * the calls block, else epoll says which can be read. A datagram that has no answer after RETRY_NS
 * is lost and sent again.
 *
 * load prints {"value": requests/s, "p50_us": …, "p99_us": …, "ops": all, "lost": …}; times and
 * rate leave out the first fifth of a second.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, FLOWS_MAX = 1024, SAMPLES = 1 << 23, ROOM = 2048, RETRY_NS = 250000000 };
static const uint64_t WARM_UP = 200000000;

static void die(const char *what)
{
    fprintf(stderr, "rr: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- servers ---- */

static int bound(bool stream, const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0), one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || (stream && listen(fd, 128) != 0))
        die("listen");
    printf("ready\n");
    fflush(stdout);
    return fd;
}

/* Back as it came, message by message or part by part: the other end counts. */
static bool echo_some(int fd)
{
    char buf[ROOM];
    ssize_t n = read(fd, buf, sizeof buf);
    return n > 0 && write(fd, buf, (size_t)n) == n;
}

static void echo_streams(int fd)
{
    int c;
    while ((c = accept(fd, NULL, NULL)) >= 0) {
        no_delay(c);
        while (echo_some(c))
            ;
        close(c);
    }
    die("accept");
}

static void echo_datagrams(int fd)
{
    char buf[ROOM];
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &len);
        if (n >= 0)
            sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
    }
}

static void serve(int fd)
{
    struct epoll_event ev[128] = {{.events = EPOLLIN, .data.fd = fd}};
    int ep = epoll_create1(0);
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, ev) != 0)
        die("epoll");
    for (;;) {
        int n = epoll_wait(ep, ev, 128, -1);
        for (int i = 0; i < n; i++) {
            int c = ev[i].data.fd;
            if (c == fd) {
                c = accept(fd, NULL, NULL);
                struct epoll_event add = {.events = EPOLLIN, .data.fd = c};
                no_delay(c);
                if (c >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, c, &add) != 0)
                    die("epoll");
            } else if (!echo_some(c)) {
                close(c);
            }
        }
    }
}

/* ---- load ---- */

enum kind { TCP, UDP, MEMCACHED, DNS };
static const char *const kinds[] = {"tcp", "udp", "memcached", "dns"};

struct flow {
    int fd;
    uint16_t id;   /* of the request; in its first two bytes */
    size_t got;    /* of the response */
    uint64_t sent; /* ns */
};

static enum kind kind;
static struct flow flow[FLOWS_MAX];
static uint32_t sample[SAMPLES];
static uint64_t samples, recorded, ops, lost, counting_from;

static bool stream(void)
{
    return kind == TCP || kind == MEMCACHED;
}

static size_t request(const struct flow *f, uint8_t *buf)
{
    static const char get[] = "get k\r\n";
    static const uint8_t query[] = "\0\0\1\0\0\1\0\0\0\0\0\0\5host1\7example\4test\0\0\1\0";
    size_t len = SIZE;
    if (kind == MEMCACHED) {
        memcpy(buf, get, sizeof get - 1);
        return sizeof get - 1;
    }
    if (kind == DNS)
        memcpy(buf, query, len = sizeof query); /* the class is its last byte: 1 */
    else
        memset(buf, (int)f->id, SIZE);
    if (kind == DNS)
        buf[len - 1] = 1;
    memcpy(buf, &f->id, sizeof f->id);
    return len;
}

static void ask(struct flow *f)
{
    uint8_t buf[SIZE];
    size_t len = request(f, buf);
    f->got = 0;
    f->sent = now_ns();
    if (send(f->fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len && stream())
        die("send");
}

/* The response of n bytes, all of it for a stream. False: not to this request. */
static bool answered(const struct flow *f, const uint8_t *buf, size_t n)
{
    uint8_t want[SIZE];
    switch (kind) {
    case TCP:
    case UDP:
        request(f, want);
        if (n == SIZE && memcmp(buf, want, SIZE) == 0)
            return true;
        if (kind == UDP)
            return false; /* an old one */
        break;
    case MEMCACHED:
        if (memcmp(buf, "VALUE k 0 64\r\n", 14) == 0)
            return true;
        break;
    case DNS: /* no error, and an answer */
        if (n < 12 || memcmp(buf, &f->id, sizeof f->id) != 0)
            return false;
        if ((buf[3] & 15) == 0 && (buf[6] | buf[7]) != 0)
            return true;
        break;
    }
    fprintf(stderr, "rr: a wrong answer\n");
    exit(1);
}

/* Reads what is there; when the response is complete it counts, and the next request leaves. */
static void hear(struct flow *f, int flags)
{
    static uint8_t buf[ROOM], part[FLOWS_MAX][ROOM];
    uint8_t *to = stream() ? part[f - flow] : buf;
    size_t whole = kind == MEMCACHED ? 14 + 64 + 2 + 5 : SIZE;
    ssize_t n = recv(f->fd, to + f->got, stream() ? whole - f->got : ROOM, flags);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR || !stream()))
            return;
        die("the other end");
    }
    f->got += (size_t)n;
    if (stream() && f->got < whole)
        return;
    if (!answered(f, to, f->got)) {
        f->got = 0;
        return;
    }
    uint64_t t = now_ns();
    ops++;
    if (t >= counting_from) {
        samples++;
        if (recorded < SAMPLES)
            sample[recorded++] = (uint32_t)(t - f->sent);
    }
    f->id++;
    ask(f);
}

static void retry(unsigned flows)
{
    uint64_t t = now_ns();
    for (unsigned i = 0; i < flows; i++) {
        if (t - flow[i].sent < RETRY_NS)
            continue;
        lost++;
        ask(&flow[i]);
    }
}

static void open_flows(const char *address, unsigned port, unsigned flows, unsigned ports, int ep)
{
    for (unsigned i = 0; i < flows; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)(port + i % ports))};
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
        struct timeval patience = {0, RETRY_NS / 1000};
        flow[i].fd = socket(AF_INET, stream() ? SOCK_STREAM : SOCK_DGRAM, 0);
        flow[i].id = (uint16_t)(i * 331);
        if (inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
            connect(flow[i].fd, (struct sockaddr *)&to, sizeof to) != 0)
            die("connect");
        if (stream())
            no_delay(flow[i].fd);
        else
            setsockopt(flow[i].fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (epoll_ctl(ep, EPOLL_CTL_ADD, flow[i].fd, &ev) != 0)
            die("epoll");
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void load(unsigned flows, double seconds, int ep)
{
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), checked = start, t;
    counting_from = start + WARM_UP;
    for (unsigned i = 0; i < flows; i++)
        ask(&flow[i]);
    while ((t = now_ns()) < end) {
        struct epoll_event ev[128];
        int n = 1;
        if (flows == 1)
            hear(&flow[0], 0);
        else
            n = epoll_wait(ep, ev, 128, 50);
        for (int i = 0; flows > 1 && i < n; i++)
            hear(&flow[ev[i].data.u32], MSG_DONTWAIT);
        if (!stream() && t - checked > RETRY_NS / 4) {
            checked = t;
            retry(flows);
        }
    }
    if (recorded == 0) {
        fprintf(stderr, "rr: too slow for a single sample\n");
        exit(1);
    }
    qsort(sample, recorded, sizeof sample[0], by_value);
    printf("{\"value\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"ops\": %llu, \"lost\": %llu}\n",
           (double)samples * 1e9 / (double)(t - counting_from), sample[recorded / 2] / 1e3,
           sample[recorded * 99 / 100] / 1e3, (unsigned long long)ops, (unsigned long long)lost);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "echo") == 0) {
        bool tcp = strcmp(argv[2], "tcp") == 0;
        (tcp ? echo_streams : echo_datagrams)(bound(tcp, argv[3]));
    }
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        serve(bound(true, argv[2]));
    if ((argc == 7 || argc == 8) && strcmp(argv[1], "load") == 0) {
        unsigned flows = (unsigned)atoi(argv[5]), ports = argc == 8 ? (unsigned)atoi(argv[7]) : 1;
        while (kind < DNS && strcmp(argv[2], kinds[kind]) != 0)
            kind++;
        int ep = epoll_create1(0);
        if (flows > 0 && flows <= FLOWS_MAX && ports > 0 && strcmp(argv[2], kinds[kind]) == 0) {
            open_flows(argv[3], (unsigned)atoi(argv[4]), flows, ports, ep);
            load(flows, atof(argv[6]), ep);
            return 0;
        }
    }
    fprintf(stderr, "usage: rr echo|serve|load … (see the top of rr.c)\n");
    return 2;
}
