/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The configuration of a stack, as every server sees it: the region REGION_CONFIG, written by rs
 * from /etc/eft/NAME.conf before any server starts, constant after that. Servers never read files.
 * The text format is documented in eft.conf(5) and parsed in recovery/rs/config.c.
 */
#ifndef EFT_LIBCHAN_CONFIG_H
#define EFT_LIBCHAN_CONFIG_H

#include "addr.h"
#include "region.h"

enum { CONFIG_INTERFACES = 8, CONFIG_ROUTES = 64, CONFIG_RULES = 256, CONFIG_USERS = 64 };
enum config_shape { SHAPE_SPLIT = 0, SHAPE_FUSED = 1 };
enum config_driver { DRIVER_TAP = 1, DRIVER_XDP = 2, DRIVER_PACKET = 3 };

struct config_interface { /* driver instance = position */
    char device[16];      /* name of the kernel's device */
    uint8_t driver;       /* enum config_driver */
    uint8_t offload;      /* 1: segmentation and checksum offload where the driver has it */
    uint8_t prefix;       /* length of the address's prefix; bits */
    uint8_t mac[6];       /* ours, kept across every restart */
    uint8_t reserved[7];
    uint32_t mtu;        /* bytes, without the Ethernet header */
    uint32_t frames;     /* receive frames in the pool, a power of two */
    uint32_t frame_size; /* bytes between frames */
    struct ip_addr addr;
    char netns[64]; /* where the device is opened; "" the stack's own */
};

struct config_route {
    struct ip_addr dst;
    struct ip_addr gateway; /* family 0: on the link */
    uint8_t prefix;
    uint8_t interface;
    uint8_t reserved[2];
};

enum rule_action { RULE_PASS = 0, RULE_BLOCK = 1 };
enum rule_direction { RULE_BOTH = 0, RULE_IN = 1, RULE_OUT = 2 };
/* First match wins; no match passes. */
struct config_rule {
    uint8_t action, direction;
    uint8_t interface; /* 255: any */
    uint8_t protocol;  /* 0: any */
    struct ip_addr src, dst;
    uint8_t src_prefix, dst_prefix;                              /* 0 and family 0: any */
    uint16_t src_port_lo, src_port_hi, dst_port_lo, dst_port_hi; /* host order; 0..65535 any */
    uint8_t reserved[2];
};

struct stack_config {
    struct region_header header;
    char name[32];
    uint8_t shape; /* enum config_shape */
    uint8_t interfaces, reserved0[2];
    uint32_t routes, rules, rules_generation;
    struct config_interface interface[CONFIG_INTERFACES];
    struct config_route route[CONFIG_ROUTES]; /* connected routes included, longest prefix first */
    struct config_rule rule[CONFIG_RULES];
    int16_t cpu[256]; /* by server_id; -1: not pinned */
    uint32_t spin_us; /* longest spin before sleeping; 0: sleep at once */
    uint32_t users;   /* count; 0: everybody may use the stack */
    uint32_t user[CONFIG_USERS];
    /* sizes */
    uint32_t queue_slots;     /* of the packet edges; a power of two */
    uint32_t tcp_connections; /* records */
    uint32_t tcp_chains;      /* send chains under way; a power of two */
    uint32_t udp_sockets;
    uint32_t udp_buffers;                  /* outgoing datagrams under way; a power of two */
    uint32_t ip_buffers;                   /* IP's own packets */
    uint32_t app_tcp_slots, app_udp_slots; /* sockets per application */
    uint64_t app_up_size, app_down_tcp_size, app_down_udp_size; /* bytes */
    /* TCP */
    uint32_t tcp_sndbuf, tcp_rcvbuf; /* first ring size; bytes, powers of two */
    uint32_t tcp_rto_min_ms, tcp_delack_ms, tcp_timewait_ms, tcp_initial_window, tcp_syn_retries,
        tcp_retries, tcp_keepalive_s;
    uint32_t tcp_challenge_ms; /* between answers to unacceptable segments; 0 no limit */
    uint32_t tcp_synack_retries, tcp_fin_timeout_s;
    uint8_t tcp_timestamps, tcp_sack, tcp_window_scaling, tcp_congestion; /* 0 newreno 1 cubic */
    uint32_t udp_sndbuf, udp_rcvbuf; /* ring sizes; bytes, powers of two */
    uint16_t port_first, port_last;  /* ephemeral */
    uint32_t reserved1;
    uint8_t
        secret[64]; /* for ISNs, ports, cookies, timestamps; made once by rs. In this region only
                       tcp, udp and ip may see it: rs zeroes it in the copy of everybody else */
};

#endif
