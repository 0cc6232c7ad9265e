/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A UDP server between an IP, a driver, a syscall server and applications that the test plays.
 * Ordinary memory, virtual time. udp_restart() is a SIGKILL and a successor.
 */
#ifndef EFT_TESTS_UDP_WORLD_H
#define EFT_TESTS_UDP_WORLD_H

#include "libchan/edge/frame_return.h"
#include "libchan/edge/syscall_ctl.h"
#include "libchan/edge/udp_ip.h"
#include "servers/udp/state.h"
#include "servers/udp/udp.h"
#include "servers/wire/checksum.h"
#include "tests/harness/host.h"
#include "tests/harness/memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#define UDP SERVER_ID(SERVER_UDP, 0)
#define IP  SERVER_ID(SERVER_IP, 0)
#define DRV SERVER_ID(SERVER_DRIVER, 0)
#define CTL SERVER_ID(SERVER_SYSCALL, 0)

#define OUR_ADDRESS 0x0a000002u
#define PEER        0x0a000001u

enum { WORLD_FRAMES = 64 };

struct world {
    struct stack_config cfg;
    struct region_map map;
    struct app_layout l;
    struct component *c;
    uint64_t now;
    /* the other ends */
    struct chan_tx to_udp;   /* ip */
    struct chan_rx from_udp; /* ip */
    struct chan_rx back, back_ip;
    struct chan_tx ctl_to;
    struct chan_rx ctl_from;
    uint32_t *done;
    uint32_t frame; /* next frame of the driver to be used */
    unsigned returned[WORLD_FRAMES];
    unsigned gen[WORLD_FRAMES];
    uint64_t sent_index;
};

static inline struct region *server_region(struct world *w, server_id id)
{
    return &w->map.entry[REGION_OF_SERVER(id)];
}

static inline void udp_boot(struct world *w, enum rs_end end, unsigned apps)
{
    w->c = host_new(&udp_ops, UDP, &w->map);
    if (host_start(w->c, w->now, end) != 0)
        abort();
    for (unsigned a = 0; a < apps; a++)
        host_add_app(w->c, a, 1);
}

static inline void udp_restart(struct world *w, unsigned apps)
{
    host_free(w->c);
    udp_boot(w, END_KILLED, apps);
}

static inline void world_make(struct world *w, unsigned apps)
{
    memset(w, 0, sizeof *w);
    memory_config(&w->cfg);
    w->cfg.udp_sndbuf = 131072;
    w->cfg.udp_rcvbuf = 65536;
    w->cfg.app_up_size = 32 << 20;
    w->cfg.app_down_tcp_size = 1 << 20;
    w->cfg.app_down_udp_size = 8 << 20;
    memory_create(&w->map, &w->cfg);
    app_layout(&w->l, &w->cfg);
    for (unsigned a = 0; a < apps; a++)
        memory_add_app(&w->map, &w->cfg, a, 1);
    w->now = 1000000000;
    struct region *udp = server_region(w, UDP);
    if (chan_tx_attach(&w->to_udp, server_region(w, IP), udp, EDGE_IP_UDP, IP, UDP, 1, NULL) ||
        chan_rx_attach(&w->from_udp, server_region(w, IP), udp, EDGE_UDP_IP, IP, UDP, NULL) ||
        chan_rx_attach(&w->back, server_region(w, DRV), udp, EDGE_UDP_RETURN, DRV, UDP, NULL) ||
        chan_rx_attach(&w->back_ip, server_region(w, IP), udp, EDGE_UDP_RETURN, IP, UDP, NULL) ||
        chan_tx_attach(&w->ctl_to, server_region(w, CTL), udp, EDGE_SYSCALL_UDP, CTL, UDP, 1,
                       NULL) ||
        chan_rx_attach(&w->ctl_from, server_region(w, CTL), udp, EDGE_UDP_SYSCALL, CTL, UDP, NULL))
        abort();
    w->done = wiring_table(server_region(w, IP), TABLE_UDP_BUFFER_DONE, NULL);
    udp_boot(w, END_NONE, apps);
}

