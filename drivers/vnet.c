/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tap and packet: devices that read and write one frame at a time behind a virtio-net header
 * (TUN/TAP with IFF_VNET_HDR, AF_PACKET with PACKET_VNET_HDR). They differ only in how rs opens
 * them (device.c).
 *
 * read() is destructive: once it has returned, the packet exists only where it was put. So the
 * frame that it goes to is named in shared memory first (owner RX, length 0), and the place of the
 * virtio-net header is filled with a pattern that no device writes. The kernel copies header and
 * packet within one call, and a killed process finishes the call. A successor that finds
 * the pattern knows that nothing was read; else a packet is there. Its length died with the
 * predecessor's register, and is taken from the packet itself: ARP has one, and IP says it.
 * (Padding of short frames is lost, nothing else.) The pages of a frame are mapped before they are
 * read into: the copy of a process that is being killed must not meet a page fault that it could
 * not end.
 *
 * A restart keeps every packet that was read. A frame whose writev() had returned and whose slot
 * had not been passed is sent twice.
 */
#include "driver.h"
#include "segment.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <sys/epoll.h>
#include <syslog.h>
#include <unistd.h>

enum {
    VNET_HEADER = sizeof(struct virtio_net_hdr),
    VNET_OFF = DRIVER_HEADROOM - VNET_HEADER,
    VNET_PATTERN = 0xff, /* as flags and gso_type: never written by the kernel */
};
_Static_assert(VNET_HEADER == 10, "the kernel's default size of the header");

struct vnet {
    int fd;
    int armed;        /* frame that read() would fill: RX, with the pattern; -1 none */
    unsigned segment; /* of the packet at the head of the queue: segments already written */
};
_Static_assert(sizeof(struct vnet) <= DRIVER_DEVICE_STATE, "fits");

static struct vnet *self(struct driver *d)
{
    return (struct vnet *)(void *)d->device;
}

static int attach(struct driver *d, const int *fds, unsigned nfds)
{
    (void)nfds;
    *self(d) = (struct vnet){.fd = fds[0], .armed = -1};
    if (d->frame_size < DRIVER_HEADROOM + DRIVER_ETHERNET + d->ifc->mtu)
        return -EMSGSIZE;
    return 0;
}

/* --- receive --- */

static void touch(struct driver *d, unsigned n)
{
    if (d->touched[n / 8] & 1u << n % 8)
        return;
    d->touched[n / 8] |= (uint8_t)(1u << n % 8);
    /* The frame is ours and holds nothing. */
    for (uint32_t off = 0; off < d->frame_size; off += 4096)
        *(volatile uint8_t *)(driver_frame_data(d, n) + off) = 0;
    *(volatile uint8_t *)(driver_frame_data(d, n) + d->frame_size - 1) = 0;
}

static bool arm(struct driver *d)
{
    static const uint8_t pattern[VNET_HEADER] = {
        VNET_PATTERN, VNET_PATTERN, VNET_PATTERN, VNET_PATTERN, VNET_PATTERN,
        VNET_PATTERN, VNET_PATTERN, VNET_PATTERN, VNET_PATTERN, VNET_PATTERN};
    struct vnet *v = self(d);

    if (v->armed >= 0)
        return true;
    if (d->nfree == 0)
        return false;
    /* The pattern before the owner: a frame found as RX with an old header in it would look as if a
     * packet had been read. */
    const unsigned n = d->free[d->nfree - 1];
    touch(d, n);
    if (SHM_KEEP)
        shm_copy(driver_frame_data(d, n) + VNET_OFF, pattern, VNET_HEADER);
    v->armed = driver_take(d, FRAME_RX, 0);
    return true;
}

/* What the virtio-net header says. False: something that was not asked for. */
static bool parse_header(const uint8_t *at, uint16_t *gso_size, enum packet_csum *csum)
{
    struct virtio_net_hdr h;

    memcpy(&h, at, VNET_HEADER);
    *gso_size = 0;
    switch (h.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        break;
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV6:
        *gso_size = h.gso_size;
        break;
    default:
        return false;
    }
    *csum = h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM   ? CSUM_PARTIAL
            : h.flags & VIRTIO_NET_HDR_F_DATA_VALID ? CSUM_GOOD
                                                    : CSUM_NONE;
    return true;
}

static unsigned receive(struct driver *d, unsigned quota)
{
    struct vnet *v = self(d);
    const uint32_t space = d->frame_size - VNET_OFF;
    unsigned n = 0;

    while (n < quota) {
        uint16_t gso_size;
        enum packet_csum csum;

        if (!driver_room(d) || !arm(d)) {
            driver_count(d, DRIVER_RX_STARVED, 1);
            d->rx_starved = true;
            break;
        }
        uint8_t *at = driver_frame_data(d, (unsigned)v->armed) + VNET_OFF;
        const ssize_t r = read(v->fd, at, space);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN) {
                /* Link down or device gone. It may come back: tried again later. */
                driver_count(d, DRIVER_DEVICE_ERROR, 1);
                d->device_error = true;
            }
            break;
        }
        n++;
        const unsigned frame = (unsigned)v->armed;
        v->armed = -1;
        driver_frame_begin(d, frame);
        if ((uint32_t)r == space) {
            driver_count(d, DRIVER_RX_TRUNCATED, 1);
            driver_give(d, frame);
        } else if (r < VNET_HEADER + DRIVER_ETHERNET || !parse_header(at, &gso_size, &csum)) {
            driver_count(d, DRIVER_RX_BAD, 1);
            driver_give(d, frame);
        } else {
            driver_receive(d, frame, DRIVER_HEADROOM, (uint32_t)r - VNET_HEADER, gso_size, csum);
        }
    }
    return n;
}

