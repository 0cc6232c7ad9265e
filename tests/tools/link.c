/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"

struct link_departure {
    uint64_t time;
    uint32_t len;
};

struct link_event {
    uint64_t time, order;
    struct link_frame *frame;
    unsigned direction;
};

/* --- chance --- */

/* What a number is drawn for; each is a sequence of its own. */
enum purpose { FOR_LOSS, FOR_BURST, FOR_DUP, FOR_CORRUPT, FOR_BIT, FOR_REORDER, FOR_JITTER };

struct draw {
    uint64_t base;
};

static uint64_t mix(uint64_t x)
{
    /* The finaliser of splitmix64 (Steele, Lea, Flood 2014). */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static uint64_t draw(struct draw d, enum purpose purpose)
{
    return mix(d.base + (uint64_t)(purpose + 1) * 0x9e3779b97f4a7c15ull);
}

static double uniform(struct draw d, enum purpose purpose)
{
    return (double)(draw(d, purpose) >> 11) / 9007199254740992.0;
}

static bool chance(struct draw d, enum purpose purpose, double percent)
{
    return uniform(d, purpose) * 100 < percent;
}

/* --- what a frame is --- */

struct view {
    enum link_kind kind;
    unsigned ip; /* where the IP header begins; 0: none */
    bool v6;
};

static struct view look(const struct link_frame *f)
{
    const unsigned type = f->len >= 34 ? (unsigned)(f->data[12] << 8 | f->data[13]) : 0;

    if (type == 0x0800)
        return (struct view){f->data[14 + 9] == 6 ? LINK_TCP : LINK_IP, 14, false};
    if (type == 0x86dd && f->len >= 54)
        return (struct view){f->data[14 + 6] == 6 ? LINK_TCP : LINK_IP, 14, true};
    return (struct view){LINK_OTHER, 0, false};
}

/* One bit, where a checksum covers it: IPv6 has none over its own header. */
static bool turn_a_bit(struct link_frame *f, struct view v, uint64_t r)
{
    const uint32_t from = v.ip + (v.v6 ? 40 : 0);

    if (v.ip == 0 || f->len <= from)
        return false;
    f->data[from + r % (f->len - from)] ^= (uint8_t)(1u << (r >> 40) % 8);
    return true;
}

/* Congestion experienced (RFC 3168 5), if the packet says that its ends understand it. */
static bool mark(struct link_frame *f, struct view v)
{
    uint8_t *ip = f->data + v.ip;

    if (v.ip == 0)
        return false;
    const unsigned tos = v.v6 ? (unsigned)(ip[0] << 4 | ip[1] >> 4) & 0xff : ip[1];
    if ((tos & 3) == 0 || (tos & 3) == 3)
        return (tos & 3) == 3;
    if (v.v6) {
        ip[1] |= 0x30;
        return true;
    }
    /* RFC 1624: HC' = ~(~HC + ~m + m') */
    const uint32_t old = (uint32_t)(ip[0] << 8 | ip[1]), new = old | 3;
    uint32_t sum = (uint32_t)(uint16_t) ~(ip[10] << 8 | ip[11]) + (uint16_t)~old + new;

    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    ip[1] |= 3;
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
    return true;
}

/* --- frames and events --- */

struct link_frame *link_frame(struct link *l)
{
    struct link_frame *f = l->unused;

    if (f == NULL)
        return malloc(sizeof *f);
    l->unused = f->next;
    return f;
}

void link_free(struct link *l, struct link_frame *f)
{
    f->next = l->unused;
    l->unused = f;
}

static bool earlier(const struct link_event *a, const struct link_event *b)
{
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

static int push(struct link *l, struct link_event e)
{
    if (l->heap_n == l->heap_size) {
        const size_t size = l->heap_size != 0 ? 2 * l->heap_size : 1024;
        struct link_event *heap = realloc(l->heap, size * sizeof *heap);

        if (heap == NULL)
            return -ENOMEM;
        l->heap = heap;
        l->heap_size = size;
    }
    size_t i = l->heap_n++;
    for (; i > 0 && earlier(&e, &l->heap[(i - 1) / 2]); i = (i - 1) / 2)
        l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = e;
    return 0;
}

static struct link_event pop(struct link *l)
{
    const struct link_event top = l->heap[0], last = l->heap[--l->heap_n];
    size_t i = 0;

    for (;;) {
        size_t c = 2 * i + 1;

        if (c >= l->heap_n)
            break;
        if (c + 1 < l->heap_n && earlier(&l->heap[c + 1], &l->heap[c]))
            c++;
        if (!earlier(&l->heap[c], &last))
            break;
        l->heap[i] = l->heap[c];
        i = c;
    }
    l->heap[i] = last;
    return top;
}

/* --- the wire --- */

/* Through the queue: when the last bit is on its way, or LINK_NEVER if there was no room. */
static uint64_t transmit(struct link_direction *d, struct link_frame *f, struct view v,
                         uint64_t now)
{
    const struct link_conditions *c = &d->with;

    if (c->rate_mbit <= 0)
        return now;
    for (; d->queued > 0 && d->departs[d->first].time <= now; d->queued--) {
        d->queued_bytes -= d->departs[d->first].len;
        d->first = (d->first + 1) % LINK_QUEUE_MAX;
    }
    if (d->queued >= LINK_QUEUE_MAX || (c->queue > 0 && d->queued >= c->queue) ||
        (c->queue_bytes > 0 && (double)(d->queued_bytes + f->len) > c->queue_bytes)) {
        d->count.overflow++;
        return LINK_NEVER;
    }
    if (c->mark > 0 && d->queued >= c->mark && mark(f, v))
        d->count.marked++;
    if (d->free_at < now)
        d->free_at = now;
    d->free_at += (uint64_t)((f->len + LINK_WIRE_EXTRA) * 8000.0 / c->rate_mbit);
    d->departs[(d->first + d->queued++) % LINK_QUEUE_MAX] =
        (struct link_departure){d->free_at, f->len};
    d->queued_bytes += f->len;
    if (d->queued > d->count.queue_most)
        d->count.queue_most = d->queued;
    return d->free_at;
}

static int send_on(struct link *l, unsigned n, struct link_frame *f, struct view v, struct draw r,
                   uint64_t now)
{
    struct link_direction *d = &l->direction[n];
    const struct link_conditions *c = &d->with;
    uint64_t at = transmit(d, f, v, now);

    if (at == LINK_NEVER) {
        link_free(l, f);
        return 0;
    }
    at += (uint64_t)((c->delay_us + uniform(r, FOR_JITTER) * c->jitter_us) * 1000);
    if (chance(r, FOR_REORDER, c->reorder)) {
        const double half = c->delay_us / 2;

        at += (uint64_t)((half > 1000 ? half : 1000) * 1000);
        d->count.reordered++;
    } else {
        if (at < d->last)
            at = d->last;
        d->last = at;
    }
    return push(l, (struct link_event){at, l->order++, f, n});
}

static bool lost(struct link_direction *d, enum link_kind kind, struct draw r)
{
    const struct link_conditions *c = &d->with;

    d->burst[kind] = d->burst[kind] ? !chance(r, FOR_BURST, c->burst_leave)
                                    : chance(r, FOR_BURST, c->burst_enter);
    return chance(r, FOR_LOSS, d->burst[kind] ? c->burst_loss : c->loss);
}

int link_arrive(struct link *l, unsigned n, struct link_frame *f, uint64_t now)
{
    struct link_direction *d = &l->direction[n];
    const struct view v = look(f);
    const uint64_t stream = mix(l->seed * 2 * LINK_KINDS + n * LINK_KINDS + v.kind + 1);
    const struct draw r = {mix(stream ^ d->number[v.kind]++)};
    int rc;

    d->count.received++;
    if (lost(d, v.kind, r)) {
        d->count.lost++;
        link_free(l, f);
        return 0;
    }
    if (chance(r, FOR_DUP, d->with.dup)) {
        struct link_frame *copy = link_frame(l);

        if (copy == NULL)
            return -ENOMEM;
        copy->len = f->len;
        memcpy(copy->data, f->data, f->len);
        d->count.duplicated++;
        if ((rc = send_on(l, n, copy, v, r, now)) < 0)
            return rc;
    }
    if (chance(r, FOR_CORRUPT, d->with.corrupt) && turn_a_bit(f, v, draw(r, FOR_BIT)))
        d->count.corrupted++;
    return send_on(l, n, f, v, r, now);
}

uint64_t link_next(const struct link *l)
{
    return l->heap_n > 0 ? l->heap[0].time : LINK_NEVER;
}

struct link_frame *link_release(struct link *l, uint64_t now, unsigned *direction)
{
    if (l->heap_n == 0 || l->heap[0].time > now)
        return NULL;
    const struct link_event e = pop(l);
    struct link_counts *count = &l->direction[e.direction].count;
    const uint64_t late = now - e.time;

    count->delivered++;
    count->bytes += e.frame->len;
    count->late_ns += late;
    if (late > count->late_max)
        count->late_max = late;
    *direction = e.direction;
    return e.frame;
}

/* --- set up --- */

int link_open(struct link *l, uint64_t seed)
{
    *l = (struct link){.seed = seed};
    for (unsigned n = 0; n < 2; n++) {
        l->direction[n].with = (struct link_conditions){.queue = 1000, .burst_loss = 100};
        l->direction[n].departs = calloc(LINK_QUEUE_MAX, sizeof(struct link_departure));
        if (l->direction[n].departs == NULL) {
            link_close(l);
            return -ENOMEM;
        }
    }
    return 0;
}

void link_close(struct link *l)
{
    while (l->heap_n > 0)
        link_free(l, l->heap[--l->heap_n].frame);
    while (l->unused != NULL) {
        struct link_frame *f = l->unused;

        l->unused = f->next;
        free(f);
    }
    free(l->heap);
    free(l->direction[0].departs);
    free(l->direction[1].departs);
    *l = (struct link){0};
}

bool link_set(struct link *l, const char *name, double value)
{
    static const struct {
        const char *name;
        size_t off;
    } known[] = {
        {"delay-us", offsetof(struct link_conditions, delay_us)},
        {"jitter-us", offsetof(struct link_conditions, jitter_us)},
        {"rate-mbit", offsetof(struct link_conditions, rate_mbit)},
        {"queue", offsetof(struct link_conditions, queue)},
        {"queue-bytes", offsetof(struct link_conditions, queue_bytes)},
        {"mark", offsetof(struct link_conditions, mark)},
        {"loss", offsetof(struct link_conditions, loss)},
        {"burst-enter", offsetof(struct link_conditions, burst_enter)},
        {"burst-leave", offsetof(struct link_conditions, burst_leave)},
        {"burst-loss", offsetof(struct link_conditions, burst_loss)},
        {"reorder", offsetof(struct link_conditions, reorder)},
        {"dup", offsetof(struct link_conditions, dup)},
        {"corrupt", offsetof(struct link_conditions, corrupt)},
    };
    const bool ab = strncmp(name, "ab-", 3) == 0, ba = strncmp(name, "ba-", 3) == 0;

    if (ab || ba)
        name += 3;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) != 0)
            continue;
        for (unsigned n = 0; n < 2; n++)
            if ((n == 0 && !ba) || (n == 1 && !ab))
                *(double *)(void *)((char *)&l->direction[n].with + known[i].off) = value;
        return true;
    }
    return false;
}