static inline void world_free(struct world *w)
{
    host_free(w->c);
    memory_destroy(&w->map);
}

static inline unsigned turn(struct world *w)
{
    w->now += 1000;
    return component_turn(w->c, w->now);
}

/* Until it has nothing to do. */
static inline void settle(struct world *w)
{
    for (unsigned i = 0; i < 100; i++)
        if (turn(w) == 0 && !w->c->ops->pending(w->c))
            return;
}

static inline uint64_t counter(const struct world *w, enum udp_counter n)
{
    return w->c->block->counter[n];
}

/* --- the application's side --- */

static inline struct up_region *up_region(struct world *w, unsigned app)
{
    return (struct up_region *)w->map.entry[REGION_OF_APP(app, APP_UP)].base;
}
static inline struct up_slot *up_slot(struct world *w, unsigned app, uint32_t slot)
{
    return (struct up_slot *)((uint8_t *)up_region(w, app) + w->l.up_udp_slots) + slot;
}
static inline uint8_t *down_base(struct world *w, unsigned app)
{
    return w->map.entry[REGION_OF_APP(app, APP_DOWN_UDP)].base;
}
static inline struct down_slot *down_slot(struct world *w, unsigned app, uint32_t slot)
{
    return (struct down_slot *)(down_base(w, app) + w->l.down_udp_slots) + slot;
}
static inline void push(struct world *w, unsigned app, uint32_t slot)
{
    struct app_work *work = &up_region(w, app)->work_udp;
    work->slot[work->tail % WORK_SLOTS] = slot;
    work->tail++;
}

static inline struct sock_name name_v4(uint32_t host, uint16_t port)
{
    return (struct sock_name){.addr = ip_addr_v4(htonl(host)), .port = port};
}

/* A new use of a free slot, as far as the application is concerned. */
static inline struct up_slot *open_slot(struct world *w, unsigned app, uint32_t slot)
{
    struct up_slot *up = up_slot(w, app, slot);
    up->generation++;
    up->rx_read = down_slot(w, app, slot)->rx_nxt;
    return up;
}

static inline void ask(struct world *w, unsigned app, uint32_t slot, enum app_op op)
{
    struct up_slot *up = up_slot(w, app, slot);
    up->op = op;
    up->req_id++;
    push(w, app, slot);
}

static inline int asked(struct world *w, unsigned app, uint32_t slot)
{
    const struct up_slot *up = up_slot(w, app, slot);
    settle(w);
    return down_slot(w, app, slot)->req_done == up->req_id ? down_slot(w, app, slot)->result
                                                           : -EINPROGRESS;
}

static inline int do_bind(struct world *w, unsigned app, uint32_t slot, struct sock_name local,
                          uint32_t flags)
{
    struct up_slot *up = up_slot(w, app, slot);
    up->local = local;
    up->flags = flags;
    ask(w, app, slot, OP_BIND);
    return asked(w, app, slot);
}

static inline int do_connect(struct world *w, unsigned app, uint32_t slot, struct sock_name remote)
{
    up_slot(w, app, slot)->remote = remote;
    ask(w, app, slot, OP_CONNECT_UDP);
    return asked(w, app, slot);
}

static inline int do_setopt(struct world *w, unsigned app, uint32_t slot, enum app_option o,
                            uint64_t value)
{
    up_slot(w, app, slot)->arg0 = o;
    up_slot(w, app, slot)->arg1 = value;
    ask(w, app, slot, OP_SETOPT);
    return asked(w, app, slot);
}

static inline int do_close(struct world *w, unsigned app, uint32_t slot)
{
    up_slot(w, app, slot)->released = up_slot(w, app, slot)->generation;
    ask(w, app, slot, OP_CLOSE);
    return asked(w, app, slot);
}

/* Address in a ring: a second implementation of the rule in edge/app.h. */
static inline uint8_t *app_ring(uint8_t *base, const struct ring_desc *r, uint64_t off)
{
    const struct ring_block *b =
        r->block[1].size != 0 && off >= r->switch_at ? &r->block[1] : &r->block[0];
    return base + b->off + off % b->size;
}

