/* SPDX-License-Identifier: BSD-2-Clause
 *
 * gaps: how long was the peer without a packet? Records arrival time and length of each packet at a
 * device, and later says the longest silence around each given moment, or the rate over time.
 *
 *   gaps record --dev DEV [--netns NS] [--mac MAC] [--port PORT] [--direction in|out|both]
 *               --output FILE
 *      until SIGTERM or SIGINT; prints "recording" when it is ready, and a JSON summary at the end
 *   gaps report FILE [--before-ms 5] [--after-ms 500] [NANOSECONDS[:AFTER]…]
 *      moments of CLOCK_REALTIME, each with its own --after-ms if it wants, from the arguments or,
 *      without any, from standard input
 *   gaps rate FILE [--before-ms 100] [--after-ms 400] [--bin-ms 1] NANOSECONDS
 *      a line for each bin of that time: milliseconds from the moment, bytes, packets
 *
 * Direction "in" is what the device received: on the peer's end of a link what the stack sent. A
 * moment's silence is the longest stretch without packets that overlaps [t - before, t + after].
 * If nothing came between the moment and the end of the recording, the silence is said to be open.
 *
 * FILE is a magic number, the moment at which it was begun (nanoseconds of CLOCK_REALTIME), then 8
 * bytes a packet: nanoseconds since then in the upper 48 bits (three days), the length, 65535 at
 * most, in the lower 16. The kernel copies 128 bytes of each packet at most, in blocks, so that the
 * traffic is not disturbed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_SIZE = 1 << 20, BLOCKS = 16, SNAP = 128, BATCH = 8192 };
#define MAGIC 0x3253504147746645ull

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "gaps: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- record --- */

struct options {
    const char *dev, *netns, *output;
    uint8_t mac[6];
    bool by_mac;
    unsigned port;
    int direction; /* 0 in, 1 out, 2 both */
};

static void enter(const char *netns)
{
    char path[256];

    snprintf(path, sizeof path, "%s%s", netns[0] == '/' ? "" : "/run/netns/", netns);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        die(netns);
    close(fd);
}

/* Classic BPF. Offsets from the end of the accepting instruction are filled in at the end. */
static unsigned make_filter(const struct options *o, struct sock_filter *f)
{
    enum { DROP = 254, ACCEPT = 255 }; /* marks, resolved below */
    unsigned n = 0;

    if (o->direction != 2) {
        /* skb->pkt_type: 4 is PACKET_OUTGOING */
        const uint32_t type = (uint32_t)SKF_AD_OFF + SKF_AD_PKTTYPE;
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, type);
        if (o->direction == 0)
            f[n++] =
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, DROP, 0);
        else
            f[n++] =
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, DROP);
    }
    if (o->by_mac) {
        const uint32_t high = (uint32_t)o->mac[0] << 24 | (uint32_t)o->mac[1] << 16 |
                              (uint32_t)o->mac[2] << 8 | o->mac[3];
        const uint32_t low = (uint32_t)o->mac[4] << 8 | o->mac[5];

        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 6);
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, high, 0, DROP);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 10);
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, low, 0, DROP);
    }
    if (o->port != 0) { /* IPv4, TCP, first fragment, either port */
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12);
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, DROP);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23);
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, DROP);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20);
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, DROP, 0);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_IND, 14);
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, o->port, ACCEPT, 0);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16);
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, o->port, 0, DROP);
    }
    const unsigned accept = n, drop = n + 1;
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SNAP);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
    for (unsigned i = 0; i < accept; i++) {
        uint8_t *const jump[2] = {&f[i].jt, &f[i].jf};

        if (BPF_CLASS(f[i].code) != BPF_JMP)
            continue;
        for (unsigned j = 0; j < 2; j++)
            if (*jump[j] == DROP)
                *jump[j] = (uint8_t)(drop - i - 1);
            else if (*jump[j] == ACCEPT)
                *jump[j] = (uint8_t)(accept - i - 1);
    }
    return n;
}

static int open_ring(const struct options *o, uint8_t **ring)
{
    const unsigned index = if_nametoindex(o->dev);
    const int version = TPACKET_V3;
    struct tpacket_req3 req = {
        .tp_block_size = BLOCK_SIZE,
        .tp_block_nr = BLOCKS,
        .tp_frame_size = 256,
        .tp_frame_nr = BLOCK_SIZE / 256 * BLOCKS,
        .tp_retire_blk_tov = 50,
    };
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
    struct sock_filter code[32];
    struct sock_fprog prog = {.filter = code};

    if (index == 0)
        die(o->dev);
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("packet socket");
    prog.len = (unsigned short)make_filter(o, code);
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) < 0)
        die("filter");
    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof req) < 0)
        die("ring");
    *ring = mmap(NULL, (size_t)BLOCK_SIZE * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*ring == MAP_FAILED)
        die("mmap");
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        die("bind");
    return fd;
}

