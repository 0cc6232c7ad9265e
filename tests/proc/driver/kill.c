/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A driver process on a real device, killed with SIGKILL before stores chosen by a seed, hundreds
 * of times. The test plays ip and tcp on shared memory and the peer on a packet socket. Everything
 * that the peer sends must arrive once, whole and in order; everything sent must reach the peer in
 * order: once with xdp, and with tap and packet at most once more for each kill. At the end every
 * frame is accounted for.
 *
 * usage: proc_driver_kill tap|tap-offload|packet|xdp [SEED]
 */
#include "drivers/device.h"
#include "servers/wire/checksum.h"
#include "tests/harness/host.h"
#include "tests/harness/memory.h"

/* After ours: some of these define macros with names that edges use. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DRV SERVER_ID(SERVER_DRIVER, 0)
#define IP  SERVER_ID(SERVER_IP, 0)
#define TCP SERVER_ID(SERVER_TCP, 0)

enum { FRAMES = 256, KILLS = 300, HEADERS = 14 + 20 + 20, LARGE = 20000, MSS = 1440 };

#define CHECK(what, ...)                                                                           \
    do {                                                                                           \
        if (!(what))                                                                               \
            die(__LINE__, #what, __VA_ARGS__);                                                     \
    } while (0)

static uint64_t seed;
static pid_t child;

__attribute__((format(printf, 3, 4), noreturn)) static void die(int line, const char *what,
                                                                const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "FAIL (seed %llu): line %d: %s: ", (unsigned long long)seed, line, what);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n");
    if (child > 0)
        kill(child, SIGKILL);
    exit(1);
}

static uint64_t random64(void)
{
    static uint64_t s;

    if (s == 0)
        s = seed * 0x9e3779b97f4a7c15ull + 1;
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* --- the driver's process --- */

static long stores_left = -1; /* in the child; -1: never */

void shm_crashpoint(const char *file, int line)
{
    (void)file;
    (void)line;
    if (stores_left >= 0 && stores_left-- == 0)
        kill(getpid(), SIGKILL);
}

static struct stack_config cfg;
static struct region_map *map;
static int fds[DRIVER_DEVICE_FDS];
static unsigned nfds;

static struct region *region_of(server_id id)
{
    return &map->entry[REGION_OF_SERVER(id)];
}

static void driver_process(long crash_at)
{
    struct component *c = host_new(&driver_ops, DRV, map);
    const struct rs_message m = {.op = RS_DEVICE, .nfds = (uint8_t)nfds};

    stores_left = crash_at;
    driver_ops.message(c, &m, fds);
    if (host_start(c, now_ns(), END_KILLED) < 0)
        _exit(3);
    for (;;) {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};

        if (driver_ops.work(c, now_ns()) == 0)
            poll(&p, 1, 1);
        if (getppid() == 1)
            _exit(0);
    }
}

static void spawn(void)
{
    const long crash_at = random64() % 4 == 0 ? (long)(random64() % 30) : (long)(random64() % 4000);

    fflush(NULL);
    child = fork();
    CHECK(child >= 0, "%s", strerror(errno));
    if (child == 0)
        driver_process(crash_at);
}

