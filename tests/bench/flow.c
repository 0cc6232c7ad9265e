/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One TCP stream, and how fast it was. Used by goodput and fairness; the same program runs under
 * libsock and over the kernel.
 *
 *   flow serve PORT send|receive BYTES    one connection
 *   flow connect ADDRESS PORT send|receive BYTES
 *   flow share PORT FLOWS WARM SECONDS    takes FLOWS connections; when all are there and WARM
 *                                         seconds are over, counts what each brings in SECONDS
 *
 * Who sends shuts down its side after BYTES (0: when the other side ends), who receives then
 * closes. Time begins at the connection (serve: at accept) and ends when the peer has closed, which
 * is when all has been received. Data is a pattern by position, and is checked. Output is JSON, one
 * line for each connection; the sender adds what TCP_INFO says.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A prime, so that a segment that lands in another's place shows. */
enum { PERIOD = 65521, CHUNK = 65536, FLOWS_MAX = 64 };
static uint8_t pattern[PERIOD + CHUNK];

static void die(const char *what)
{
    fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void make_pattern(void)
{
    uint32_t x = 1;

    for (unsigned i = 0; i < PERIOD; i++) {
        x = x * 1664525 + 1013904223;
        pattern[i] = (uint8_t)(x >> 24);
    }
    for (unsigned i = 0; i < CHUNK; i++)
        pattern[PERIOD + i] = pattern[i];
}

/* Sends until BYTES are out (0: until nobody takes them), and waits until the peer has all. */
static uint64_t send_all(int fd, uint64_t bytes)
{
    uint64_t done = 0;
    char last;

    while (bytes == 0 || done < bytes) {
        const uint64_t left = bytes != 0 ? bytes - done : CHUNK;
        const ssize_t n =
            send(fd, pattern + done % PERIOD, left < CHUNK ? left : CHUNK, MSG_NOSIGNAL);

        if (n < 0 && bytes == 0)
            return done;
        if (n < 0)
            die("send");
        done += (uint64_t)n;
    }
    if (shutdown(fd, SHUT_WR) < 0)
        die("shutdown");
    if (recv(fd, &last, 1, 0) < 0)
        die("wait for the end");
    return done;
}

/* Bytes received, or the end of the program when one of them is wrong. */
static ssize_t receive_some(int fd, uint64_t at, int flags)
{
    static uint8_t buffer[CHUNK];
    const ssize_t n = recv(fd, buffer, sizeof buffer, flags);

    if (n > 0 && memcmp(buffer, pattern + at % PERIOD, (size_t)n) != 0) {
        fprintf(stderr, "flow: wrong data after byte %llu\n", (unsigned long long)at);
        exit(1);
    }
    return n;
}

static uint64_t receive_all(int fd)
{
    uint64_t done = 0;
    ssize_t n;

    while ((n = receive_some(fd, done, 0)) > 0)
        done += (uint64_t)n;
    if (n < 0)
        die("receive");
    return done;
}

static void transfer(int fd, bool sends, uint64_t bytes)
{
    const double start = now();
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    const uint64_t done = sends ? send_all(fd, bytes) : receive_all(fd);

    if (!sends && bytes != 0 && done != bytes) {
        fprintf(stderr, "flow: %llu bytes of %llu\n", (unsigned long long)done,
                (unsigned long long)bytes);
        exit(1);
    }
    const bool known = sends && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0;
    close(fd); /* a receiver ends the sender's time with that */
    const double seconds = now() - start;

    printf("{\"bytes\": %llu, \"seconds\": %.6f", (unsigned long long)done, seconds);
    if (known)
        printf(", \"retransmits\": %u, \"cwnd\": %u, \"ssthresh\": %u, \"rtt_us\": %u",
               info.tcpi_total_retrans, info.tcpi_snd_cwnd, info.tcpi_snd_ssthresh, info.tcpi_rtt);
    printf("}\n");
}

static int listener(const char *port)
{
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 || listen(fd, FLOWS_MAX) < 0)
        die("listen");
    printf("ready\n");
    fflush(stdout);
    return fd;
}

static int accept_one(int fd, struct sockaddr_in *from)
{
    socklen_t len = sizeof *from;
    int s;

    while ((s = accept(fd, (struct sockaddr *)from, &len)) < 0)
        if (errno != ECONNABORTED)
            die("accept");
    return s;
}

static void connect_to(const char *address, const char *port, bool sends, uint64_t bytes)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (inet_pton(AF_INET, address, &to.sin_addr) != 1 || fd < 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    transfer(fd, sends, bytes);
}

static void share(const char *port, unsigned flows, double warm, double seconds)
{
    const int fd = listener(port);
    struct pollfd p[FLOWS_MAX];
    struct sockaddr_in from[FLOWS_MAX];
    uint64_t total[FLOWS_MAX] = {0}, before[FLOWS_MAX] = {0};
    bool counting = false;
    double began = 0;

    if (flows == 0 || flows > FLOWS_MAX)
        exit(2);
    for (unsigned i = 0; i < flows; i++)
        p[i] = (struct pollfd){.fd = accept_one(fd, &from[i]), .events = POLLIN};
    const double start = now() + warm;
    for (;;) {
        if (poll(p, flows, 100) < 0)
            die("poll");
        const double t = now();
        if (!counting && t >= start) {
            counting = true;
            began = t;
            memcpy(before, total, sizeof before);
        }
        if (counting && t >= began + seconds)
            break;
        for (unsigned i = 0; i < flows; i++) {
            if (p[i].revents == 0)
                continue;
            const ssize_t n = receive_some(p[i].fd, total[i], MSG_DONTWAIT);

            if (n == 0 || (n < 0 && errno != EAGAIN)) {
                fprintf(stderr, "flow: one of %u ended early\n", flows);
                exit(1);
            }
            total[i] += n > 0 ? (uint64_t)n : 0;
        }
    }
    const double took = now() - began;
    printf("[");
    for (unsigned i = 0; i < flows; i++) {
        char name[INET_ADDRSTRLEN];

        inet_ntop(AF_INET, &from[i].sin_addr, name, sizeof name);
        printf("%s{\"from\": \"%s\", \"bytes\": %llu, \"mbit\": %.3f}", i > 0 ? ", " : "", name,
               (unsigned long long)(total[i] - before[i]),
               (double)(total[i] - before[i]) * 8e-6 / took);
    }
    printf("]\n");
}

int main(int argc, char **argv)
{
    struct sockaddr_in from;

    make_pattern();
    signal(SIGPIPE, SIG_IGN);
    if (argc == 5 && strcmp(argv[1], "serve") == 0)
        transfer(accept_one(listener(argv[2]), &from), strcmp(argv[3], "send") == 0,
                 strtoull(argv[4], NULL, 10));
    else if (argc == 6 && strcmp(argv[1], "connect") == 0)
        connect_to(argv[2], argv[3], strcmp(argv[4], "send") == 0, strtoull(argv[5], NULL, 10));
    else if (argc == 6 && strcmp(argv[1], "share") == 0)
        share(argv[2], (unsigned)atoi(argv[3]), atof(argv[4]), atof(argv[5]));
    else {
        fprintf(stderr, "usage: flow serve|connect|share … (see the top of flow.c)\n");
        return 2;
    }
    return 0;
}
