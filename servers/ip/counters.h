/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip's counters: positions in server_block.counter, and their names. Every packet that ip takes is
 * passed on or counted under exactly one of the drop- names. A crash between a drop and its end
 * may count it twice, never not at all.
 */
#ifndef EFT_SERVERS_IP_COUNTERS_H
#define EFT_SERVERS_IP_COUNTERS_H

#define IP_COUNTERS(X)                                                                             \
    X(IP_C_RX_FRAMES, "rx-frames")                                                                 \
    X(IP_C_TX_FRAMES, "tx-frames")                                                                 \
    X(IP_C_TO_TCP, "to-tcp")                                                                       \
    X(IP_C_TO_UDP, "to-udp")                                                                       \
    X(IP_C_FROM_TCP, "from-tcp")                                                                   \
    X(IP_C_FROM_UDP, "from-udp")                                                                   \
    X(IP_C_COMPLETED, "completed")                                                                 \
    /* received */                                                                                 \
    X(IP_C_DROP_SLOT, "drop-slot-garbage")                                                         \
    X(IP_C_DROP_QUARANTINE, "drop-quarantine")                                                     \
    X(IP_C_DROP_ETH_SHORT, "drop-eth-short")                                                       \
    X(IP_C_DROP_ETH_DST, "drop-eth-not-ours")                                                      \
    X(IP_C_DROP_ETH_TYPE, "drop-eth-type")                                                         \
    X(IP_C_DROP_IP_SHORT, "drop-ip-short")                                                         \
    X(IP_C_DROP_IP_VERSION, "drop-ip-version")                                                     \
    X(IP_C_DROP_IP_CHECKSUM, "drop-ip-checksum")                                                   \
    X(IP_C_DROP_IP_TOTAL, "drop-ip-total-length")                                                  \
    X(IP_C_DROP_IP_OPTIONS, "drop-ip-options")                                                     \
    X(IP_C_DROP_MARTIAN, "drop-martian")                                                           \
    X(IP_C_DROP_NOT_OURS, "drop-not-for-us")                                                       \
    X(IP_C_DROP_BROADCAST, "drop-broadcast")                                                       \
    X(IP_C_DROP_L4_HEADER, "drop-transport-header")                                                \
    X(IP_C_DROP_PROTOCOL, "drop-protocol-unknown")                                                 \
    X(IP_C_DROP_BLOCKED_IN, "drop-blocked-in")                                                     \
    X(IP_C_DROP_UDP_FULL, "drop-udp-full")                                                         \
    X(IP_C_DROP_VERDICT_LOST, "drop-verdict-lost")                                                 \
    X(IP_C_DROP_STALE_BUFFER, "drop-stale-buffer")                                                 \
    /* ARP */                                                                                      \
    X(IP_C_ARP_BAD, "arp-bad")                                                                     \
    X(IP_C_ARP_REQUESTS_IN, "arp-requests-in")                                                     \
    X(IP_C_ARP_REPLIES_IN, "arp-replies-in")                                                       \
    X(IP_C_ARP_UNSOLICITED, "arp-unsolicited")                                                     \
    X(IP_C_ARP_CONFLICT, "arp-address-conflict")                                                   \
    X(IP_C_ARP_DISPUTED, "arp-entry-disputed")                                                     \
    X(IP_C_ARP_REQUESTS_OUT, "arp-requests-out")                                                   \
    X(IP_C_ARP_REPLIES_OUT, "arp-replies-out")                                                     \
    X(IP_C_ARP_FAILED, "arp-failed")                                                               \
    X(IP_C_ARP_NO_ROOM, "arp-no-room")                                                             \
    /* reassembly */                                                                               \
    X(IP_C_FRAG_IN, "fragments-in")                                                                \
    X(IP_C_FRAG_DONE, "fragments-reassembled")                                                     \
    X(IP_C_FRAG_DUPLICATE, "fragments-duplicate")                                                  \
    X(IP_C_DROP_FRAG_BAD, "drop-fragment-bad")                                                     \
    X(IP_C_DROP_FRAG_OVERLAP, "drop-fragment-overlap")                                             \
    X(IP_C_DROP_FRAG_MANY, "drop-fragment-too-many")                                               \
    X(IP_C_DROP_FRAG_MEMORY, "drop-fragment-memory")                                               \
    X(IP_C_DROP_FRAG_TIMEOUT, "drop-fragment-timeout")                                             \
    /* ICMP */                                                                                     \
    X(IP_C_ICMP_ECHO_IN, "icmp-echo-in")                                                           \
    X(IP_C_ICMP_ECHO_OUT, "icmp-echo-replies")                                                     \
    X(IP_C_ICMP_ERRORS_IN, "icmp-errors-in")                                                       \
    X(IP_C_ICMP_ERRORS_OUT, "icmp-errors-out")                                                     \
    X(IP_C_ICMP_LIMITED, "icmp-rate-limited")                                                      \
    X(IP_C_DROP_ICMP_CHECKSUM, "drop-icmp-checksum")                                               \
    X(IP_C_DROP_ICMP_OTHER, "drop-icmp-other")                                                     \
    X(IP_C_DROP_ICMP_QUOTE, "drop-icmp-quote")                                                     \
    X(IP_C_DROP_ICMP_MEMORY, "drop-icmp-memory")                                                   \
    /* to send */                                                                                  \
    X(IP_C_DROP_SEND_GARBAGE, "drop-send-garbage")                                                 \
    X(IP_C_DROP_SEND_STALE, "drop-send-stale-chain")                                               \
    X(IP_C_DROP_SEND_SOURCE, "drop-send-source")                                                   \
    X(IP_C_DROP_NO_ROUTE, "drop-no-route")                                                         \
    X(IP_C_DROP_TOO_BIG, "drop-too-big")                                                           \
    X(IP_C_DROP_BLOCKED_OUT, "drop-blocked-out")                                                   \
    X(IP_C_DROP_PENDING_FULL, "drop-neighbour-queue")                                              \
    X(IP_C_DROP_NEIGHBOUR, "drop-neighbour-unreachable")                                           \
    X(IP_C_FRAGMENTS_OUT, "fragments-out")                                                         \
    /* broken neighbours */                                                                        \
    X(IP_C_VERDICT_BAD, "verdict-garbage")                                                         \
    X(IP_C_BUFFER_RETURN_BAD, "buffer-return-garbage")                                             \
    X(IP_C_EDGE_RESETS, "edge-resets")                                                             \
    X(IP_C_RECOVERED_DROPS, "recovered-state-dropped")

#define X(name, text) name,
enum ip_counter { IP_COUNTERS(X) IP_COUNTER_MAX };
#undef X
_Static_assert(IP_COUNTER_MAX <= 192, "server_block.counter");

#endif
