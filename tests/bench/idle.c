/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What tests/bench/connections is made of.
 *
 *   bench_idle serve PORT N             accepts N connections and keeps them; "ready"
 *   bench_idle open ADDRESS PORT N      opens N connections and keeps them; "ready"
 *   bench_idle sink PORT                reads what one connection after the other brings
 *   bench_idle pump ADDRESS PORT        writes to one connection for ever
 *   bench_idle memory RS-PID            resident bytes of the stack's regions by part, JSON
 *   bench_idle cycles RS-PID WINDOWS    cycles of tcp and ip per TCP segment: the median of
 *                                              windows of half a second, JSON
 *
 * Memory is what the memfds hold (SEEK_DATA), whoever has mapped it. Cycles are the time that the
 * two processes ran (/proc/PID/schedstat, ns) times the rate of the time-stamp counter.
 */
#include "libchan/config.h"
#include "libchan/edge/app.h"
#include "libchan/wiring.h"
#include "servers/tcp/counters.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum { IN_FLIGHT = 64, CHUNK = 1 << 16, WINDOW_NS = 500000000, WINDOWS_MAX = 100 };

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "bench_idle: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void ready(void)
{
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}

/* --- the ends of connections --- */

static struct sockaddr_in name(const char *address, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &a.sin_addr) != 1)
        die(address);
    return a;
}

static int listener(const char *port)
{
    struct sockaddr_in a = name("0.0.0.0", port);
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 1024) != 0)
        die("listen");
    puts("listening");
    fflush(stdout);
    return fd;
}

static void serve(const char *port, unsigned n)
{
    const int fd = listener(port);
    while (n--)
        if (accept(fd, NULL, NULL) < 0)
            die("accept");
    ready();
}

static void open_many(const char *address, const char *port, unsigned n)
{
    const struct sockaddr_in a = name(address, port);
    const int ep = epoll_create1(0);
    unsigned begun = 0, done = 0;
    while (done < n) {
        while (begun < n && begun - done < IN_FLIGHT) {
            const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            struct epoll_event e = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = fd};
            if (fd < 0)
                die("socket");
            if (connect(fd, (const struct sockaddr *)&a, sizeof a) != 0 && errno != EINPROGRESS)
                die("connect");
            if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) != 0)
                die("epoll_ctl");
            begun++;
        }
        struct epoll_event e[IN_FLIGHT];
        const int got = epoll_wait(ep, e, IN_FLIGHT, -1);
        for (int i = 0; i < got; i++) {
            int error = 0;
            socklen_t len = sizeof error;
            getsockopt(e[i].data.fd, SOL_SOCKET, SO_ERROR, &error, &len);
            if (error != 0 || (errno = error) != 0)
                die("connection");
            done++;
        }
    }
    ready();
}

static void sink(const char *port)
{
    static char buf[CHUNK];
    const int fd = listener(port);
    for (;;) {
        const int c = accept(fd, NULL, NULL);
        if (c < 0)
            die("accept");
        while (read(c, buf, sizeof buf) > 0)
            ;
        close(c);
    }
}

static void pump(const char *address, const char *port)
{
    static char buf[CHUNK];
    const struct sockaddr_in a = name(address, port);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof a) != 0)
        die("connect");
    puts("connected");
    fflush(stdout);
    while (write(fd, buf, sizeof buf) > 0)
        ;
    die("write");
}

/* --- the stack's regions, through the descriptors of rs --- */

struct region_file {
    char what[64]; /* "tcp0", "app3-up" … */
    int fd;
};