/* Writes one datagram to the send ring. */
static inline void app_write(struct world *w, unsigned app, uint32_t slot, struct sock_name to,
                             const void *data, uint32_t len)
{
    struct up_slot *up = up_slot(w, app, slot);
    const struct down_slot *d = down_slot(w, app, slot);
    uint8_t *base = (uint8_t *)up_region(w, app);
    const struct ring_desc *r = &d->tx[d->select & 1];
    const struct dgram h = {.len = len, .remote = to};
    memcpy(app_ring(base, r, up->tx_end), &h, sizeof h);
    for (uint32_t i = 0; i < len; i++)
        *app_ring(base, r, up->tx_end + sizeof h + i) = ((const uint8_t *)data)[i];
    up->tx_end += DGRAM_SPACE(len);
    push(w, app, slot);
}

/* Reads one datagram; its length, or -EAGAIN. */
static inline int app_read(struct world *w, unsigned app, uint32_t slot, struct dgram *h,
                           void *data, size_t size)
{
    struct up_slot *up = up_slot(w, app, slot);
    const struct down_slot *d = down_slot(w, app, slot);
    const struct ring_desc *r = &d->rx[d->select >> 1 & 1];
    if (up->rx_read < d->rx_base)
        up->rx_read = d->rx_base;
    if (up->rx_read >= d->rx_nxt)
        return -EAGAIN;
    memcpy(h, app_ring(down_base(w, app), r, up->rx_read), sizeof *h);
    for (uint32_t i = 0; i < h->len && i < size; i++)
        ((uint8_t *)data)[i] = *app_ring(down_base(w, app), r, up->rx_read + sizeof *h + i);
    up->rx_read += DGRAM_SPACE(h->len);
    return (int)h->len;
}

/* --- IP's side --- */

enum { SEND_BAD_SUM = 1, SEND_NO_SUM = 2, SEND_BROADCAST = 4, SEND_PARTIAL = 8 };

/* Puts a datagram into the queue to udp, payload in a frame of the driver. */
static inline void ip_send_frame(struct world *w, struct sock_name from, struct sock_name to,
                                 const void *data, uint32_t len, unsigned how, uint16_t gso)
{
    struct region *drv = server_region(w, DRV);
    uint64_t frames;
    const struct wiring_entry *e = wiring_find(drv, WIRING_TABLE, TABLE_DRIVER_POOL, 0);
    uint8_t *pool = wiring_table(drv, TABLE_DRIVER_POOL, &frames);
    const uint32_t f = w->frame++ % WORLD_FRAMES;
    uint8_t *payload = pool + (uint64_t)f * e->size;
    uint16_t udp[4] = {htons(from.port), htons(to.port), htons((uint16_t)(8 + len)), 0};
    void *slot;

    memcpy(payload, data, len);
    if ((how & SEND_NO_SUM) == 0) {
        uint32_t sum = csum_pseudo(&from.addr, &to.addr, 17, 8 + len);
        sum = csum_partial(udp, sizeof udp, sum);
        udp[3] = csum_fold(csum_partial(data, len, sum));
        if (udp[3] == 0)
            udp[3] = 0xffff;
        if ((how & SEND_BAD_SUM) != 0)
            udp[3] ^= 0x0101;
    }
    struct packet p = {
        .hdr_len = 28,
        .l4 = 20,
        .protocol = 17,
        .csum = (how & SEND_PARTIAL) != 0 ? CSUM_PARTIAL : CSUM_NONE,
        .gso_size = gso,
        .pieces = len != 0,
        .origin = DRV,
        .payload_len = len,
        .chain = f,
        .chain_generation = ++w->gen[f],
        .stamp_ns = 5,
        .ttl = 64,
        .flags = (how & SEND_BROADCAST) != 0 ? PACKET_BROADCAST : 0,
        .src = from.addr,
        .dst = to.addr,
    };
    if (len != 0)
        p.piece[0] = (struct rptr){.off = (uint64_t)(payload - drv->base),
                                   .len = len,
                                   .region = REGION_OF_SERVER(DRV),
                                   .generation = drv->generation};
    p.hdr[0] = from.addr.family == 6 ? 0x60 : 0x45;
    p.hdr[9] = 17;
    memcpy(p.hdr + 12, &from.addr.v4, 4);
    memcpy(p.hdr + 16, &to.addr.v4, 4);
    memcpy(p.hdr + 20, udp, sizeof udp);
    if (chan_tx_reserve(&w->to_udp, 0, w->sent_index++, 0, &slot) != CHAN_OK)
        abort();
    packet_put(slot, &p);
    chan_tx_commit(&w->to_udp);
    chan_tx_publish(&w->to_udp);
}

