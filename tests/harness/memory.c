/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See memory.h.
 */
#include "memory.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/mman.h>

void memory_config(struct stack_config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    strcpy(cfg->name, "test");
    cfg->interfaces = 1;
    cfg->interface[0] = (struct config_interface){
        .device = "eft0",
        .driver = DRIVER_TAP,
        .prefix = 24,
        .mac = {2, 0, 0, 0, 0, 2},
        .mtu = 1500,
        .frames = 64,
        .frame_size = 4096,
        .addr = ip_addr_v4(htonl(0x0a000002)),
    };
    cfg->routes = 2;
    cfg->route[0] =
        (struct config_route){.dst = ip_addr_v4(htonl(0x0a000000)), .prefix = 24, .interface = 0};
    cfg->route[1] = (struct config_route){
        .dst = ip_addr_v4(0), .gateway = ip_addr_v4(htonl(0x0a000001)), .interface = 0};
    memset(cfg->cpu, 0xff, sizeof cfg->cpu);
    cfg->queue_slots = 64;
    cfg->tcp_connections = 64;
    cfg->tcp_chains = 256;
    cfg->udp_sockets = 64;
    cfg->udp_buffers = 16;
    cfg->ip_buffers = 16;
    cfg->app_tcp_slots = 64;
    cfg->app_udp_slots = 16;
    cfg->app_up_size = 64 << 20;
    cfg->app_down_tcp_size = 64 << 20;
    cfg->app_down_udp_size = 16 << 20;
    config_tcp_defaults(cfg);
    cfg->tcp_sndbuf = cfg->tcp_rcvbuf = 65536;
    cfg->tcp_autotune = 0; /* who wants it says so */
    cfg->udp_sndbuf = cfg->udp_rcvbuf = 65536;
    cfg->port_first = 32768;
    cfg->port_last = 60999;
    for (unsigned i = 0; i < sizeof cfg->secret; i++)
        cfg->secret[i] = (uint8_t)(i * 37 + 11);
}

static void *create(struct region_map *map, region_id id, uint64_t size, uint32_t generation)
{
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (base == MAP_FAILED)
        abort();
    map->entry[id] = (struct region){
        .base = base, .size = size, .generation = generation, .id = id, .writable = true};
    return base;
}

void memory_create(struct region_map *map, const struct stack_config *cfg)
{
    server_id ids[SERVER_KINDS + SERVER_INSTANCES];
    const unsigned n = wiring_servers(cfg, ids, sizeof ids / sizeof ids[0]);
    const uint64_t config_size = (sizeof *cfg + APP_PAGE - 1) & ~(uint64_t)(APP_PAGE - 1);

    memset(map, 0, sizeof *map);
    memcpy(create(map, REGION_CONFIG, config_size, 1), cfg, sizeof *cfg);
    region_format(map->entry[REGION_CONFIG].base, REGION_CONFIG, SERVER_RS, config_size, 1, 0);
    for (unsigned i = 0; i < n; i++) {
        const uint64_t size = wiring_region_size(cfg, ids[i]);

        wiring_format(create(map, REGION_OF_SERVER(ids[i]), size, 1), cfg, ids[i], 1);
        region_format(create(map, REGION_PUBLIC(ids[i]), APP_PAGE, 1), REGION_PUBLIC(ids[i]),
                      ids[i], APP_PAGE, 1, 0);
    }
}

void memory_add_app(struct region_map *map, const struct stack_config *cfg, unsigned app,
                    uint32_t generation)
{
    const struct {
        enum app_region kind;
        server_id owner;
        uint64_t size;
    } regions[] = {
        {APP_UP, SERVER_ID(SERVER_RS, 0), cfg->app_up_size},
        {APP_DOWN_TCP, SERVER_ID(SERVER_TCP, 0), cfg->app_down_tcp_size},
        {APP_DOWN_UDP, SERVER_ID(SERVER_UDP, 0), cfg->app_down_udp_size},
        {APP_DOWN_CTL, SERVER_ID(SERVER_SYSCALL, 0), APP_PAGE},
    };

    for (unsigned i = 0; i < sizeof regions / sizeof regions[0]; i++) {
        const region_id id = REGION_OF_APP(app, regions[i].kind);

        region_format(create(map, id, regions[i].size, generation), id, regions[i].owner,
                      regions[i].size, generation, 0);
    }
}

void memory_destroy(struct region_map *map)
{
    for (unsigned i = 0; i < REGION_IDS; i++)
        region_unmap(&map->entry[i]);
}
