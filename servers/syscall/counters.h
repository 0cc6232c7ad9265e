/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What syscall counts. Position in server_block.counter = value of the enum.
 */
#ifndef EFT_SYSCALL_COUNTERS_H
#define EFT_SYSCALL_COUNTERS_H

#define SYSCALL_COUNTER_LIST(X)                                                                    \
    X(SYSCALL_ACCEPTED, "accepted")                                                                \
    X(SYSCALL_ATTACHED, "attached") /* clients that rs sent */                                     \
    X(SYSCALL_REQUESTS, "requests") /* well-formed messages */                                     \
    X(SYSCALL_GARBAGE, "garbage")   /* messages of another size, version, or meaning */            \
    X(SYSCALL_REFUSED, "refused")   /* not allowed */                                              \
    X(SYSCALL_GRANTS, "grants")     /* privileged ports asked of tcp and udp */                    \
    X(SYSCALL_REPLIES, "replies")   /* sent by us (rs sends those with descriptors itself) */      \
    X(SYSCALL_DROPPED,                                                                             \
      "dropped") /* clients dropped: did not read, too much garbage, or too many waiting */        \
    X(SYSCALL_LOST_REPLY, "lost_reply")   /* answers for clients that are gone */                  \
    X(SYSCALL_QUARANTINED, "quarantined") /* refused: brought us down again and again */           \
    X(SYSCALL_CLIENTS, "clients")         /* gauge: connections */

#define X(id, name) id,
enum syscall_counter { SYSCALL_COUNTER_LIST(X) SYSCALL_COUNTERS };
#undef X

#endif
