/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One TCP stream at full speed.
 *
 *   bulk serve PORT send|receive [-z] [-u]       one connection after the other; what we do on it
 *   bulk connect ADDRESS PORT send|receive SECONDS
 *
 * -z: with the calls of eft.h, where they are available. -u: every byte is made by the sender, and
 * used by the receiver, as a program does that means something by it: with send() it makes them in
 * a buffer of its own and they are copied, with eft_reserve() it makes them where they are sent
 * from.
 *
 * connect prints {"value": Gbit/s, "bytes": all}; the rate leaves out the first fifth of a second.
 * Who sends is done when the other end has taken all of it.
 */
#include "libsock/eft.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 17 };
static const double WARM_UP = 0.2;

static uint8_t buffer[CHUNK] __attribute__((aligned(4096)));
static uint64_t used; /* what the bytes come to: so that the compiler believes that they matter */

static void die(const char *what)
{
    fprintf(stderr, "bulk: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void make(void *to, size_t len)
{
    memset(to, (int)++used, len);
}

static void use(const uint8_t *from, size_t len)
{
    uint64_t sum = 0, word;
    for (; len >= sizeof word; from += sizeof word, len -= sizeof word) {
        memcpy(&word, from, sizeof word);
        sum += word;
    }
    while (len > 0)
        sum += from[--len];
    used += sum;
}

/* Bytes moved; 0: the end, or the other side has had enough. */
static ssize_t send_once(int fd, bool zero, bool uses)
{
    if (zero) {
        struct eft_span span;
        ssize_t n = eft_reserve(fd, &span, CHUNK, 0);
        for (unsigned i = 0; uses && n > 0 && i < span.pieces; i++)
            make(span.piece[i].iov_base, span.piece[i].iov_len);
        return n > 0 && eft_commit(fd, (size_t)n) == 0 ? n : 0;
    }
    if (uses)
        make(buffer, sizeof buffer);
    ssize_t n = send(fd, buffer, sizeof buffer, MSG_NOSIGNAL);
    return n > 0 ? n : 0;
}

static ssize_t receive_once(int fd, bool zero, bool uses)
{
    if (zero) {
        struct eft_span span;
        ssize_t n = eft_recv(fd, &span, CHUNK, 0);
        for (unsigned i = 0; uses && n > 0 && i < span.pieces; i++)
            use(span.piece[i].iov_base, span.piece[i].iov_len);
        return n > 0 && eft_release(fd, (size_t)n) == 0 ? n : 0;
    }
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (uses && n > 0)
        use(buffer, (size_t)n);
    return n > 0 ? n : 0;
}

static void serve(const char *port, bool sends, bool zero, bool uses)
{
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, c;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 8) != 0)
        die("listen");
    while ((c = accept(fd, NULL, NULL)) >= 0) {
        bool z = zero && eft_available(c);
        while ((sends ? send_once : receive_once)(c, z, uses) > 0)
            ;
        close(c);
    }
    die("accept");
}

static void load(const char *address, const char *port, bool sends, double seconds)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint64_t bytes = 0, counted = 0;
    double warm = 0, t;
    char end;
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    double start = now();
    while ((t = now()) < start + seconds) {
        if (warm == 0 && t >= start + WARM_UP) {
            warm = t;
            counted = bytes;
        }
        ssize_t n = (sends ? send_once : receive_once)(fd, false, false);
        if (n == 0)
            die("the other end");
        bytes += (uint64_t)n;
    }
    if (sends && (shutdown(fd, SHUT_WR) != 0 || recv(fd, &end, 1, 0) < 0))
        die("the end");
    t = now();
    if (warm == 0 || bytes == counted)
        die("too short");
    printf("{\"value\": %.4f, \"bytes\": %llu}\n", (double)(bytes - counted) * 8e-9 / (t - warm),
           (unsigned long long)bytes);
}

int main(int argc, char **argv)
{
    bool zero = false, uses = false;
    signal(SIGPIPE, SIG_IGN);
    for (int i = 4; i < argc; i++) {
        zero |= strcmp(argv[i], "-z") == 0;
        uses |= strcmp(argv[i], "-u") == 0;
    }
    if (argc >= 4 && strcmp(argv[1], "serve") == 0)
        serve(argv[2], strcmp(argv[3], "send") == 0, zero, uses);
    if (argc != 6 || strcmp(argv[1], "connect") != 0) {
        fprintf(stderr, "usage: bulk serve|connect … (see the top of bulk.c)\n");
        return 2;
    }
    load(argv[2], argv[3], strcmp(argv[4], "send") == 0, atof(argv[5]));
    return used == 42 ? 3 : 0;
}
