/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What pf shows of itself (TABLE_PF_STATE, one element): counters per rule, for `eft status`. They
 * are statistics: a packet that was judged at the instant of a crash may be missing in them.
 */
#ifndef EFT_SERVERS_PF_STATE_H
#define EFT_SERVERS_PF_STATE_H

#include "libchan/config.h"

struct pf_rule_count {
    uint64_t packets, bytes;
};

struct pf_state {
    uint64_t rules_generation; /* of the rules that the counters are about */
    uint64_t reserved[7];
    struct pf_rule_count rule[CONFIG_RULES + 1]; /* the last one: no rule matched */
};

#endif
