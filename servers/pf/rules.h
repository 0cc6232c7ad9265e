/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The rules of the packet filter. Pure and stateless: the verdict is a function of the rules and
 * of one packet's headers.
 */
#ifndef EFT_SERVERS_PF_RULES_H
#define EFT_SERVERS_PF_RULES_H

#include "libchan/config.h"
#include "libchan/edge/packet.h"

/* What rules look at. */
struct rule_subject {
    uint8_t direction; /* RULE_IN or RULE_OUT */
    uint8_t interface, protocol;
    bool ports; /* the two below are valid: TCP and UDP */
    uint16_t src_port, dst_port;
    struct ip_addr src, dst;
};

enum { RULE_NONE = 65535 };

/* Reads the subject out of the headers in `p`, which is a checked copy. False: the headers do not
 * hold together, and such a packet never passes. */
bool rules_subject(struct rule_subject *s, const struct packet *p);
/* First match wins, no match passes. *rule: position of the rule that decided, or RULE_NONE. */
enum rule_action rules_match(const struct stack_config *cfg, const struct rule_subject *s,
                             uint16_t *rule);

#endif
