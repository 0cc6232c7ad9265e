/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See world.h.
 */
#include "world.h"

#include "servers/wire/checksum.h"
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void violation(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (w->violations++ == 0) {
        va_start(ap, fmt);
        vsnprintf(w->first, sizeof w->first, fmt, ap);
        va_end(ap);
    }
    if (w->quiet)
        return;
    va_start(ap, fmt);
    fputs("    violation: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void side_create(struct world *w, unsigned number, void (*adjust)(struct stack_config *))
{
    struct side *s = &w->side[number];
    const server_id tcp = SERVER_ID(SERVER_TCP, 0), ip = SERVER_ID(SERVER_IP, 0),
                    driver = SERVER_ID(SERVER_DRIVER, 0);
    struct region_map *map = s->map;
    struct component *c = s->tcp;
    *s = (struct side){.w = w, .number = number, .map = map, .tcp = c};
    memory_config(&s->cfg);
    s->cfg.interface[0].addr = ip_addr_v4(htonl(0x0a000001u + number));
    s->cfg.interface[0].frames = WORLD_FRAMES;
    s->cfg.interface[0].frame_size = 4096;
    s->cfg.route[1].gateway = ip_addr_v4(htonl(0x0a000002u - number));
    s->cfg.tcp_connections = 16;
    s->cfg.tcp_chains = 32;
    s->cfg.queue_slots = 32;
    s->cfg.app_tcp_slots = WORLD_SLOTS;
    s->cfg.app_udp_slots = 8;
    s->cfg.app_up_size = s->cfg.app_down_tcp_size = s->cfg.app_down_udp_size = 1 << 20;
    s->cfg.tcp_sndbuf = s->cfg.tcp_rcvbuf = 16384;
    s->cfg.secret[3] = (uint8_t)number;
    if (adjust != NULL)
        adjust(&s->cfg);
    app_layout(&s->layout, &s->cfg);
    if (map == NULL)
        s->map = calloc(1, sizeof *s->map);
    memory_create(s->map, &s->cfg);
    if (c == NULL) {
        s->tcp = host_new(&tcp_ops, tcp, s->map);
    } else { /* the big structure is used again; all that it points to is new */
        memset(c->state, 0, tcp_ops.size);
        c->own = &s->map->entry[REGION_OF_SERVER(tcp)];
        c->block = wiring_block(c->own);
        c->cfg = (const struct stack_config *)s->map->entry[REGION_CONFIG].base;
        c->page = (struct public_page *)s->map->entry[REGION_PUBLIC(tcp)].base;
    }
    s->tcp->neighbours = 0;
    for (unsigned i = 0; i < 4; i++)
        s->tcp->app[i].used = s->tcp->app[i].gone = false;
    const struct region *rt = &s->map->entry[REGION_OF_SERVER(tcp)],
                        *ri = &s->map->entry[REGION_OF_SERVER(ip)],
                        *rd = &s->map->entry[REGION_OF_SERVER(driver)];
    uint64_t n;
    if (chan_rx_attach(&s->from_tcp, ri, rt, EDGE_TCP_IP, ip, tcp, NULL) != 0 ||
        chan_tx_attach(&s->to_tcp, ri, rt, EDGE_IP_TCP, ip, tcp, 1, NULL) != 0 ||
        chan_rx_attach(&s->returned, rd, rt, EDGE_TCP_RETURN, driver, tcp, NULL) != 0)
        abort();
    s->chain_done = wiring_table(ri, TABLE_TCP_CHAIN_DONE, &n);
    s->pool = wiring_table(rd, TABLE_DRIVER_POOL, &n);
    if (host_start(s->tcp, w->now, END_NONE) != 0)
        abort();
}

void world_create(struct world *w, void (*adjust)(struct stack_config *))
{
    w->now = 1000 * SEC;
    w->step = 0;
    w->violations = 0;
    w->first[0] = 0;
    for (unsigned i = 0; i < 2; i++) {
        side_create(w, i, adjust);
        w->n_wire[i] = 0;
    }
}

void world_destroy(struct world *w)
{
    for (unsigned i = 0; i < 2; i++) {
        tcp_dispose(w->side[i].tcp);
        memory_destroy(w->side[i].map);
        free(w->side[i].before);
        w->side[i].before = NULL;
        for (unsigned k = 0; k < w->n_wire[i]; k++)
            free(w->wire[i][k]);
        w->n_wire[i] = 0;
    }
}

unsigned world_add_app(struct side *s)
{
    unsigned app = s->apps++;
    memory_add_app(s->map, &s->cfg, app, 1);
    host_add_app(s->tcp, app, 1);
    return app;
}

void world_successor(struct side *s, enum rs_end how)
{
    tcp_dispose(s->tcp);
    memset(s->tcp->state, 0, tcp_ops.size);
    s->tcp->neighbours = 0;
    if (host_start(s->tcp, s->w->now, how) != 0) {
        violation(s->w, "the successor does not start");
        return;
    }
    for (unsigned i = 0; i < s->apps; i++)
        if (s->tcp->app[i].used)
            host_add_app(s->tcp, i, 1);
}

unsigned world_tcp_turn(struct side *s)
{
    return component_turn(s->tcp, s->w->now);
}

/* --- ip and driver --- */

static const struct tcp_conn_shm *record_of(const struct side *s, uint16_t local, uint16_t remote,
                                            struct tcp_record *r)
{
    uint64_t n;
    const struct tcp_conn_shm *t = wiring_table(
        &s->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_TCP, 0))], TABLE_TCP_CONNS, &n);
    for (uint64_t i = 0; i < n; i++) {
        if (tcp_record_load(&t[i], r) == 0 && r->kind == TCP_KIND_CONN && r->local.port == local &&
            r->remote.port == remote)
            return &t[i];
    }
    return NULL;
}

