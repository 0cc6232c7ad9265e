/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Copying packet descriptors into and out of slots.
 */
#include "edge/packet.h"

bool packet_copy(struct packet *dst, const void *slot)
{
    const size_t fixed = offsetof(struct packet, hdr);

    memcpy(dst, slot, fixed);
    /* All that follows uses the copy: the slot may change under us. */
    if (dst->hdr_len > PACKET_HEADERS || dst->l3 > dst->hdr_len || dst->l4 > dst->hdr_len ||
        dst->pieces > PACKET_PIECES || dst->csum > CSUM_GOOD)
        return false;
    uint64_t sum = 0;
    for (unsigned i = 0; i < dst->pieces; i++)
        sum += dst->piece[i].len;
    if (sum != dst->payload_len)
        return false;
    memcpy(dst->hdr, (const uint8_t *)slot + fixed, dst->hdr_len);
    return true;
}

void packet_put(void *slot, const struct packet *p)
{
    const size_t skip = sizeof p->head;

    shm_copy((uint8_t *)slot + skip, (const uint8_t *)p + skip, packet_used(p) - skip);
}
