/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The table of edges and tables, and the layout of each server's region. The one place that knows
 * every layout; nothing else computes an offset. See wiring.h.
 */
#include "wiring.h"

#include "chan.h"
#include "drivers/driver.h"
#include "edge/app.h"
#include "edge/driver_ip.h"
#include "edge/frame_return.h"
#include "edge/packet.h"
#include "edge/pf_ip.h"
#include "edge/syscall_ctl.h"
#include "edge/tcp_ip.h"
#include "edge/udp_ip.h"
#include "servers/ip/state.h"
#include "servers/pf/state.h"
#include "servers/syscall/state.h"
#include "servers/tcp/record.h"
#include "servers/udp/state.h"

/* How many slots or elements. */
enum count {
    COUNT_ONE,
    COUNT_PACKETS, /* queue_slots */
    COUNT_QUESTIONS,
    COUNT_FRAMES, /* of the driver concerned */
    COUNT_IP_BUFFERS,
    COUNT_CONTROL,
    COUNT_CHAINS,
    COUNT_UDP_BUFFERS,
    COUNT_CONNS,
    COUNT_INDEX,
    COUNT_APPS,
    COUNT_SOCKS,
    COUNT_PENDING,
};
enum { CONTROL_SLOTS = 256, PENDING_SLOTS = 256, ENTRIES_MAX = 96, OWNER_EVERY = SERVER_KINDS };

static const struct edge_row {
    uint8_t edge, producer, consumer, count;
    uint16_t slot_size;
} edges[] = {
    {EDGE_DRIVER_IP, SERVER_DRIVER, SERVER_IP, COUNT_FRAMES, sizeof(struct driver_rx)},
    {EDGE_IP_DRIVER, SERVER_IP, SERVER_DRIVER, COUNT_PACKETS, sizeof(struct packet)},
    {EDGE_IP_PF, SERVER_IP, SERVER_PF, COUNT_QUESTIONS, sizeof(struct packet)},
    {EDGE_PF_IP, SERVER_PF, SERVER_IP, COUNT_QUESTIONS, sizeof(struct pf_verdict)},
    {EDGE_IP_TCP, SERVER_IP, SERVER_TCP, COUNT_PACKETS, sizeof(struct packet)},
    {EDGE_TCP_IP, SERVER_TCP, SERVER_IP, COUNT_PACKETS, sizeof(struct packet)},
    {EDGE_IP_UDP, SERVER_IP, SERVER_UDP, COUNT_PACKETS, sizeof(struct packet)},
    {EDGE_UDP_IP, SERVER_UDP, SERVER_IP, COUNT_PACKETS, sizeof(struct packet)},
    {EDGE_IP_RETURN, SERVER_IP, SERVER_DRIVER, COUNT_FRAMES, sizeof(struct frame_return)},
    {EDGE_TCP_RETURN, SERVER_TCP, SERVER_DRIVER, COUNT_FRAMES, sizeof(struct frame_return)},
    {EDGE_UDP_RETURN, SERVER_UDP, SERVER_DRIVER, COUNT_FRAMES, sizeof(struct frame_return)},
    {EDGE_TCP_RETURN, SERVER_TCP, SERVER_IP, COUNT_IP_BUFFERS, sizeof(struct frame_return)},
    {EDGE_UDP_RETURN, SERVER_UDP, SERVER_IP, COUNT_IP_BUFFERS, sizeof(struct frame_return)},
    {EDGE_SYSCALL_TCP, SERVER_SYSCALL, SERVER_TCP, COUNT_CONTROL, sizeof(struct syscall_request)},
    {EDGE_TCP_SYSCALL, SERVER_TCP, SERVER_SYSCALL, COUNT_CONTROL, sizeof(struct syscall_reply)},
    {EDGE_SYSCALL_UDP, SERVER_SYSCALL, SERVER_UDP, COUNT_CONTROL, sizeof(struct syscall_request)},
    {EDGE_UDP_SYSCALL, SERVER_UDP, SERVER_SYSCALL, COUNT_CONTROL, sizeof(struct syscall_reply)},
};
enum { EDGE_ROWS = sizeof edges / sizeof edges[0] };

