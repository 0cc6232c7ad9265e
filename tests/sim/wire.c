/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The virtual wire: a device kind for the real driver, and what happens to a frame between the
 * stacks. A frame passes, in this order: a narrow place (MTU), random and bursty loss, a bottleneck
 * with a queue, delay, reordering, repetition, damage; it may be cut in two, and at the receiver
 * merged with what waits, as a network card would do it.
 */
#include <errno.h>
#include <stdlib.h>

#include "drivers/driver.h"
#include "drivers/segment.h"
#include "servers/wire/bytes.h"
#include "servers/wire/checksum.h"
#include "servers/wire/ipv4.h"
#include "sim.h"

enum { TCP_MIN = 20, FLAG_FIN = 1, FLAG_SYN = 2, FLAG_RST = 4, FLAG_PSH = 8, FLAG_URG = 32 };

/* --- headers --- */

bool view_tcp(struct view *v, uint8_t *data, size_t len)
{
    if (len < SIM_ETH + IPV4_LEN + TCP_MIN || data[12] != 8 || data[13] != 0 ||
        data[SIM_ETH] != 0x45 || data[SIM_ETH + 9] != PROTO_TCP ||
        (get16(data + SIM_ETH + 6) & 0x3fff) != 0)
        return false;
    const uint32_t total = get16(data + SIM_ETH + 2);

    v->ip = data + SIM_ETH;
    v->ip_len = IPV4_LEN;
    v->tcp = v->ip + IPV4_LEN;
    v->tcp_len = (uint32_t)(v->tcp[12] >> 4) * 4;
    if (total > len - SIM_ETH || v->tcp_len < TCP_MIN || IPV4_LEN + v->tcp_len > total)
        return false;
    v->payload = v->tcp + v->tcp_len;
    v->len = total - IPV4_LEN - v->tcp_len;
    return true;
}

static uint32_t tcp_sum(const struct view *v)
{
    const uint32_t len = v->tcp_len + v->len;
    const uint8_t tail[4] = {0, PROTO_TCP, (uint8_t)(len >> 8), (uint8_t)len};

    return csum_partial(v->tcp, len, csum_partial(tail, 4, csum_partial(v->ip + 12, 8, 0)));
}

static bool intact(const struct view *v)
{
    return csum_fold(csum_partial(v->ip, v->ip_len, 0)) == 0 && csum_fold(tcp_sum(v)) == 0;
}

void view_seal(struct view *v)
{
    uint16_t sum;

    put16(v->ip + 2, (uint16_t)(v->ip_len + v->tcp_len + v->len));
    put16(v->ip + 10, 0);
    sum = csum_fold(csum_partial(v->ip, v->ip_len, 0));
    memcpy(v->ip + 10, &sum, 2);
    put16(v->tcp + 16, 0);
    sum = csum_fold(tcp_sum(v));
    memcpy(v->tcp + 16, &sum, 2);
}

/* --- under way --- */

static void insert(struct wire_end *e, const uint8_t *data, size_t len, uint64_t at)
{
    struct wire_frame *f = malloc(sizeof *f + len), **p = &e->coming;

    memcpy(f->data, data, len);
    f->len = (uint32_t)len;
    f->off = 0;
    f->at = at;
    if (e->last != NULL && e->coming != NULL && e->last->at <= at)
        p = &e->last->next;
    while (*p != NULL && (*p)->at <= at)
        p = &(*p)->next;
    f->next = *p;
    *p = f;
    if (f->next == NULL)
        e->last = f;
}

static struct wire_frame *pop(struct wire_end *e)
{
    struct wire_frame *f = e->coming;

    e->coming = f->next;
    if (e->coming == NULL)
        e->last = NULL;
    return f;
}

void wire_clear(struct wire_end *e)
{
    while (e->coming != NULL)
        free(pop(e));
}

static void note(struct sim *s, unsigned interface, bool out, const uint8_t *data, size_t len,
                 const char *comment)
{
    if (s->trace == NULL)
        return;
    trace_frame(s->trace, interface, out, s->now, data, len, comment != NULL ? comment : s->event);
    if (comment == NULL)
        s->event = NULL;
}