struct output {
    int fd;
    unsigned n;
    uint64_t begun, packets, bytes, batch[BATCH];
};

static void flush(struct output *o)
{
    const ssize_t size = (ssize_t)(o->n * sizeof o->batch[0]);

    if (write(o->fd, o->batch, (size_t)size) != size)
        die("output");
    o->n = 0;
}

static void take_block(struct output *o, const struct tpacket_block_desc *b)
{
    const uint8_t *p = (const uint8_t *)b + b->hdr.bh1.offset_to_first_pkt;

    for (uint32_t i = 0; i < b->hdr.bh1.num_pkts; i++) {
        const struct tpacket3_hdr *h = (const struct tpacket3_hdr *)(const void *)p;

        const uint64_t t = h->tp_sec * 1000000000ull + h->tp_nsec;
        /* One that was stamped before we had looked at the clock. */
        const uint64_t since = t > o->begun ? t - o->begun : 0;
        o->batch[o->n++] = since << 16 | (h->tp_len < 0xffff ? h->tp_len : 0xffff);
        o->packets++;
        o->bytes += h->tp_len;
        if (o->n == BATCH)
            flush(o);
        p += h->tp_next_offset;
    }
}

static int record(const struct options *o)
{
    static struct output out;
    struct timespec now;
    struct sigaction sa = {.sa_handler = on_signal};
    uint8_t *ring;

    if (o->dev == NULL || o->output == NULL) {
        fprintf(stderr, "gaps record: --dev and --output are needed\n");
        return 2;
    }
    out.fd = open(o->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out.fd < 0)
        die(o->output);
    clock_gettime(CLOCK_REALTIME, &now);
    out.begun = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    out.batch[0] = MAGIC;
    out.batch[1] = out.begun;
    out.n = 2;
    if (o->netns != NULL)
        enter(o->netns);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    const int fd = open_ring(o, &ring);
    printf("recording\n");
    fflush(stdout);

    bool last_round = false;
    for (unsigned block = 0;;) {
        struct tpacket_block_desc *b =
            (struct tpacket_block_desc *)(void *)(ring + (size_t)block * BLOCK_SIZE);

        if (__atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) {
            take_block(&out, b);
            __atomic_store_n(&b->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
            block = (block + 1) % BLOCKS;
            continue;
        }
        if (last_round)
            break;
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        if (stop) {
            /* What is in the open block comes when its time is over. */
            last_round = true;
            poll(&pfd, 1, 200);
        } else if (poll(&pfd, 1, 200) < 0 && errno != EINTR) {
            die("poll");
        }
    }
    flush(&out);
    struct tpacket_stats_v3 st = {0};
    socklen_t len = sizeof st;
    getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &st, &len);
    printf("{\"packets\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"dropped\": %u}\n", out.packets,
           out.bytes, st.tp_drops);
    return 0;
}

/* --- report --- */

struct recording {
    uint64_t begun;
    const uint64_t *packet;
    size_t n;
};

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static struct recording load(const char *file)
{
    struct stat st;
    const int fd = open(file, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0)
        die(file);
    uint64_t *p = mmap(NULL, st.st_size > 0 ? (size_t)st.st_size : 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED || st.st_size < 16 || p[0] != MAGIC) {
        fprintf(stderr, "gaps: %s is no recording\n", file);
        exit(1);
    }
    close(fd);
    const struct recording r = {p[1], p + 2, (size_t)st.st_size / 8 - 2};
    /* Several processors stamp: neighbours may be out of order. */
    for (size_t i = 1; i < r.n; i++)
        if (r.packet[i] < r.packet[i - 1]) {
            qsort(p + 2, r.n, sizeof *p, compare);
            break;
        }
    return r;
}

static uint64_t time_of(const struct recording *r, size_t i)
{
    return r->begun + (r->packet[i] >> 16);
}