static const struct table_row {
    uint8_t table, owner, reader, count;
    uint32_t size; /* 0: frame_size of the driver concerned */
} tables[] = {
    {TABLE_TCP_CHAINS, SERVER_TCP, SERVER_IP, COUNT_CHAINS, sizeof(struct tcp_chain)},
    {TABLE_TCP_CHAIN_DONE, SERVER_IP, SERVER_TCP, COUNT_CHAINS, sizeof(uint32_t)},
    {TABLE_UDP_BUFFERS, SERVER_UDP, SERVER_IP, COUNT_UDP_BUFFERS, sizeof(struct udp_buffer)},
    {TABLE_UDP_BUFFER_DONE, SERVER_IP, SERVER_UDP, COUNT_UDP_BUFFERS, sizeof(uint32_t)},
    {TABLE_UDP_POOL, SERVER_UDP, SERVER_DRIVER, COUNT_UDP_BUFFERS, UDP_BUFFER_SIZE},
    {TABLE_IP_POOL, SERVER_IP, SERVER_DRIVER, COUNT_IP_BUFFERS, IP_BUFFER_SIZE},
    {TABLE_IP_PENDING, SERVER_IP, SERVER_IP, COUNT_PENDING, sizeof(struct ip_pending)},
    {TABLE_IP_STATE, SERVER_IP, SERVER_IP, COUNT_ONE, sizeof(struct ip_state)},
    {TABLE_TCP_CONNS, SERVER_TCP, SERVER_TCP, COUNT_CONNS, sizeof(struct tcp_conn_shm)},
    {TABLE_TCP_OOO, SERVER_TCP, SERVER_TCP, COUNT_CONNS, sizeof(struct tcp_ooo_shm)},
    {TABLE_TCP_INDEX, SERVER_TCP, SERVER_TCP, COUNT_INDEX, sizeof(struct tcp_index_entry)},
    {TABLE_TCP_STATE, SERVER_TCP, SERVER_TCP, COUNT_ONE, sizeof(struct tcp_state_shm)},
    {TABLE_TCP_APPS, SERVER_TCP, SERVER_TCP, COUNT_APPS, sizeof(struct tcp_app_shm)},
    {TABLE_TCP_FORENSIC, SERVER_TCP, SERVER_TCP, COUNT_ONE, sizeof(struct tcp_forensic)},
    {TABLE_UDP_SOCKS, SERVER_UDP, SERVER_UDP, COUNT_SOCKS, sizeof(struct udp_sock_shm)},
    {TABLE_UDP_APPS, SERVER_UDP, SERVER_UDP, COUNT_APPS, sizeof(struct udp_app_shm)},
    {TABLE_DRIVER_FRAMES, SERVER_DRIVER, SERVER_DRIVER, COUNT_FRAMES, sizeof(struct driver_frame)},
    {TABLE_DRIVER_POOL, SERVER_DRIVER, SERVER_IP, COUNT_FRAMES, 0},
    {TABLE_DRIVER_STATE, SERVER_DRIVER, SERVER_DRIVER, COUNT_ONE, sizeof(struct driver_state)},
    {TABLE_PF_STATE, SERVER_PF, SERVER_PF, COUNT_ONE, sizeof(struct pf_state)},
    {TABLE_SYSCALL_STATE, SERVER_SYSCALL, SERVER_SYSCALL, COUNT_ONE, sizeof(struct syscall_state)},
    {TABLE_QUARANTINE, OWNER_EVERY, OWNER_EVERY, COUNT_ONE, sizeof(struct quarantine)},
};
enum { TABLE_ROWS = sizeof tables / sizeof tables[0] };