static const struct tcp_ooo_shm *ooo_of(const struct side *s, const struct tcp_conn_shm *c)
{
    const struct region *r = &s->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_TCP, 0))];
    uint64_t n;
    const struct tcp_conn_shm *conns = wiring_table(r, TABLE_TCP_CONNS, &n);
    const struct tcp_ooo_shm *ooo = wiring_table(r, TABLE_TCP_OOO, &n);
    return ooo + (c - conns);
}

/* What a peer may rely on. */
static void judge(struct side *s, const struct packet *p)
{
    const uint8_t *h = p->hdr;
    uint32_t ack = be32(h + 8), edge;
    struct tcp_record r;
    if ((h[13] & TH_RST) && !s->w->resets) {
        /* An ACK of a repeated FIN may meet nobody any more: the one who sent it is in TIME-WAIT
         * and loses nothing. Any other reset is one too many. */
        const struct tcp_conn_shm *o =
            record_of(&s->w->side[1 - s->number], (uint16_t)(h[2] << 8 | h[3]),
                      (uint16_t)(h[0] << 8 | h[1]), &r);
        if (o != NULL && r.state != TCP_TIME_WAIT && r.state != TCP_CLOSED)
            violation(s->w, "side %u sent a reset", s->number);
    }
    if (!(h[13] & TH_ACK) || (h[13] & (TH_SYN | TH_RST)))
        return;
    s->echoed |= (h[13] & TH_ECE) != 0;
    s->reduced |= (h[13] & TH_CWR) != 0;
    const struct tcp_conn_shm *c =
        record_of(s, (uint16_t)(h[0] << 8 | h[1]), (uint16_t)(h[2] << 8 | h[3]), &r);
    if (c == NULL) {
        violation(s->w, "side %u sent for a connection without a record", s->number);
        return;
    }
    uint32_t committed =
        r.irs + 1 + (uint32_t)(c->rx_nxt & OFF_MASK) + (c->rx_nxt & OFF_MARK ? 1 : 0);
    struct tcp_seg seg;
    struct tcp_range range[TCP_OOO_RANGES];
    unsigned n = tcp_record_ooo_load(c, ooo_of(s, c), range);
    tcp_segment_parse(&seg, p);
    for (unsigned i = 0, j; i < seg.sacks; i++) {
        for (j = 0; j < n; j++)
            if (seq_le(range[j].start, seg.sack[i].start) && seq_le(seg.sack[i].end, range[j].end))
                break;
        if (j == n && seq_lt(committed, seg.sack[i].end))
            violation(s->w, "side %u sent a SACK for a range that is not committed", s->number);
    }
    if (seq_lt(committed, ack))
        violation(s->w, "side %u acknowledged %u bytes that are not committed", s->number,
                  ack - committed);
    if (!(p->hdr[13] & TH_FIN) && r.state < TCP_TIME_WAIT) {
        edge = ack + ((uint32_t)(h[14] << 8 | h[15]) << r.rcv_wscale);
        if (s->edge_known && !s->w->two && seq_lt(edge + (1u << r.rcv_wscale) - 1, s->max_edge))
            violation(s->w, "side %u took back %u bytes of window", s->number, s->max_edge - edge);
        if (!s->edge_known || seq_lt(s->max_edge, edge))
            s->max_edge = edge;
        s->edge_known = true;
    }
}

