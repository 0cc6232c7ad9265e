/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Mad neighbours and a mad predecessor: garbage in the slots and indices of every edge into ip and
 * pf, garbage in ip's own region found by its successor. Input: records of {operation, arguments}.
 * Invariants: no crash, no endless loop, no access outside the regions (with ASan), and afterwards
 * ip still works for a neighbour that behaves.
 */
#include "fuzz.h"
#include "tests/unit/ip_world.h"

static const struct {
    enum edge edge;
    server_id from, to;
} edges[] = {
    {EDGE_DRIVER_IP, DRIVER(0), IP},
    {EDGE_DRIVER_IP, DRIVER(1), IP},
    {EDGE_TCP_IP, TCP, IP},
    {EDGE_UDP_IP, UDP, IP},
    {EDGE_PF_IP, PF, IP},
    {EDGE_TCP_RETURN, TCP, IP},
    {EDGE_UDP_RETURN, UDP, IP},
    {EDGE_IP_PF, IP, PF},
    {EDGE_IP_DRIVER, IP, DRIVER(0)},
    {EDGE_IP_TCP, IP, TCP},
    {EDGE_IP_UDP, IP, UDP},
    {EDGE_IP_RETURN, IP, DRIVER(0)},
};
enum { EDGE_COUNT = sizeof edges / sizeof edges[0], FOREIGN_PRODUCERS = 7 };

static struct chan_out *out_of(struct world *w, unsigned e)
{
    const struct region *r = world_region(w, edges[e].from);
    const struct wiring_entry *d = wiring_find(r, WIRING_OUT, edges[e].edge, edges[e].to);

    return (struct chan_out *)(r->base + d->off);
}

static struct chan_in *in_of(struct world *w, unsigned e)
{
    const struct region *r = world_region(w, edges[e].to);
    const struct wiring_entry *d = wiring_find(r, WIRING_IN, edges[e].edge, edges[e].from);

    return (struct chan_in *)(r->base + d->off);
}

/* A slot with bytes of the input, behind the tail. */
static void garbage_slot(struct world *w, unsigned e, struct fuzz_in *in)
{
    const struct region *r = world_region(w, edges[e].from);
    const struct wiring_entry *d = wiring_find(r, WIRING_OUT, edges[e].edge, edges[e].to);
    struct chan_out *out = out_of(w, e);
    uint8_t *slot =
        (uint8_t *)(out + 1) + (out->tail & (d->count - 1)) * d->size + sizeof(struct slot_head);
    const unsigned n = 1 + fuzz_u8(in) % 64;
    unsigned at = fuzz_u8(in);

    for (unsigned i = 0; i < n; i++, at++) {
        const uint8_t v = fuzz_u8(in);
        if (at < d->size - sizeof(struct slot_head))
            slot[at] = v;
    }
    ((struct slot_head *)(void *)(slot - sizeof(struct slot_head)))->src_index = fuzz_u8(in);
    out->tail++;
}

static void turns(struct world *w, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        component_turn(w->ip, w->now);
        component_turn(w->pf, w->now);
        ip_ops.pending(w->ip);
        ip_ops.deadline(w->ip);
    }
}

/* The consumers of ip's queues take everything, whatever it is. */
static void consume(struct world *w)
{
    for (unsigned e = FOREIGN_PRODUCERS + 1; e < EDGE_COUNT; e++) {
        in_of(w, e)->generation = out_of(w, e)->generation;
        in_of(w, e)->head = out_of(w, e)->tail;
    }
}

