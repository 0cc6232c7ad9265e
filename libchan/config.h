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
enum { SPARES_MAX = 2, SPARES_DEFAULT = 255 };
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

/* What an operator may set of TCP, in [tcp]; the key is the name without tcp_. Where RFCs leave a
 * choice the default is Linux's. X(field, default, least, most) for numbers, 32 bits wide. */

/* Rings of a new connection; bytes, powers of two. */
#define CONFIG_TCP_RINGS(X)                                                                        \
    X(tcp_sndbuf, 64 << 10, 4096, 16 << 20)                                                        \
    X(tcp_rcvbuf, 128 << 10, 4096, 16 << 20)

#define CONFIG_TCP_NUMBERS(X)                                                                      \
    /* what rings grow to; bytes */                                                                \
    X(tcp_wmem_max, 4 << 20, 4096, 1 << 30)                                                        \
    X(tcp_rmem_max, 6 << 20, 4096, 1 << 30)                                                        \
    X(tcp_reclaim_s, 10, 0,                                                                        \
      86400) /* idle for so long, a receive ring needs no memory; 0: never */                      \
    /* retransmission (RFC 6298); the least applies to the variance term */                        \
    X(tcp_rto_initial_ms, 1000, 10, 60000)                                                         \
    X(tcp_rto_min_ms, 200, 1, 60000)                                                               \
    X(tcp_rto_max_ms, 120000, 1000, 3600000)                                                       \
    X(tcp_min_rtt_s, 300, 1, 86400) /* how long the least RTT is remembered */                     \
    /* how often something is sent again before the connection is given up */                      \
    X(tcp_syn_retries, 6, 0, 127)                                                                  \
    X(tcp_synack_retries, 5, 0, 127)                                                               \
    X(tcp_retries, 15, 1, 127)                                                                     \
    X(tcp_orphan_retries, 8, 0, 127)                                                               \
    X(tcp_user_timeout_ms, 0, 0, 86400000) /* 0: tcp_retries decides (RFC 5482) */                 \
    /* segments out of order that are no loss, until the path is seen to reorder (RFC 8985) */     \
    X(tcp_reordering, 3, 1, 300)                                                                   \
    /* congestion control: segments (RFC 6928); pacing in percent of cwnd per RTT */               \
    X(tcp_initial_window, 10, 1, 64)                                                               \
    X(tcp_pacing_ss_percent, 200, 100, 1000)                                                       \
    X(tcp_pacing_ca_percent, 120, 100, 1000)                                                       \
    /* acknowledgements: the longest delay, and how many are not delayed at the start */           \
    X(tcp_delack_ms, 40, 1, 500)                                                                   \
    X(tcp_quickacks, 16, 0, 1000)                                                                  \
    /* keepalive: idle time, interval, how many without an answer */                               \
    X(tcp_keepalive_s, 7200, 1, 32767)                                                             \
    X(tcp_keepintvl_s, 75, 1, 32767)                                                               \
    X(tcp_keepcnt, 9, 1, 127)                                                                      \
    /* the end: FIN-WAIT-2 of an orphan, TIME-WAIT, how many orphans */                            \
    X(tcp_fin_timeout_s, 60, 1, 3600)                                                              \
    X(tcp_timewait_ms, 60000, 0, 240000)                                                           \
    X(tcp_orphans_max, 65536, 0, 4194304)                                                          \
    /* floods: half-open connections of a listener, time between challenge ACKs of a connection    \
     * (0: no limit), resets to strangers */                                                       \
    X(tcp_syn_backlog_max, 2048, 16, 1048576)                                                      \
    X(tcp_challenge_ms, 500, 0, 60000)                                                             \
    X(tcp_resets_per_s, 1000, 0, 1000000)                                                          \
    /* path MTU (RFC 4821): where a search begins, the least payload, when to search again */      \
    X(tcp_base_mss, 1024, 48, 65000)                                                               \
    X(tcp_min_mss, 48, 32, 1460)                                                                   \
    X(tcp_mtu_interval_s, 600, 1, 86400)

/* Switches: X(field, default). */
#define CONFIG_TCP_SWITCHES(X)                                                                     \
    X(tcp_timestamps, 1)                                                                           \
    X(tcp_sack, 1)                                                                                 \
    X(tcp_dsack, 1)                                                                                \
    X(tcp_window_scaling, 1)                                                                       \
    X(tcp_autotune, 1) /* rings grow */                                                            \
    X(tcp_pacing, 0)                                                                               \
    X(tcp_tail_probe, 1) /* RFC 8985 7 */                                                          \
    X(tcp_frto, 1)       /* RFC 5682 */                                                            \
    X(tcp_slow_start_after_idle, 1)

enum config_ecn { CONFIG_ECN_OFF = 0, CONFIG_ECN_PASSIVE, CONFIG_ECN_ON }; /* passive: if asked */
enum config_cookies { CONFIG_COOKIES_OFF = 0, CONFIG_COOKIES_ON, CONFIG_COOKIES_ALWAYS };
enum config_mtu { CONFIG_MTU_OFF = 0, CONFIG_MTU_BLACKHOLE };

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
    uint8_t spares;   /* of each server; SPARES_DEFAULT: by its kind */
    uint8_t reserved2;
    uint16_t trial_s; /* how long the old program is kept ready after an update */
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
#define X(name, value, least, most) uint32_t name;
    CONFIG_TCP_RINGS(X)
    CONFIG_TCP_NUMBERS(X)
#undef X
#define X(name, value) uint8_t name;
    CONFIG_TCP_SWITCHES(X)
#undef X
    uint8_t tcp_congestion;          /* 0 newreno 1 cubic */
    uint8_t tcp_ecn;                 /* enum config_ecn */
    uint8_t tcp_syncookies;          /* enum config_cookies */
    uint8_t tcp_mtu_probing;         /* enum config_mtu */
    uint32_t udp_sndbuf, udp_rcvbuf; /* ring sizes; bytes, powers of two */
    uint16_t port_first, port_last;  /* ephemeral */
    uint32_t reserved1;
    uint8_t
        secret[64]; /* for ISNs, ports, cookies, timestamps; made once by rs. In this region only
                       tcp, udp and ip may see it: rs zeroes it in the copy of everybody else */
};

/* What [tcp] is without a line. */
void config_tcp_defaults(struct stack_config *cfg);

#endif
