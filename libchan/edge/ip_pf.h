/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip -> pf: questions: struct packet. For direction RULE_OUT the IP header is complete and an
 * Ethernet header is not yet there (l3 = 14, bytes below undefined).
 * The slot is also IP's held-list: it stays until IP has consumed the verdict with the same index.
 * When full: IP leaves its inputs where they are.
 */
#ifndef EFT_EDGE_IP_PF_H
#define EFT_EDGE_IP_PF_H

#include "packet.h"

#endif