/* Opens the next memfd of the stack; NULL at the end. */
static struct region_file *next_region(DIR *dir, const char *pid, struct region_file *f,
                                       ino_t *seen, unsigned *n_seen, unsigned most)
{
    struct dirent *d;
    while ((d = readdir(dir)) != NULL) {
        char path[300], target[300];
        struct stat st;
        snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, d->d_name);
        const ssize_t len = readlink(path, target, sizeof target - 1);
        if (len < 0)
            continue;
        target[len] = '\0';
        char *last = strncmp(target, "/memfd:eft:", 11) == 0 ? strchr(target + 11, ':') : NULL;
        if (last == NULL || stat(path, &st) != 0)
            continue;
        bool twice = false; /* rs holds each for writing and for reading */
        for (unsigned i = 0; i < *n_seen; i++)
            twice |= seen[i] == st.st_ino;
        if (twice || *n_seen == most)
            continue;
        seen[(*n_seen)++] = st.st_ino;
        snprintf(f->what, sizeof f->what, "%.*s", (int)strcspn(last + 1, " "), last + 1);
        f->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (f->fd >= 0)
            return f;
    }
    return NULL;
}

/* Bytes of [from, to) that exist. */
static uint64_t resident(int fd, uint64_t from, uint64_t to)
{
    uint64_t sum = 0;
    for (off_t at = (off_t)from, hole; at >= 0 && (uint64_t)at < to; at = hole) {
        at = lseek(fd, at, SEEK_DATA);
        if (at < 0 || (uint64_t)at >= to)
            break;
        hole = lseek(fd, at, SEEK_HOLE);
        if (hole < 0)
            break;
        sum += ((uint64_t)hole < to ? (uint64_t)hole : to) - (uint64_t)at;
    }
    return sum;
}

static uint64_t table_bytes(const struct region *r, enum wiring_table table, int fd)
{
    struct wiring_entry e;
    if (!wiring_read(r, WIRING_TABLE, table, 0, &e))
        return 0;
    return resident(fd, e.off, e.off + e.count * e.size);
}

