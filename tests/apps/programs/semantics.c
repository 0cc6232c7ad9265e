/* SPDX-License-Identifier: BSD-2-Clause
 *
 * semantics PEER PORT: does what Linux has defined answers to, with semantics_peer at the other
 * end, and prints the answers. The output must be the same with and without libsock. Waits for
 * conditions, so that the answers do not depend on time.
 */
#include "semantics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LISTEN_PORT = 7321, CLOSED_PORT = 7322 };

static struct sockaddr_in peer;
static volatile sig_atomic_t pipes, alarms;

static void on_signal(int sig)
{
    if (sig == SIGPIPE)
        pipes++;
    else
        alarms++;
}

void say(const char *what, long r)
{
    const char *e = r < 0 ? strerrorname_np(errno) : NULL;
    if (e != NULL)
        printf("  %-34s %s\n", what, e);
    else
        printf("  %-34s %ld\n", what, r);
    fflush(stdout);
}

static void events(const char *what, unsigned ev)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{POLLIN, "IN"},   {POLLOUT, "OUT"},     {POLLERR, "ERR"},
                 {POLLHUP, "HUP"}, {POLLRDHUP, "RDHUP"}, {POLLNVAL, "NVAL"}};
    printf("  %-34s", what);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (ev & names[i].bit)
            printf(" %s", names[i].name);
    printf("\n");
    fflush(stdout);
}

static unsigned polled(int fd, int wanted, int ms)
{
    struct pollfd p = {.fd = fd, .events = (short)wanted};
    return poll(&p, 1, ms) > 0 ? (unsigned)p.revents : 0;
}

enum { ALL = POLLIN | POLLOUT | POLLRDHUP };

int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof peer) != 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

void tell(int fd, const char *line)
{
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        say(line, -1);
}

/* Waits until n bytes can be read. */
static void filled(int fd, int n)
{
    int have = 0;
    for (int i = 0; i < 500 && have < n; i++) {
        if (ioctl(fd, FIONREAD, &have) != 0)
            return;
        if (have < n)
            poll(NULL, 0, 10);
    }
}

static int socket_error(int fd)
{
    int e = 0;
    socklen_t len = sizeof e;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
    return e;
}

static void say_error(const char *what, int fd)
{
    int e = socket_error(fd);
    printf("  %-34s %s\n", what, e == 0 ? "0" : strerrorname_np(e));
}

static void fresh_sockets(void)
{
    char c;
    int fd = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    puts("fresh sockets");
    events("tcp poll", polled(fd, ALL, 0));
    events("udp poll", polled(u, ALL, 0));
    say("recv", recv(fd, &c, 1, 0));
    say("send", send(fd, "x", 1, MSG_NOSIGNAL));
    say("shutdown", shutdown(fd, SHUT_RDWR));
    say("getpeername", getpeername(fd, (struct sockaddr *)&sa, &len));
    say("getsockname", getsockname(fd, (struct sockaddr *)&sa, &len));
    printf("  %-34s %s:%u %u\n", "name", inet_ntoa(sa.sin_addr), ntohs(sa.sin_port), len);
    say("accept", accept(fd, NULL, NULL));
    say("listen on udp", listen(u, 1));
    say("accept on udp", accept(u, NULL, NULL));
    say("send on udp", send(u, "x", 1, 0));
    say("pread", pread(fd, &c, 1, 0));
    say("lseek", lseek(fd, 0, SEEK_SET));
    close(fd);
    close(u);
}

static void refused(void)
{
    char c;
    struct sockaddr_in closed = peer;
    closed.sin_port = htons(CLOSED_PORT);
    puts("refused");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say("connect, blocking", connect(fd, (struct sockaddr *)&closed, sizeof closed));
    events("poll", polled(fd, ALL, 0));
    say("connect elsewhere", connect(fd, (struct sockaddr *)&peer, sizeof peer));
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    say("connect, in the background", connect(fd, (struct sockaddr *)&closed, sizeof closed));
    events("poll", polled(fd, ALL, 5000));
    say_error("SO_ERROR", fd);
    say_error("SO_ERROR again", fd);
    events("poll", polled(fd, ALL, 0));
    say("recv", recv(fd, &c, 1, 0));
    say("second connect", connect(fd, (struct sockaddr *)&closed, sizeof closed));
    close(fd);
}