/* Private memory becomes shared with the children, at the same place. */
static void share(struct region *r)
{
    uint8_t *copy = malloc(r->size);

    memcpy(copy, r->base, r->size);
    CHECK(mmap(r->base, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == r->base,
          "%s", strerror(errno));
    memcpy(r->base, copy, r->size);
    free(copy);
}

/* --- packets: TCP over IPv4; the number is in the acknowledgement number, which segmentation
 * leaves alone, and decides the contents; the sequence number is the offset --- */

static uint32_t payload_len(uint32_t number, bool large)
{
    return large && number % 5 == 4 ? LARGE : number * 37 % 1400;
}

static uint8_t content(uint32_t number, uint32_t i)
{
    return (uint8_t)(number * 7 + i * 13 + (i >> 8));
}

static void headers(uint8_t *h, uint32_t number, uint32_t len, bool to_stack)
{
    static const uint8_t ours[6] = {2, 0, 0, 0, 0, 2}, theirs[6] = {2, 0, 0, 0, 0, 1};
    const uint32_t src = htonl(to_stack ? 0x0a000001 : 0x0a000002),
                   dst = htonl(to_stack ? 0x0a000002 : 0x0a000001), ack = htonl(number);
    const uint16_t total = htons((uint16_t)(40 + len));

    memset(h, 0, HEADERS);
    memcpy(h, to_stack ? ours : theirs, 6);
    memcpy(h + 6, to_stack ? theirs : ours, 6);
    h[12] = 8;
    h[14] = 0x45;
    memcpy(h + 16, &total, 2);
    h[22] = 64;
    h[23] = IPPROTO_TCP;
    memcpy(h + 26, &src, 4);
    memcpy(h + 30, &dst, 4);
    const uint16_t sum = csum_fold(csum_partial(h + 14, 20, 0));
    memcpy(h + 24, &sum, 2);
    h[35] = 9; /* port 9 */
    h[37] = 9;
    memcpy(h + 42, &ack, 4);
    h[46] = 0x50;
    h[47] = 0x10;
    const uint8_t tail[4] = {0, IPPROTO_TCP, (uint8_t)((20 + len) >> 8), (uint8_t)(20 + len)};
    const uint16_t pseudo = csum_fold_partial(csum_partial(tail, 4, csum_partial(h + 26, 8, 0)));
    memcpy(h + 50, &pseudo, 2);
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return ntohl(v);
}
static uint32_t number_of(const uint8_t *frame)
{
    return get32(frame + 42);
}
static uint32_t offset_of(const uint8_t *frame)
{
    return get32(frame + 38);
}

/* Frames of ours; a new device's namespace is not always silent. */
static bool is_ours(const uint8_t *frame, size_t len)
{
    return len >= HEADERS && frame[12] == 8 && frame[13] == 0 && frame[23] == IPPROTO_TCP &&
           frame[35] == 9;
}

static void check_content(const uint8_t *frame, size_t len, uint32_t number, uint32_t from,
                          uint32_t expect)
{
    CHECK(len == HEADERS + (size_t)expect, "packet %u: %zu bytes, not %u", number, len,
          HEADERS + expect);
    for (uint32_t i = 0; i < expect; i++)
        CHECK(frame[HEADERS + i] == content(number, from + i), "packet %u, byte %u", number, i);
}

/* --- the peer --- */

static int peer;
static bool large;

static void peer_open(const char *device)
{
    struct sockaddr_ll addr = {.sll_family = AF_PACKET,
                               .sll_protocol = htons(ETH_P_ALL),
                               .sll_ifindex = (int)if_nametoindex(device)};
    const int one = 1, buffer = 32 << 20;

    peer = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(peer >= 0 && setsockopt(peer, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0 &&
              setsockopt(peer, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) == 0 &&
              setsockopt(peer, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) == 0 &&
              bind(peer, (struct sockaddr *)&addr, sizeof addr) == 0,
          "%s: %s", device, strerror(errno));
}

static bool peer_send(uint32_t number)
{
    static uint8_t packet[sizeof(struct virtio_net_hdr) + HEADERS + LARGE];
    struct virtio_net_hdr v = {0};
    const uint32_t len = payload_len(number, large);
    uint8_t *frame = packet + sizeof v;

    headers(frame, number, len, true);
    if (len == LARGE)
        v = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                    .hdr_len = HEADERS,
                                    .gso_size = MSS,
                                    .csum_start = 34,
                                    .csum_offset = 16};
    memcpy(packet, &v, sizeof v);
    for (uint32_t i = 0; i < len; i++)
        frame[HEADERS + i] = content(number, i);
    return send(peer, packet, sizeof v + HEADERS + len, 0) > 0;
}

static uint32_t peer_expects, peer_offset, peer_again;

/* What the stack sent: whole large packets, or the segments of one. */
static void peer_receives(bool cut)
{
    static uint8_t packet[sizeof(struct virtio_net_hdr) + 65536];
    struct virtio_net_hdr v;
    ssize_t n;

    while ((n = recv(peer, packet, sizeof packet, 0)) > (ssize_t)sizeof v) {
        uint8_t *frame = packet + sizeof v;
        const size_t len = (size_t)n - sizeof v;

        if (!is_ours(frame, len))
            continue;
        memcpy(&v, packet, sizeof v);
        const uint32_t number = number_of(frame), off = offset_of(frame);
        const uint32_t expect = payload_len(peer_expects, true);
        if (number < peer_expects || (number == peer_expects && off < peer_offset)) {
            if (off == 0)
                peer_again++;
            continue;
        }
        CHECK(number == peer_expects && off == peer_offset, "got %u + %u, expected %u + %u", number,
              off, peer_expects, peer_offset);
        const bool segment = cut && expect == LARGE;
        const uint32_t part = !segment                    ? expect
                              : LARGE - peer_offset < MSS ? LARGE - peer_offset
                                                          : MSS;
        check_content(frame, len, peer_expects, peer_offset, part);
        if (!(v.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) {
            const uint8_t tail[4] = {0, IPPROTO_TCP, (uint8_t)((20 + part) >> 8),
                                     (uint8_t)(20 + part)};
            const uint32_t sum = csum_partial(tail, 4, csum_partial(frame + 26, 8, 0));
            CHECK(csum_fold(csum_partial(frame + 34, len - 34, sum)) == 0, "checksum of %u",
                  peer_expects);
        }
        peer_offset += part;
        if (!segment || peer_offset == LARGE) {
            peer_expects++;
            peer_offset = 0;
        }
    }
}

/* --- ip and tcp --- */

static struct chan_rx ip_in;
static struct chan_tx ip_out, returns[2];
static uint32_t ip_expects;

static void give_back(uint32_t frame, uint32_t generation)
{
    struct frame_return r = {.frame = frame, .generation = generation};
    struct chan_tx *tx = &returns[random64() % 2];
    void *slot;

    CHECK(chan_tx_reserve(tx, 0, 0, 0, &slot) == CHAN_OK, "frame %u", frame);
    memcpy((struct slot_head *)slot + 1, &r.frame, sizeof r - sizeof r.head);
    chan_tx_commit(tx);
    chan_tx_publish(tx);
}

static void ip_receives(void)
{
    const uint8_t *pool = wiring_table(region_of(DRV), TABLE_DRIVER_POOL, NULL);
    const struct driver_rx *slot;

    while ((slot = chan_rx_peek(&ip_in)) != NULL) {
        const struct driver_rx r = *slot;
        const uint8_t *frame = pool + (uint64_t)r.frame * cfg.interface[0].frame_size + r.off;

        CHECK(r.frame < FRAMES && r.off + r.len <= cfg.interface[0].frame_size, "frame %u",
              r.frame);
        if (is_ours(frame, r.len)) {
            const uint32_t expect = payload_len(ip_expects, large);

            CHECK(number_of(frame) == ip_expects, "got %u, expected %u", number_of(frame),
                  ip_expects);
            check_content(frame, r.len, ip_expects, 0, expect);
            CHECK(r.gso_size == (expect == LARGE ? MSS : 0), "gso_size %u", r.gso_size);
            CHECK((r.csum == CSUM_PARTIAL) == (expect == LARGE), "csum %u", r.csum);
            ip_expects++;
        }
        chan_rx_next(&ip_in);
        give_back(r.frame, r.generation);
    }
    chan_rx_release(&ip_in);
}

enum { APP_SPACE = 1 << 20 };

static void ip_sends(uint32_t number)
{
    struct region *up = &map->entry[REGION_OF_APP(0, APP_UP)];
    const uint32_t len = payload_len(number, true), half = len / 3;
    struct packet p = {.hdr_len = HEADERS,
                       .l3 = 14,
                       .l4 = 34,
                       .protocol = IPPROTO_TCP,
                       .csum = CSUM_PARTIAL,
                       .gso_size = len == LARGE ? MSS : 0,
                       .payload_len = len};
    /* A place that no packet under way uses: at most 16 are. */
    const uint64_t off = 65536 + (uint64_t)(number % 32) * LARGE;
    void *slot;

    for (uint32_t i = 0; i < len; i++)
        up->base[off + i] = content(number, i);
    headers(p.hdr, number, len, false);
    p.pieces = len == 0 ? 0 : half == 0 ? 1 : 2;
    p.piece[0] = (struct rptr){.region = REGION_OF_APP(0, APP_UP),
                               .generation = up->generation,
                               .off = off,
                               .len = p.pieces == 2 ? half : len};
    p.piece[1] = (struct rptr){.region = REGION_OF_APP(0, APP_UP),
                               .generation = up->generation,
                               .off = off + half,
                               .len = len - half};
    CHECK(chan_tx_reserve(&ip_out, 0, 0, 0, &slot) == CHAN_OK, "%u", number);
    packet_put(slot, &p);
    chan_tx_commit(&ip_out);
    chan_tx_publish(&ip_out);
}

static unsigned frames_of(enum frame_owner owner)
{
    const struct driver_frame *f = wiring_table(region_of(DRV), TABLE_DRIVER_FRAMES, NULL);
    unsigned n = 0;

    for (unsigned i = 0; i < FRAMES; i++) {
        CHECK(f[i].owner <= FRAME_TX, "frame %u: owner %u", i, f[i].owner);
        n += f[i].owner == owner;
    }
    return n;
}

static void accounted_for(void)
{
    CHECK(frames_of(FRAME_OUT) == 0, "%u frames leaked", frames_of(FRAME_OUT));
    const uint64_t *counter = wiring_block(region_of(DRV))->counter;
    CHECK(counter[DRIVER_RX_BAD] == 0 && counter[DRIVER_TX_ERROR] == 0 &&
              counter[DRIVER_OWNER_BAD] == 0 && counter[DRIVER_RX_TRUNCATED] == 0,
          "bad %llu, error %llu", (unsigned long long)counter[DRIVER_RX_BAD],
          (unsigned long long)counter[DRIVER_TX_ERROR]);
}

/* --- */

static void run(const char *command)
{
    CHECK(system(command) == 0, "%s", command);
}

/* A network namespace of our own: it ends with us. */
static void isolate(void)
{
    if (geteuid() != 0 || access("/dev/net/tun", F_OK) != 0) {
        printf("SKIP: needs root and /dev/net/tun\n");
        exit(77);
    }
    CHECK(unshare(CLONE_NEWNET) == 0, "%s", strerror(errno));
    const int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        CHECK(write(fd, "1", 1) == 1, "%s", strerror(errno));
        close(fd);
    }
    run("ip link set lo up");
}

static void open_device(const char *kind)
{
    struct config_interface *ifc = &cfg.interface[0];
    char error[256] = "";

    memory_config(&cfg);
    ifc->frames = FRAMES;
    ifc->frame_size = DRIVER_FRAME_SIZE_SMALL;
    if (strncmp(kind, "tap", 3) == 0) {
        ifc->driver = DRIVER_TAP;
        ifc->offload = large = strcmp(kind, "tap-offload") == 0;
        if (large)
            ifc->frame_size = DRIVER_FRAME_SIZE_GSO;
    } else {
        ifc->driver = strcmp(kind, "xdp") == 0 ? DRIVER_XDP : DRIVER_PACKET;
        run("ip link add eft0 type veth peer name peer0 && ip link set peer0 up && "
            "ip link set eft0 up");
    }
    map = calloc(1, sizeof *map);
    memory_create(map, &cfg);
    memory_add_app(map, &cfg, 0, 1);
    for (unsigned i = 0; i < REGION_IDS; i++)
        if (map->entry[i].base != NULL && map->entry[i].size <= 64 << 20)
            share(&map->entry[i]);
    /* The kernel must not have our address. */
    if (ifc->driver != DRIVER_XDP) {
        run("ip addr add 10.0.0.2/32 dev lo");
        CHECK(device_open(ifc, region_of(DRV), fds, &nfds, error, sizeof error) == -EADDRINUSE,
              "%s", error);
        run("ip addr del 10.0.0.2/32 dev lo");
    }
    const int rc = device_open(ifc, region_of(DRV), fds, &nfds, error, sizeof error);
    CHECK(rc == 0, "%s", error);
    peer_open(ifc->driver == DRIVER_TAP ? "eft0" : "peer0");
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "tap";
    uint32_t peer_sent = 0, ip_sent = 0, kills = 0;

    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)getpid();
    isolate();
    open_device(kind);
    const bool once = cfg.interface[0].driver == DRIVER_XDP;
    struct region *ip = region_of(IP), *drv = region_of(DRV), *tcp = region_of(TCP);
    CHECK(chan_rx_attach(&ip_in, ip, drv, EDGE_DRIVER_IP, IP, DRV, NULL) == 0 &&
              chan_tx_attach(&ip_out, ip, drv, EDGE_IP_DRIVER, IP, DRV, 1, NULL) == 0 &&
              chan_tx_attach(&returns[0], ip, drv, EDGE_IP_RETURN, IP, DRV, 1, NULL) == 0 &&
              chan_tx_attach(&returns[1], tcp, drv, EDGE_TCP_RETURN, TCP, DRV, 1, NULL) == 0,
          "attach");
    const uint64_t limit = now_ns() + 50ull * 1000000000;
    spawn();
    bool listening = !once;
    for (;;) {
        const bool over = kills >= KILLS;
        int status;

        /* A new AF_XDP socket has no memory to receive into before its driver first gives it some.
         */
        if (!listening)
            listening = frames_of(FRAME_FILL) >= 64;

        CHECK(now_ns() < limit, "%u kills; ip %u of %u, peer %u + %u of %u", kills, ip_expects,
              peer_sent, peer_expects, peer_offset, ip_sent);
        if (waitpid(child, &status, WNOHANG) == child) {
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
            kills++;
            spawn();
        }
        /* Little under way, so that no queue of the kernel overflows. */
        for (unsigned i = 0; i < 8 && !over && listening && peer_sent - ip_expects < 24; i++)
            if (peer_send(peer_sent))
                peer_sent++;
        for (unsigned i = 0; i < 4 && !over && ip_sent - peer_expects < 16; i++)
            ip_sends(ip_sent++);
        ip_receives();
        peer_receives(cfg.interface[0].offload == 0);
        if (over && ip_expects == peer_sent && peer_expects == ip_sent &&
            chan_tx_consumed(&ip_out) == ip_sent &&
            chan_tx_consumed(&returns[0]) == returns[0].tail &&
            chan_tx_consumed(&returns[1]) == returns[1].tail)
            break;
        sched_yield();
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    child = 0;
    accounted_for();
    CHECK(!once || peer_again == 0, "%u sent again", peer_again);
    CHECK(peer_again <= kills + 1, "%u sent again in %u kills", peer_again, kills);
    printf(
        "%s, seed %llu: %u kills; %u received (%llu of them found by a successor), %u sent, %u of "
        "them twice\n",
        kind, (unsigned long long)seed, kills, ip_expects,
        (unsigned long long)wiring_block(drv)->counter[DRIVER_RX_FOUND], peer_expects, peer_again);
    device_close(fds, nfds);
    return 0;
}
