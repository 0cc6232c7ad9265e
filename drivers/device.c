/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Opening devices. See device.h. Keeps nothing: what must last is in the descriptors.
 *
 * A TAP's kernel end is the peer: it gets the MTU and is set up, its address is the operator's. Our
 * own MAC and address are the configuration's and never the kernel's: an address that the kernel
 * owns too would have it answer our peers with RSTs.
 */
#include "device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

__attribute__((format(printf, 4, 5))) static int fail(int code, char *error, size_t len,
                                                      const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(error, len, fmt, ap);
    va_end(ap);
    return code;
}

enum { TAP_QUEUE = 10000 /* packets */ };

/* --- namespaces --- */

/* Goes to the namespace `name` (of `ip netns`, or a path). A descriptor of the old one to go back
 * to, or -errno; -1 with *stay when there is nothing to do. */
static int netns_enter(const char *name, bool *stay)
{
    char path[128];

    *stay = name[0] == '\0';
    if (*stay)
        return -1;
    snprintf(path, sizeof path, "%s%s", name[0] == '/' ? "" : "/run/netns/", name);
    const int there = open(path, O_RDONLY | O_CLOEXEC);
    if (there < 0)
        return -errno;
    const int back = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (back < 0 || setns(there, CLONE_NEWNET) < 0) {
        const int e = errno;

        if (back >= 0)
            close(back);
        close(there);
        return -e;
    }
    close(there);
    return back;
}

