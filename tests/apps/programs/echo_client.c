/* SPDX-License-Identifier: BSD-2-Clause
 *
 * echo_client [-u] [-c] [-n CONNECTIONS] ADDRESS PORT BYTES: sends a stream whose every byte
 * depends on its position and on the connection, reads it back at the same time, checks every byte;
 * then it waits for the server's end, or, with -c, closes without having heard of it. With -u
 * datagrams of several sizes, one at a time, repeated when one is lost. Exit status 0: all is
 * right.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 256, CHUNK = 32768 };

struct stream {
    int fd;
    uint64_t sent, got, total;
    unsigned seed;
    bool done; /* all is sent */
};

static uint8_t pattern(unsigned seed, uint64_t off)
{
    uint64_t x = (off + 1) * 0x9e3779b97f4a7c15ull + seed * 0xbf58476d1ce4e5b9ull;
    return (uint8_t)(x >> 56);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void push(struct stream *s, bool half_close)
{
    uint8_t data[CHUNK];
    size_t n = s->total - s->sent < CHUNK ? (size_t)(s->total - s->sent) : CHUNK;
    for (size_t i = 0; i < n; i++)
        data[i] = pattern(s->seed, s->sent + i);
    ssize_t w = n > 0 ? send(s->fd, data, n, MSG_NOSIGNAL) : 0;
    if (w < 0 && errno != EAGAIN)
        die("send");
    if (w > 0)
        s->sent += (uint64_t)w;
    if (s->sent == s->total) {
        if (half_close && shutdown(s->fd, SHUT_WR) != 0)
            die("shutdown");
        s->done = true;
    }
}

/* False: the end. */
static bool pull(struct stream *s)
{
    uint8_t data[CHUNK];
    ssize_t n = recv(s->fd, data, sizeof data, 0);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n < 0)
        die("recv");
    for (ssize_t i = 0; i < n; i++)
        if (data[i] != pattern(s->seed, s->got + (uint64_t)i)) {
            fprintf(stderr, "connection %u: byte %llu is wrong\n", s->seed,
                    (unsigned long long)s->got + (unsigned long long)i);
            exit(1);
        }
    s->got += (uint64_t)n;
    return n > 0;
}

static int streams(struct sockaddr_in *sa, unsigned count, uint64_t total, bool close_first)
{
    static struct stream s[MOST];
    struct pollfd p[MOST];
    unsigned open = count;
    for (unsigned i = 0; i < count; i++) {
        s[i] = (struct stream){.total = total, .seed = i + 1};
        s[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (s[i].fd < 0 || connect(s[i].fd, (struct sockaddr *)sa, sizeof *sa) != 0)
            die("connect");
        if (fcntl(s[i].fd, F_SETFL, O_NONBLOCK) != 0)
            die("fcntl");
    }
    while (open > 0) {
        for (unsigned i = 0; i < count; i++)
            p[i] = (struct pollfd){.fd = s[i].fd,
                                   .events = (short)(POLLIN | (s[i].done ? 0 : POLLOUT))};
        if (poll(p, count, 60000) <= 0)
            die("poll");
        for (unsigned i = 0; i < count; i++) {
            if (p[i].revents & POLLOUT && !s[i].done)
                push(&s[i], !close_first);
            if (!(p[i].revents & (POLLIN | POLLERR | POLLHUP)))
                continue;
            if (pull(&s[i]) && !(close_first && s[i].got == total))
                continue;
            if (s[i].got != total) {
                fprintf(stderr, "connection %u ended after %llu bytes\n", i + 1,
                        (unsigned long long)s[i].got);
                return 1;
            }
            close(s[i].fd);
            s[i].fd = -1;
            open--;
        }
    }
    return 0;
}

static int datagrams(struct sockaddr_in *sa, uint64_t total)
{
    static uint8_t out[65507], in[65536];
    static const unsigned sizes[] = {0, 1, 512, 1472, 1473, 9000, 40000};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    unsigned lost = 0, number = 0;
    if (fd < 0 || connect(fd, (struct sockaddr *)sa, sizeof *sa) != 0)
        die("connect");
    for (uint64_t done = 0; done < total; number++) {
        unsigned size = sizes[number % (sizeof sizes / sizeof sizes[0])];
        for (unsigned i = 0; i < size; i++)
            out[i] = pattern(number, i);
        for (;;) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            if (send(fd, out, size, 0) != (ssize_t)size)
                die("send");
            if (poll(&p, 1, 1000) == 1)
                break;
            if (++lost > 10) {
                fprintf(stderr, "too many datagrams lost\n");
                return 1;
            }
        }
        ssize_t n = recv(fd, in, sizeof in, 0);
        if (n != (ssize_t)size || memcmp(in, out, size) != 0) {
            fprintf(stderr, "datagram %u: %zd bytes instead of %u, or others\n", number, n, size);
            return 1;
        }
        done += size + 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    unsigned count = 1;
    bool udp = false, close_first = false;
    int opt;
    while ((opt = getopt(argc, argv, "ucn:")) != -1) {
        if (opt == 'n')
            count = (unsigned)atoi(optarg);
        udp |= opt == 'u';
        close_first |= opt == 'c';
    }
    if (optind + 3 != argc || count < 1 || count > MOST) {
        fprintf(stderr, "usage: echo_client [-u] [-c] [-n CONNECTIONS] ADDRESS PORT BYTES\n");
        return 2;
    }
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(argv[optind + 1]))};
    if (inet_pton(AF_INET, argv[optind], &sa.sin_addr) != 1) {
        fprintf(stderr, "%s is no address\n", argv[optind]);
        return 2;
    }
    uint64_t total = strtoull(argv[optind + 2], NULL, 0);
    return udp ? datagrams(&sa, total) : streams(&sa, count, total, close_first);
}
