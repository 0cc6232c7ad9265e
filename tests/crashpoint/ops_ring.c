/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rings that move to larger blocks while they are in use.
 */
#include "play.h"

static void grow(struct stack_config *cfg)
{
    cfg->tcp_sndbuf = cfg->tcp_rcvbuf = 4096;
    cfg->tcp_wmem_max = cfg->tcp_rmem_max = 65536;
    cfg->tcp_autotune = 1;
}

static void grow_offload(struct stack_config *cfg)
{
    grow(cfg);
    cfg->interface[0].offload = 1;
    cfg->interface[0].frame_size = 65536;
}

static const struct op table[] = {
    {.name = "grow the receive ring",
     .peer_sends = 50000,
     .adjust = grow,
     .counts = TCP_C_RINGS_GROWN},
    {.name = "grow the receive ring out of order",
     .peer_sends = 50000,
     .adjust = grow,
     .counts = TCP_C_RINGS_GROWN,
     .faults = {.swap_every = 3, .lose_every = 11}},
    {.name = "grow the send ring",
     .victim_sends = 50000,
     .victim_connects = true,
     .adjust = grow,
     .counts = TCP_C_RINGS_GROWN},
    {.name = "grow the send ring while losing",
     .victim_sends = 50000,
     .adjust = grow_offload,
     .counts = TCP_C_RINGS_GROWN,
     .faults = {.lose_every = 9}},
    {.name = "inherit rings that grow",
     .heir = true,
     .step = inherit_step,
     .victim_sends = 30000,
     .peer_sends = 30000,
     .adjust = grow,
     .counts = TCP_C_RINGS_GROWN},
};

const struct op_group ops_ring = {table, sizeof table / sizeof table[0]};