const char *edge_name(enum edge e)
{
    static const char *const names[EDGES] = {
        [EDGE_NONE] = "none",
        [EDGE_DRIVER_IP] = "driver-ip",
        [EDGE_IP_DRIVER] = "ip-driver",
        [EDGE_IP_PF] = "ip-pf",
        [EDGE_PF_IP] = "pf-ip",
        [EDGE_IP_TCP] = "ip-tcp",
        [EDGE_TCP_IP] = "tcp-ip",
        [EDGE_IP_UDP] = "ip-udp",
        [EDGE_UDP_IP] = "udp-ip",
        [EDGE_IP_RETURN] = "ip-return",
        [EDGE_TCP_RETURN] = "tcp-return",
        [EDGE_UDP_RETURN] = "udp-return",
        [EDGE_SYSCALL_TCP] = "syscall-tcp",
        [EDGE_TCP_SYSCALL] = "tcp-syscall",
        [EDGE_SYSCALL_UDP] = "syscall-udp",
        [EDGE_UDP_SYSCALL] = "udp-syscall",
    };
    return (unsigned)e < EDGES ? names[e] : "?";
}

uint32_t edge_slot_size(enum edge e)
{
    for (unsigned i = 0; i < EDGE_ROWS; i++)
        if (edges[i].edge == e)
            return edges[i].slot_size;
    return 0;
}

static uint64_t power_of_two(uint64_t v)
{
    uint64_t p = 1;

    while (p < v)
        p <<= 1;
    return p;
}

static uint64_t count_of(const struct stack_config *cfg, enum count count, unsigned driver)
{
    switch (count) {
    case COUNT_ONE:
        return 1;
    case COUNT_PACKETS:
        return power_of_two(cfg->queue_slots);
    case COUNT_QUESTIONS: /* both directions wait in it */
        return power_of_two(cfg->queue_slots) * 2;
    case COUNT_FRAMES:
        return power_of_two(cfg->interface[driver].frames);
    case COUNT_IP_BUFFERS:
        return power_of_two(cfg->ip_buffers);
    case COUNT_CONTROL:
        return CONTROL_SLOTS;
    case COUNT_CHAINS:
        return power_of_two(cfg->tcp_chains);
    case COUNT_UDP_BUFFERS:
        return power_of_two(cfg->udp_buffers);
    case COUNT_CONNS:
        return cfg->tcp_connections;
    case COUNT_INDEX: /* a table of twice as many, and all smaller ones */
        return power_of_two(4ull * cfg->tcp_connections);
    case COUNT_APPS:
        return APPS_MAX;
    case COUNT_SOCKS:
        return cfg->udp_sockets;
    case COUNT_PENDING:
        return PENDING_SLOTS;
    }
    return 0;
}

unsigned wiring_servers(const struct stack_config *cfg, server_id *ids, unsigned max)
{
    static const uint8_t after_drivers[] = {SERVER_IP, SERVER_PF, SERVER_TCP, SERVER_UDP,
                                            SERVER_SYSCALL};
    unsigned n = 0;

    for (unsigned i = 0; i < cfg->interfaces && n < max; i++)
        ids[n++] = SERVER_ID(SERVER_DRIVER, i);
    for (unsigned i = 0; i < sizeof after_drivers && n < max; i++)
        ids[n++] = SERVER_ID(after_drivers[i], 0);
    return n;
}

static unsigned instances(const struct stack_config *cfg, enum server_kind kind)
{
    return kind == SERVER_DRIVER ? cfg->interfaces : 1;
}