/* Length of the Ethernet frame at `p`, from its own headers; 0: cannot be told, and then nothing in
 * the stack would have used it. */
static uint32_t frame_length(const uint8_t *p)
{
    const uint8_t *l3 = p + DRIVER_ETHERNET;

    switch (p[12] << 8 | p[13]) {
    case 0x0800:
        return DRIVER_ETHERNET + (uint32_t)(l3[2] << 8 | l3[3]);
    case 0x86dd:
        return DRIVER_ETHERNET + 40 + (uint32_t)(l3[4] << 8 | l3[5]);
    case 0x0806: /* RFC 826, Ethernet and IPv4 */
        return DRIVER_ETHERNET + 28;
    default:
        return 0;
    }
}

static enum frame_owner salvage(struct driver *d, unsigned n)
{
    struct driver_frame *f = &d->frame[n];
    const uint8_t *at = driver_frame_data(d, n) + VNET_OFF;
    uint16_t gso_size;
    enum packet_csum csum;

    if (f->owner != FRAME_RX)
        return FRAME_FREE; /* this kind has no rings: another kind's leftovers */
    if (f->len != 0)
        return FRAME_OUT; /* read and described */
    if (at[0] == VNET_PATTERN && at[1] == VNET_PATTERN)
        return FRAME_FREE; /* not read */
    if (driver_frame_condemned(d, n))
        return FRAME_FREE;
    const uint32_t len = frame_length(at + VNET_HEADER);
    if (len < DRIVER_ETHERNET + 20 || len > d->frame_size - DRIVER_HEADROOM ||
        !parse_header(at, &gso_size, &csum)) {
        driver_count(d, DRIVER_RX_BAD, 1);
        return FRAME_FREE;
    }
    shm_store(&f->off, (uint32_t)DRIVER_HEADROOM);
    shm_store(&f->gso_size, gso_size);
    shm_store(&f->csum, (uint8_t)csum);
    shm_store(&f->len, len); /* last: see driver_receive() */
    return FRAME_OUT;
}

/* --- send --- */

static int put(struct vnet *v, const struct iovec *iov, unsigned niov)
{
    for (;;) {
        if (writev(v->fd, iov, (int)niov) >= 0)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

/* The device does checksum and segmentation. */
static int send_offload(struct vnet *v, const struct driver_tx *tx)
{
    const struct packet *p = &tx->p;
    struct virtio_net_hdr h = {0};
    struct iovec iov[2 + DRIVER_PIECE_MAX];
    unsigned niov = 0;

    if (p->csum == CSUM_PARTIAL) {
        h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        h.csum_start = p->l4;
        h.csum_offset = (uint16_t)segment_csum_offset(p->protocol);
    }
    if (p->gso_size != 0 && p->payload_len > p->gso_size) {
        h.gso_type = p->hdr[p->l3] >> 4 == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
        h.gso_size = p->gso_size;
        h.hdr_len = p->hdr_len;
    }
    iov[niov++] = (struct iovec){&h, VNET_HEADER};
    iov[niov++] = (struct iovec){(void *)(uintptr_t)p->hdr, p->hdr_len};
    for (unsigned i = 0; i < p->pieces; i++)
        iov[niov++] = (struct iovec){(void *)(uintptr_t)tx->piece[i], p->piece[i].len};
    return put(v, iov, niov);
}

static int send_plain(struct vnet *v, const struct driver_tx *tx, unsigned count)
{
    /* A full device may have taken a part of the packet; the rest follows when it has room. */
    for (; v->segment < count; v->segment++) {
        struct virtio_net_hdr h = {0};
        struct segment s;
        struct iovec iov[2 + DRIVER_PIECE_MAX];

        segment_make(tx, v->segment, &s);
        iov[0] = (struct iovec){&h, VNET_HEADER};
        iov[1] = (struct iovec){s.hdr, s.hdr_len};
        memcpy(iov + 2, s.iov, s.niov * sizeof iov[0]);
        const int r = put(v, iov, 2 + s.niov);
        if (r == -EAGAIN)
            return r;
        if (r < 0) {
            v->segment = 0;
            return r;
        }
    }
    v->segment = 0;
    return 0;
}

static int send_packet(struct driver *d, const struct driver_tx *tx)
{
    const int count = segment_count(tx);

    if (count < 0)
        return count;
    if (d->ifc->offload)
        return send_offload(self(d), tx);
    return send_plain(self(d), tx, (unsigned)count);
}

static uint32_t events(struct driver *d)
{
    return (d->rx_starved ? 0 : EPOLLIN) | (d->tx_blocked ? EPOLLOUT : 0);
}

const struct device_ops device_tap = {
    .name = "tap",
    .kind = DRIVER_TAP,
    .nfds = 1,
    .attach = attach,
    .salvage = salvage,
    .receive = receive,
    .send = send_packet,
    .events = events,
};

const struct device_ops device_packet = {
    .name = "packet",
    .kind = DRIVER_PACKET,
    .nfds = 1,
    .attach = attach,
    .salvage = salvage,
    .receive = receive,
    .send = send_packet,
    .events = events,
};
