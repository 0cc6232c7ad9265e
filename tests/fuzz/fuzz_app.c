/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A byzantine application: anything at any time in its up region, while the UDP server works, is
 * killed and recovers. Its counters must only grow, what is sent must be in the pool, and the
 * application next to it must get what it asks for.
 */
#include "fuzz.h"
#include "tests/unit/udp_world.h"

static struct world w;

static void must(bool v)
{
    if (!v)
        abort();
}

struct input {
    const uint8_t *data;
    size_t left;
};

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
        v = v << 8 | *in->data++;
    return v;
}

/* Numbers that are near something as often as not. */
static uint64_t number(struct input *in)
{
    const struct down_slot *d = down_slot(&w, 0, 0);
    const uint64_t v = take(in, 1);

    switch (v & 7) {
    case 0:
        return v >> 3;
    case 1:
        return take(in, 8);
    case 2:
        return d->tx_una + (v >> 3) * 64;
    case 3:
        return d->rx_nxt - (v >> 3) * 64;
    case 4:
        return d->tx_una + w.cfg.udp_sndbuf - 16 + (v >> 3);
    case 5:
        return UINT64_MAX - (v >> 3);
    case 6:
        return 1ull << (take(in, 1) & 63);
    default:
        return take(in, 2);
    }
}

static void drain(void)
{
    static uint8_t data[1 << 17];
    struct packet p;

    while (ip_take(&w, &p, data, true))
        for (unsigned i = 0; i < p.pieces; i++)
            must(p.piece[i].region == REGION_OF_SERVER(UDP) && p.piece[i].len <= UDP_BUFFER_SIZE);
    driver_collect(&w);
}

static void step(struct input *in)
{
    const uint64_t op = take(in, 1);
    const uint32_t slot = op >> 4 & 3;
    struct up_slot *up = up_slot(&w, 0, slot);

    switch (op & 15) {
    case 0: { /* any word of the slot */
        uint32_t *word = (uint32_t *)up;
        word[take(in, 1) % (sizeof *up / 4)] = (uint32_t)number(in);
        break;
    }
    case 1:
        up->tx_end = number(in);
        break;
    case 2:
        up->rx_read = number(in);
        break;
    case 3: { /* bytes where the server will look for a datagram */
        const struct down_slot *d = down_slot(&w, 0, slot);
        const struct ring_desc *r = &d->tx[d->select & 1];
        struct dgram h = {.len = (uint32_t)number(in), .remote = name_v4(PEER, 7)};
        if (r->block[0].size == 0)
            break;
        h.remote.addr.family = (uint8_t)take(in, 1);
        memcpy(app_ring((uint8_t *)up_region(&w, 0), r, d->tx_una & ~63ull), &h, sizeof h);
        break;
    }
    case 4:
        up->op = (uint32_t)take(in, 1) % 12;
        up->req_id++;
        break;
    case 5:
        up->generation++;
        break;
    case 6:
        up->released = up->generation;
        break;
    case 7:
        up->local = name_v4(0, (uint16_t)number(in));
        up->remote = name_v4(PEER, (uint16_t)number(in));
        break;
    case 8:
        up->arg0 = (uint32_t)take(in, 1) % 24;
        up->arg1 = number(in);
        break;
    case 9:
        up->target_slot = (uint32_t)take(in, 1) % 5;
        up->target_app = (uint32_t)take(in, 1) % 3;
        up->target_generation = 1;
        up->token = up->share_token = 5;
        break;
    case 10:
        up_region(&w, 0)->work_udp.tail = number(in);
        break;
    case 11:
        up_region(&w, 0)->work_udp.scan = number(in);
        break;
    case 12:
        ip_send(&w, name_v4(PEER, 7), name_v4(OUR_ADDRESS, down_slot(&w, 0, slot)->local.port),
                "payload", (uint32_t)take(in, 1) % 8, 0);
        settle(&w);
        drain();
        break;
    case 13:
        if (take(in, 1) < 32)
            udp_restart(&w, 2);
        break;
    default:
        push(&w, 0, slot);
        turn(&w);
        drain();
        break;
    }
}

/* A session of each length: sends, options, closes, counters set to this and that. */
size_t fuzz_seed(unsigned n, uint8_t *buf)
{
    static const uint8_t session[] = {
        3,  7,  4,  1,  0x12, 14,         /* a datagram, sent */
        12, 5,  2,  8,  14,               /* one received, and read */
        8,  21, 7,  16, 4,    6,  14,     /* an option */
        7,  9,  9,  4,  2,    14,         /* another peer */
        13, 1,                            /* a kill */
        3,  1,  4,  1,  0x22, 14,         /* once more */
        10, 6,  40, 11, 8,    14,         /* indices that cannot be */
        4,  5,  6,  14, 5,    4,  1,  14, /* closed, and used again */
    };

    if (n >= 8)
        return 0;
    size_t len = 0;
    for (unsigned i = 0; i <= n; i++, len += sizeof session)
        memcpy(buf + len, session, sizeof session);
    return len - n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint64_t rx[4] = {0}, tx[4] = {0};
    struct dgram h;
    char b[8];

    world_make(&w, 2);
    for (uint32_t i = 0; i < 2; i++) {
        open_slot(&w, 0, i);
        must(do_connect(&w, 0, i, name_v4(PEER, 7)) == 0);
    }
    while (in.left > 0) {
        step(&in);
        for (uint32_t i = 0; i < 4; i++) {
            const struct down_slot *d = down_slot(&w, 0, i);
            must((d->rx_nxt & OFF_MASK) >= rx[i] && d->tx_una >= tx[i]);
            must(d->tx_free <= d->tx_una);
            rx[i] = d->rx_nxt & OFF_MASK;
            tx[i] = d->tx_una;
        }
    }
    for (unsigned i = 0; i < 50; i++) {
        settle(&w);
        drain();
    }
    /* The neighbour. */
    open_slot(&w, 1, 0);
    must(do_connect(&w, 1, 0, name_v4(PEER, 77)) == 0);
    ip_send(&w, name_v4(PEER, 77), name_v4(OUR_ADDRESS, down_slot(&w, 1, 0)->local.port), "hello",
            5, 0);
    settle(&w);
    must(app_read(&w, 1, 0, &h, b, sizeof b) == 5 && memcmp(b, "hello", 5) == 0);
    host_app_gone(w.c, 0);
    for (unsigned i = 0; i < 200 && !host_app_done(w.c, 0); i++) {
        settle(&w);
        drain();
    }
    must(host_app_done(w.c, 0));
    world_free(&w);
    return 0;
}