static void background_connect(void)
{
    puts("connect in the background");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    say("connect", connect(fd, (struct sockaddr *)&peer, sizeof peer));
    events("poll", polled(fd, ALL, 5000));
    say_error("SO_ERROR", fd);
    say("connect again", connect(fd, (struct sockaddr *)&peer, sizeof peer));
    say("and again", connect(fd, (struct sockaddr *)&peer, sizeof peer));
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;
    getpeername(fd, (struct sockaddr *)&sa, &len);
    printf("  %-34s %d\n", "peer's port", ntohs(sa.sin_port) == ntohs(peer.sin_port));
    close(fd);
}

static void flags(void)
{
    char b[64] = "";
    puts("flags");
    int fd = dial();
    say("recv DONTWAIT", recv(fd, b, 8, MSG_DONTWAIT));
    tell(fd, "send 20\n");
    filled(fd, 20);
    say("recv PEEK", recv(fd, b, 4, MSG_PEEK));
    say("recv TRUNC", recv(fd, NULL, 4, MSG_TRUNC));
    say("recv", recv(fd, b, 4, 0));
    printf("  %-34s %.4s\n", "bytes", b);
    tell(fd, "pause\nsend 4\n");
    say("recv WAITALL", recv(fd, b, 16, MSG_WAITALL));
    printf("  %-34s %.16s\n", "bytes", b);
    struct iovec v[3] = {{b, 1}, {b + 1, 2}, {b + 3, 60}};
    tell(fd, "send 6\n");
    filled(fd, 6);
    say("readv", readv(fd, v, 3));
    say("recv OOB", recv(fd, b, 1, MSG_OOB));
    say("recv 0 bytes", recv(fd, b, 0, MSG_DONTWAIT));
    say("read 0 bytes", read(fd, b, 0));
    tell(fd, "send 1\n");
    filled(fd, 1);
    say("recv 0 bytes of 1", recv(fd, b, 0, 0));
    say("send 0 bytes", send(fd, b, 0, 0));
    close(fd);
}