static inline void ip_send(struct world *w, struct sock_name from, struct sock_name to,
                           const void *data, uint32_t len, unsigned how)
{
    ip_send_frame(w, from, to, data, len, how, 0);
}

/* An ICMP error about a datagram of ours. */
static inline void ip_icmp(struct world *w, struct sock_name local, struct sock_name remote,
                           uint8_t type, uint8_t code)
{
    struct packet p = {
        .hdr_len = 28,
        .l4 = 20,
        .protocol = 17,
        .origin = IP,
        .chain = UINT32_MAX,
        .icmp_type = type,
        .icmp_code = code,
    };
    const uint16_t udp[4] = {htons(local.port), htons(remote.port), htons(8), 0};
    void *slot;

    p.hdr[0] = 0x45;
    p.hdr[9] = 17;
    memcpy(p.hdr + 12, &local.addr.v4, 4);
    memcpy(p.hdr + 16, &remote.addr.v4, 4);
    memcpy(p.hdr + 20, udp, sizeof udp);
    if (chan_tx_reserve(&w->to_udp, 0, w->sent_index++, 0, &slot) != CHAN_OK)
        abort();
    packet_put(slot, &p);
    chan_tx_commit(&w->to_udp);
    chan_tx_publish(&w->to_udp);
}

/* Takes back what the driver gets; counts per frame. Returns how many. */
static inline unsigned driver_collect(struct world *w)
{
    const struct frame_return *r;
    unsigned n = 0;

    while ((r = chan_rx_peek(&w->back)) != NULL) {
        if (r->frame >= WORLD_FRAMES || r->generation != w->gen[r->frame])
            abort();
        w->returned[r->frame]++;
        chan_rx_next(&w->back);
        n++;
    }
    chan_rx_release(&w->back);
    return n;
}

/* Next packet that udp sent; its payload is copied out. False: none. */
static inline bool ip_take(struct world *w, struct packet *p, uint8_t *data, bool complete)
{
    const void *slot = chan_rx_peek(&w->from_udp);

    if (slot == NULL)
        return false;
    if (!packet_copy(p, slot))
        abort();
    for (unsigned i = 0, at = 0; i < p->pieces; at += p->piece[i++].len) {
        const uint8_t *src = region_resolve(&w->map, &p->piece[i]);
        if (src == NULL)
            abort();
        memcpy(data + at, src, p->piece[i].len);
    }
    if (complete && (p->flags & PACKET_UNREACHABLE) == 0)
        w->done[p->chain] = p->chain_generation;
    chan_rx_next(&w->from_udp);
    chan_rx_release(&w->from_udp);
    return true;
}

/* The checksum that a driver would make of it: 0 when it is right. */
static inline uint16_t wire_checksum(const struct packet *p, const uint8_t *data)
{
    uint32_t sum = csum_partial(p->hdr, 8, 0);
    const uint16_t field = csum_fold(csum_partial(data, p->payload_len, sum));
    uint16_t h[4];

    memcpy(h, p->hdr, sizeof h);
    h[3] = field;
    sum = csum_pseudo(&p->src, &p->dst, 17, 8 + p->payload_len);
    return csum_fold(csum_partial(data, p->payload_len, csum_partial(h, 8, sum)));
}

#endif
