/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ticker PORT: an application that sends 8 bytes (a counter, big endian) on each of its connections
 * every 200 µs, whatever else the processor has to do (SCHED_FIFO). So a silence of the stack at
 * the peer is the stack's, and not that of busy applications.
 *
 * Ends when it cannot listen. A connection that fails otherwise than by the peer's closing it is
 * reported on standard output.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD_NS = 200000, MOST = 16, ROOM = 8 };

static struct {
    int fd; /* + 1; 0: free */
    uint64_t count;
    uint8_t rest[ROOM]; /* of a counter that was sent in part */
    unsigned left;
} line[MOST];

static void tick(unsigned i)
{
    if (line[i].left == 0) {
        const uint64_t wire = htobe64(line[i].count++);
        memcpy(line[i].rest, &wire, ROOM);
        line[i].left = ROOM;
    }
    const ssize_t n = send(line[i].fd - 1, line[i].rest + ROOM - line[i].left, line[i].left,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        line[i].left -= (unsigned)n;
    } else if (errno != EAGAIN && errno != EINTR) {
        if (errno != EPIPE && errno != ECONNRESET) {
            printf("connection: %s\n", strerror(errno));
            fflush(stdout);
        }
        close(line[i].fd - 1);
        line[i].fd = 0;
    }
}

static void welcome(int fd)
{
    const int one = 1;

    for (unsigned i = 0; i < MOST; i++)
        if (line[i].fd == 0) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            line[i].fd = fd + 1;
            line[i].count = line[i].left = 0;
            return;
        }
    close(fd);
}

int main(int argc, char **argv)
{
    const struct sched_param fifo = {.sched_priority = 1};
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0))};
    struct timespec next;

    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) < 0 ||
        listen(listener, 8) < 0 || fcntl(listener, F_SETFL, O_NONBLOCK) < 0 ||
        sched_setscheduler(0, SCHED_FIFO, &fifo) < 0) {
        perror("ticker");
        return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        if (fd >= 0)
            welcome(fd);
        for (unsigned i = 0; i < MOST; i++)
            if (line[i].fd != 0)
                tick(i);
        next.tv_nsec += PERIOD_NS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}