/* On a wire that loses nothing no byte is sent twice, whoever died: what the predecessor had
 * published its successor knows. */
static void judge_data(struct side *s, const struct packet *p)
{
    const uint8_t *h = p->hdr;
    uint32_t seq = be32(h + 4), end = seq + p->payload_len;
    if (h[13] & TH_SYN)
        s->data_known = s->edge_known = false;
    if (p->payload_len == 0)
        return;
    if (s->data_known && seq_lt(seq, s->data_max) && s->w->lossless)
        violation(s->w, "side %u sent %u bytes again", s->number,
                  seq_lt(end, s->data_max) ? p->payload_len : s->data_max - seq);
    if (!s->data_known || seq_lt(s->data_max, end))
        s->data_max = end;
    s->data_known = true;
}

static uint32_t piece_sum(const struct side *s, const struct rptr *piece, unsigned n)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *from = region_resolve(s->map, &piece[i]);
        if (from != NULL)
            sum = csum_add_at(sum, csum_partial(from, piece[i].len, 0), i);
    }
    return csum_fold(sum);
}

static void complete(struct side *s)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < s->n_open; i++) {
        if (s->open[i].due > s->w->step) {
            s->open[kept++] = s->open[i];
            continue;
        }
        if (piece_sum(s, s->open[i].piece, s->open[i].pieces) != s->open[i].sum)
            violation(s->w, "side %u: bytes changed while they were being sent", s->number);
        s->chain_done[s->open[i].chain] = s->open[i].generation;
    }
    s->n_open = kept;
}

static struct wire_packet *copy_packet(const struct wire_packet *m)
{
    struct wire_packet *c = malloc(sizeof *c);
    memcpy(c, m, offsetof(struct wire_packet, data) + m->p.payload_len);
    return c;
}

/* The field holds the pseudo header's sum. */
static void add_checksum(struct wire_packet *m)
{
    uint16_t sum =
        csum_fold(csum_partial(m->data, m->p.payload_len, csum_partial(m->p.hdr, m->p.hdr_len, 0)));
    memcpy(m->p.hdr + 16, &sum, 2);
}

static void onto_wire(struct world *w, unsigned to, struct wire_packet *m, uint64_t delay)
{
    m->due = w->step + delay;
    if (w->n_wire[to] == WORLD_WIRE)
        free(m);
    else
        w->wire[to][w->n_wire[to]++] = m;
}

/* Half of the packet before and half of this one, as from a sender that cuts anew. Of the same
 * length, so that the pseudo header's sum holds. */
