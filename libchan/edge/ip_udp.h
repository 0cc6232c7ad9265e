/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip -> udp: received datagrams and ICMP errors about ours: struct packet, as in ip_tcp.h.
 * When full: IP drops and counts.
 */
#ifndef EFT_EDGE_IP_UDP_H
#define EFT_EDGE_IP_UDP_H

#include "packet.h"

#endif
