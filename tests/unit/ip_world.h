/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A stack of which only ip and pf are real: their regions lie in ordinary memory, the driver, tcp
 * and udp are queue ends in the hands of the test. Time is a variable. Used by the tests of ip and
 * by the fuzzers.
 */
#ifndef EFT_TESTS_IP_WORLD_H
#define EFT_TESTS_IP_WORLD_H

#include "libchan/edge/driver_ip.h"
#include "libchan/edge/frame_return.h"
#include "libchan/edge/ip_driver.h"
#include "libchan/edge/ip_tcp.h"
#include "libchan/edge/ip_udp.h"
#include "libchan/edge/pf_ip.h"
#include "libchan/edge/tcp_ip.h"
#include "libchan/edge/udp_ip.h"
#include "servers/ip/counters.h"
#include "servers/ip/ip.h"
#include "servers/ip/state.h"
#include "servers/pf/pf.h"
#include "servers/wire/arp.h"
#include "servers/wire/checksum.h"
#include "servers/wire/eth.h"
#include "servers/wire/icmp.h"
#include "servers/wire/ipv4.h"
#include "servers/wire/udp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { WORLD_PORTS = 2, WORLD_FRAME = 2048 };
#define WORLD_SECOND 1000000000ull

#define DRIVER(i) SERVER_ID(SERVER_DRIVER, i)
#define IP        SERVER_ID(SERVER_IP, 0)
#define PF        SERVER_ID(SERVER_PF, 0)
#define TCP       SERVER_ID(SERVER_TCP, 0)
#define UDP       SERVER_ID(SERVER_UDP, 0)

struct world_end { /* the driver's side of one port, or tcp, or udp */
    struct chan_tx to_ip, ret;
    struct chan_rx from_ip, returned;
};

struct world {
    struct stack_config cfg;
    struct region_map map;
    void *mem[8];
    uint64_t mem_size[8];
    struct component *ip, *pf;
    struct world_end driver[WORLD_PORTS], tcp, udp;
    uint64_t now;
    uint32_t frame_next[WORLD_PORTS], frame_generation;
};

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 3};

