/* SPDX-License-Identifier: BSD-2-Clause
 *
 * semantics_peer PORT: the other end for `semantics`, on the kernel. Does what the lines tell it
 * that come over each connection:
 *   send N      N bytes of a pattern          fin     shutdown(SHUT_WR)
 *   rst         close with an RST             close   close
 *   echo N      read N bytes, send them back  pause   50 ms
 *   call PORT   connect to the caller's PORT, and do what comes over that connection
 * Datagrams to PORT are sent back; "burst N" is answered by N datagrams of 1, 2, … bytes.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static char byte_at(unsigned i)
{
    return (char)('a' + i % 26);
}

static int read_line(int fd, char *line, size_t room)
{
    size_t n = 0;
    while (n + 1 < room && read(fd, line + n, 1) == 1) {
        if (line[n] == '\n') {
            line[n] = 0;
            return 1;
        }
        n++;
    }
    return 0;
}

static void write_all(int fd, const char *data, size_t len)
{
    for (ssize_t n; len > 0; data += n, len -= (size_t)n)
        if ((n = write(fd, data, len)) <= 0)
            return;
}

static void serve(int fd, struct sockaddr_in peer)
{
    char line[64];
    static char data[1 << 20];
    while (read_line(fd, line, sizeof line)) {
        unsigned n = 0;
        if (sscanf(line, "send %u", &n) == 1 && n <= sizeof data) {
            for (unsigned i = 0; i < n; i++)
                data[i] = byte_at(i);
            write_all(fd, data, n);
        } else if (sscanf(line, "echo %u", &n) == 1) {
            while (n > 0) {
                ssize_t r = read(fd, data, n < sizeof data ? n : sizeof data);
                if (r <= 0)
                    return;
                write_all(fd, data, (size_t)r);
                n -= (unsigned)r;
            }
        } else if (sscanf(line, "call %u", &n) == 1) {
            int back = socket(AF_INET, SOCK_STREAM, 0);
            peer.sin_port = htons((uint16_t)n);
            if (back < 0 || connect(back, (struct sockaddr *)&peer, sizeof peer) != 0)
                return;
            if (fork() == 0) {
                close(fd);
                serve(back, peer);
                exit(0);
            }
            close(back);
        } else if (strcmp(line, "fin") == 0) {
            shutdown(fd, SHUT_WR);
        } else if (strcmp(line, "pause") == 0) {
            poll(NULL, 0, 50);
        } else if (strcmp(line, "rst") == 0) {
            struct linger l = {1, 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
            return;
        } else {
            return;
        }
    }
}

static void datagrams(int fd)
{
    char data[65536];
    for (;;) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        ssize_t n = recvfrom(fd, data, sizeof data - 1, 0, (struct sockaddr *)&peer, &len);
        unsigned count;
        if (n < 0)
            continue;
        data[n] = 0;
        if (sscanf(data, "burst %u", &count) == 1 && count <= 64) {
            for (unsigned i = 1; i <= count; i++)
                sendto(fd, data, i, 0, (struct sockaddr *)&peer, len);
        } else {
            sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&peer, len);
        }
    }
}

int main(int argc, char **argv)
{
    int on = 1;
    if (argc != 2)
        return 2;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    int lfd = socket(AF_INET, SOCK_STREAM, 0), ufd = socket(AF_INET, SOCK_DGRAM, 0);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(lfd, (struct sockaddr *)&sa, sizeof sa) != 0 ||
        bind(ufd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(lfd, 64) != 0)
        die("listen");
    /* Everybody goes when the first process does. */
    pid_t first = getpid();
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == first)
            datagrams(ufd);
        exit(0);
    }
    for (;;) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        int fd = accept(lfd, (struct sockaddr *)&peer, &len);
        if (fd < 0)
            die("accept");
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(lfd);
            serve(fd, peer);
            exit(0); /* closes fd: with an RST if that was asked for */
        }
        close(fd);
    }
}
