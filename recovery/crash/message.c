/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a faulty server says to its neighbours. A message that it has just published is damaged
 * before its consumer has seen it, so that it is as if it had been written so; or the victim's end
 * of a queue is. Where the fields of messages are is said by the headers of the edges.
 */
#include "stores.h"

#include "libchan/edge/driver_ip.h"
#include "libchan/edge/frame_return.h"
#include "libchan/edge/packet.h"
#include "libchan/edge/pf_ip.h"
#include "libchan/edge/syscall_ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MOVE_WAIT_MS = 500, MESSAGE_WAIT_MS = 50, ATTEMPTS = 20, QUEUES = 64, GATHER_NS = 5000000 };
#define FAR (1ull << 32)

struct field {
    uint16_t off, size;
};
#define FIELD(type, member)                                                                        \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)NULL)->member)                                     \
    }

/* Offsets, lengths and numbers; and what says which kind it is. */
static const struct field packet_range[] = {
    FIELD(struct packet, hdr_len),         FIELD(struct packet, payload_len),
    FIELD(struct packet, piece[0].off),    FIELD(struct packet, piece[0].len),
    FIELD(struct packet, piece[0].region), FIELD(struct packet, chain),
    FIELD(struct packet, interface),       FIELD(struct packet, gso_size),
};
static const struct field packet_code[] = {
    FIELD(struct packet, protocol),  FIELD(struct packet, direction), FIELD(struct packet, pieces),
    FIELD(struct packet, csum),      FIELD(struct packet, l3),        FIELD(struct packet, l4),
    FIELD(struct packet, icmp_type), FIELD(struct packet, origin),
};
static const struct field rx_range[] = {FIELD(struct driver_rx, frame),
                                        FIELD(struct driver_rx, off), FIELD(struct driver_rx, len),
                                        FIELD(struct driver_rx, gso_size)};
static const struct field rx_code[] = {FIELD(struct driver_rx, csum)};
static const struct field verdict_range[] = {FIELD(struct pf_verdict, rule),
                                             FIELD(struct pf_verdict, rules_generation)};
static const struct field verdict_code[] = {FIELD(struct pf_verdict, verdict)};
static const struct field return_range[] = {FIELD(struct frame_return, frame)};
static const struct field return_code[] = {FIELD(struct frame_return, generation)};
static const struct field request_range[] = {FIELD(struct syscall_request, app),
                                             FIELD(struct syscall_request, port)};
static const struct field request_code[] = {FIELD(struct syscall_request, op)};
static const struct field reply_range[] = {FIELD(struct syscall_reply, client)};
static const struct field reply_code[] = {FIELD(struct syscall_reply, result)};

struct shape {
    const struct field *range, *code;
    unsigned ranges, codes;
};
#define SHAPE(name)                                                                                \
    {                                                                                              \
        name##_range, name##_code, sizeof name##_range / sizeof name##_range[0],                   \
            sizeof name##_code / sizeof name##_code[0]                                             \
    }

static struct shape shape_of(enum edge e)
{
    static const struct shape packet = SHAPE(packet), rx = SHAPE(rx), verdict = SHAPE(verdict),
                              back = SHAPE(return ), request = SHAPE(request), reply = SHAPE(reply);

    switch (e) {
    case EDGE_DRIVER_IP:
        return rx;
    case EDGE_PF_IP:
        return verdict;
    case EDGE_IP_RETURN:
    case EDGE_TCP_RETURN:
    case EDGE_UDP_RETURN:
        return back;
    case EDGE_SYSCALL_TCP:
    case EDGE_SYSCALL_UDP:
        return request;
    case EDGE_TCP_SYSCALL:
    case EDGE_UDP_SYSCALL:
        return reply;
    default:
        return packet;
    }
}

struct queue {
    enum wiring_role role; /* of the victim */
    enum edge edge;
    server_id peer;
    uint64_t off, count;
    uint32_t size;
};

static uint64_t *index_of(const struct region *own, const struct queue *q)
{
    return (uint64_t *)(void *)(own->base + q->off); /* tail and head alike are the first word */
}

