/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-keeper [--ready-fd N] PROGRAM ARGUMENT…     See keeper.h for what it is, eft(8) for its use.
 *
 * The program gets --ready-fd as its last argument until it has been ready once. Before that its
 * exit status is ours: trying again would not help. After that only exit status 0 ends us.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_FD = 3, FIRST_TRIES = 3, EXIT_TROUBLE = 1, EXIT_USAGE = 2, MESSAGE_MAX = 4096 };
#define WATCHDOG_NS 2000000000ull  /* once it is ready */
#define START_NS    60000000000ull /* until then */

static struct keeper k;
static char **program;
static int arguments, ready_fd = -1, socket_fd = -1, path_fd = -1, signals = -1;
static sigset_t mask;
static uint64_t started, start_at; /* start_at: when to start it, if it does not run */
static unsigned deaths;            /* after short lives, in a row */
static bool terminated;            /* we were told to end */

static uint64_t clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int fails(const char *what)
{
    const int error = errno;

    dprintf(STDERR_FILENO, "<3>eft-keeper: cannot %s: %s\n", what, strerror(error));
    if (ready_fd >= 0)
        dprintf(ready_fd, "eft-keeper: cannot %s: %s\n", what, strerror(error));
    return EXIT_TROUBLE;
}

/* A socket that is nowhere in the file system: bound, then removed. Who has a descriptor of its
 * place reaches it, by /proc/self/fd. */
static int open_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const int one = 1, buffer = 1 << 20;

    socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (socket_fd < 0 || (mkdir("/run/eft", 0755) < 0 && errno != EEXIST))
        return fails("make /run/eft");
    snprintf(a.sun_path, sizeof a.sun_path, "/run/eft/.keeper.%d", getpid());
    unlink(a.sun_path);
    if (bind(socket_fd, (struct sockaddr *)&a, sizeof a) < 0)
        return fails("make a socket in /run/eft");
    path_fd = open(a.sun_path, O_PATH | O_CLOEXEC);
    unlink(a.sun_path);
    if (path_fd < 0 || setsockopt(socket_fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0 ||
        setsockopt(socket_fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer) < 0)
        return fails("open its socket");
    return 0;
}

static void put_number(const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    setenv(name, text, 1);
}

/* The descriptors that the program gets, from FIRST_FD on: what it has stored, the way to our
 * socket, and that of whoever waits for it to be ready. */
static unsigned place_descriptors(int *list)
{
    unsigned n = 0;

    for (; n < k.count; n++)
        list[n] = k.held[n].fd;
    list[n++] = path_fd;
    if (ready_fd >= 0)
        list[n++] = ready_fd;
    /* all out of the way first: the place of one may be taken by another */
    for (unsigned i = 0; i < n; i++)
        if ((list[i] = fcntl(list[i], F_DUPFD_CLOEXEC, FIRST_FD + (int)n)) < 0)
            _exit(fails("duplicate a descriptor"));
    for (unsigned i = 0; i < n; i++)
        dup2(list[i], FIRST_FD + (int)i);
    close_range(FIRST_FD + n, ~0u, CLOSE_RANGE_CLOEXEC);
    return n;
}

static void __attribute__((noreturn)) child(void)
{
    int *list = calloc(k.count + 2, sizeof *list);
    char *names = calloc(k.count + 1, KEEPER_NAME), *end = names, number[12], way[32];
    char **argv = calloc((size_t)arguments + 3, sizeof *argv);
    sigset_t others = mask;

    if (list == NULL || names == NULL || argv == NULL)
        _exit(EXIT_TROUBLE);
    /* SIGTERM stays blocked, and waits until the program looks for it. */
    sigdelset(&others, SIGCHLD);
    sigprocmask(SIG_SETMASK, &others, NULL);
    place_descriptors(list);
    for (unsigned i = 0; i < k.count; i++)
        end += sprintf(end, "%s%s", i > 0 ? ":" : "", k.held[i].name);
    snprintf(way, sizeof way, "/proc/self/fd/%u", FIRST_FD + k.count);
    setenv("NOTIFY_SOCKET", way, 1);
    put_number("EFT_KEEPER", (uint64_t)getppid()); /* for `eft status` */
    put_number("WATCHDOG_USEC", WATCHDOG_NS / 1000);
    put_number("WATCHDOG_PID", (uint64_t)getpid());
    if (k.count > 0) {
        put_number("LISTEN_FDS", k.count);
        put_number("LISTEN_PID", (uint64_t)getpid());
        setenv("LISTEN_FDNAMES", names, 1);
    }
    memcpy(argv, program, (size_t)arguments * sizeof *argv);
    if (ready_fd >= 0) {
        snprintf(number, sizeof number, "%u", FIRST_FD + k.count + 1);
        argv[arguments] = (char *)(uintptr_t) "--ready-fd";
        argv[arguments + 1] = number;
    }
    execv(program[0], argv);
    ready_fd = ready_fd >= 0 ? (int)(FIRST_FD + k.count + 1) : -1;
    _exit(fails(program[0]));
}

