/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pf's counters: positions in server_block.counter, and their names.
 */
#ifndef EFT_SERVERS_PF_COUNTERS_H
#define EFT_SERVERS_PF_COUNTERS_H

#define PF_COUNTERS(X)                                                                             \
    X(PF_C_PASSED_IN, "passed-in")                                                                 \
    X(PF_C_PASSED_OUT, "passed-out")                                                               \
    X(PF_C_BLOCKED_IN, "blocked-in")                                                               \
    X(PF_C_BLOCKED_OUT, "blocked-out")                                                             \
    X(PF_C_BAD_QUESTION, "bad-question") /* blocked: not a packet at all */                        \
    X(PF_C_QUARANTINED, "quarantined")   /* blocked: killed pf three times */

#define X(name, text) name,
enum pf_counter { PF_COUNTERS(X) PF_COUNTER_MAX };
#undef X

#endif