/* Does the kernel own `a` in the present namespace? The device's name in `device`. */
static bool kernel_owns(const struct ip_addr *a, char *device, size_t len)
{
    struct ifaddrs *list, *i;
    bool owns = false;

    if (ip_addr_any(a) || getifaddrs(&list) < 0)
        return false;
    for (i = list; i != NULL && !owns; i = i->ifa_next) {
        if (i->ifa_addr == NULL)
            continue;
        if (a->family == 4 && i->ifa_addr->sa_family == AF_INET)
            owns = ((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr.s_addr == a->v4;
        else if (a->family == 6 && i->ifa_addr->sa_family == AF_INET6)
            owns = memcmp(&((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr, a->v6, 16) == 0;
        if (owns)
            snprintf(device, len, "%s", i->ifa_name);
    }
    freeifaddrs(list);
    return owns;
}

static int check_address(const struct config_interface *ifc, const char *where, char *error,
                         size_t len)
{
    char text[INET6_ADDRSTRLEN] = "", device[IFNAMSIZ];

    if (!kernel_owns(&ifc->addr, device, sizeof device))
        return 0;
    inet_ntop(ifc->addr.family == 4 ? AF_INET : AF_INET6, ifc->addr.v6, text, sizeof text);
    return fail(-EADDRINUSE, error, len,
                "%s: the kernel owns our address %s too (on %s, %s); remove it there, or its "
                "resets would end our connections",
                ifc->device, text, device, where);
}

/* --- the devices --- */

static int set_up(const struct config_interface *ifc, bool made, char *error, size_t len)
{
    const int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {0};
    int rc = 0;

    if (s < 0)
        return fail(-errno, error, len, "socket: %s", strerror(errno));
    memcpy(r.ifr_name, ifc->device, IFNAMSIZ - 1);
    if (made) {
        r.ifr_mtu = (int)ifc->mtu;
        if (ioctl(s, SIOCSIFMTU, &r) < 0)
            rc = fail(-errno, error, len, "%s: cannot set the MTU to %u: %s", ifc->device, ifc->mtu,
                      strerror(errno));
        /* While a driver is dead its packets wait here: 10 ms of a fast peer's. */
        r.ifr_qlen = TAP_QUEUE;
        if (rc == 0 && ioctl(s, SIOCSIFTXQLEN, &r) < 0)
            rc = fail(-errno, error, len, "%s: cannot set the queue's length: %s", ifc->device,
                      strerror(errno));
    }
    if (rc == 0 && ioctl(s, SIOCGIFFLAGS, &r) == 0) {
        r.ifr_flags |= IFF_UP;
        if (ioctl(s, SIOCSIFFLAGS, &r) < 0)
            rc = fail(-errno, error, len, "%s: cannot set the link up: %s", ifc->device,
                      strerror(errno));
    }
    close(s);
    return rc;
}

static int open_tap(const struct config_interface *ifc, int *fds, char *error, size_t len)
{
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int rc = 0;

    if (fd < 0)
        return fail(-errno, error, len, "/dev/net/tun: %s", strerror(errno));
    memcpy(r.ifr_name, ifc->device, IFNAMSIZ - 1);
    /* Not UDP segmentation: a merged datagram would have to be cut by whoever gets it. */
    const unsigned long offload = ifc->offload ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 : 0;
    if (ioctl(fd, TUNSETIFF, &r) < 0)
        rc = fail(-errno, error, len, "%s: cannot make the TAP device: %s", ifc->device,
                  strerror(errno));
    else if (ioctl(fd, TUNSETOFFLOAD, offload) < 0)
        rc = fail(-errno, error, len, "%s: cannot set offloads: %s", ifc->device, strerror(errno));
    else
        rc = set_up(ifc, true, error, len);
    if (rc < 0)
        close(fd);
    else
        fds[0] = fd;
    return rc;
}

static int open_packet(const struct config_interface *ifc, int *fds, char *error, size_t len)
{
    const unsigned index = if_nametoindex(ifc->device);
    const int one = 1, buffer = 32 << 20;
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
    struct packet_mreq promiscuous = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};

    if (index == 0)
        return fail(-ENODEV, error, len, "%s: no such device", ifc->device);
    /* Protocol 0: nothing arrives before bind() has named the device. */
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-errno, error, len, "%s: packet socket: %s", ifc->device, strerror(errno));
    /* Ours may be another MAC than the device's, hence promiscuous. */
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        const int e = errno;

        close(fd);
        return fail(-e, error, len, "%s: cannot set up the packet socket: %s", ifc->device,
                    strerror(e));
    }
    const int rc = set_up(ifc, false, error, len);
    if (rc < 0)
        close(fd);
    else
        fds[0] = fd;
    return rc;
}

static int check_sizes(const struct config_interface *ifc, char *error, size_t len)
{
    const bool xdp = ifc->driver == DRIVER_XDP;
    /* 270: headroom of XDP and the Ethernet header. */
    const uint32_t largest = xdp ? ifc->mtu + 270
                                 : DRIVER_HEADROOM + DRIVER_ETHERNET + 1 +
                                       (ifc->offload && ifc->mtu < 65535 ? 65535 : ifc->mtu);

    if (ifc->frames < DRIVER_FRAMES_MIN || ifc->frames > DRIVER_FRAMES_MAX ||
        (ifc->frames & (ifc->frames - 1)) != 0)
        return fail(-EINVAL, error, len, "%s: frames must be a power of two from %u to %u",
                    ifc->device, DRIVER_FRAMES_MIN, DRIVER_FRAMES_MAX);
    if (ifc->frame_size < largest)
        return fail(-EINVAL, error, len, "%s: frame_size must be at least %u", ifc->device,
                    largest);
    if (xdp && ifc->frame_size != 2048 && ifc->frame_size != 4096)
        return fail(-EINVAL, error, len, "%s: frame_size must be 2048 or 4096", ifc->device);
    return 0;
}

int device_open(const struct config_interface *ifc, const struct region *driver_region, int *fds,
                unsigned *nfds, char *error, size_t error_len)
{
    bool stay;
    int rc = check_sizes(ifc, error, error_len);

    *nfds = 0;
    if (rc == 0 && ifc->driver != DRIVER_XDP)
        rc = check_address(ifc, "in the stack's network namespace", error, error_len);
    if (rc < 0)
        return rc;
    const int back = netns_enter(ifc->netns, &stay);
    if (back < 0 && !stay)
        return fail(back, error, error_len, "%s: network namespace %s: %s", ifc->device, ifc->netns,
                    strerror(-back));
    if (!stay && ifc->driver != DRIVER_XDP)
        rc = check_address(ifc, ifc->netns, error, error_len);
    if (rc == 0) {
        switch (ifc->driver) {
        case DRIVER_TAP:
            rc = open_tap(ifc, fds, error, error_len);
            *nfds = device_tap.nfds;
            break;
        case DRIVER_PACKET:
            rc = open_packet(ifc, fds, error, error_len);
            *nfds = device_packet.nfds;
            break;
        case DRIVER_XDP:
            rc = device_open_xdp(ifc, driver_region, fds, error, error_len);
            *nfds = device_xdp.nfds;
            break;
        default:
            rc = fail(-EINVAL, error, error_len, "%s: unknown kind of driver", ifc->device);
        }
    }
    if (!stay) {
        /* Staying in the wrong namespace would open everything else there. */
        if (setns(back, CLONE_NEWNET) < 0)
            abort();
        close(back);
    }
    if (rc < 0)
        *nfds = 0;
    return rc;
}

void device_close(int *fds, unsigned nfds)
{
    /* The link first: once it is gone nothing is steered to the socket. */
    while (nfds > 0) {
        close(fds[--nfds]);
        fds[nfds] = -1;
    }
}