/* The queues of the victim that are in use: their index moves within a moment. */
static unsigned moving_queues(const struct region *own, enum wiring_role role, const pid_t *peers,
                              struct queue *list)
{
    const struct region_header *h = (const struct region_header *)own->base;
    const struct wiring_entry *dir = (const struct wiring_entry *)(h + 1);
    struct queue all[QUEUES];
    uint64_t was[QUEUES];
    unsigned n = 0, moving = 0;

    for (uint32_t i = 0; i < h->dir_count && n < QUEUES; i++) {
        struct wiring_entry e;
        if (dir[i].role != role || peers[dir[i].peer] == 0 ||
            !wiring_read(own, role, dir[i].what, dir[i].peer, &e))
            continue;
        all[n] = (struct queue){.role = role,
                                .edge = e.what,
                                .peer = e.peer,
                                .off = e.off,
                                .count = e.count,
                                .size = e.size};
        was[n] = load_acquire(index_of(own, &all[n]));
        n++;
    }
    for (int ms = 0; ms < MOVE_WAIT_MS && moving == 0; ms += 10) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        for (unsigned i = 0; i < n; i++)
            if (load_acquire(index_of(own, &all[i])) != was[i])
                list[moving++] = all[i];
    }
    return moving;
}

static void put(uint8_t *at, const void *value, unsigned len, struct store *s)
{
    s->len = len < STORE_BYTES ? len : STORE_BYTES;
    memcpy(s->before, at, s->len);
    shm_copy(at, value, len);
    memcpy(s->after, at, s->len);
}

static void put_field(uint8_t *slot, struct field f, struct random *r, struct store *s)
{
    const uint64_t mask = f.size < 8 ? (1ull << 8 * f.size) - 1 : UINT64_MAX;
    uint64_t old = 0, value;

    memcpy(&old, slot + f.off, f.size);
    do { /* nearly right, or far away */
        const uint64_t values[] = {old + 1 + random_below(r, 4096), UINT64_MAX - random_below(r, 2),
                                   random_next(r)};
        value = values[random_below(r, 3)];
    } while (((value ^ old) & mask) == 0);
    put(slot + f.off, &value, f.size, s);
}

static void replay(const struct queue *q, uint8_t *slots, uint64_t index, struct random *r,
                   struct store *s)
{
    uint8_t *slot = slots + (index & (q->count - 1)) * q->size;
    const uint64_t back = 1 + random_below(r, 16);
    struct slot_head head;

    if (random_below(r, 2) == 0 && index > back) {
        put(slot, slots + ((index - back) & (q->count - 1)) * q->size, q->size, s);
        return;
    }
    memcpy(&head, slot, sizeof head);
    head.epoch -= (uint32_t)random_below(r, 3);
    head.src_index -= back;
    put(slot, &head, sizeof head, s);
}

static void damage(const struct queue *q, uint8_t *slots, uint64_t index, enum crash_class c,
                   struct random *r, struct store *s)
{
    const struct shape shape = shape_of(q->edge);
    uint8_t *slot = slots + (index & (q->count - 1)) * q->size, garbage[1024];

    switch (c) {
    case CRASH_GARBAGE:
        for (unsigned i = 0; i < sizeof garbage; i++)
            garbage[i] = (uint8_t)random_next(r);
        put(slot, garbage, q->size < sizeof garbage ? q->size : sizeof garbage, s);
        break;
    case CRASH_RANGE:
        put_field(slot, shape.range[random_below(r, shape.ranges)], r, s);
        break;
    case CRASH_OPCODE:
        put_field(slot, shape.code[random_below(r, shape.codes)], r, s);
        break;
    default:
        replay(q, slots, index, r, s);
    }
}

/* An index of the victim's jumps while it stands still, or it would take it back with the next
 * message; `peer`, if there is one, goes on and sees it. */
static int jump(uint64_t *at, struct target *victim, struct target *peer, struct store *s)
{
    int rc = target_stop(victim);

    if (rc < 0)
        return rc;
    const uint64_t far = load_acquire(at) + FAR;
    put((uint8_t *)at, &far, sizeof far, s);
    if (peer != NULL)
        target_go(peer);
    nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
    target_go(victim);
    return 1;
}

/* Damages a message that was published while its consumer stood still. The victim stands still for
 * a moment before, so that it has something to say even if it only ever answers that consumer. */
