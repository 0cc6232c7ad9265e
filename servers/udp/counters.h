/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What UDP counts. Position in server_block.counter = value of the enum.
 */
#ifndef EFT_UDP_COUNTERS_H
#define EFT_UDP_COUNTERS_H

#define UDP_COUNTER_LIST(X)                                                                        \
    X(UDP_IN_DATAGRAMS, "in_datagrams") /* put into a receive ring */                              \
    X(UDP_IN_BYTES, "bytes_received")                                                              \
    X(UDP_IN_REPLAYED, "in_replayed")     /* seen again after a restart and already delivered */   \
    X(UDP_DROP_FULL, "drop_ring_full")    /* receive ring full */                                  \
    X(UDP_DROP_CHECKSUM, "drop_checksum") /* wrong, or zero over IPv6 */                           \
    X(UDP_DROP_LENGTH, "drop_length")     /* UDP length field does not fit the packet */           \
    X(UDP_DROP_GARBAGE,                                                                            \
      "drop_garbage") /* descriptor or rich pointer of a neighbour that makes no sense */          \
    X(UDP_DROP_NOBODY,                                                                             \
      "drop_no_socket") /* no socket; answered with port unreachable where that is allowed */      \
    X(UDP_UNREACHABLE, "unreachable_sent")  /* port unreachables asked for */                      \
    X(UDP_ICMP_IN, "icmp_errors")           /* errors that reached a socket */                     \
    X(UDP_ICMP_NOBODY, "icmp_ignored")      /* errors about nothing of ours */                     \
    X(UDP_RETURN_UNKNOWN, "return_unknown") /* frame of a pool that is not ours to return to */    \
    X(UDP_OUT_DATAGRAMS, "out_datagrams")                                                          \
    X(UDP_OUT_BYTES, "bytes_sent")                                                                 \
    X(UDP_OUT_REPLAYED, "out_replayed") /* found as published by the predecessor at the start */   \
    X(UDP_OUT_REFUSED,                                                                             \
      "out_refused") /* no route, no address, not allowed: the socket's error says which */        \
    X(UDP_RING_BROKEN,                                                                             \
      "ring_broken") /* counters or headers of an application that make no sense */                \
    X(UDP_OUT_NO_BUFFER, "out_no_buffer") /* turns that ended for want of a buffer */              \
    X(UDP_OUT_QUEUE_FULL, "out_queue_full")                                                        \
    X(UDP_REQUESTS, "requests")                                                                    \
    X(UDP_REQUESTS_REFUSED, "requests_refused")                                                    \
    X(UDP_GRANTS, "grants")                                                                        \
    X(UDP_RECORDS_BAD, "records_bad") /* found broken at the start, and let go */                  \
    X(UDP_QUARANTINED, "quarantined") /* dropped: brought udp down again and again */              \
    X(UDP_SOCKETS, "sockets")         /* gauge: in use now */

#define X(id, name) id,
enum udp_counter { UDP_COUNTER_LIST(X) UDP_COUNTERS };
#undef X

#endif