static void digest(struct sim *s, const uint8_t *data, size_t len)
{
    uint64_t h = s->digest ^ s->now;

    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t w;

        memcpy(&w, data + i, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    s->digest = h ^ len;
}

/* RFC 1191: the router before the narrow place answers, with the MTU of the next hop. */
static void too_big(struct sim *s, unsigned from, const uint8_t *data, uint32_t mtu)
{
    uint8_t f[SIM_ETH + IPV4_LEN + 8 + IPV4_LEN + 8];
    uint8_t *icmp = f + SIM_ETH + IPV4_LEN;
    const size_t quote = IPV4_LEN + 8;
    struct ipv4 h = {.ttl = 64, .protocol = PROTO_ICMP, .total_len = sizeof f - SIM_ETH};
    uint16_t sum;

    memcpy(f, data + 6, 6);
    memcpy(f + 6, data, 6);
    memcpy(f + 12, data + 12, 2);
    h.src = __builtin_bswap32(0x0a0000fe);
    memcpy(&h.dst, data + SIM_ETH + 12, 4);
    ipv4_emit(f + SIM_ETH, &h);
    memset(icmp, 0, 8);
    icmp[0] = 3;
    icmp[1] = 4;
    put16(icmp + 6, (uint16_t)mtu);
    memcpy(icmp + 8, data + SIM_ETH, quote);
    sum = csum_fold(csum_partial(icmp, 8 + quote, 0));
    memcpy(icmp + 2, &sum, 2);
    insert(&s->stack[from].in, f, sizeof f, s->now + s->stack[!from].in.link.delay_ns);
}

static bool lost(struct sim *s, struct wire_end *e)
{
    const struct link *l = &e->link;

    if (l->burst.enter > 0) {
        if (s->now >= e->bad_until && rng_chance(&s->rng, l->burst.enter))
            e->bad_until = s->now + 1 + rng_below(&s->rng, l->burst.ns);
        if (s->now < e->bad_until && rng_chance(&s->rng, l->burst.loss))
            return true;
    }
    return rng_chance(&s->rng, l->loss);
}

/* RFC 3168 section 5: a queue that grows marks packets of those who can be told. */
static void mark(struct wire_end *e, uint8_t *data, size_t len)
{
    if (len < SIM_ETH + IPV4_LEN || data[12] != 8 || data[13] != 0 || (data[SIM_ETH + 1] & 3) == 0)
        return;
    uint16_t sum;

    data[SIM_ETH + 1] |= 3;
    put16(data + SIM_ETH + 10, 0);
    sum = csum_fold(csum_partial(data + SIM_ETH, IPV4_LEN, 0));
    memcpy(data + SIM_ETH + 10, &sum, 2);
    e->disturbed++;
}

static void travel(struct sim *s, unsigned from, uint8_t *data, size_t len)
{
    struct wire_end *e = &s->stack[!from].in;
    const struct link *l = &e->link;
    uint64_t at = s->now;

    e->sent++;
    e->bytes += len;
    digest(s, data, len);
    if (l->narrow.mtu != 0 && len - SIM_ETH > l->narrow.mtu && s->now >= l->narrow.from &&
        s->now < l->narrow.until) {
        note(s, from, true, data, len, "too big");
        if (!l->narrow.silent && data[12] == 8 && data[13] == 0)
            too_big(s, from, data, l->narrow.mtu);
        e->lost++;
        return;
    }
    if (lost(s, e)) {
        note(s, from, true, data, len, "lost");
        e->lost++;
        return;
    }
    if (l->rate != 0) {
        const uint64_t waits = e->free_at > at ? (e->free_at - at) * l->rate / SIM_S : 0;

        if (waits + len > l->queue) {
            note(s, from, true, data, len, "queue full");
            e->lost++;
            return;
        }
        if (l->mark != 0 && waits > l->mark)
            mark(e, data, len);
        at = (e->free_at > at ? e->free_at : at) + len * SIM_S / l->rate;
        e->free_at = at;
    }
    at += l->delay_ns;
    if (rng_chance(&s->rng, l->reorder)) {
        at += rng_below(&s->rng, l->jitter_ns + l->delay_ns / 2 + 1);
        e->disturbed++;
    } else {
        at += rng_below(&s->rng, l->jitter_ns + 1);
        at = at < e->last_at ? e->last_at : at;
        e->last_at = at;
    }
    note(s, from, true, data, len, NULL);
    if (rng_chance(&s->rng, l->duplicate)) {
        insert(e, data, len, at + rng_below(&s->rng, l->jitter_ns + 1));
        e->disturbed++;
    }
    /* Only what has a checksum of its own, so that the damage can be noticed: a real wire covers
     * the Ethernet header and ARP with its frame check sequence. */
    if (len > SIM_ETH && data[12] == 8 && data[13] == 0 && rng_chance(&s->rng, l->corrupt)) {
        data[SIM_ETH + rng_below(&s->rng, len - SIM_ETH)] ^= (uint8_t)(1u << rng_below(&s->rng, 8));
        e->disturbed++;
    }
    insert(e, data, len, at);
}

void wire_send(struct sim *s, unsigned from, const uint8_t *data, size_t len)
{
    const struct link *l = &s->stack[!from].in.link;
    uint8_t copy[65536];
    struct view v;

    memcpy(copy, data, len);
    if (view_tcp(&v, copy, len)) {
        if ((v.tcp[13] & FLAG_RST) != 0)
            s->stack[!from].in.resets++;
        if (v.len > 1 && (v.tcp[13] & (FLAG_SYN | FLAG_URG)) == 0 &&
            rng_chance(&s->rng, l->split)) {
            const uint32_t whole = v.len, cut = 1 + (uint32_t)rng_below(&s->rng, v.len - 1);
            const uint8_t flags = v.tcp[13];
            uint8_t rest[65536];

            memcpy(rest, v.payload + cut, whole - cut);
            v.len = cut;
            v.tcp[13] &= (uint8_t) ~(FLAG_FIN | FLAG_PSH);
            view_seal(&v);
            travel(s, from, copy, SIM_ETH + v.ip_len + v.tcp_len + v.len);
            memcpy(copy, data, SIM_ETH + v.ip_len + v.tcp_len);
            memcpy(v.payload, rest, whole - cut);
            v.len = whole - cut;
            v.tcp[13] = flags;
            put32(v.tcp + 4, get32(v.tcp + 4) + cut);
            view_seal(&v);
            len = SIM_ETH + v.ip_len + v.tcp_len + v.len;
        }
    }
    travel(s, from, copy, len);
}

struct wire_frame *wire_take(struct sim *s, unsigned to)
{
    struct wire_end *e = &s->stack[to].in;

    if (e->coming == NULL || e->coming->at > s->now)
        return NULL;
    e->delivered++;
    note(s, to, false, e->coming->data, e->coming->len, NULL);
    return pop(e);
}

/* --- the device --- */

static struct stack *stack_of(struct driver *d)
{
    return *(struct stack **)(void *)d->device;
}

static int attach(struct driver *d, const int *fds, unsigned nfds)
{
    (void)d, (void)fds, (void)nfds;
    return 0;
}

/* As with a TAP device: what was read is in the frame, described or not. */
static enum frame_owner salvage(struct driver *d, unsigned n)
{
    struct stack *st = stack_of(d);
    struct driver_frame *f = &d->frame[n];

    if (f->owner != FRAME_RX)
        return FRAME_FREE;
    if (f->len != 0)
        return FRAME_OUT;
    if (!st->reading.valid || st->reading.frame != n)
        return FRAME_FREE;
    shm_store(&f->off, 0u);
    shm_store(&f->gso_size, st->reading.gso_size);
    shm_store(&f->csum, (uint8_t)CSUM_NONE);
    shm_store(&f->len, st->reading.len);
    return FRAME_OUT;
}

/* Appends what follows in the same stream, as generic receive offload does: segments of one size,
 * the last one may be shorter. Returns that size, 0 when there was nothing to append. */
static uint16_t merge(struct sim *s, unsigned to, uint8_t *data, uint32_t *len, uint32_t room)
{
    struct wire_end *e = &s->stack[to].in;
    struct view a, b;
    uint16_t size = 0;

    if (e->link.merge == 0 || !view_tcp(&a, data, *len) || !intact(&a) || a.len == 0)
        return 0;
    const uint32_t first = a.len;
    while (e->coming != NULL && e->coming->at <= s->now && rng_chance(&s->rng, e->link.merge) &&
           a.len % first == 0) {
        if (!view_tcp(&b, e->coming->data, e->coming->len) || b.tcp_len != a.tcp_len ||
            b.len == 0 || b.len > first || *len + b.len > room || !intact(&b) ||
            memcmp(a.ip + 12, b.ip + 12, 8) != 0 || memcmp(a.tcp, b.tcp, 4) != 0 ||
            get32(b.tcp + 4) != get32(a.tcp + 4) + a.len || a.ip[1] != b.ip[1] ||
            memcmp(a.tcp + 8, b.tcp + 8, 4) != 0 || /* the same ACK, window and options */
            memcmp(a.tcp + 14, b.tcp + 14, 2) != 0 ||
            memcmp(a.tcp + 20, b.tcp + 20, a.tcp_len - 20) != 0 ||
            ((a.tcp[13] | b.tcp[13]) & (FLAG_FIN | FLAG_SYN | FLAG_RST | FLAG_URG)) != 0)
            break;
        struct wire_frame *f = wire_take(s, to);

        memcpy(a.payload + a.len, b.payload, b.len);
        a.len += b.len;
        a.tcp[13] |= b.tcp[13];
        view_seal(&a);
        *len = SIM_ETH + a.ip_len + a.tcp_len + a.len;
        size = (uint16_t)first;
        free(f);
    }
    return size;
}

static unsigned receive(struct driver *d, unsigned quota)
{
    struct stack *st = stack_of(d);
    struct sim *s = st->sim;
    unsigned n = 0;

    while (n < quota && st->in.coming != NULL && st->in.coming->at <= s->now && driver_room(d)) {
        st->reading.valid = false;
        const int frame = driver_take(d, FRAME_RX, 0);

        if (frame < 0)
            break;
        struct wire_frame *f = wire_take(s, st->number);
        uint8_t *to = driver_frame_data(d, (unsigned)frame);

        memcpy(to, f->data, f->len);
        st->reading.frame = (unsigned)frame;
        st->reading.len = f->len;
        free(f);
        st->reading.gso_size = merge(s, st->number, to, &st->reading.len, d->frame_size);
        st->reading.valid = true;
        driver_receive(d, (unsigned)frame, 0, st->reading.len, st->reading.gso_size, CSUM_NONE);
        st->reading.valid = false;
        n++;
    }
    return n;
}

static int send_frame(struct driver *d, const struct driver_tx *tx)
{
    struct stack *st = stack_of(d);
    const int count = segment_count(tx);

    if (count < 0)
        return count;
    for (int i = 0; i < count; i++) {
        uint8_t data[65536];
        size_t len;
        struct segment seg;

        segment_make(tx, (unsigned)i, &seg);
        if (seg.hdr_len + seg.payload > SIM_ETH + st->cfg.interface[0].mtu)
            return -EMSGSIZE;
        memcpy(data, seg.hdr, seg.hdr_len);
        len = seg.hdr_len;
        for (unsigned k = 0; k < seg.niov; k++) {
            memcpy(data + len, seg.iov[k].iov_base, seg.iov[k].iov_len);
            len += seg.iov[k].iov_len;
        }
        wire_send(st->sim, st->number, data, len);
    }
    return 0;
}

static uint32_t events(struct driver *d)
{
    (void)d;
    return 0;
}

const struct device_ops sim_device = {
    .name = "wire",
    .attach = attach,
    .salvage = salvage,
    .receive = receive,
    .send = send_frame,
    .events = events,
};
