/* SPDX-License-Identifier: BSD-2-Clause
 *
 * An application, as rs sees one: attaches to a stack, checks every descriptor that it gets, and
 * stays until its standard input ends.
 *
 *   rs_attach STACK [--user UID] [--exec] [--spin | --mute] [--waiters N] [--refused ERRNO]
 *
 * Prints "attached APP GENERATION" when everything is as promised. With --exec it then becomes
 * another program (sleep), which is the end of the application but not of the process. With --spin
 * it makes the double of tcp hang, with --mute leave rs; it prints "replaced" when the successor is
 * there.
 */
#include "double.h"

#include "libchan/edge/app.h"
#include "libchan/edge/control.h"
#include "libchan/wiring.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s (errno %d)\n", __FILE__, __LINE__, #condition,    \
                    errno);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static int control;

static void request(uint32_t op, uint64_t id, uint32_t arg)
{
    struct control_request q = {.version = CONTROL_VERSION, .op = op, .id = id, .arg = arg};

    CHECK(send(control, &q, sizeof q, 0) == sizeof q);
}

static unsigned next_answer(struct control_reply *r, int *fds)
{
    struct iovec iov = {.iov_base = r, .iov_len = sizeof *r};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(16 * sizeof(int))];
    } buffer;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = buffer.space,
                         .msg_controllen = sizeof buffer.space};
    unsigned n = 0;

    CHECK(recvmsg(control, &msg, MSG_CMSG_CLOEXEC) == sizeof *r);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), n * sizeof(int));
    }
    return n;
}

/* The answer to `id`. An earlier one may come twice, when rs dies after it was sent. */
static unsigned answer(uint64_t id, struct control_reply *r, int *fds)
{
    for (;;) {
        unsigned n = next_answer(r, fds);
        if (r->id == id)
            return n;
        CHECK(r->id < id);
        while (n > 0)
            close(fds[--n]);
    }
}

/* Nobody of another user may make a read-only descriptor writable. */
static void cannot_reopen(int fd)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        char path[64];
        if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
            _exit(2);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        _exit(open(path, O_RDWR) < 0 && errno == EACCES ? 0 : 3);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check_region(int fd, bool writable, region_id id, uint32_t generation)
{
    struct region r;
    int flags = fcntl(fd, F_GETFL);

    CHECK((flags & O_ACCMODE) == (writable ? O_RDWR : O_RDONLY));
    CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
    CHECK(region_map_fd(&r, fd, id, generation, writable) == 0);
    if (!writable) {
        CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
        cannot_reopen(fd);
    }
    CHECK(ftruncate(fd, 0) < 0);
    if (!writable) /* what stays mapped is `up`: an application is its mappings */
        region_unmap(&r);
}

static void check_ctl(int fd, const struct control_reply *r)
{
    const struct ctl_region *c = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    CHECK(c != MAP_FAILED);
    CHECK(c->version == APP_VERSION && c->app == r->app && c->app_generation == r->app_generation);
    CHECK(c->uid == geteuid() && c->pid == (uint32_t)getpid());
    CHECK(c->n_tcp > 0 && c->up_tcp_slots >= sizeof(struct up_region));
    CHECK(c->addresses >= 1 && c->address[0].family == 4);
    munmap((void *)(uintptr_t)c, 4096);
}

static void check_attach(const struct control_reply *r, const int *fds, unsigned n)
{
    CHECK(r->result == 0 && n == CONTROL_FDS);
    check_region(fds[0], true, REGION_OF_APP(r->app, APP_UP), r->app_generation);
    check_region(fds[1], false, REGION_OF_APP(r->app, APP_DOWN_TCP), r->app_generation);
    check_region(fds[2], false, REGION_OF_APP(r->app, APP_DOWN_UDP), r->app_generation);
    check_region(fds[3], false, REGION_OF_APP(r->app, APP_DOWN_CTL), r->app_generation);
    check_region(fds[4], false, REGION_PUBLIC(SERVER_ID(SERVER_TCP, 0)), 1);
    check_region(fds[5], false, REGION_PUBLIC(SERVER_ID(SERVER_UDP, 0)), 1);
    check_ctl(fds[3], r);
    CHECK(send(fds[6], "", 1, MSG_DONTWAIT) == 1);
    CHECK(send(fds[7], "", 1, MSG_DONTWAIT) == 1);
    /* Servers ring a waiter when they first hear of it, for its thread may sleep already. */
    CHECK(recv(fds[8], (char[1]){0}, 1, MSG_DONTWAIT) == 1 || errno == EAGAIN);
}

/* Makes tcp misbehave until it is replaced: its successor raises the epoch. */
static void disturb_tcp(const int *fds, uint32_t how)
{
    struct up_region *up = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    const struct public_page *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[4], 0);

    CHECK(up != MAP_FAILED && page != MAP_FAILED);
    uint64_t epoch = load_relaxed(&page->epoch);
    shm_store_release(&up->version, how);
    CHECK(send(fds[6], "", 1, MSG_DONTWAIT) == 1);
    while (load_acquire(&page->epoch) == epoch)
        usleep(1000);
    shm_store_release(&up->version, (uint32_t)APP_VERSION);
    puts("replaced");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct control_reply r, again;
    int fds[16], more[16], waiters = 0, refused = 0;
    uint32_t disturb = 0;
    bool exec = false;

    CHECK(argc >= 2);
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--exec") == 0)
            exec = true;
        else if (strcmp(argv[i], "--spin") == 0)
            disturb = DOUBLE_SPIN;
        else if (strcmp(argv[i], "--mute") == 0)
            disturb = DOUBLE_MUTE;
        else if (i + 1 < argc && strcmp(argv[i], "--user") == 0) {
            uid_t uid = (uid_t)atoi(argv[++i]);
            CHECK(setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0);
        } else if (i + 1 < argc && strcmp(argv[i], "--waiters") == 0)
            waiters = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--refused") == 0)
            refused = atoi(argv[++i]);
        else
            CHECK(!"an option that is known");
    }
    snprintf(a.sun_path, sizeof a.sun_path, "/run/eft/%.64s/control", argv[1]);
    control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(connect(control, (struct sockaddr *)&a, sizeof a) == 0);
    request(CONTROL_ATTACH, 77, 0);
    unsigned n = answer(77, &r, fds);
    CHECK(r.version == CONTROL_VERSION && r.op == CONTROL_ATTACH && r.id == 77);
    if (refused != 0) {
        CHECK(r.result == -refused && n == 0);
        puts("refused");
        return 0;
    }
    check_attach(&r, fds, n);

    /* the same request again has the same answer */
    request(CONTROL_ATTACH, 78, 0);
    n = answer(78, &again, more);
    CHECK(again.id == 78 && again.app == r.app && again.app_generation == r.app_generation);
    CHECK(n == CONTROL_FDS);
    for (unsigned i = 0; i < n; i++)
        close(more[i]);
    for (int w = 1; w <= waiters; w++) {
        request(CONTROL_WAITER, 100 + (uint64_t)w, (uint32_t)w);
        n = answer(100 + (uint64_t)w, &again, more);
        CHECK(again.op == CONTROL_WAITER && again.id == 100 + (uint64_t)w && again.result == 0);
        CHECK(n == 1);
    }
    printf("attached %u %u\n", r.app, r.app_generation);
    fflush(stdout);
    if (disturb != 0)
        disturb_tcp(fds, disturb);
    if (exec)
        execlp("sleep", "sleep", "60", (char *)NULL);
    while (read(0, more, sizeof more) > 0)
        continue;
    return 0;
}