static int damage_message(const struct region *own, const struct queue *q, struct target *victim,
                          pid_t consumer, enum crash_class c, struct random *r, struct store *s,
                          uint64_t *index)
{
    struct chan_out *out = (struct chan_out *)(void *)(own->base + q->off);
    struct target peer;
    int rc = target_open(&peer, consumer);

    if (rc == 0)
        rc = target_stop(victim);
    const uint64_t tail = load_acquire(&out->tail);
    if (rc == 0) {
        nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
        rc = target_stop(&peer);
    }
    target_go(victim);
    for (int ms = 0; ms < MESSAGE_WAIT_MS && rc == 0; ms++) {
        const uint64_t now = load_acquire(&out->tail);
        if (now != tail) {
            *index = now - 1;
            if (c == CRASH_TAIL)
                rc = jump(&out->tail, victim, &peer, s);
            else {
                damage(q, (uint8_t *)(out + 1), *index, c, r, s);
                rc = 1;
            }
        } else {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    target_close(&peer);
    return rc == 0 ? -EAGAIN : rc;
}

static void set_witness(struct witness *w, const struct target *t, const struct queue *q,
                        server_id self)
{
    const bool out = q->role == WIRING_OUT;
    struct wiring_entry e;

    if (shared_map(&w->region, t, REGION_OF_SERVER(q->peer), false) < 0 ||
        !wiring_read(&w->region, out ? WIRING_IN : WIRING_OUT, q->edge, self, &e)) {
        witness_close(w);
        return;
    }
    /* Head and tail are the first word of each end, the generation of the queue is the next. */
    w->passed = e.off + offsetof(struct chan_in, head);
    w->generation = e.off + (out ? offsetof(struct chan_in, generation)
                                 : offsetof(struct chan_out, generation));
    w->was = load_relaxed((uint32_t *)(void *)(w->region.base + w->generation));
}

/* On one queue that is in use now: -ENODATA, there is none; -EAGAIN, the consumer stood still for
 * nothing. */
static int attempt(const struct region *own, struct target *t, server_id id, const pid_t *peers,
                   enum crash_class c, struct random *r, struct store *s, struct witness *w)
{
    struct queue queue[QUEUES];
    const unsigned n = moving_queues(own, c == CRASH_HEAD ? WIRING_IN : WIRING_OUT, peers, queue);

    if (n == 0)
        return -ENODATA;
    const struct queue *q = &queue[random_below(r, n)];
    if (peers[q->peer] == t->pid)
        return -EOPNOTSUPP;
    witness_close(w);
    set_witness(w, t, q, id);
    *s = (struct store){.at = q->off};
    snprintf(s->place, sizeof s->place, "%s", edge_name(q->edge));
    if (c == CRASH_TAIL || c == CRASH_HEAD) /* seen when the other side asks for a new beginning */
        w->passed = 0;
    else
        w->generation = 0;
    if (c == CRASH_HEAD)
        return jump(index_of(own, q), t, NULL, s);
    return damage_message(own, q, t, peers[q->peer], c, r, s, &w->beyond);
}

int message_damage(struct target *t, server_id id, const pid_t *peers, enum crash_class *c,
                   struct random *r, struct store *list, unsigned max, struct witness *w)
{
    struct region own = {0};

    *w = (struct witness){0};
    *c = crash_class_draw(*c, r);
    int rc = max == 0 ? -EINVAL : shared_map(&own, t, REGION_OF_SERVER(id), true);
    if (rc < 0)
        return rc;
    rc = -EAGAIN;
    for (unsigned k = 0; k < ATTEMPTS && rc == -EAGAIN; k++)
        rc = attempt(&own, t, id, peers, *c, r, &list[0], w);
    region_unmap(&own);
    if (rc < 0)
        witness_close(w);
    return rc;
}

bool witness_saw(const struct witness *w)
{
    const uint8_t *base = w->region.base;

    if (base == NULL)
        return false;
    if (w->generation != 0 &&
        load_relaxed((const uint32_t *)(const void *)(base + w->generation)) != w->was)
        return true;
    return w->passed != 0 &&
           load_acquire((const uint64_t *)(const void *)(base + w->passed)) > w->beyond;
}

void witness_close(struct witness *w)
{
    if (w->region.base != NULL)
        region_unmap(&w->region);
    *w = (struct witness){0};
}
