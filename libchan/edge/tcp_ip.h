/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tcp -> ip: segments to send: struct packet, transport header only (l4 = 0), src and dst set, the
 * checksum field holding the pseudo-header sum (CSUM_PARTIAL). Pieces lie in the up region of the
 * application. A segment without payload has chain TCP_NO_CHAIN.
 * When full: TCP sends later; nothing is lost, as everything can be built again.
 */
#ifndef EFT_EDGE_TCP_IP_H
#define EFT_EDGE_TCP_IP_H

#include "packet.h"

enum { TCP_NO_CHAIN = 0xffffffff };

/* TABLE_TCP_CHAINS, in TCP's region: which bytes of which connection a chain refers to. A chain is
 * free again when TABLE_TCP_CHAIN_DONE[chain] (in IP's region) equals its generation. Send space is
 * given back to the application only below the start of every chain that is not done. */
struct tcp_chain {
    uint32_t generation; /* raised before each use; stored last */
    uint32_t conn;
    uint64_t start;       /* relative offset of its first byte in the send stream */
    uint64_t snd_max;     /* of the connection before it: published, if this one never was */
    uint64_t queue_index; /* slot of the queue to ip that names it; never published: not in use */
};
_Static_assert(sizeof(struct tcp_chain) == 32, "tcp_chain");

#endif
