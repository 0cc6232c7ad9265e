/* SPDX-License-Identifier: BSD-2-Clause
 *
 * linkem: a wire with delay, loss and the rest, between two devices. For machines whose kernel has
 * no netem.
 *
 *   linkem --a END --b END [options]        END is tap:NAME[@NETNS]     makes a TAP device there
 *                                                  packet:NAME[@NETNS]  uses a device that exists
 *   --mtu BYTES (1500)    of TAP devices made here
 *   --seed N (1)          decides every random choice, separately for each direction
 *   --delay-us --jitter-us --rate-mbit --queue PACKETS (1000)
 *   --loss --reorder --dup --corrupt        in percent, fractions allowed
 *
 * All hold for both directions; with the prefix "ab-" or "ba-" for one (--ab-loss 1). The rate has
 * a queue of its own; what does not fit is dropped. Jitter does not reorder: a packet never passes
 * another, unless it was chosen for reordering: then it comes a millisecond (or half the delay, if
 * that is more) later than it would have. Corruption turns one bit of an IP packet; frames here
 * carry complete checksums (no offload at either end), so that a receiver can tell.
 *
 * Prints "ready" when both ends are open, and on SIGTERM or SIGINT its counters as JSON.
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

enum { FRAME_MAX = 16384, BATCH = 64, QUEUE_MAX = 65536 };

struct conditions {
    double delay_us, jitter_us, rate_mbit, queue, loss, reorder, dup, corrupt;
};

struct frame {
    struct frame *next; /* in the list of unused ones */
    uint32_t len;
    uint8_t data[FRAME_MAX];
};

struct event {
    uint64_t time, order;
    struct frame *frame;
    unsigned direction;
};

/* 0: a to b, 1: b to a */
struct direction {
    struct conditions with;
    uint64_t random;
    uint64_t free_at;  /* when the wire has sent what was given to it; ns */
    uint64_t last;     /* delivery of the newest packet in order; ns */
    uint64_t *departs; /* a ring: when each packet of the queue leaves it */
    unsigned first, queued;
    uint64_t received, delivered, bytes, lost, overflow, reordered, duplicated, corrupted, refused;
};

static struct direction direction[2];
static struct event *heap;
static size_t heap_n, heap_size;
static struct frame *unused;
static uint64_t order;
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

/* --- chance --- */

static uint64_t next_random(struct direction *d)
{
    d->random ^= d->random << 13;
    d->random ^= d->random >> 7;
    d->random ^= d->random << 17;
    return d->random;
}
static double uniform(struct direction *d)
{
    return (double)(next_random(d) >> 11) / 9007199254740992.0;
}
/* Draws even for 0 %, so that changing one condition leaves the others' choices alone. */
static bool chance(struct direction *d, double percent)
{
    return uniform(d) * 100 < percent;
}

/* --- frames and events --- */

static struct frame *frame_new(void)
{
    struct frame *f = unused;

    if (f != NULL)
        unused = f->next;
    else if ((f = malloc(sizeof *f)) == NULL)
        die("memory");
    return f;
}
static void frame_free(struct frame *f)
{
    f->next = unused;
    unused = f;
}