static void *map(int fd, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        die("fstat");
    *size = (uint64_t)st.st_size;
    void *p = mmap(NULL, *size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

enum { REGIONS_MAX = 5000 };

static void memory(const char *pid)
{
    enum part { RECORDS, INDEX, UP_SLOTS, DOWN_SLOTS, RINGS, OTHER, PARTS };
    static const char *const names[PARTS] = {"records",    "index", "up_slots",
                                             "down_slots", "rings", "other"};
    static ino_t seen[REGIONS_MAX];
    static struct region_file file[REGIONS_MAX], f;
    struct app_layout l;
    uint64_t part[PARTS] = {0}, size;
    unsigned n_seen = 0, n = 0;
    const struct stack_config *cfg = NULL;
    char path[64];

    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        die(path);
    while (n < REGIONS_MAX && next_region(dir, pid, &f, seen, &n_seen, REGIONS_MAX) != NULL) {
        if (strcmp(f.what, "config") == 0)
            cfg = map(f.fd, &size);
        file[n++] = f;
    }
    closedir(dir);
    if (cfg == NULL)
        die("no configuration among the descriptors");
    app_layout(&l, cfg);
    for (unsigned i = 0; i < n; i++) {
        const int fd = file[i].fd;
        const uint64_t all = resident(fd, 0, UINT64_MAX >> 1);
        uint64_t known = 0, slots = 0;
        if (strcmp(file[i].what, "tcp0") == 0) {
            struct region r = {0};
            r.base = map(fd, &r.size);
            part[RECORDS] += slots = table_bytes(&r, TABLE_TCP_CONNS, fd);
            part[INDEX] += known = table_bytes(&r, TABLE_TCP_INDEX, fd);
            known += slots;
        } else if (strstr(file[i].what, "up") != NULL) {
            part[UP_SLOTS] += slots = resident(fd, l.up_tcp_slots, l.up_udp_slots);
            part[RINGS] += known = resident(fd, l.up_tcp_blocks, l.up_udp_blocks);
            known += slots;
        } else if (strstr(file[i].what, "down-tcp") != NULL) {
            part[DOWN_SLOTS] += slots = resident(fd, l.down_tcp_slots, l.down_tcp_blocks);
            part[RINGS] += known = resident(fd, l.down_tcp_blocks, l.down_tcp_end);
            known += slots;
        }
        part[OTHER] += all - known;
    }
    for (unsigned i = 0; i < PARTS; i++)
        printf("%s\"%s\":%llu", i ? "," : "{", names[i], (unsigned long long)part[i]);
    puts("}");
}

/* --- cycles --- */

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_ns(uint64_t ns)
{
    const struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

static uint64_t counter_now(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    return clock_ns();
#endif
}

static double cycles_per_ns(void)
{
    const uint64_t t = clock_ns(), c = counter_now();
    wait_ns(100000000);
    return (double)(counter_now() - c) / (double)(clock_ns() - t);
}

static uint64_t run_time(uint32_t pid)
{
    char path[64];
    unsigned long long ns = 0;
    snprintf(path, sizeof path, "/proc/%u/schedstat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL || fscanf(f, "%llu", &ns) != 1)
        die(path);
    fclose(f);
    return ns;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void cycles(const char *pid, unsigned windows)
{
    static ino_t seen[REGIONS_MAX];
    struct region_file f;
    unsigned n_seen = 0;
    struct server_block *tcp = NULL, *ip = NULL;
    double rate = cycles_per_ns(), value[WINDOWS_MAX];
    uint64_t segments = 0;
    char path[64];

    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        die(path);
    while (next_region(dir, pid, &f, seen, &n_seen, REGIONS_MAX) != NULL) {
        if (strcmp(f.what, "tcp0") == 0 || strcmp(f.what, "ip0") == 0) {
            struct region r = {0};
            r.base = map(f.fd, &r.size);
            *(f.what[0] == 't' ? &tcp : &ip) = wiring_block(&r);
        }
        close(f.fd);
    }
    closedir(dir);
    if (tcp == NULL || ip == NULL)
        die("no region of tcp or ip");
    if (windows > WINDOWS_MAX)
        windows = WINDOWS_MAX;
    for (unsigned i = 0; i < windows; i++) {
        const uint64_t *c = tcp->counter;
        const uint64_t t0 = run_time(tcp->pid) + run_time(ip->pid);
        const uint64_t s0 = load_relaxed(&c[TCP_C_SEGS_IN]) + load_relaxed(&c[TCP_C_SEGS_OUT]);
        wait_ns(WINDOW_NS);
        const uint64_t s1 = load_relaxed(&c[TCP_C_SEGS_IN]) + load_relaxed(&c[TCP_C_SEGS_OUT]);
        const uint64_t t1 = run_time(tcp->pid) + run_time(ip->pid);
        if (s1 == s0) {
            errno = 0;
            die("no segment came");
        }
        segments += s1 - s0;
        value[i] = (double)(t1 - t0) * rate / (double)(s1 - s0);
    }
    qsort(value, windows, sizeof value[0], by_value);
    printf("{\"cycles_per_segment\":%.0f,\"least\":%.0f,\"most\":%.0f,\"segments\":%llu,\"ghz\":%."
           "3f}\n",
           value[windows / 2], value[0], value[windows - 1], (unsigned long long)segments, rate);
}

int main(int argc, char **argv)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "serve") == 0 && argc == 4)
        serve(argv[2], (unsigned)atoi(argv[3]));
    else if (strcmp(what, "open") == 0 && argc == 5)
        open_many(argv[2], argv[3], (unsigned)atoi(argv[4]));
    else if (strcmp(what, "sink") == 0 && argc == 3)
        sink(argv[2]);
    else if (strcmp(what, "pump") == 0 && argc == 4)
        pump(argv[2], argv[3]);
    else if (strcmp(what, "memory") == 0 && argc == 3)
        memory(argv[2]);
    else if (strcmp(what, "cycles") == 0 && argc == 4 && atoi(argv[3]) > 0)
        cycles(argv[2], (unsigned)atoi(argv[3]));
    else
        return 2;
    return 0;
}
