/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Making an AF_XDP socket for a driver, and the program that steers to it. rs only, in the device's
 * namespace. The program takes ARP for our address and packets to our address; the rest passes to
 * the kernel. While a driver is dead the rings fill; when they are full the kernel drops, and never
 * answers for us: the map's fallback is to drop.
 */
#include "device.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
enum { QUEUE = 0, MAP_ENTRIES = 64, TO_PASS = 0x7ffe, TO_REDIRECT = 0x7fff };

/* --- the program --- */

struct assembler {
    struct bpf_insn insn[64];
    unsigned n;
};

static void emit(struct assembler *a, uint8_t code, uint8_t dst, uint8_t src, int16_t off,
                 int32_t imm)
{
    a->insn[a->n++] = (struct bpf_insn){
        .code = code, .dst_reg = dst & 15u, .src_reg = src & 15u, .off = off, .imm = imm};
}
/* r5 := value of `size` (BPF_W, BPF_H) at `off` of the packet; to `target` when it is (not) `value`
 */
static void compare(struct assembler *a, uint8_t size, int16_t off, uint8_t op, uint32_t value,
                    int16_t target)
{
    emit(a, BPF_LDX | BPF_MEM | size, 5, 2, off, 0);
    emit(a, BPF_JMP32 | op | BPF_K, 5, 0, target, (int32_t)value);
}
/* To pass unless the packet has `len` bytes. */
static void need(struct assembler *a, int32_t len)
{
    emit(a, BPF_ALU64 | BPF_MOV | BPF_X, 4, 2, 0, 0);
    emit(a, BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, len);
    emit(a, BPF_JMP | BPF_JGT | BPF_X, 4, 3, TO_PASS, 0);
}

/* Goes to redirect when the 16 bytes at `off` are `v6`; else on behind. */
static void match_v6(struct assembler *a, int16_t off, const uint32_t *v6)
{
    for (int16_t i = 0; i < 3; i++)
        compare(a, BPF_W, (int16_t)(off + 4 * i), BPF_JNE, v6[i], (int16_t)(7 - 2 * i - 1));
    compare(a, BPF_W, (int16_t)(off + 12), BPF_JEQ, v6[3], TO_REDIRECT);
}

static void assemble(struct assembler *a, const struct ip_addr *addr, int map)
{
    emit(a, BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0);
    emit(a, BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(struct xdp_md, data), 0);
    emit(a, BPF_LDX | BPF_MEM | BPF_W, 3, 1, offsetof(struct xdp_md, data_end), 0);
    if (addr->family == 4) {
        need(a, 42); /* an ARP packet, and the least that TCP, UDP and ICMP have */
        compare(a, BPF_H, 12, BPF_JEQ, htons(0x0800), 4);
        compare(a, BPF_H, 12, BPF_JNE, htons(0x0806), TO_PASS);
        compare(a, BPF_W, 38, BPF_JEQ, addr->v4, TO_REDIRECT); /* ARP's target address */
        compare(a, BPF_W, 30, BPF_JEQ, addr->v4, TO_REDIRECT);
    } else {
        /* RFC 4291 2.7.1: neighbours ask for us at ff02::1:ff and the last 24 bits. */
        uint32_t solicited[4] = {htonl(0xff020000), 0, htonl(1),
                                 htonl(0xff000000 | (ntohl(addr->word[3]) & 0xffffff))};
        need(a, 54);
        compare(a, BPF_H, 12, BPF_JNE, htons(0x86dd), TO_PASS);
        match_v6(a, 38, addr->word);
        match_v6(a, 38, solicited);
    }
    const unsigned pass = a->n;
    emit(a, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS);
    emit(a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    const unsigned redirect = a->n;
    emit(a, BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map);
    emit(a, 0, 0, 0, 0, 0);
    emit(a, BPF_LDX | BPF_MEM | BPF_W, 2, 6, offsetof(struct xdp_md, rx_queue_index), 0);
    emit(a, BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_DROP);
    emit(a, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map);
    emit(a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (unsigned i = 0; i < pass; i++) {
        if (a->insn[i].off == TO_PASS)
            a->insn[i].off = (int16_t)(pass - i - 1);
        else if (a->insn[i].off == TO_REDIRECT)
            a->insn[i].off = (int16_t)(redirect - i - 1);
    }
}

/* --- the socket --- */

static unsigned receive_queues(const char *device)
{
    struct ethtool_channels c = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq r = {.ifr_data = (void *)&c};
    const int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned n = 1;

    memcpy(r.ifr_name, device, strnlen(device, IFNAMSIZ - 1));
    if (s >= 0 && ioctl(s, SIOCETHTOOL, &r) == 0)
        n = c.rx_count + c.combined_count;
    if (s >= 0)
        close(s);
    return n;
}

static int open_socket(const struct config_interface *ifc, unsigned index, void *pool, int fd)
{
    const int size = (int)ifc->frames;
    const struct xdp_umem_reg umem = {
        .addr = (uintptr_t)pool,
        .len = (uint64_t)ifc->frames * ifc->frame_size,
        .chunk_size = ifc->frame_size,
    };
    /* Copy: the pool may then be used by both sides at any time, and every device can do it. */
    struct sockaddr_xdp addr = {.sxdp_family = AF_XDP,
                                .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
                                .sxdp_ifindex = index,
                                .sxdp_queue_id = QUEUE};

    if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) < 0 ||
        setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &size, sizeof size) < 0 ||
        setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &size, sizeof size) < 0 ||
        setsockopt(fd, SOL_XDP, XDP_RX_RING, &size, sizeof size) < 0 ||
        setsockopt(fd, SOL_XDP, XDP_TX_RING, &size, sizeof size) < 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return -errno;
    return 0;
}