static void end_of_stream(void)
{
    char b[64];
    puts("end of stream");
    int fd = dial();
    tell(fd, "send 3\nfin\n");
    filled(fd, 3);
    while (!(polled(fd, POLLRDHUP, 5000) & POLLRDHUP))
        ;
    events("poll", polled(fd, ALL, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    say("send", send(fd, "pause\n", 6, 0));
    say("shutdown", shutdown(fd, SHUT_WR));
    events("poll", polled(fd, ALL, 0) & (POLLIN | POLLOUT | POLLRDHUP | POLLHUP));
    pipes = 0;
    say("send", send(fd, "x", 1, 0));
    printf("  %-34s %d\n", "SIGPIPE", pipes);
    close(fd);

    fd = dial();
    say("shutdown RD", shutdown(fd, SHUT_RD));
    events("poll", polled(fd, ALL, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    tell(fd, "send 5\n");
    filled(fd, 5);
    say("recv after data came", recv(fd, b, sizeof b, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    close(fd);
}

static void reset(void)
{
    char b[64];
    puts("reset");
    int fd = dial();
    tell(fd, "send 7\npause\nrst\n");
    filled(fd, 7);
    while (!(polled(fd, 0, 5000) & POLLERR))
        ;
    events("poll", polled(fd, ALL, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    events("poll", polled(fd, ALL, 0));
    pipes = 0;
    say("send", send(fd, "x", 1, 0));
    say("send NOSIGNAL", send(fd, "x", 1, MSG_NOSIGNAL));
    printf("  %-34s %d\n", "SIGPIPE", pipes);
    close(fd);

    fd = dial();
    tell(fd, "rst\n");
    while (!(polled(fd, 0, 5000) & POLLERR))
        ;
    say("send first", send(fd, "x", 1, MSG_NOSIGNAL));
    say("then", send(fd, "x", 1, MSG_NOSIGNAL));
    say("recv", recv(fd, b, 1, 0));
    close(fd);
}

static void show(const char *what, int ep)
{
    struct epoll_event ev[4];
    int n = epoll_wait(ep, ev, 4, 0);
    if (n > 0)
        events(what, ev[0].events);
    else
        say(what, n);
}

static void edges(void)
{
    char b[64];
    puts("edges");
    int fd = dial(), ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    say("add", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
    say("add again", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
    show("first", ep);
    show("second", ep);
    tell(fd, "send 1\n");
    filled(fd, 1);
    epoll_wait(ep, &ev, 1, 5000);
    show("after data", ep);
    tell(fd, "send 1\n");
    filled(fd, 2);
    show("more data, undrained", ep);
    show("again", ep);
    say("recv", recv(fd, b, 1, 0));
    show("after recv", ep);
    ev = (struct epoll_event){.events = EPOLLIN | EPOLLET};
    say("mod", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
    show("after mod", ep);
    ev = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT};
    say("mod to oneshot", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
    show("oneshot", ep);
    show("oneshot again", ep);
    int copy = dup(fd);
    say("add a duplicate", epoll_ctl(ep, EPOLL_CTL_ADD, copy, &ev));
    show("duplicate", ep);
    say("del", epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
    say("del again", epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
    ev = (struct epoll_event){.events = EPOLLIN | EPOLLEXCLUSIVE};
    say("add exclusive", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
    say("mod exclusive", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
    close(fd);
    show("closed, the duplicate is open", ep);
    close(copy);
    show("both closed", ep);
    close(ep);
}

static int listener(int backlog)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(LISTEN_PORT)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, backlog) != 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void accepting(void)
{
    char b[16], line[32];
    puts("accept");
    int lfd = listener(8), ctl = dial(), on = 1, v;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(LISTEN_PORT)};
    socklen_t len = sizeof v;
    say("bind twice", bind(lfd, (struct sockaddr *)&sa, sizeof sa));
    int other = socket(AF_INET, SOCK_STREAM, 0);
    say("bind the same", bind(other, (struct sockaddr *)&sa, sizeof sa));
    close(other);
    say("connect a listener", connect(lfd, (struct sockaddr *)&peer, sizeof peer));
    events("poll", polled(lfd, ALL, 0));
    setsockopt(lfd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(lfd, F_SETFL, O_NONBLOCK);
    say("accept", accept(lfd, NULL, NULL));
    snprintf(line, sizeof line, "call %d\n", LISTEN_PORT);
    tell(ctl, line);
    events("poll", polled(lfd, ALL, 5000));
    len = sizeof sa;
    int fd = accept(lfd, (struct sockaddr *)&sa, &len);
    say("accept", fd < 0 ? -1 : 0);
    printf("  %-34s %d %u\n", "from the peer", sa.sin_addr.s_addr == peer.sin_addr.s_addr, len);
    say("O_NONBLOCK", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    say("FD_CLOEXEC", fcntl(fd, F_GETFD));
    len = sizeof v;
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, &len);
    say("TCP_NODELAY", v != 0);
    getsockopt(lfd, SOL_SOCKET, SO_ACCEPTCONN, &v, &len);
    say("SO_ACCEPTCONN", v);
    getsockname(fd, (struct sockaddr *)&sa, &len);
    tell(fd, "send 4\n");
    filled(fd, 4);
    say("recv", recv(fd, b, sizeof b, 0));
    close(fd);
    tell(ctl, line);
    polled(lfd, POLLIN, 5000);
    fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    say("accept4 O_NONBLOCK", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    say("accept4 FD_CLOEXEC", fcntl(fd, F_GETFD));
    say("shutdown", shutdown(lfd, SHUT_RD));
    say("accept", accept(lfd, NULL, NULL));
    close(fd);
    close(lfd);
    close(ctl);
}

static void interrupted(void)
{
    char c;
    /* It repeats: one that came before the call it is to interrupt would leave that call waiting.
     */
    struct itimerval soon = {{0, 30000}, {0, 30000}}, never = {{0, 0}, {0, 0}};
    struct timeval long_time = {5, 0}, short_time = {0, 20000};
    struct sigaction a = {.sa_handler = on_signal};
    puts("signals and time limits");
    int fd = dial();
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    say("recv, handler without RESTART", recv(fd, &c, 1, 0));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof long_time);
    a.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    say("with a limit and RESTART", recv(fd, &c, 1, 0));
    setitimer(ITIMER_REAL, &never, NULL);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time);
    say("limit passes", recv(fd, &c, 1, 0));
    memset(&short_time, 0, sizeof short_time);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time);
    tell(fd, "pause\npause\nsend 1\n");
    alarms = 0;
    setitimer(ITIMER_REAL, &soon, NULL);
    say("without, with RESTART", recv(fd, &c, 1, 0));
    say("signals", alarms > 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    say("poll", poll(&p, 1, 5000));
    setitimer(ITIMER_REAL, &never, NULL);
    say("poll passes", poll(&p, 1, 10));
    fd_set r, w;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(fd, &r);
    FD_SET(fd, &w);
    say("select", select(fd + 1, &r, &w, NULL, NULL));
    printf("  %-34s %d %d\n", "sets", FD_ISSET(fd, &r) != 0, FD_ISSET(fd, &w) != 0);
    close(fd);
    p.fd = fd;
    say("poll a closed number", poll(&p, 1, 0));
    events("", (unsigned)p.revents);
}

static void files(void)
{
    char b[5000];
    off_t off = 10;
    puts("files");
    int fd = dial();
    FILE *f = tmpfile();
    if (f == NULL)
        return;
    for (int i = 0; i < 4000; i++)
        fputc('A' + i % 26, f);
    fflush(f);
    tell(fd, "echo 3990\n");
    say("sendfile", sendfile(fd, fileno(f), &off, 10000));
    say("offset", (long)off);
    say("recv", recv(fd, b, 3990, MSG_WAITALL));
    printf("  %-34s %.8s\n", "bytes", b);
    say("sendfile at the end", sendfile(fd, fileno(f), &off, 10));
    lseek(fileno(f), 0, SEEK_SET);
    tell(fd, "echo 8\n");
    say("sendfile, file's position", sendfile(fd, fileno(f), NULL, 8));
    say("position", (long)lseek(fileno(f), 0, SEEK_CUR));
    say("recv", recv(fd, b, 8, MSG_WAITALL));
    fclose(f);
    close(fd);
}

static void duplicates(void)
{
    char b[16];
    puts("duplicates");
    int fd = dial(), copy = dup(fd);
    close(fd);
    tell(copy, "send 2\n");
    say("recv on the copy", recv(copy, b, 2, MSG_WAITALL));
    int other = dial();
    say("dup2 over a socket", dup2(copy, other) == other ? 0 : -1);
    close(copy);
    tell(other, "send 3\n");
    say("recv", recv(other, b, 3, MSG_WAITALL));
    fcntl(other, F_SETFL, O_NONBLOCK);
    int third = fcntl(other, F_DUPFD_CLOEXEC, 100);
    say("number from 100", third >= 100);
    say("nonblocking is the description's", recv(third, b, 1, 0));
    close(third);
    close(other);
    say("closed", recv(other, b, 1, 0));
    say("close again", close(other));
}

static void forks(void)
{
    char b[16];
    int status;
    puts("fork");
    int fd = dial();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        tell(fd, "send 4\n");
        _exit(recv(fd, b, 4, MSG_WAITALL) == 4 ? 0 : 1);
    }
    close(fd); /* the child goes on with it */
    waitpid(pid, &status, 0);
    say("child's exchange", status);

    fd = dial();
    pid = fork();
    if (pid == 0) {
        close(fd); /* unused: must not end the parent's */
        _exit(0);
    }
    waitpid(pid, &status, 0);
    tell(fd, "send 4\n");
    say("parent's, child closed", recv(fd, b, 4, MSG_WAITALL));
    pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, &status, 0);
    tell(fd, "send 4\n");
    say("parent's, child died", recv(fd, b, 4, MSG_WAITALL));
    close(fd);

    int lfd = listener(4), ctl = dial();
    char line[32];
    snprintf(line, sizeof line, "call %d\n", LISTEN_PORT);
    pid = fork();
    if (pid == 0) {
        fd = accept(lfd, NULL, NULL);
        tell(fd, "send 4\n");
        _exit(recv(fd, b, 4, MSG_WAITALL) == 4 ? 0 : 1);
    }
    close(lfd);
    poll(NULL, 0, 100);
    tell(ctl, line);
    waitpid(pid, &status, 0);
    say("child accepts, parent closed", status);

    lfd = listener(4);
    int ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev);
    pid = fork();
    if (pid == 0) {
        tell(ctl, line); /* the connection moves, the listener is shared */
        int n = epoll_wait(ep, &ev, 1, 5000);
        fd = accept(lfd, NULL, NULL);
        _exit(n == 1 && fd >= 0 ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    say("child uses the parent's epoll", status);
    close(ep);
    close(lfd);
    close(ctl);
}

static void streams(void)
{
    char b[16];
    puts("stdio");
    int fd = dial();
    FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
    say("fileno", fileno(in) == fd);
    say("fprintf", fprintf(out, "send 5\n"));
    say("fflush", fflush(out));
    say("fread", (long)fread(b, 1, 5, in));
    printf("  %-34s %.5s\n", "bytes", b);
    fprintf(out, "fin\n");
    fclose(out);
    printf("  %-34s %d\n", "fgetc", fgetc(in) == EOF);
    say("feof", feof(in) != 0);
    say("fclose", fclose(in));
    say("closed", recv(fd, b, 1, 0));
}

static void datagrams(void)
{
    char b[64];
    puts("datagrams");
    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    say("sendto", sendto(fd, "hello", 5, 0, (struct sockaddr *)&peer, sizeof peer));
    say("recvfrom", recvfrom(fd, b, sizeof b, 0, (struct sockaddr *)&from, &len));
    printf("  %-34s %d\n", "from the peer",
           from.sin_addr.s_addr == peer.sin_addr.s_addr && from.sin_port == peer.sin_port);
    say("connect", connect(fd, (struct sockaddr *)&peer, sizeof peer));
    say("send nothing", send(fd, "", 0, 0));
    polled(fd, POLLIN, 5000); /* it can be written at once, read only when the answer is here */
    events("poll", polled(fd, ALL, 0));
    say("recv", recv(fd, b, sizeof b, 0));
    say("send", send(fd, "0123456789", 10, 0));
    polled(fd, POLLIN, 5000);
    int n = 0;
    ioctl(fd, FIONREAD, &n);
    say("FIONREAD", n);
    say("recv TRUNC|PEEK", recv(fd, b, 4, MSG_TRUNC | MSG_PEEK));
    struct iovec iov = {b, 4};
    char control[128];
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    say("recvmsg", recvmsg(fd, &m, 0));
    say("MSG_TRUNC", (m.msg_flags & MSG_TRUNC) != 0);
    send(fd, "x", 1, 0);
    m.msg_controllen = sizeof control;
    say("recvmsg", recvmsg(fd, &m, 0));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    say("PKTINFO", c != NULL && c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO);
    say("recv DONTWAIT", recv(fd, b, 1, MSG_DONTWAIT));
    say("send too much", send(fd, control, 65508, 0) < 0 && errno == EMSGSIZE ? 0 : 1);

    send(fd, "burst 3", 7, 0);
    struct mmsghdr v[4];
    struct iovec vi[4];
    memset(v, 0, sizeof v);
    for (int i = 0; i < 4; i++) {
        vi[i] = (struct iovec){b, sizeof b};
        v[i].msg_hdr.msg_iov = &vi[i];
        v[i].msg_hdr.msg_iovlen = 1;
    }
    int got = 0;
    while (got < 3) {
        int r = recvmmsg(fd, v + got, (unsigned)(4 - got), MSG_WAITFORONE, NULL);
        if (r <= 0)
            break;
        got += r;
    }
    printf("  %-34s %d: %u %u %u\n", "recvmmsg", got, v[0].msg_len, v[1].msg_len, v[2].msg_len);
    struct sockaddr_in closed = peer;
    closed.sin_port = htons(CLOSED_PORT);
    say("connect to a closed port", connect(fd, (struct sockaddr *)&closed, sizeof closed));
    say("send", send(fd, "x", 1, 0));
    events("poll", polled(fd, POLLIN, 5000));
    say("recv", recv(fd, b, 1, MSG_DONTWAIT));
    say("recv", recv(fd, b, 1, MSG_DONTWAIT));
    close(fd);
}

static void loopback(void)
{
    puts("127.0.0.1");
    int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    char c;
    say("bind", bind(a, (struct sockaddr *)&sa, sizeof sa));
    say("listen", listen(a, 1));
    getsockname(a, (struct sockaddr *)&sa, &len);
    say("connect", connect(b, (struct sockaddr *)&sa, sizeof sa));
    say("FD_CLOEXEC", fcntl(b, F_GETFD));
    int d = accept(a, NULL, NULL);
    say("send", send(b, "x", 1, 0));
    say("recv", recv(d, &c, 1, 0));
    close(a);
    close(b);
    close(d);
}

int main(int argc, char **argv)
{
    struct sigaction a = {.sa_handler = on_signal};
    if (argc != 3)
        return 2;
    peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &peer.sin_addr) != 1)
        return 2;
    sigaction(SIGPIPE, &a, NULL);
    fresh_sockets();
    refused();
    background_connect();
    flags();
    end_of_stream();
    reset();
    edges();
    accepting();
    interrupted();
    options();
    tcp_info();
    congestion();
    files();
    duplicates();
    forks();
    streams();
    datagrams();
    loopback();
    return 0;
}