static void step(struct world *w, struct fuzz_in *in)
{
    const uint8_t op = fuzz_u8(in);

    switch (op % 10) {
    case 0:
    case 1:
    case 2:
        garbage_slot(w, fuzz_u8(in) % FOREIGN_PRODUCERS, in);
        break;
    case 3: { /* a tail goes anywhere */
        struct chan_out *out = out_of(w, fuzz_u8(in) % FOREIGN_PRODUCERS);
        out->tail += fuzz_uint(in, op & 16 ? 8 : 1);
        break;
    }
    case 4: { /* a head goes anywhere */
        struct chan_in *i =
            in_of(w, FOREIGN_PRODUCERS + fuzz_u8(in) % (EDGE_COUNT - FOREIGN_PRODUCERS));
        i->head += fuzz_uint(in, op & 16 ? 8 : 1);
        break;
    }
    case 5: /* a generation changes */
        if (op & 16)
            out_of(w, fuzz_u8(in) % FOREIGN_PRODUCERS)->generation += (uint32_t)fuzz_uint(in, 1);
        else
            in_of(w, FOREIGN_PRODUCERS + fuzz_u8(in) % (EDGE_COUNT - FOREIGN_PRODUCERS))
                ->generation += (uint32_t)fuzz_uint(in, 1);
        break;
    case 6: /* time, and all that was sent is done */
        w->now += fuzz_uint(in, 2) * (WORLD_SECOND / 1000);
        consume(w);
        break;
    case 7: { /* ip goes mad in its state, dies, and is followed */
        uint8_t *state = (uint8_t *)world_state(w);
        const uint64_t at = fuzz_uint(in, 3) % sizeof(struct ip_state);
        const unsigned n = fuzz_u8(in) % 32;

        for (unsigned i = 0; i < n && at + i < sizeof(struct ip_state); i++)
            state[at + i] = fuzz_u8(in);
        world_start(w, w->ip);
        break;
    }
    case 8: { /* or in its questions, or in the list of those that wait */
        uint64_t n = 0;
        uint8_t *base = op & 16 ? (uint8_t *)(out_of(w, 7) + 1)
                                : wiring_table(world_region(w, IP), TABLE_IP_PENDING, &n);
        const uint64_t at = fuzz_uint(in, 2) % (8 * sizeof(struct packet));
        const unsigned len = fuzz_u8(in) % 32;

        for (unsigned i = 0; i < len; i++)
            base[at + i] = fuzz_u8(in);
        world_start(w, w->ip);
        break;
    }
    default:
        world_start(w, op & 16 ? w->pf : w->ip);
    }
    turns(w, 2);
}

/* Whatever happened: with neighbours that follow the protocol again, a segment gets through. */
static void must_work(struct world *w)
{
    static uint8_t b[256], l4[256];
    const struct ipv4 h = {.src = PEER, .dst = OURS, .protocol = PROTO_TCP};
    struct packet p;

    world_start(w, w->pf); /* its region was written behind its back */
    for (unsigned i = 0; i < 40; i++) {
        consume(w);
        for (unsigned e = 0; e < FOREIGN_PRODUCERS; e++) {
            if (e == 4)
                continue; /* pf is real and does it itself */
            /* As chan.c's producer: never back, and it follows a reset. */
            if (out_of(w, e)->generation != in_of(w, e)->generation ||
                out_of(w, e)->tail - in_of(w, e)->head > 16)
                out_of(w, e)->tail = in_of(w, e)->head;
            out_of(w, e)->generation = in_of(w, e)->generation;
        }
        turns(w, 4);
    }
    world_ends(w);
    while (world_take(&w->tcp.from_ip, &p))
        ;
    const uint64_t before = world_count(w, IP_C_TO_TCP);
    world_frame(w, 0, b, make_ipv4(b, &h, l4, make_tcp(l4, 5, 80, 77, 10)));
    for (unsigned i = 0; i < 8; i++)
        turns(w, 1);
    if (world_count(w, IP_C_TO_TCP) != before + 1) {
        fprintf(stderr, "ip does not work any more\n");
        for (unsigned e = 0; e < EDGE_COUNT; e++)
            fprintf(stderr, "%s: tail %lu head %lu generations %u %u\n", edge_name(edges[e].edge),
                    out_of(w, e)->tail, in_of(w, e)->head, out_of(w, e)->generation,
                    in_of(w, e)->generation);
        fprintf(stderr, "answered %lu\n", world_state(w)->answered);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    struct world *w = world_new(NULL);

    world_start(w, w->ip);
    world_start(w, w->pf);
    world_introduce(w, PEER, peer_mac);
    turns(w, 2);
    while (in.p < in.end)
        step(w, &in);
    must_work(w);
    world_free(w);
    return 0;
}

/* Seeds: real slots, cut into records of at most 64 bytes that write the same slot. */
size_t fuzz_seed(unsigned n, uint8_t *buf)
{
    uint32_t x = n * 2654435761u + 12345;
    size_t at = 0;

    if (n >= 32)
        return 0;
    for (unsigned i = 0; i < 12; i++) {
        x = x * 1664525 + 1013904223;
        const unsigned op = (x >> 16) % 10;
        buf[at++] = (uint8_t)(op | (x >> 27 & 1) << 4);
        const unsigned bytes = op < 3 ? 70 : 8;
        if (op < 3) { /* plausible packets: small lengths, right families */
            buf[at++] = (uint8_t)(x >> 8 & 7);
            buf[at++] = 40;
            buf[at++] = (uint8_t)((x >> 3) % 3 * 40);
        }
        for (unsigned k = 0; k < bytes; k++) {
            x = x * 1664525 + 1013904223;
            buf[at++] = (x >> 28) < 6    ? 0
                        : (x >> 28) < 12 ? (uint8_t)(x >> 24 & 7)
                                         : (uint8_t)(x >> 16);
        }
    }
    return at;
}
