/* SPDX-License-Identifier: BSD-2-Clause
 *
 * udp -> ip: datagrams to send: struct packet, UDP header in hdr (l4 = 0), payload one piece in
 * TABLE_UDP_POOL (buffer `chain`), src may be any (IP chooses), CSUM_PARTIAL with the pseudo-header
 * sum when src is set, else the field is 0 and IP fills it in. Replies by UDP to a datagram for
 * which nobody listens: UDP_UNREACHABLE in flags, hdr holds the offending packet from its IP header
 * on. IP fragments what is larger than the MTU. When full: the datagram stays in the application's
 * ring.
 */
#ifndef EFT_EDGE_UDP_IP_H
#define EFT_EDGE_UDP_IP_H

#include "packet.h"

enum { UDP_BUFFER_SIZE = 65536, PACKET_UNREACHABLE = 4 /* packet.flags */ };

/* TABLE_UDP_BUFFERS: generation of the use of each buffer of the pool; free when
 * TABLE_UDP_BUFFER_DONE[buffer] in IP's region equals it. */
struct udp_buffer {
    uint32_t generation;
    uint32_t sock;
    uint64_t end; /* offset in the application's send ring behind this datagram */
};
_Static_assert(sizeof(struct udp_buffer) == 16, "udp_buffer");

#endif
