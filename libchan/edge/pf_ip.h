/* SPDX-License-Identifier: BSD-2-Clause
 *
 * pf -> ip: verdicts, in the order of the questions: verdict i answers question i (head.src_index).
 * When full: pf keeps the question. (It cannot be: same capacity.)
 */
#ifndef EFT_EDGE_PF_IP_H
#define EFT_EDGE_PF_IP_H

#include "../chan.h"

struct pf_verdict {
    struct slot_head head;
    uint32_t rules_generation; /* of the rules that were applied */
    uint16_t rule;             /* position of the rule that decided; 65535: none */
    uint8_t verdict;           /* enum rule_action */
    uint8_t reserved[9];
};
_Static_assert(sizeof(struct pf_verdict) == 32, "pf_verdict");

#endif