static bool earlier(const struct event *a, const struct event *b)
{
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

static void push(struct event e)
{
    if (heap_n == heap_size) {
        heap_size = heap_size != 0 ? 2 * heap_size : 1024;
        heap = realloc(heap, heap_size * sizeof *heap);
        if (heap == NULL)
            die("memory");
    }
    size_t i = heap_n++;
    for (; i > 0 && earlier(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

static struct event pop(void)
{
    const struct event top = heap[0], last = heap[--heap_n];
    size_t i = 0;

    for (;;) {
        size_t c = 2 * i + 1;

        if (c >= heap_n)
            break;
        if (c + 1 < heap_n && earlier(&heap[c + 1], &heap[c]))
            c++;
        if (!earlier(&heap[c], &last))
            break;
        heap[i] = heap[c];
        i = c;
    }
    heap[i] = last;
    return top;
}

/* --- the wire --- */

static void turn_a_bit(struct direction *d, struct frame *f)
{
    const unsigned type = f->len >= 14 ? (unsigned)(f->data[12] << 8 | f->data[13]) : 0;
    /* IPv6 has no sum over its header: only what upper checksums cover. */
    const uint32_t from = type == 0x0800 ? 14 : type == 0x86dd ? 54 : 0;
    const uint64_t r = next_random(d);

    if (from == 0 || f->len <= from)
        return;
    f->data[from + r % (f->len - from)] ^= (uint8_t)(1u << (r >> 40) % 8);
    d->corrupted++;
}

static void send_on(unsigned n, struct frame *f, uint64_t now)
{
    struct direction *d = &direction[n];
    const struct conditions *c = &d->with;
    uint64_t at = now;

    if (c->rate_mbit > 0) {
        const unsigned limit = (unsigned)c->queue;

        while (d->queued > 0 && d->departs[d->first] <= now) {
            d->first = (d->first + 1) % QUEUE_MAX;
            d->queued--;
        }
        if (d->queued >= limit) {
            d->overflow++;
            frame_free(f);
            return;
        }
        if (d->free_at < now)
            d->free_at = now;
        /* 24: preamble, checksum and gap of Ethernet */
        d->free_at += (uint64_t)((f->len + 24) * 8000.0 / c->rate_mbit);
        d->departs[(d->first + d->queued++) % QUEUE_MAX] = d->free_at;
        at = d->free_at;
    }
    const double late = uniform(d) * c->jitter_us;
    at += (uint64_t)((c->delay_us + late) * 1000);
    if (chance(d, c->reorder)) {
        const double half = c->delay_us / 2;

        at += (uint64_t)((half > 1000 ? half : 1000) * 1000);
        d->reordered++;
    } else {
        if (at < d->last)
            at = d->last;
        d->last = at;
    }
    push((struct event){.time = at, .order = order++, .frame = f, .direction = n});
}

static void arrived(unsigned n, struct frame *f, uint64_t now)
{
    struct direction *d = &direction[n];
    const bool lost = chance(d, d->with.loss), dup = chance(d, d->with.dup),
               corrupt = chance(d, d->with.corrupt);

    d->received++;
    if (lost) {
        d->lost++;
        frame_free(f);
        return;
    }
    if (dup) {
        struct frame *copy = frame_new();

        copy->len = f->len;
        memcpy(copy->data, f->data, f->len);
        d->duplicated++;
        send_on(n, copy, now);
    }
    if (corrupt)
        turn_a_bit(d, f);
    send_on(n, f, now);
}

static void deliver(const int *fds, uint64_t now)
{
    while (heap_n > 0 && heap[0].time <= now) {
        const struct event e = pop();
        struct direction *d = &direction[e.direction];

        if (write(fds[!e.direction], e.frame->data, e.frame->len) < 0) {
            d->refused++;
        } else {
            d->delivered++;
            d->bytes += e.frame->len;
        }
        frame_free(e.frame);
    }
}

static bool take(unsigned n, int fd)
{
    unsigned i;

    for (i = 0; i < BATCH; i++) {
        struct frame *f = frame_new();
        const ssize_t len = read(fd, f->data, sizeof f->data);

        if (len <= 0) {
            frame_free(f);
            break;
        }
        f->len = (uint32_t)len;
        arrived(n, f, now_ns());
    }
    return i != 0;
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

static void say(const char *name, const struct direction *d)
{
    printf("\"%s\": {\"received\": %" PRIu64 ", \"delivered\": %" PRIu64 ", \"bytes\": %" PRIu64
           ", \"lost\": %" PRIu64 ", \"overflow\": %" PRIu64 ", \"reordered\": %" PRIu64
           ", \"duplicated\": %" PRIu64 ", \"corrupted\": %" PRIu64 ", \"refused\": %" PRIu64 "}",
           name, d->received, d->delivered, d->bytes, d->lost, d->overflow, d->reordered,
           d->duplicated, d->corrupted, d->refused);
}

static bool set(const char *name, double value)
{
    static const struct {
        const char *name;
        size_t off;
    } known[] = {
        {"delay-us", offsetof(struct conditions, delay_us)},
        {"jitter-us", offsetof(struct conditions, jitter_us)},
        {"rate-mbit", offsetof(struct conditions, rate_mbit)},
        {"queue", offsetof(struct conditions, queue)},
        {"loss", offsetof(struct conditions, loss)},
        {"reorder", offsetof(struct conditions, reorder)},
        {"dup", offsetof(struct conditions, dup)},
        {"corrupt", offsetof(struct conditions, corrupt)},
    };
    const bool ab = strncmp(name, "ab-", 3) == 0, ba = strncmp(name, "ba-", 3) == 0;

    if (ab || ba)
        name += 3;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) != 0)
            continue;
        for (unsigned n = 0; n < 2; n++)
            if ((n == 0 && !ba) || (n == 1 && !ab))
                *(double *)(void *)((char *)&direction[n].with + known[i].off) = value;
        return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    const char *spec[2] = {NULL, NULL};
    struct sigaction sa = {.sa_handler = on_signal};
    uint64_t seed = 1;
    sigset_t blocked, open_mask;
    int fds[2];

    direction[0].with.queue = direction[1].with.queue = 1000;
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
            seed = strtoull(value, NULL, 10);
        else if (strcmp(name, "mtu") == 0)
            mtu = (unsigned)atoi(value);
        else if (!set(name, atof(value))) {
            fprintf(stderr, "linkem: --%s: no such option\n", name);
            return 2;
        }
    }
    if (spec[0] == NULL || spec[1] == NULL) {
        fprintf(stderr, "usage: linkem --a END --b END [--seed N] [--delay-us N] [--loss %%] …\n");
        return 2;
    }
    for (unsigned n = 0; n < 2; n++) {
        fds[n] = open_end(spec[n]);
        direction[n].random = (seed * 2 + n + 1) * 0x9e3779b97f4a7c15ull;
        direction[n].departs = calloc(QUEUE_MAX, sizeof(uint64_t));
        if (direction[n].departs == NULL)
            die("memory");
        if (direction[n].with.queue > QUEUE_MAX)
            direction[n].with.queue = QUEUE_MAX;
    }
    /* Signals only while waiting, so that none falls between the look at `stop` and the wait. */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    prctl(PR_SET_TIMERSLACK, 1);
    printf("ready\n");
    fflush(stdout);

    bool busy = false;
    while (!stop) {
        struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
        struct timespec t = {0}, *timeout = NULL;

        if (heap_n > 0) {
            const uint64_t now = now_ns(), wait = heap[0].time > now ? heap[0].time - now : 0;

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
        deliver(fds, now_ns());
    }
    printf("{\"seed\": %" PRIu64 ", ", seed);
    say("ab", &direction[0]);
    printf(", ");
    say("ba", &direction[1]);
    printf("}\n");
    return 0;
}