static struct wire_packet *overlap(const struct wire_packet *a, const struct wire_packet *b)
{
    uint32_t back = (a->p.payload_len < b->p.payload_len ? a : b)->p.payload_len / 2;
    uint32_t seq = be32(b->p.hdr + 4);
    if (be32(a->p.hdr + 4) + a->p.payload_len != seq)
        return NULL;
    struct wire_packet *m = copy_packet(b);
    memcpy(m->data, a->data + a->p.payload_len - back, back);
    memcpy(m->data + back, b->data, b->p.payload_len - back);
    uint32_t at = htonl(seq - back);
    memcpy(m->p.hdr + 4, &at, 4);
    m->p.hdr[13] &= (uint8_t)~TH_FIN;
    add_checksum(m);
    return m;
}

/* RFC 1191: the router drops it and quotes its header. */
static void too_big(struct side *s, const struct wire_packet *m)
{
    struct packet p = {.icmp_type = 3, .icmp_code = 4, .hdr_len = 28, .protocol = 1};
    void *slot;
    p.mss = (uint16_t)s->w->faults.mtu;
    p.hdr[0] = 0x45;
    p.hdr[9] = 6;
    memcpy(p.hdr + 12, s->cfg.interface[0].addr.v6, 4);
    memcpy(p.hdr + 16, m->p.dst.v6, 4);
    memcpy(p.hdr + 20, m->p.hdr, 8);
    if (chan_tx_reserve(&s->to_tcp, 0, s->to_tcp.tail, 0, &slot) != CHAN_OK)
        return;
    packet_put(slot, &p);
    chan_tx_commit(&s->to_tcp);
}

static bool every(uint64_t n, unsigned period)
{
    return period != 0 && n % period == 0;
}

/* One packet of side s onto the wire, with what happens to it there. Takes m. */
static void transmit(struct side *s, struct wire_packet *m)
{
    const struct wire_faults *f = &s->w->faults;
    struct wire_packet *before = s->before, *extra = NULL;
    unsigned to = 1 - s->number;
    uint64_t delay = 1, n;
    if (m->p.payload_len == 0) {
        const bool syn = m->p.hdr[13] & TH_SYN, fin = m->p.hdr[13] & TH_FIN;
        const bool lose = (f->black_syn && syn && !s->syn) || (f->black_fin && fin && !s->fin);
        s->syn |= syn;
        s->fin |= fin;
        add_checksum(m);
        if (lose)
            free(m);
        else
            onto_wire(s->w, to, m, 1);
        return;
    }
    n = ++s->sent;
    if (every(n, f->mark_every) && (m->p.tos & 3) != 0)
        m->p.tos |= 3;
    if (f->overlap_every) {
        if (before != NULL && every(n, f->overlap_every))
            extra = overlap(before, m);
        free(before);
        s->before = copy_packet(m);
    }
    add_checksum(m);
    if (f->mtu && m->p.payload_len + m->p.hdr_len + 20u > f->mtu) {
        too_big(s, m);
        free(m);
        return;
    }
    if (extra != NULL)
        onto_wire(s->w, to, extra, 1);
    if (every(n, f->repeat_every))
        onto_wire(s->w, to, copy_packet(m), 3);
    if (every(n, f->damage_every)) {
        extra = copy_packet(m);
        extra->data[n % m->p.payload_len] ^= 0x10;
        onto_wire(s->w, to, extra, 3);
    }
    if (every(n, f->lose_every) || (n >= f->black_from && n < f->black_to)) {
        free(m);
        return;
    }
    if (every(n, f->swap_every))
        delay = 4;
    onto_wire(s->w, to, m, delay);
}