static int start(void)
{
    started = k.alive_at = clock_now();
    start_at = 0;
    k.child = fork();
    if (k.child == 0)
        child();
    return k.child < 0 ? fails("fork") : 0;
}

/* Everything that was said before now: the dead had a right to speak. */
static void listen_to_it(void)
{
    char text[MESSAGE_MAX];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(KEEPER_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    } control;

    for (;;) {
        struct iovec iov = {.iov_base = text, .iov_len = sizeof text - 1};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
        int fds[KEEPER_FDS];
        unsigned nfds = 0;
        pid_t from = -1;
        const ssize_t n = recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
                struct ucred who;
                memcpy(&who, CMSG_DATA(c), sizeof who);
                from = who.pid;
            } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
                nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                memcpy(fds, CMSG_DATA(c), nfds * sizeof(int));
            }
        }
        text[n] = '\0';
        keeper_message(&k, from, text, fds, nfds, clock_now());
        if (k.ready && ready_fd >= 0) {
            close(ready_fd);
            ready_fd = -1;
        }
    }
}

/* The program is dead. -1: it is to be started again; else our exit status. */
static int bury(int status)
{
    const uint64_t now = clock_now();

    k.child = 0;
    if (WIFEXITED(status) && (!k.ready || WEXITSTATUS(status) == 0))
        return WEXITSTATUS(status);
    deaths = keeper_short_life(started, now) ? deaths + 1 : 0;
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!k.ready && deaths >= FIRST_TRIES)
        return EXIT_TROUBLE;
    start_at = now + keeper_delay(deaths, killed);
    return -1;
}

/* -1: go on. */
static int reap(void)
{
    int status, rc = -1;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != k.child)
            continue; /* a server whose parent has died */
        listen_to_it();
        rc = bury(status);
    }
    return rc;
}

static int on_signal(void)
{
    struct signalfd_siginfo s;
    int rc = -1;

    while (read(signals, &s, sizeof s) == sizeof s) {
        if (s.ssi_signo == SIGCHLD) {
            rc = reap();
            continue;
        }
        terminated = true;
        if (k.child > 0)
            kill(k.child, (int)s.ssi_signo);
    }
    return rc;
}

static int run(void)
{
    struct pollfd p[2] = {{.fd = signals, .events = POLLIN}, {.fd = socket_fd, .events = POLLIN}};
    int rc = -1;

    while (rc < 0) {
        const uint64_t limit = k.ready ? WATCHDOG_NS : START_NS, now = clock_now();
        uint64_t at = k.child > 0 ? k.alive_at + limit : start_at;
        struct timespec t = {0};

        if (at > now)
            t = (struct timespec){.tv_sec = (time_t)((at - now) / 1000000000ull),
                                  .tv_nsec = (long)((at - now) % 1000000000ull)};
        if (ppoll(p, 2, &t, NULL) < 0 && errno != EINTR)
            return fails("poll");
        listen_to_it();
        rc = on_signal();
        at = k.child > 0 ? k.alive_at + limit : start_at;
        if (rc >= 0 || clock_now() < at)
            continue;
        if (k.child == 0) {
            rc = start() == 0 ? -1 : EXIT_TROUBLE;
            /* what was to end us has ended its predecessor only */
            if (rc < 0 && terminated)
                kill(k.child, SIGTERM);
        } else {
            kill(k.child, SIGKILL); /* it hangs; SIGCHLD says when it is dead */
            k.alive_at = clock_now();
        }
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct rlimit r = {.rlim_cur = 1048576, .rlim_max = 1048576};

    if (argc > 2 && strcmp(argv[1], "--ready-fd") == 0) {
        ready_fd = atoi(argv[2]);
        fcntl(ready_fd, F_SETFD, FD_CLOEXEC);
        argc -= 2;
        argv += 2;
    }
    if (argc < 2 || argv[1][0] != '/') {
        fprintf(stderr, "usage: eft-keeper [--ready-fd N] /PATH/OF/PROGRAM [ARGUMENT…]\n");
        return EXIT_USAGE;
    }
    program = argv + 1;
    arguments = argc - 1;
    if (setrlimit(RLIMIT_NOFILE, &r) < 0 && getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGHUP, SIG_IGN);
    signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return fails("set itself up");
    if (open_socket() != 0 || start() != 0)
        return EXIT_TROUBLE;
    return run();
}
