/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip -> tcp: received segments and ICMP errors about ours: struct packet.
 * hdr holds the IP and the TCP header; for IPv4 l4 is behind the options. The payload is one piece
 * in a driver's pool, or in IP's pool when it was reassembled (origin says whose: frames of a
 * driver go back over EDGE_TCP_RETURN to that driver, buffers of IP over EDGE_TCP_RETURN to ip).
 * ICMP errors: icmp_type is set, hdr holds the quoted packet from its IP header on, no pieces.
 * When full: IP keeps the verdict unconsumed and waits.
 */
#ifndef EFT_EDGE_IP_TCP_H
#define EFT_EDGE_IP_TCP_H

#include "packet.h"

#endif