/* An address in network order; a constant expression. */
#define ipv4_of(a, b, c, d)                                                                        \
    __builtin_bswap32((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 |             \
                      (uint32_t)(d))
#define OURS  ipv4_of(10, 0, 0, 1)
#define PEER  ipv4_of(10, 0, 0, 2)
#define OTHER ipv4_of(10, 0, 0, 3)
#define GHOST ipv4_of(10, 0, 0, 99) /* nobody answers for it */

__attribute__((format(printf, 3, 4))) static inline void
world_log(struct component *c, int priority, const char *fmt, ...)
{
    va_list ap;

    (void)c, (void)priority;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static inline void world_config(struct stack_config *cfg)
{
    *cfg = (struct stack_config){
        .interfaces = WORLD_PORTS,
        .routes = 3,
        .rules_generation = 1,
        .queue_slots = 128,
        .tcp_connections = 16,
        .tcp_chains = 128,
        .udp_sockets = 16,
        .udp_buffers = 16,
        .ip_buffers = 16,
        .app_tcp_slots = 16,
        .app_udp_slots = 16,
    };
    for (unsigned i = 0; i < WORLD_PORTS; i++) {
        struct config_interface *f = &cfg->interface[i];

        f->prefix = 24;
        f->mtu = 1500;
        f->frames = 128;
        f->frame_size = WORLD_FRAME;
        f->addr = ip_addr_v4(ipv4_of(10, 0, i, 1));
        memcpy(f->mac, our_mac, 6);
        cfg->route[i] = (struct config_route){
            .dst = ip_addr_v4(ipv4_of(10, 0, i, 0)), .prefix = 24, .interface = (uint8_t)i};
    }
    cfg->route[2] = (struct config_route){.dst = ip_addr_v4(0), .gateway = ip_addr_v4(PEER)};
    for (unsigned i = 0; i < sizeof cfg->secret; i++)
        cfg->secret[i] = (uint8_t)(i * 7 + 3);
}

static inline void world_map(struct world *w, unsigned slot, server_id id)
{
    const uint64_t size = wiring_region_size(&w->cfg, id);
    struct region *r = &w->map.entry[REGION_OF_SERVER(id)];

    /* As a memfd: page aligned, zero, and there only where it is touched. */
    w->mem[slot] = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->mem[slot] == MAP_FAILED)
        abort();
    w->mem_size[slot] = size;
    wiring_format(w->mem[slot], &w->cfg, id, 1);
    *r = (struct region){
        .base = w->mem[slot], .size = size, .generation = 1, .id = REGION_OF_SERVER(id)};
}

/* Starts an incarnation: what the run loop does. */
static inline void world_start(struct world *w, struct component *c)
{
    shm_store(&c->block->epoch, c->block->epoch + 1);
    c->epoch = c->block->epoch;
    memset(c->state, 0, c->ops->size);
    c->neighbours = 0;
    if (c->ops->start(c, w->now) != 0)
        abort();
}

static inline struct component *world_component(struct world *w, const struct component_ops *ops,
                                                server_id id)
{
    struct component *c = calloc(1, sizeof *c);

    c->ops = ops;
    c->id = id;
    c->state = calloc(1, ops->size);
    c->cfg = &w->cfg;
    c->map = &w->map;
    c->own = &w->map.entry[REGION_OF_SERVER(id)];
    c->own->writable = true;
    c->block = wiring_block(c->own);
    c->log = world_log;
    return c;
}

static inline const struct region *world_region(const struct world *w, server_id id)
{
    return &w->map.entry[REGION_OF_SERVER(id)];
}

static inline void world_tx(struct world *w, struct chan_tx *tx, enum edge e, server_id from,
                            server_id to)
{
    if (chan_tx_attach(tx, world_region(w, from), world_region(w, to), e, from, to, 1, NULL) != 0)
        abort();
}

static inline void world_rx(struct world *w, struct chan_rx *rx, enum edge e, server_id to,
                            server_id from)
{
    if (chan_rx_attach(rx, world_region(w, to), world_region(w, from), e, to, from, NULL) != 0)
        abort();
}

static inline void world_ends(struct world *w)
{
    for (unsigned i = 0; i < WORLD_PORTS; i++) {
        world_tx(w, &w->driver[i].to_ip, EDGE_DRIVER_IP, DRIVER(i), IP);
        world_rx(w, &w->driver[i].from_ip, EDGE_IP_DRIVER, DRIVER(i), IP);
        world_rx(w, &w->driver[i].returned, EDGE_IP_RETURN, DRIVER(i), IP);
    }
    world_tx(w, &w->tcp.to_ip, EDGE_TCP_IP, TCP, IP);
    world_tx(w, &w->tcp.ret, EDGE_TCP_RETURN, TCP, IP);
    world_rx(w, &w->tcp.from_ip, EDGE_IP_TCP, TCP, IP);
    world_tx(w, &w->udp.to_ip, EDGE_UDP_IP, UDP, IP);
    world_tx(w, &w->udp.ret, EDGE_UDP_RETURN, UDP, IP);
    world_rx(w, &w->udp.from_ip, EDGE_IP_UDP, UDP, IP);
}

/* A world with `cfg`, or the default one. Components are made, not started. */
static inline struct world *world_new(const struct stack_config *cfg)
{
    static const server_id ids[] = {DRIVER(0), DRIVER(1), IP, PF, TCP, UDP};
    struct world *w = calloc(1, sizeof *w);

    if (cfg != NULL)
        w->cfg = *cfg;
    else
        world_config(&w->cfg);
    for (unsigned i = 0; i < sizeof ids; i++)
        world_map(w, i, ids[i]);
    w->ip = world_component(w, &ip_ops, IP);
    w->pf = world_component(w, &pf_ops, PF);
    w->now = 1000 * WORLD_SECOND;
    world_ends(w);
    return w;
}

static inline void world_free(struct world *w)
{
    for (unsigned i = 0; i < 8; i++)
        if (w->mem[i] != NULL)
            munmap(w->mem[i], w->mem_size[i]);
    free(w->ip->state);
    free(w->pf->state);
    free(w->ip);
    free(w->pf);
    free(w);
}

static inline uint64_t world_count(const struct world *w, enum ip_counter which)
{
    return w->ip->block->counter[which];
}

/* Lets ip and pf work until both are idle. */
static inline void world_run(struct world *w)
{
    for (unsigned i = 0; i < 1000; i++) {
        unsigned n = component_turn(w->ip, w->now);
        n += component_turn(w->pf, w->now);
        if (n == 0)
            return;
    }
    abort(); /* a livelock */
}

/* ---- the driver's side ---- */

/* Hands a received frame to ip. Returns its number. Slots: aborts when there is no room. */
static inline uint32_t world_frame_gso(struct world *w, unsigned port, const void *bytes,
                                       size_t len, uint8_t csum, uint16_t gso_size)
{
    uint64_t frames;
    uint8_t *pool = wiring_table(world_region(w, DRIVER(port)), TABLE_DRIVER_POOL, &frames);
    const uint32_t frame = w->frame_next[port]++ % (uint32_t)frames;
    struct driver_rx f = {.frame = frame,
                          .generation = ++w->frame_generation,
                          .off = 64,
                          .len = (uint32_t)len,
                          .csum = csum,
                          .gso_size = gso_size,
                          .stamp_ns = w->now};
    void *slot;

    memcpy(pool + (uint64_t)frame * WORLD_FRAME + f.off, bytes, len);
    if (chan_tx_reserve(&w->driver[port].to_ip, 0, 0, 0, &slot) != CHAN_OK)
        abort();
    memcpy((uint8_t *)slot + sizeof f.head, (uint8_t *)&f + sizeof f.head,
           sizeof f - sizeof f.head);
    chan_tx_commit(&w->driver[port].to_ip);
    chan_tx_publish(&w->driver[port].to_ip);
    return frame;
}

static inline uint32_t world_frame(struct world *w, unsigned port, const void *bytes, size_t len)
{
    return world_frame_gso(w, port, bytes, len, CSUM_NONE, 0);
}

/* The next packet in a queue, taken out. False: none. */
static inline bool world_take(struct chan_rx *rx, struct packet *p)
{
    const void *slot = chan_rx_peek(rx);

    if (slot == NULL)
        return false;
    if (!packet_copy(p, slot))
        abort(); /* ip made garbage */
    chan_rx_next(rx);
    chan_rx_release(rx);
    return true;
}

static inline bool world_take_return(struct chan_rx *rx, struct frame_return *r)
{
    const void *slot = chan_rx_peek(rx);

    if (slot == NULL)
        return false;
    memcpy(r, slot, sizeof *r);
    chan_rx_next(rx);
    chan_rx_release(rx);
    return true;
}

static inline void world_give_buffer(struct chan_tx *tx, uint32_t buffer, uint32_t generation)
{
    struct frame_return r = {.frame = buffer, .generation = generation};
    void *slot;

    if (chan_tx_reserve(tx, 0, 0, 0, &slot) != CHAN_OK)
        abort();
    memcpy((uint8_t *)slot + sizeof r.head, (uint8_t *)&r + sizeof r.head,
           sizeof r - sizeof r.head);
    chan_tx_commit(tx);
    chan_tx_publish(tx);
}

/* All bytes of a packet, headers and pieces. Returns the length. */
static inline size_t world_bytes(const struct world *w, const struct packet *p, uint8_t *to,
                                 size_t room)
{
    size_t n = p->hdr_len;

    memcpy(to, p->hdr, n);
    for (unsigned i = 0; i < p->pieces; i++) {
        const uint8_t *at = region_resolve(&w->map, &p->piece[i]);

        if (at == NULL || n + p->piece[i].len > room)
            abort();
        memcpy(to + n, at, p->piece[i].len);
        n += p->piece[i].len;
    }
    return n;
}

/* ---- frames as a peer makes them ---- */

static inline size_t make_arp(uint8_t *b, const uint8_t dst[6], uint16_t op,
                              const uint8_t sender_mac[6], uint32_t sender, uint32_t target)
{
    struct arp a = {.op = op, .sender = sender, .target = target};

    memcpy(a.sender_mac, sender_mac, 6);
    eth_emit(b, dst, sender_mac, ETH_ARP);
    arp_emit(b + ETH_LEN, &a);
    return ETH_LEN + ARP_LEN;
}

static inline size_t make_ipv4(uint8_t *b, const struct ipv4 *h, const void *payload, size_t len)
{
    struct ipv4 v = *h;

    if (v.ttl == 0)
        v.ttl = 64;
    v.total_len = (uint16_t)(IPV4_LEN + len);
    eth_emit(b, our_mac, peer_mac, ETH_IPV4);
    ipv4_emit(b + ETH_LEN, &v);
    memcpy(b + ETH_LEN + IPV4_LEN, payload, len);
    return ETH_LEN + IPV4_LEN + len;
}

static inline size_t make_tcp(uint8_t *l4, uint16_t sport, uint16_t dport, uint32_t seq,
                              size_t data)
{
    memset(l4, 0, 20);
    put16(l4, sport);
    put16(l4 + 2, dport);
    put32(l4 + 4, seq);
    l4[12] = 5 << 4;
    l4[13] = 0x10;
    for (size_t i = 0; i < data; i++)
        l4[20 + i] = (uint8_t)(seq + i);
    return 20 + data;
}

static inline size_t make_udp(uint8_t *l4, uint16_t sport, uint16_t dport, uint32_t tag,
                              size_t data)
{
    const struct udp u = {.src_port = sport, .dst_port = dport, .len = (uint16_t)(UDP_LEN + data)};

    udp_emit(l4, &u);
    for (size_t i = 0; i < data; i++)
        l4[UDP_LEN + i] = (uint8_t)(tag + i * 3);
    return UDP_LEN + data;
}

static inline size_t make_echo(uint8_t *l4, uint16_t id, uint16_t seq, size_t data)
{
    const struct icmp i = {.type = ICMP_ECHO, .id = id, .seq = seq};

    icmp_emit(l4, &i);
    for (size_t k = 0; k < data; k++)
        l4[ICMP_LEN + k] = (uint8_t)(seq + k);
    put_csum(l4 + 2, csum_fold(csum_partial(l4, ICMP_LEN + data, 0)));
    return ICMP_LEN + data;
}

/* ---- tcp and udp ---- */

/* A segment of tcp: `data` bytes that lie in application 0's memory (which ip cannot see). */
static inline void world_tcp_send(struct world *w, uint32_t dst, uint16_t dport, uint32_t seq,
                                  uint32_t chain, uint32_t generation, uint32_t data, uint16_t gso)
{
    struct packet p = {
        .hdr_len = 20,
        .protocol = PROTO_TCP,
        .csum = CSUM_PARTIAL,
        .gso_size = gso,
        .origin = TCP,
        .payload_len = data,
        .chain = chain,
        .chain_generation = generation,
        .src = ip_addr_v4(OURS),
        .dst = ip_addr_v4(dst),
    };
    void *slot;

    make_tcp(p.hdr, 80, dport, seq, 0);
    if (data > 0) {
        p.pieces = 1;
        p.piece[0] = (struct rptr){
            .off = seq, .len = data, .region = REGION_OF_APP(0, APP_UP), .generation = 1};
    }
    if (chain < w->cfg.tcp_chains) {
        struct tcp_chain *table = wiring_table(world_region(w, TCP), TABLE_TCP_CHAINS, NULL);
        table[chain].queue_index = w->tcp.to_ip.tail;
        table[chain].generation = generation;
    }
    if (chan_tx_reserve(&w->tcp.to_ip, 0, 0, 0, &slot) != CHAN_OK)
        abort();
    packet_put(slot, &p);
    chan_tx_commit(&w->tcp.to_ip);
    chan_tx_publish(&w->tcp.to_ip);
}

static inline void world_udp_send(struct world *w, uint32_t src, uint32_t dst, uint16_t dport,
                                  uint32_t buffer, uint32_t generation, uint32_t data,
                                  uint8_t flags)
{
    const struct region *r = world_region(w, UDP);
    uint8_t *pool = wiring_table(r, TABLE_UDP_POOL, NULL);
    struct packet p = {
        .hdr_len = UDP_LEN,
        .protocol = PROTO_UDP,
        .csum = CSUM_PARTIAL,
        .origin = UDP,
        .payload_len = data,
        .chain = buffer,
        .chain_generation = generation,
        .flags = flags,
        .dst = ip_addr_v4(dst),
    };
    const struct udp u = {.src_port = 53, .dst_port = dport, .len = (uint16_t)(UDP_LEN + data)};
    void *slot;

    if (src != 0)
        p.src = ip_addr_v4(src);
    udp_emit(p.hdr, &u);
    if (src != 0)
        put_csum(p.hdr + UDP_CSUM_OFF,
                 csum_fold_partial(csum_pseudo(&p.src, &p.dst, PROTO_UDP, UDP_LEN + data)));
    for (uint32_t i = 0; i < data; i++)
        pool[(uint64_t)buffer * UDP_BUFFER_SIZE + i] = (uint8_t)(buffer * 31 + i * 7);
    if (data > 0) {
        p.pieces = 1;
        p.piece[0] =
            (struct rptr){.off = (uint64_t)(pool - r->base) + (uint64_t)buffer * UDP_BUFFER_SIZE,
                          .len = data,
                          .region = r->id,
                          .generation = 1};
    }
    if (chan_tx_reserve(&w->udp.to_ip, 0, 0, 0, &slot) != CHAN_OK)
        abort();
    packet_put(slot, &p);
    chan_tx_commit(&w->udp.to_ip);
    chan_tx_publish(&w->udp.to_ip);
}

static inline uint32_t world_tcp_done(const struct world *w, uint32_t chain)
{
    const uint32_t *done = wiring_table(world_region(w, IP), TABLE_TCP_CHAIN_DONE, NULL);
    return done[chain];
}

static inline uint32_t world_udp_done(const struct world *w, uint32_t buffer)
{
    const uint32_t *done = wiring_table(world_region(w, IP), TABLE_UDP_BUFFER_DONE, NULL);
    return done[buffer];
}

static inline struct ip_state *world_state(const struct world *w)
{
    return wiring_table(world_region(w, IP), TABLE_IP_STATE, NULL);
}

/* The peer answers for its address, so that ip knows it. */
static inline void world_introduce(struct world *w, uint32_t addr, const uint8_t mac[6])
{
    uint8_t b[64];

    world_frame(
        w, 0, b,
        make_arp(b, (const uint8_t *)"\xff\xff\xff\xff\xff\xff", ARP_REQUEST, mac, addr, OURS));
}

/* A world that has started and knows the peer; what that cost is out of the way. */
static inline struct world *world_acquainted(void)
{
    struct world *w = world_new(NULL);
    struct packet p;
    struct frame_return r;

    world_start(w, w->ip);
    world_start(w, w->pf);
    world_introduce(w, PEER, peer_mac);
    world_run(w);
    for (unsigned i = 0; i < WORLD_PORTS; i++)
        while (world_take(&w->driver[i].from_ip, &p))
            continue;
    while (world_take_return(&w->driver[0].returned, &r))
        continue;
    return w;
}

#endif
