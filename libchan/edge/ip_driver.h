/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip -> driver: frames to send: struct packet with the Ethernet header at hdr[0].
 * The driver gathers hdr and the pieces; its head passes a slot only when the kernel has copied the
 * bytes or DMA is done, so that the head is the completion. csum and gso_size ask for offload;
 * what the device cannot do, the driver does.
 * When full: IP keeps the verdict unconsumed and waits (want).
 */
#ifndef EFT_EDGE_IP_DRIVER_H
#define EFT_EDGE_IP_DRIVER_H

#include "packet.h"

#endif
