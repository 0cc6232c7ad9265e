/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Where things are in an application's regions; one function for everybody who needs to know.
 */
#include "edge/app.h"
#include "config.h"

static uint64_t align(uint64_t v, uint64_t to)
{
    return (v + to - 1) / to * to;
}

void app_layout(struct app_layout *l, const struct stack_config *cfg)
{
    *l = (struct app_layout){.n_tcp = cfg->app_tcp_slots, .n_udp = cfg->app_udp_slots};

    l->up_tcp_slots = align(sizeof(struct up_region), APP_PAGE);
    l->up_udp_slots = l->up_tcp_slots + align(l->n_tcp * sizeof(struct up_slot), APP_PAGE);
    l->up_tcp_blocks = align(l->up_udp_slots + l->n_udp * sizeof(struct up_slot), APP_PAGE);
    l->up_end = cfg->app_up_size;
    /* A quarter of the blocks is for datagrams. */
    l->up_udp_blocks = align(l->up_tcp_blocks + (l->up_end - l->up_tcp_blocks) / 4 * 3, APP_PAGE);

    l->down_tcp_slots = align(sizeof(struct down_region), APP_PAGE);
    l->down_tcp_info = align(l->down_tcp_slots + l->n_tcp * sizeof(struct down_slot), APP_PAGE);
    l->down_tcp_blocks = align(l->down_tcp_info + l->n_tcp * sizeof(struct sock_info), APP_PAGE);
    l->down_tcp_end = cfg->app_down_tcp_size;

    l->down_udp_slots = align(sizeof(struct down_region), APP_PAGE);
    l->down_udp_blocks = align(l->down_udp_slots + l->n_udp * sizeof(struct down_slot), APP_PAGE);
    l->down_udp_end = cfg->app_down_udp_size;
}
