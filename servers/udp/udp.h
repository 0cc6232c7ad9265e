/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The UDP server (RFC 768, RFC 8085) as a component. servers/udp/internal.h is the inside.
 *
 * A restart keeps: sockets with their addresses and options, datagrams in the rings of both
 * directions, requests, privileged ports that were granted. It loses: nothing that an application
 * could see. A datagram from the network is delivered at most once and is not lost by a crash; one
 * from an application is sent exactly once to IP. Not promised: that a datagram which arrives when
 * its ring is full is kept (it is dropped and counted), nor that ICMP errors about a datagram which
 * was sent twice by the network are told apart.
 */
#ifndef EFT_UDP_UDP_H
#define EFT_UDP_UDP_H

#include "counters.h"
#include "servers/run/component.h"

extern const struct component_ops udp_ops;

#endif
