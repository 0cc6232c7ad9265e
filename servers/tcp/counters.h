/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What TCP counts. Position in server_block.counter = value of the enum.
 */
#ifndef EFT_SERVERS_TCP_COUNTERS_H
#define EFT_SERVERS_TCP_COUNTERS_H

#define TCP_COUNTER_LIST(X)                                                                        \
    X(SEGS_IN, "segments_in")                                                                      \
    X(SEGS_OUT, "segments_out")                                                                    \
    X(BYTES_IN, "bytes_in")                                                                        \
    X(BYTES_OUT, "bytes_out")                                                                      \
    X(RETRANS, "retransmissions")                                                                  \
    X(TIMEOUTS, "timeouts")                                                                        \
    X(FAST_RECOVERIES, "fast_recoveries")                                                          \
    X(ACTIVE_OPENS, "active_opens")                                                                \
    X(PASSIVE_OPENS, "passive_opens")                                                              \
    X(ESTABLISHED, "established")                                                                  \
    X(RESETS_IN, "resets_in")                                                                      \
    X(RESETS_OUT, "resets_out")                                                                    \
    X(CHALLENGES, "challenge_acks")                                                                \
    X(PMTU_LESS, "path_mtu_reduced")                                                               \
    X(BLACK_HOLES, "black_holes")                                                                  \
    X(ORPHANS_RESET, "orphans_reset")                                                              \
    X(COOKIES_SENT, "syn_cookies_sent")                                                            \
    X(COOKIES_GOOD, "syn_cookies_accepted")                                                        \
    X(COOKIES_BAD, "syn_cookies_bad")                                                              \
    X(ANSWERS_LIMITED, "answers_limited")                                                          \
    X(DROP_GARBAGE, "drop_garbage_slot")                                                           \
    X(DROP_HEADER, "drop_bad_header")                                                              \
    X(DROP_CHECKSUM, "drop_bad_checksum")                                                          \
    X(DROP_NO_SOCKET, "drop_no_socket")                                                            \
    X(DROP_BROADCAST, "drop_broadcast")                                                            \
    X(DROP_BACKLOG, "drop_backlog_full")                                                           \
    X(DROP_NO_RECORD, "drop_no_record")                                                            \
    X(DROP_NO_BLOCK, "drop_no_block")                                                              \
    X(DROP_PAWS, "drop_paws")                                                                      \
    X(DROP_WINDOW, "drop_out_of_window")                                                           \
    X(DROP_STATE, "drop_state")                                                                    \
    X(DROP_OLD_ACK, "drop_unacceptable_ack")                                                       \
    X(DROP_OOO_FULL, "drop_too_many_holes")                                                        \
    X(DUP_DATA, "duplicate_data")                                                                  \
    X(OOO_DATA, "out_of_order_data")                                                               \
    X(ICMP_IN, "icmp_in")                                                                          \
    X(ICMP_IGNORED, "icmp_ignored")                                                                \
    X(HELD, "held_during_walk")                                                                    \
    X(REPLAYED, "inputs_already_done")                                                             \
    X(RECOVERED, "connections_recovered")                                                          \
    X(RECOVERY_RESETS, "connections_failed_check")                                                 \
    X(APP_VIOLATIONS, "application_violations")                                                    \
    X(BAD_RETURN, "frame_of_unknown_owner")                                                        \
    X(CHAINS_FULL, "chains_exhausted")                                                             \
    X(REQUESTS, "requests")                                                                        \
    X(BAD_REQUESTS, "bad_requests")                                                                \
    X(KEEPALIVES, "keepalive_probes")                                                              \
    X(PROBES, "zero_window_probes")                                                                \
    X(ABORTED_UNREAD, "closed_with_unread_data")                                                   \
    /* payload, each byte once, as given to applications and as taken from them; a kill may cost   \
     * the count of one turn */                                                                    \
    X(BYTES_RECEIVED, "bytes_received")                                                            \
    X(BYTES_SENT, "bytes_sent")                                                                    \
    X(FORENSIC, "forensic_copies")                                                                 \
    X(RINGS_GROWN, "rings_grown")                                                                  \
    X(GROWTH_REFUSED, "ring_growth_refused")                                                       \
    X(PAGES_FORGOTTEN, "pages_given_back")                                                         \
    X(TAIL_PROBES, "tail_loss_probes")                                                             \
    X(PROBE_RECOVERIES, "losses_found_by_probe")                                                   \
    X(DSACKS_IN, "dsacks_in")                                                                      \
    X(SPURIOUS_RECOVERIES, "spurious_fast_recoveries")                                             \
    X(SPURIOUS_TIMEOUTS, "spurious_timeouts")                                                      \
    X(QUARANTINED, "quarantined") /* dropped: brought tcp down again and again */

enum tcp_counter {
#define X(id, name) TCP_C_##id,
    TCP_COUNTER_LIST(X)
#undef X
        TCP_COUNTERS
};

#endif