static void from_tcp(struct side *s)
{
    struct world *w = s->w;
    const void *slot;
    while ((slot = chan_rx_peek(&s->from_tcp)) != NULL) {
        struct wire_packet *m = malloc(sizeof *m);
        if (!packet_copy(&m->p, slot))
            violation(w, "side %u sent garbage", s->number);
        uint32_t at = 0;
        for (unsigned i = 0; i < m->p.pieces; i++) {
            const uint8_t *from = region_resolve(s->map, &m->p.piece[i]);
            if (from == NULL) {
                violation(w, "side %u sent a bad pointer", s->number);
                break;
            }
            memcpy(m->data + at, from, m->p.piece[i].len);
            at += m->p.piece[i].len;
        }
        judge(s, &m->p);
        judge_data(s, &m->p);
        if (m->p.chain != TCP_NO_CHAIN) {
            s->open[s->n_open].chain = m->p.chain;
            s->open[s->n_open].generation = m->p.chain_generation;
            s->open[s->n_open].pieces = m->p.pieces;
            s->open[s->n_open].sum = piece_sum(s, m->p.piece, m->p.pieces);
            memcpy(s->open[s->n_open].piece, m->p.piece, sizeof m->p.piece);
            s->open[s->n_open++].due = w->step + w->chain_delay;
        }
        chan_rx_next(&s->from_tcp);
        transmit(s, m);
    }
    chan_rx_release(&s->from_tcp);
}

/* Counters only ever grow, over all uses of a slot. */
static void watch_counters(struct side *s)
{
    static const char *const name[3] = {"rx_nxt", "tx_una", "tx_free"};
    for (unsigned app = 0; app < s->apps; app++) {
        for (unsigned slot = 0; slot < WORLD_SLOTS; slot++) {
            struct sock k = {.s = s, .app = app, .slot = slot};
            const struct down_slot *d = sock_down(&k);
            const uint64_t now[3] = {d->rx_nxt & OFF_MASK, d->tx_una, d->tx_free};
            for (unsigned i = 0; i < 3; i++) {
                if (now[i] < s->seen[app][slot][i])
                    violation(s->w, "side %u slot %u: %s went back", s->number, slot, name[i]);
                s->seen[app][slot][i] = now[i];
            }
        }
    }
}

static bool deliver(struct side *s, const struct wire_packet *m)
{
    unsigned f = 0;
    void *slot;
    while (f < WORLD_FRAMES && s->frame_out[f])
        f++;
    if (f == WORLD_FRAMES || m->p.payload_len > s->cfg.interface[0].frame_size)
        return false;
    if (chan_tx_reserve(&s->to_tcp, 0, s->to_tcp.tail, 0, &slot) != CHAN_OK)
        return false;
    struct packet p = {0};
    uint8_t *frame = s->pool + (size_t)f * s->cfg.interface[0].frame_size;
    memcpy(frame, m->data, m->p.payload_len);
    s->frame_out[f] = true;
    p.l4 = 20;
    p.hdr_len = (uint16_t)(20 + m->p.hdr_len);
    memcpy(p.hdr + 20, m->p.hdr, m->p.hdr_len);
    p.protocol = 6;
    p.csum = CSUM_NONE;
    p.gso_size = m->p.gso_size;
    p.tos = m->p.tos;
    p.origin = SERVER_ID(SERVER_DRIVER, 0);
    p.chain = f;
    p.chain_generation = ++s->frame_generation[f];
    p.payload_len = m->p.payload_len;
    p.src = m->p.src;
    p.dst = m->p.dst;
    if (p.payload_len) {
        const struct region *r = &s->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_DRIVER, 0))];
        p.pieces = 1;
        p.piece[0] = (struct rptr){.off = (uint64_t)(frame - r->base),
                                   .len = p.payload_len,
                                   .region = r->id,
                                   .generation = r->generation};
    }
    packet_put(slot, &p);
    chan_tx_commit(&s->to_tcp);
    return true;
}

