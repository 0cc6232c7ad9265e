/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ip, tcp, udp -> driver: a frame is free again. Idempotent: the driver takes a return whose
 * generation is that of the frame's present use, and counts any other.
 * The queue has as many slots as there are frames and cannot be full unless its owner is broken.
 */
#ifndef EFT_EDGE_FRAME_RETURN_H
#define EFT_EDGE_FRAME_RETURN_H

#include "../chan.h"

struct frame_return {
    struct slot_head head;
    uint32_t frame;
    uint32_t generation;
    uint8_t reserved[8];
};
_Static_assert(sizeof(struct frame_return) == 32, "frame_return");

#endif
