/* SPDX-License-Identifier: BSD-2-Clause
 *
 * 64 bytes there and back on one TCP connection, one at a time, with blocking calls.
 *   pingpong serve PORT               echoes, one connection after the other
 *   pingpong ask ADDRESS PORT SECONDS prints {"value": median µs, "p99_us": …, "count": …}
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, SAMPLES = 1000000, WARM_UP = 200 };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int fail(const char *what)
{
    fprintf(stderr, "pingpong: %s: %s\n", what, strerror(errno));
    return 1;
}

static int read_all(int fd, char *buf)
{
    for (size_t got = 0; got < SIZE;) {
        ssize_t n = read(fd, buf + got, SIZE - got);
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return 0;
}

static int serve(struct sockaddr_in *addr)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)addr, sizeof *addr) != 0 || listen(fd, 8) != 0)
        return fail("listen");
    for (;;) {
        char buf[SIZE];
        int c = accept(fd, NULL, NULL);
        if (c < 0)
            return fail("accept");
        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        while (read_all(c, buf) == 0 && write(c, buf, SIZE) == SIZE)
            ;
        close(c);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int ask(struct sockaddr_in *addr, unsigned seconds)
{
    static uint32_t sample[SAMPLES];
    unsigned count = 0;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)addr, sizeof *addr) != 0)
        return fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    uint64_t end = now_ns() + (uint64_t)seconds * 1000000000u;
    for (unsigned round = 0; count < SAMPLES; round++) {
        char out[SIZE], in[SIZE];
        memset(out, (int)round, SIZE);
        uint64_t start = now_ns();
        if (write(fd, out, SIZE) != SIZE || read_all(fd, in) != 0)
            return fail("exchange");
        uint64_t stop = now_ns();
        if (memcmp(out, in, SIZE) != 0) {
            fprintf(stderr, "pingpong: other bytes came back\n");
            return 1;
        }
        if (round >= WARM_UP)
            sample[count++] = (uint32_t)(stop - start);
        if (stop >= end)
            break;
    }
    if (count == 0) {
        fprintf(stderr, "pingpong: too slow for a single sample\n");
        return 1;
    }
    qsort(sample, count, sizeof sample[0], by_value);
    printf("{\"value\": %.1f, \"p99_us\": %.1f, \"count\": %u}\n", sample[count / 2] / 1e3,
           sample[(uint64_t)count * 99 / 100] / 1e3, count);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        addr.sin_port = htons((uint16_t)atoi(argv[2]));
        return serve(&addr);
    }
    if (argc == 5 && strcmp(argv[1], "ask") == 0 && inet_aton(argv[2], &addr.sin_addr)) {
        addr.sin_port = htons((uint16_t)atoi(argv[3]));
        return ask(&addr, (unsigned)atoi(argv[4]));
    }
    fprintf(stderr, "usage: pingpong serve PORT | ask ADDRESS PORT SECONDS\n");
    return 2;
}
