/* SPDX-License-Identifier: BSD-2-Clause
 *
 * linkem: a wire with delay, loss and the rest, between two devices. For machines whose kernel has
 * no netem. What it does to packets is in link.h; here are the devices and the clock.
 *
 *   linkem --a END --b END [options]        END is tap:NAME[@NETNS]     makes a TAP device there
 *                                                  packet:NAME[@NETNS]  uses a device that exists
 *   --mtu BYTES (1500)    of TAP devices made here
 *   --seed N (1)          decides every random choice, by direction and packet number
 *   --delay-us --jitter-us --rate-mbit
 *   --queue PACKETS (1000) --queue-bytes BYTES --mark PACKETS      in front of the rate; ECN marks
 *   --loss --burst-enter --burst-leave --burst-loss (100) --reorder --dup --corrupt
 *                         in percent, fractions allowed; a burst begins and ends with the given
 *                         chance per packet, and within it --burst-loss holds instead of --loss
 *
 * All hold for both directions; with the prefix "ab-" or "ba-" for one (--ab-loss 1). The rate has
 * a queue of its own; what does not fit is dropped. Jitter does not reorder: a packet never passes
 * another, unless it was chosen for reordering: then it comes a millisecond (or half the delay, if
 * that is more) later than it would have. Corruption turns one bit of an IP packet; frames here
 * carry complete checksums (no offload at either end), so that a receiver can tell.
 *
 * Prints "ready" when both ends are open, and on SIGTERM or SIGINT its counters as JSON. "late_us"
 * and "late_max_us" say how long after their time packets left: whether the machine kept up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "link.h"

enum { BATCH = 64 };

static struct link wire;
static unsigned mtu = 1500;
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "linkem: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static bool take(unsigned n, int fd)
{
    unsigned i;

    for (i = 0; i < BATCH; i++) {
        struct link_frame *f = link_frame(&wire);
        if (f == NULL)
            die("memory");
        const ssize_t len = read(fd, f->data, sizeof f->data);

        if (len <= 0) {
            link_free(&wire, f);
            break;
        }
        f->len = (uint32_t)len;
        if (link_arrive(&wire, n, f, now_ns()) < 0)
            die("memory");
    }
    return i != 0;
}

static void deliver(const int *fds)
{
    struct link_frame *f;
    unsigned n;

    while ((f = link_release(&wire, now_ns(), &n)) != NULL) {
        if (write(fds[!n], f->data, f->len) < 0) {
            struct link_counts *c = &wire.direction[n].count;

            c->refused++;
            c->delivered--;
            c->bytes -= f->len;
        }
        link_free(&wire, f);
    }
}

/* --- the ends --- */