static void take_returns(struct side *s)
{
    const struct frame_return *r;
    while ((r = chan_rx_peek(&s->returned)) != NULL) {
        if (r->frame >= WORLD_FRAMES || !s->frame_out[r->frame] ||
            r->generation != s->frame_generation[r->frame]) {
            violation(s->w, "side %u returned frame %u twice", s->number, r->frame);
        } else {
            s->frame_out[r->frame] = false;
            /* The next packet will be here: whoever still reads it reads this. */
            memset(s->pool + (size_t)r->frame * s->cfg.interface[0].frame_size, 0xee, 64);
        }
        chan_rx_next(&s->returned);
    }
    chan_rx_release(&s->returned);
}

unsigned world_wire(struct world *w)
{
    unsigned moved = 0;
    w->step++;
    for (unsigned i = 0; i < 2; i++) {
        struct side *s = &w->side[i];
        unsigned before = w->n_wire[1 - i];
        watch_counters(s);
        take_returns(s);
        from_tcp(s);
        complete(s);
        moved += w->n_wire[1 - i] - before + s->n_open;
    }
    for (unsigned i = 0; i < 2; i++) {
        unsigned kept = 0;
        for (unsigned k = 0; k < w->n_wire[i]; k++) {
            struct wire_packet *m = w->wire[i][k];
            moved++;
            if (m->due > w->step) {
                w->wire[i][kept++] = m;
                continue;
            }
            deliver(&w->side[i], m);
            free(m);
        }
        w->n_wire[i] = kept;
        chan_tx_publish(&w->side[i].to_tcp);
    }
    return moved;
}

void world_time(struct world *w, bool busy)
{
    uint64_t at = NEVER;
    w->now += 10000;
    if (busy)
        return;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t d = tcp_ops.deadline(w->side[i].tcp);
        at = d < at ? d : at;
    }
    if (at != NEVER && at > w->now)
        w->now = at;
}

unsigned world_records(const struct side *s, bool tombstones)
{
    uint64_t n;
    unsigned used = 0;
    const struct tcp_conn_shm *t = wiring_table(
        &s->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_TCP, 0))], TABLE_TCP_CONNS, &n);
    for (uint64_t i = 0; i < n; i++) {
        struct tcp_record r;
        if (tcp_record_load(&t[i], &r) != 0)
            used += 1000;
        else if (r.kind != TCP_KIND_FREE && (tombstones || r.state != TCP_TIME_WAIT))
            used++;
    }
    return used;
}

/* Blocks, records and chains of a side on which every socket is closed again, but for one listener
 * of the application `listener`. */
void world_audit(struct side *s, unsigned listener)
{
    const struct tcp *t = s->tcp->state;
    uint64_t blocks[2] = {s->layout.up_udp_blocks - s->layout.up_tcp_blocks,
                          s->layout.down_tcp_end - s->layout.down_tcp_blocks};
    for (unsigned i = 0; i < s->apps; i++) {
        const struct tcp_app *a = t->app[i];
        if (a == NULL) /* has died, and was let go */
            continue;
        if (a->up_space.free_pages != blocks[0] / 4096 ||
            a->down_space.free_pages != blocks[1] / 4096)
            violation(s->w, "side %u: blocks are missing", s->number);
        if (a->refs != (i == listener))
            violation(s->w, "side %u: %u records name application %u", s->number, a->refs, i);
    }
    if (world_records(s, false) != (listener < s->apps))
        violation(s->w, "side %u: %u records are in use", s->number, world_records(s, false));
    if (t->chains_used != 0)
        violation(s->w, "side %u: %u chains are open", s->number, t->chains_used);
    for (uint32_t i = 0; i < t->n_chains; i++)
        if (t->chains[i].generation != s->chain_done[i])
            violation(s->w, "side %u: chain %u is not done", s->number, i);
    for (unsigned f = 0; f < WORLD_FRAMES; f++)
        if (s->frame_out[f])
            violation(s->w, "side %u: frame %u is lost", s->number, f);
    if (t->counter[TCP_C_RECOVERY_RESETS] || t->counter[TCP_C_APP_VIOLATIONS])
        violation(s->w, "side %u: a record failed its check", s->number);
}
