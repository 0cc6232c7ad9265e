/* SPDX-License-Identifier: BSD-2-Clause
 *
 * echo_server [-u] [-f] PORT: sends back what it gets. One epoll loop; with -f a process per
 * connection, forked after accept(), the parent closing its copy; with -u datagrams.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 65536, CONNECTIONS = 1024 };

struct connection {
    int fd;
    size_t from, to; /* [from, to) of data is to be sent back */
    bool eof;
    char data[BUFFER];
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void echo_datagrams(int fd)
{
    static char data[BUFFER];
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&peer, &len);
        if (n < 0)
            die("recvfrom");
        if (sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&peer, len) < 0)
            perror("sendto");
    }
}

static void echo_blocking(int fd)
{
    static char data[BUFFER];
    ssize_t n;
    while ((n = read(fd, data, sizeof data)) > 0)
        for (ssize_t done = 0, w; done < n; done += w)
            if ((w = write(fd, data + done, (size_t)(n - done))) < 0)
                die("write");
    if (n < 0)
        die("read");
    _exit(0);
}

/* What can be done without blocking. False: the connection is over. */
static bool echo_some(struct connection *c)
{
    for (;;) {
        while (c->from < c->to) {
            ssize_t n = send(c->fd, c->data + c->from, c->to - c->from, MSG_NOSIGNAL);
            if (n < 0)
                return errno == EAGAIN;
            c->from += (size_t)n;
        }
        if (c->eof)
            return false;
        ssize_t n = recv(c->fd, c->data, sizeof c->data, 0);
        if (n < 0)
            return errno == EAGAIN;
        c->eof = n == 0;
        c->from = 0;
        c->to = (size_t)n;
    }
}

int main(int argc, char **argv)
{
    bool udp = false, forking = false;
    int opt, on = 1;
    while ((opt = getopt(argc, argv, "uf")) != -1) {
        udp |= opt == 'u';
        forking |= opt == 'f';
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "usage: echo_server [-u] [-f] PORT\n");
        return 2;
    }
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(argv[optind]))};
    int lfd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (lfd < 0 || setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(lfd, (struct sockaddr *)&sa, sizeof sa) != 0)
        die("bind");
    if (udp)
        echo_datagrams(lfd);
    if (listen(lfd, 128) != 0)
        die("listen");
    if (forking) {
        signal(SIGCHLD, SIG_IGN);
        for (;;) {
            int fd = accept(lfd, NULL, NULL);
            if (fd < 0)
                die("accept");
            pid_t pid = fork();
            if (pid == 0) {
                close(lfd);
                echo_blocking(fd);
            }
            close(fd);
        }
    }
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev) != 0)
        die("epoll");
    for (;;) {
        struct epoll_event got[64];
        int n = epoll_wait(ep, got, 64, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct connection *c = got[i].data.ptr;
            if (c == NULL) {
                int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0)
                    continue;
                c = calloc(1, sizeof *c);
                if (c == NULL)
                    die("calloc");
                c->fd = fd;
                ev = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
                if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) != 0)
                    die("epoll_ctl");
            } else if (!echo_some(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