static int open_end(const char *spec)
{
    char name[IFNAMSIZ] = "", path[256];
    const char *colon = strchr(spec, ':'), *at = strchr(spec, '@');
    const bool tap = strncmp(spec, "tap:", 4) == 0;
    struct ifreq r = {0};
    int fd;

    if (colon == NULL || (!tap && strncmp(spec, "packet:", 7) != 0)) {
        fprintf(stderr, "linkem: %s: expected tap:NAME[@NETNS] or packet:NAME[@NETNS]\n", spec);
        exit(2);
    }
    const size_t len = at != NULL ? (size_t)(at - colon - 1) : strlen(colon + 1);
    if (len == 0 || len >= sizeof name) {
        errno = ENAMETOOLONG;
        die(spec);
    }
    memcpy(name, colon + 1, len);
    const int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (at != NULL) {
        snprintf(path, sizeof path, "%s%s", at[1] == '/' ? "" : "/run/netns/", at + 1);
        const int there = open(path, O_RDONLY | O_CLOEXEC);
        if (there < 0 || setns(there, CLONE_NEWNET) < 0)
            die(path);
        close(there);
    }
    memcpy(r.ifr_name, name, sizeof name);
    if (tap) {
        fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        r.ifr_flags = IFF_TAP | IFF_NO_PI;
        if (fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0)
            die(spec);
    } else {
        struct sockaddr_ll addr = {.sll_family = AF_PACKET,
                                   .sll_protocol = htons(ETH_P_ALL),
                                   .sll_ifindex = (int)if_nametoindex(name)};
        struct packet_mreq all = {.mr_ifindex = addr.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
        const int one = 1, buffer = 16 << 20;

        fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || addr.sll_ifindex == 0 ||
            setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
            setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0 ||
            bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
            die(spec);
    }
    const int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (tap) {
        r.ifr_mtu = (int)mtu;
        if (ioctl(s, SIOCSIFMTU, &r) < 0)
            die(spec);
        /* What is lost here is lost on purpose: not for a queue that was too short. */
        r.ifr_qlen = 10000;
        if (ioctl(s, SIOCSIFTXQLEN, &r) < 0)
            die(spec);
    }
    if (ioctl(s, SIOCGIFFLAGS, &r) < 0)
        die(spec);
    r.ifr_flags |= IFF_UP;
    if (ioctl(s, SIOCSIFFLAGS, &r) < 0)
        die(spec);
    close(s);
    if (setns(home, CLONE_NEWNET) < 0)
        die("setns");
    close(home);
    return fd;
}

static void say(const char *name, const struct link_counts *c)
{
    printf("\"%s\": {\"received\": %" PRIu64 ", \"delivered\": %" PRIu64 ", \"bytes\": %" PRIu64
           ", \"lost\": %" PRIu64 ", \"overflow\": %" PRIu64 ", \"marked\": %" PRIu64
           ", \"reordered\": %" PRIu64 ", \"duplicated\": %" PRIu64 ", \"corrupted\": %" PRIu64
           ", \"refused\": %" PRIu64 ", \"queue_most\": %" PRIu64
           ", \"late_us\": %.1f, \"late_max_us\": %.1f}",
           name, c->received, c->delivered, c->bytes, c->lost, c->overflow, c->marked, c->reordered,
           c->duplicated, c->corrupted, c->refused, c->queue_most,
           c->delivered > 0 ? (double)c->late_ns / (double)c->delivered / 1e3 : 0,
           (double)c->late_max / 1e3);
}

int main(int argc, char **argv)
{
    const char *spec[2] = {NULL, NULL};
    struct sigaction sa = {.sa_handler = on_signal};
    sigset_t blocked, open_mask;
    int fds[2];

    if (link_open(&wire, 1) < 0)
        die("memory");
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strncmp(name, "--", 2) != 0 || value == NULL) {
            fprintf(stderr, "linkem: %s: every option has a value\n", name);
            return 2;
        }
        name += 2;
        if (strcmp(name, "a") == 0)
            spec[0] = value;
        else if (strcmp(name, "b") == 0)
            spec[1] = value;
        else if (strcmp(name, "seed") == 0)
            wire.seed = strtoull(value, NULL, 10);
        else if (strcmp(name, "mtu") == 0)
            mtu = (unsigned)atoi(value);
        else if (!link_set(&wire, name, atof(value))) {
            fprintf(stderr, "linkem: --%s: no such option\n", name);
            return 2;
        }
    }
    if (spec[0] == NULL || spec[1] == NULL) {
        fprintf(stderr, "usage: linkem --a END --b END [--seed N] [--delay-us N] [--loss %%] …\n");
        return 2;
    }
    for (unsigned n = 0; n < 2; n++)
        fds[n] = open_end(spec[n]);
    /* Signals only while waiting, so that none falls between the look at `stop` and the wait. */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    prctl(PR_SET_TIMERSLACK, 1);
    /* A packet that is late because somebody compiles is a packet of another link. Where this is
     * not allowed "late_us" tells what came of it. */
    const struct sched_param first = {.sched_priority = 2};
    sched_setscheduler(0, SCHED_FIFO, &first);
    printf("ready\n");
    fflush(stdout);

    bool busy = false;
    while (!stop) {
        struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
        struct timespec t = {0}, *timeout = NULL;

        if (link_next(&wire) != LINK_NEVER) {
            const uint64_t now = now_ns(), next = link_next(&wire);
            const uint64_t wait = next > now ? next - now : 0;

            t.tv_sec = (time_t)(wait / 1000000000ull);
            t.tv_nsec = (long)(wait % 1000000000ull);
            timeout = &t;
        }
        if (busy) {
            t = (struct timespec){0};
            timeout = &t;
        }
        if (ppoll(p, 2, timeout, &open_mask) < 0 && errno != EINTR)
            die("poll");
        busy = false;
        for (unsigned n = 0; n < 2; n++) {
            if (p[n].revents & POLLIN)
                busy |= take(n, fds[n]);
            else if (p[n].revents & (POLLERR | POLLHUP | POLLNVAL))
                stop = 1; /* the device is gone */
        }
        deliver(fds);
    }
    printf("{\"seed\": %" PRIu64 ", ", wire.seed);
    say("ab", &wire.direction[0].count);
    printf(", ");
    say("ba", &wire.direction[1].count);
    printf("}\n");
    link_close(&wire);
    return 0;
}