/* Gives every entry of `id` its place; returns the size of the region. */
static uint64_t layout(const struct stack_config *cfg, server_id id, struct wiring_entry *entry,
                       unsigned *count)
{
    const enum server_kind kind = SERVER_ID_KIND(id);
    unsigned n = 0;

    for (unsigned i = 0; i < EDGE_ROWS; i++) {
        const struct edge_row *row = &edges[i];
        const bool out = row->producer == kind;

        if (!out && row->consumer != kind)
            continue;
        const enum server_kind other = out ? row->consumer : row->producer;
        for (unsigned peer = 0; peer < instances(cfg, other) && n < ENTRIES_MAX; peer++) {
            const unsigned driver = kind == SERVER_DRIVER ? SERVER_ID_INSTANCE(id) : peer;

            entry[n++] = (struct wiring_entry){
                .role = out ? WIRING_OUT : WIRING_IN,
                .what = row->edge,
                .peer = SERVER_ID(other, peer),
                .size = row->slot_size,
                .count = count_of(cfg, row->count, driver),
            };
        }
    }
    for (unsigned i = 0; i < TABLE_ROWS && n < ENTRIES_MAX; i++) {
        const struct table_row *row = &tables[i];

        if (row->owner != kind && row->owner != OWNER_EVERY)
            continue;
        const unsigned driver = kind == SERVER_DRIVER ? SERVER_ID_INSTANCE(id) : 0;
        entry[n++] = (struct wiring_entry){
            .role = WIRING_TABLE,
            .what = row->table,
            .size = row->size != 0 ? row->size : cfg->interface[driver].frame_size,
            .count = count_of(cfg, row->count, driver),
        };
    }
    *count = n;

    uint64_t off = sizeof(struct region_header) + n * sizeof(struct wiring_entry);
    off = (off + CACHE_LINE - 1) & ~(uint64_t)(CACHE_LINE - 1);
    off += sizeof(struct server_block);
    for (unsigned i = 0; i < n; i++) {
        struct wiring_entry *e = &entry[i];
        /* Heads and tables begin on a line, big tables and what is registered with a device on a
         * page. */
        const bool page =
            e->role == WIRING_TABLE && (e->size >= APP_PAGE || e->what == TABLE_DRIVER_POOL ||
                                        e->what == TABLE_TCP_INDEX || e->what == TABLE_TCP_OOO);
        const uint64_t align = page ? APP_PAGE : CACHE_LINE;

        off = (off + align - 1) & ~(align - 1);
        e->off = off;
        if (e->role == WIRING_OUT)
            off += sizeof(struct chan_out) + e->count * e->size;
        else if (e->role == WIRING_IN)
            off += sizeof(struct chan_in);
        else
            off += e->count * e->size;
    }
    return (off + APP_PAGE - 1) & ~(uint64_t)(APP_PAGE - 1);
}

uint64_t wiring_region_size(const struct stack_config *cfg, server_id id)
{
    struct wiring_entry entry[ENTRIES_MAX];
    unsigned n;

    return layout(cfg, id, entry, &n);
}

void wiring_format(void *base, const struct stack_config *cfg, server_id id, uint32_t generation)
{
    struct wiring_entry entry[ENTRIES_MAX];
    unsigned n;
    const uint64_t size = layout(cfg, id, entry, &n);

    memcpy((uint8_t *)base + sizeof(struct region_header), entry, n * sizeof entry[0]);
    region_format(base, REGION_OF_SERVER(id), id, size, generation, n);
}

/* Where the server block is: behind the directory. */
static uint64_t block_offset(uint32_t dir_count)
{
    const uint64_t off =
        sizeof(struct region_header) + (uint64_t)dir_count * sizeof(struct wiring_entry);

    return (off + CACHE_LINE - 1) & ~(uint64_t)(CACHE_LINE - 1);
}

/* The directory is written by rs before the region is handed out, but its owner could have
 * overwritten it since: the checks use a copy. The entry that is returned is in shared memory; its
 * users read it once, at attach. */
static bool valid(const struct region *r, const struct wiring_entry *e)
{
    uint64_t bytes;

    if (e->off > r->size || e->off % CACHE_LINE != 0 || e->size == 0)
        return false;
    switch (e->role) {
    case WIRING_OUT:
    case WIRING_IN:
        if (e->what >= EDGES || e->size != edge_slot_size(e->what) || e->count == 0 ||
            (e->count & (e->count - 1)) != 0)
            return false;
        if (e->role == WIRING_IN)
            return r->size - e->off >= sizeof(struct chan_in);
        if (__builtin_mul_overflow(e->count, (uint64_t)e->size, &bytes))
            return false;
        return bytes <= r->size && r->size - e->off >= bytes + sizeof(struct chan_out);
    case WIRING_TABLE:
        if (__builtin_mul_overflow(e->count, (uint64_t)e->size, &bytes))
            return false;
        return bytes <= r->size - e->off;
    default:
        return false;
    }
}