static int attach_program(int program, unsigned index)
{
    LIBBPF_OPTS(bpf_link_create_opts, native, .flags = XDP_FLAGS_DRV_MODE);
    LIBBPF_OPTS(bpf_link_create_opts, generic, .flags = XDP_FLAGS_SKB_MODE);
    int link = bpf_link_create(program, (int)index, BPF_XDP, &native);

    if (link < 0 && (link == -EOPNOTSUPP || errno == EOPNOTSUPP))
        link = bpf_link_create(program, (int)index, BPF_XDP, &generic);
    return link < 0 ? -errno : link;
}

int device_open_xdp(const struct config_interface *ifc, const struct region *driver_region,
                    int *fds, char *error, size_t error_len)
{
    const unsigned index = if_nametoindex(ifc->device);
    const unsigned queues = receive_queues(ifc->device);
    struct assembler a = {.n = 0};
    const char *step = "device";
    const uint32_t key = QUEUE;
    uint64_t frames = 0;
    void *pool = wiring_table(driver_region, TABLE_DRIVER_POOL, &frames);
    int rc = 0;

    for (unsigned i = 0; i < DRIVER_DEVICE_FDS; i++)
        fds[i] = -1;
    if (index == 0)
        rc = -ENODEV;
    else if (pool == NULL || frames != ifc->frames)
        rc = -EPROTO;
    if (rc == 0 && queues > 1) {
        /* A socket serves one queue, and what comes on another would be lost. */
        snprintf(error, error_len, "%s: has %u receive queues; use: ethtool -L %s combined 1",
                 ifc->device, queues, ifc->device);
        return -EINVAL;
    }
    if (rc == 0) {
        step = "AF_XDP socket";
        fds[0] = socket(AF_XDP, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        rc = fds[0] < 0 ? -errno : open_socket(ifc, index, pool, fds[0]);
    }
    if (rc == 0) {
        step = "map";
        fds[1] = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "eft_xsk", 4, 4, MAP_ENTRIES, NULL);
        if (fds[1] < 0 || bpf_map_update_elem(fds[1], &key, &fds[0], BPF_ANY) < 0)
            rc = -errno;
    }
    if (rc == 0) {
        step = "program";
        assemble(&a, &ifc->addr, fds[1]);
        fds[2] = bpf_prog_load(BPF_PROG_TYPE_XDP, "eft_steer", "BSD", a.insn, a.n, NULL);
        if (fds[2] < 0)
            rc = -errno;
    }
    if (rc == 0) {
        step = "attaching the program";
        fds[3] = attach_program(fds[2], index);
        if (fds[3] < 0)
            rc = fds[3];
    }
    if (rc < 0) {
        snprintf(error, error_len, "%s: %s: %s", ifc->device, step, strerror(-rc));
        for (unsigned i = 0; i < DRIVER_DEVICE_FDS; i++)
            if (fds[i] >= 0)
                close(fds[i]);
    }
    return rc;
}
