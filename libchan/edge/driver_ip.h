/* SPDX-License-Identifier: BSD-2-Clause
 *
 * driver -> ip: received frames.
 * When full: the driver stops reading; the kernel's queue holds what comes.
 */
#ifndef EFT_EDGE_DRIVER_IP_H
#define EFT_EDGE_DRIVER_IP_H

#include "../chan.h"

struct driver_rx {
    struct slot_head head;
    uint32_t frame;      /* number in the driver's pool */
    uint32_t generation; /* of this use of the frame; the return names it */
    uint32_t off;        /* of the Ethernet header, from the start of the pool's frame; bytes */
    uint32_t len;        /* of the Ethernet frame; bytes */
    uint16_t gso_size;   /* merged segments: payload size of each; 0: one */
    uint8_t csum;        /* enum packet_csum */
    uint8_t reserved[5];
    uint64_t stamp_ns;
    uint8_t reserved1[16];
};
_Static_assert(sizeof(struct driver_rx) == 64, "driver_rx");

#endif
