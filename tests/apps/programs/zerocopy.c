/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A stream by the calls of eft.h where they are available, else by recv() and send():
 *
 *   zerocopy receive PORT FILE        takes one connection, writes what comes to FILE
 *   zerocopy send ADDRESS PORT FILE   sends FILE again and again until SIGTERM, whole each time
 *
 * Says first whether the calls are available; the sender says at the end how many times it was. The
 * receiver keeps several references at a time; each has a sum, taken when it was handed out and
 * compared when it is given back.
 */
#include "libsock/eft.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HELD = 4, PIECE = 16384, CHUNK = 65536 };

static volatile sig_atomic_t ending;

static void on_term(int sig)
{
    (void)sig;
    ending = 1;
}

static void die(const char *what, long err)
{
    fprintf(stderr, "zerocopy: %s: %s\n", what, strerror((int)-err));
    exit(1);
}

static uint64_t sum(const struct eft_span *span)
{
    uint64_t h = 0xcbf29ce484222325;
    for (unsigned i = 0; i < span->pieces; i++)
        for (size_t k = 0; k < span->piece[i].iov_len; k++)
            h = (h ^ ((const uint8_t *)span->piece[i].iov_base)[k]) * 0x100000001b3;
    return h;
}

static void write_out(int out, const void *data, size_t len)
{
    for (ssize_t n; len > 0; data = (const char *)data + n, len -= (size_t)n)
        if ((n = write(out, data, len)) < 0)
            die("write", -errno);
}

static void give_back(int fd, int out, const struct eft_span *span, uint64_t was)
{
    for (unsigned i = 0; i < span->pieces; i++)
        write_out(out, span->piece[i].iov_base, span->piece[i].iov_len);
    if (sum(span) != was) {
        fprintf(stderr, "zerocopy: held bytes have changed\n");
        exit(1);
    }
    int err = eft_release(fd, span->len);
    if (err != 0)
        die("release", err);
}

static void receive_by_reference(int fd, int out)
{
    struct eft_span span[HELD];
    uint64_t sums[HELD];
    unsigned first = 0, last = 0;
    ssize_t n;
    for (;;) {
        if (last - first == HELD) {
            give_back(fd, out, &span[first % HELD], sums[first % HELD]);
            first++;
        }
        n = eft_recv(fd, &span[last % HELD], PIECE, 0);
        if (n == -ENOBUFS && last != first) {
            give_back(fd, out, &span[first % HELD], sums[first % HELD]);
            first++;
            continue;
        }
        if (n <= 0)
            break;
        sums[last % HELD] = sum(&span[last % HELD]);
        last++;
    }
    if (n < 0)
        die("receive", n);
    for (; first != last; first++)
        give_back(fd, out, &span[first % HELD], sums[first % HELD]);
}

static void receive_by_copy(int fd, int out)
{
    static char buf[CHUNK];
    ssize_t n;
    while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
        write_out(out, buf, (size_t)n);
    if (n < 0)
        die("receive", -errno);
}

/* All of the file. */
static void send_by_reservation(int fd, int in)
{
    struct eft_span span;
    ssize_t n, got;
    int err;
    for (off_t at = 0;; at += got) {
        n = eft_reserve(fd, &span, CHUNK, 0);
        if (n < 0)
            die("reserve", n);
        got = preadv(in, span.piece, (int)span.pieces, at);
        if (got < 0)
            die("read", -errno);
        if ((err = eft_commit(fd, (size_t)got)) != 0)
            die("commit", err);
        if (got == 0)
            return;
    }
}

static void send_by_copy(int fd, int in)
{
    static char buf[CHUNK];
    ssize_t got, n;
    for (off_t at = 0; (got = pread(in, buf, sizeof buf, at)) > 0; at += got)
        for (ssize_t done = 0; done < got; done += n)
            if ((n = send(fd, buf + done, (size_t)(got - done), 0)) < 0)
                die("send", -errno);
}

static int which(int fd)
{
    int yes = eft_available(fd);
    printf("%s\n", yes ? "available" : "not available");
    fflush(stdout);
    return yes;
}

static int take_one(const char *port)
{
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (const struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1) != 0)
        die("listen", -errno);
    int c = accept(fd, NULL, NULL);
    if (c < 0)
        die("accept", -errno);
    close(fd);
    return c;
}

int main(int argc, char **argv)
{
    struct sigaction a = {.sa_handler = on_term, .sa_flags = SA_RESTART};
    if (argc == 4 && strcmp(argv[1], "receive") == 0) {
        int fd = take_one(argv[2]), out = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (out < 0)
            die(argv[3], -errno);
        if (which(fd))
            receive_by_reference(fd, out);
        else
            receive_by_copy(fd, out);
        close(fd);
        return close(out) == 0 ? 0 : 1;
    }
    if (argc == 5 && strcmp(argv[1], "send") == 0) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
        int fd, in = open(argv[4], O_RDONLY);
        unsigned times = 0;
        char end;
        sigaction(SIGTERM, &a, NULL);
        if (in < 0 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
            die(argv[4], -errno);
        while (connect(fd = socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to) !=
               0) {
            if (errno != ECONNREFUSED)
                die("connect", -errno);
            close(fd);
            poll(NULL, 0, 10); /* until somebody listens */
        }
        for (int zero = which(fd); times == 0 || !ending; times++)
            (zero ? send_by_reservation : send_by_copy)(fd, in);
        /* The other end closes when it has all. */
        if (shutdown(fd, SHUT_WR) != 0 || recv(fd, &end, 1, 0) != 0)
            die("end", -errno);
        printf("%u times\n", times);
        return 0;
    }
    fprintf(stderr, "usage: zerocopy receive PORT FILE | send ADDRESS PORT FILE\n");
    return 2;
}