const struct wiring_entry *wiring_find(const struct region *r, enum wiring_role role, unsigned what,
                                       server_id peer)
{
    if (r->base == NULL)
        return NULL;
    const struct region_header *h = (const struct region_header *)r->base;
    const struct wiring_entry *dir = (const struct wiring_entry *)(h + 1);
    const uint32_t n = h->dir_count;

    if (n > ENTRIES_MAX || sizeof *h + n * sizeof *dir > r->size)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        const struct wiring_entry e = dir[i];

        if (e.role == role && e.what == what && (role == WIRING_TABLE || e.peer == peer))
            return valid(r, &e) ? &dir[i] : NULL;
    }
    return NULL;
}

bool wiring_read(const struct region *r, enum wiring_role role, unsigned what, server_id peer,
                 struct wiring_entry *copy)
{
    const struct wiring_entry *e = wiring_find(r, role, what, peer);

    if (e == NULL)
        return false;
    *copy = *e;
    compiler_barrier();
    return copy->role == role && copy->what == what && valid(r, copy);
}

struct server_block *wiring_block(const struct region *r)
{
    if (r->base == NULL)
        return NULL;
    const struct region_header *h = (const struct region_header *)r->base;
    const uint32_t n = load_relaxed(&h->dir_count); /* once: a neighbour's may change under us */
    const uint64_t off = block_offset(n);

    if (n > ENTRIES_MAX || off + sizeof(struct server_block) > r->size)
        return NULL;
    return (struct server_block *)(r->base + off);
}

void *wiring_table(const struct region *r, enum wiring_table table, uint64_t *count)
{
    struct wiring_entry e;

    if (!wiring_read(r, WIRING_TABLE, table, 0, &e))
        return NULL;
    for (unsigned i = 0; i < TABLE_ROWS; i++)
        if (tables[i].table == table && tables[i].size != 0 && tables[i].size != e.size)
            return NULL;
    if (count != NULL)
        *count = e.count;
    return r->base + e.off;
}

int wiring_may_map(server_id reader, region_id id)
{
    const enum server_kind kind = SERVER_ID_KIND(reader);

    if (id == REGION_CONFIG)
        return 1;
    if (id >= REGION_APP_FIRST) {
        const bool driver = kind == SERVER_DRIVER, tcp = kind == SERVER_TCP,
                   udp = kind == SERVER_UDP;

        switch (REGION_APP_KIND(id)) {
        case APP_UP: /* tcp and udp read counters and requests, drivers gather */
            return driver || tcp || udp ? 1 : 0;
        case APP_DOWN_TCP:
            return tcp ? 2 : 0;
        case APP_DOWN_UDP:
            return udp ? 2 : 0;
        case APP_DOWN_CTL:
            return kind == SERVER_SYSCALL ? 2 : 0;
        }
        return 0;
    }
    if (id >= 256)
        return id == REGION_PUBLIC(reader) && (kind == SERVER_TCP || kind == SERVER_UDP) ? 2 : 0;
    if (id == REGION_NONE)
        return 0;

    const server_id owner = (server_id)(id - 1);
    if (owner == reader)
        return 2;
    if (SERVER_ID_KIND(owner) == SERVER_RS)
        return 1; /* its page, which all read */
    /* A server reads the regions of those with whom it shares an edge, and the drivers' pools where
     * payload comes from or goes to. */
    const enum server_kind other = SERVER_ID_KIND(owner);
    for (unsigned i = 0; i < EDGE_ROWS; i++)
        if ((edges[i].producer == kind && edges[i].consumer == other) ||
            (edges[i].consumer == kind && edges[i].producer == other))
            return 1;
    return 0;
}
