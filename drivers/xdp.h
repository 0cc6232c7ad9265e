/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The rings that a driver shares with the kernel (AF_XDP). Producer and consumer indices are 32
 * bits and wrap; a ring has as many entries as the pool has frames, so that none can be full.
 */
#ifndef EFT_DRIVERS_XDP_H
#define EFT_DRIVERS_XDP_H

#include "driver.h"
#include <linux/if_xdp.h>

struct xdp_ring {
    uint32_t *producer, *consumer;
    void *entry; /* FILL, completion: uint64_t addresses; RX, TX: struct xdp_desc */
    uint32_t mask;
};

struct xdp_rings {
    struct xdp_ring fill, completion, rx, tx;
};

/* Continues on these rings: attach() with the rings of a socket, tests with their own. `fd` is -1
 * when there is no kernel to kick. */
void xdp_use_rings(struct driver *d, const struct xdp_rings *rings, int fd);

#endif