/* First position with t >= when. */
static size_t position(const struct recording *r, uint64_t when)
{
    size_t lo = 0, hi = r->n;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (time_of(r, mid) < when)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void report_one(const struct recording *r, uint64_t when, uint64_t before, uint64_t after,
                       bool first)
{
    const uint64_t from = when - before, to = when + after;
    const size_t begin = position(r, from), end = position(r, to);
    uint64_t longest = 0, start = 0;
    bool open = false;

    /* Stretches end at packet i; the first began before the window, the last ends after it. */
    for (size_t i = begin; i <= end; i++) {
        const bool is_open = i == r->n;
        const uint64_t a = i == 0 ? from : time_of(r, i - 1), b = is_open ? to : time_of(r, i);

        if (b > a && b - a > longest) {
            longest = b - a;
            start = a;
            open = is_open;
        }
    }
    printf("%s\n  {\"t\": %" PRIu64 ", \"gap_ms\": %.3f, \"from_ms\": %.3f, \"packets\": %zu, "
           "\"open\": %s}",
           first ? "" : ",", when, (double)longest / 1e6, ((double)start - (double)when) / 1e6,
           end - begin, open ? "true" : "false");
}

/* NANOSECONDS[:AFTER] */
static void report_text(const struct recording *r, const char *text, uint64_t before,
                        uint64_t after, bool first)
{
    char *end;
    const uint64_t when = strtoull(text, &end, 10);

    report_one(r, when, before, *end == ':' ? (uint64_t)(atof(end + 1) * 1e6) : after, first);
}

static int report(int argc, char **argv, uint64_t before, uint64_t after)
{
    const struct recording r = load(argv[0]);
    char word[64];
    bool first = true;

    printf("{\"packets\": %zu, \"kills\": [", r.n);
    for (int i = 1; i < argc; i++, first = false)
        report_text(&r, argv[i], before, after, first);
    for (; argc == 1 && scanf("%63s", word) == 1; first = false)
        report_text(&r, word, before, after, first);
    printf("\n]}\n");
    return 0;
}

static int rate(int argc, char **argv, uint64_t before, uint64_t after, uint64_t bin)
{
    const struct recording r = load(argv[0]);
    const uint64_t when = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    size_t i = position(&r, when - before);

    for (uint64_t from = when - before; from < when + after; from += bin) {
        uint64_t bytes = 0, packets = 0;
        for (; i < r.n && time_of(&r, i) < from + bin; i++, packets++)
            bytes += r.packet[i] & 0xffff;
        printf("%.3f %" PRIu64 " %" PRIu64 "\n", ((double)from - (double)when) / 1e6, bytes,
               packets);
    }
    return 0;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: gaps record --dev DEV [--netns NS] [--mac MAC] [--port PORT]\n"
            "                   [--direction in|out|both] --output FILE\n"
            "       gaps report FILE [--before-ms MS] [--after-ms MS] [NANOSECONDS[:MS]...]\n"
            "       gaps rate FILE [--before-ms MS] [--after-ms MS] [--bin-ms MS] "
            "NANOSECONDS\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"dev", 1, NULL, 'd'},       {"netns", 1, NULL, 'n'},
                                          {"mac", 1, NULL, 'm'},       {"port", 1, NULL, 'p'},
                                          {"direction", 1, NULL, 'i'}, {"output", 1, NULL, 'o'},
                                          {"before-ms", 1, NULL, 'b'}, {"after-ms", 1, NULL, 'a'},
                                          {"bin-ms", 1, NULL, 'w'},    {NULL, 0, NULL, 0}};
    struct options o = {0};
    double before = -1, after = -1, bin = 1;
    int c;

    if (argc < 2)
        return usage();
    const char *verb = argv[1];
    argc--;
    argv++;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'd':
            o.dev = optarg;
            break;
        case 'n':
            o.netns = optarg;
            break;
        case 'm':
            o.by_mac = sscanf(optarg, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &o.mac[0], &o.mac[1],
                              &o.mac[2], &o.mac[3], &o.mac[4], &o.mac[5]) == 6;
            if (!o.by_mac)
                return usage();
            break;
        case 'p':
            o.port = (unsigned)atoi(optarg);
            break;
        case 'i':
            o.direction = strcmp(optarg, "out") == 0 ? 1 : strcmp(optarg, "both") == 0 ? 2 : 0;
            break;
        case 'o':
            o.output = optarg;
            break;
        case 'b':
            before = atof(optarg);
            break;
        case 'a':
            after = atof(optarg);
            break;
        case 'w':
            bin = atof(optarg);
            break;
        default:
            return usage();
        }
    }
    const bool rates = strcmp(verb, "rate") == 0;
    before = before >= 0 ? before : rates ? 100 : 5;
    after = after >= 0 ? after : rates ? 400 : 500;
    if (strcmp(verb, "record") == 0)
        return record(&o);
    if (argc > optind && strcmp(verb, "report") == 0)
        return report(argc - optind, argv + optind, (uint64_t)(before * 1e6),
                      (uint64_t)(after * 1e6));
    if (argc == optind + 2 && rates && bin > 0)
        return rate(argc - optind, argv + optind, (uint64_t)(before * 1e6), (uint64_t)(after * 1e6),
                    (uint64_t)(bin * 1e6));
    return usage();
}
