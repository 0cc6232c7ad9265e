/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Received frames through ip and pf. Input: records of {kind, length (2), bytes}. Invariants: each
 * frame comes back once or is delivered once; nothing that pf blocks is delivered; what ip sends
 * is well formed; after a minute nothing is held.
 */
#include "fuzz.h"
#include "tests/unit/ip_world.h"

enum { KIND_TIME = 6, FIX_CHECKSUMS = 0x80, FRAMES_MAX = 100 };
#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static unsigned seen[FRAMES_MAX + 1];

static void upward(struct world *w, struct packet *p, struct chan_tx *ret)
{
    static uint8_t all[70000];

    world_bytes(w, p, all, sizeof all); /* every piece lies where it says */
    MUST(p->icmp_type != 0 || get16(p->hdr + p->l4 + 2) != 666);
    MUST(p->hdr_len - p->l4 >= 8);
    if (p->icmp_type != 0)
        return;
    if (p->origin == IP) {
        world_give_buffer(ret, p->chain, p->chain_generation);
        return;
    }
    MUST(p->chain_generation <= FRAMES_MAX);
    seen[p->chain_generation]++;
}

static void take(struct world *w)
{
    struct packet p;
    struct frame_return r;
    static uint8_t all[70000];

    for (unsigned i = 0; i < WORLD_PORTS; i++) {
        while (world_take(&w->driver[i].from_ip, &p)) {
            const size_t n = world_bytes(w, &p, all, sizeof all);
            struct ipv4 h;
            struct arp a;

            if (get16(all + 12) == ETH_ARP)
                MUST(arp_parse(&a, all + 14, n - 14));
            else
                MUST(n - 14 <= 1500 && ipv4_parse(&h, all + 14, n - 14, n - 14) == IPV4_OK &&
                     h.src != 0 && h.total_len == n - 14);
        }
        while (world_take_return(&w->driver[i].returned, &r)) {
            MUST(r.generation <= FRAMES_MAX);
            seen[r.generation]++;
        }
    }
    while (world_take(&w->tcp.from_ip, &p))
        upward(w, &p, &w->tcp.ret);
    while (world_take(&w->udp.from_ip, &p))
        upward(w, &p, &w->udp.ret);
}

/* Checksums that a mutation broke are put right: what is behind them is to be reached. */
static void fix(uint8_t *f, size_t len)
{
    if (len < ETH_LEN + IPV4_LEN || get16(f + 12) != ETH_IPV4)
        return;
    const size_t hlen = (f[14] & 15u) * 4;
    if (hlen < IPV4_LEN || ETH_LEN + hlen > len)
        return;
    put16(f + 24, 0);
    put_csum(f + 24, csum_fold(csum_partial(f + 14, hlen, 0)));
    const size_t total = get16(f + 16);
    if (f[23] != PROTO_ICMP || total < hlen + ICMP_LEN || ETH_LEN + total > len)
        return;
    uint8_t *l4 = f + ETH_LEN + hlen;
    put16(l4 + 2, 0);
    put_csum(l4 + 2, csum_fold(csum_partial(l4, total - hlen, 0)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    struct stack_config cfg;
    static uint8_t f[1600];

    memset(seen, 0, sizeof seen);
    world_config(&cfg);
    cfg.rules = 1;
    cfg.rule[0] = (struct config_rule){.action = RULE_BLOCK,
                                       .direction = RULE_IN,
                                       .interface = 255,
                                       .dst_port_lo = 666,
                                       .dst_port_hi = 666};
    struct world *w = world_new(&cfg);
    world_start(w, w->ip);
    world_start(w, w->pf);

    while (in.p < in.end && w->frame_generation < FRAMES_MAX) {
        const uint8_t kind = fuzz_u8(&in);
        size_t len = fuzz_uint(&in, 2) % sizeof f;

        if ((kind & 7) == KIND_TIME) {
            w->now += len * (WORLD_SECOND / 100);
        } else {
            for (size_t i = 0; i < len; i++)
                f[i] = fuzz_u8(&in);
            if (kind & FIX_CHECKSUMS)
                fix(f, len);
            world_frame_gso(w, kind & 1, f, len, (kind >> 1 & 3) % 3, 0);
        }
        world_run(w);
        take(w);
    }
    for (unsigned i = 0; i < 4; i++) {
        w->now += 31 * WORLD_SECOND;
        world_run(w);
        take(w);
    }
    for (uint32_t g = 1; g <= w->frame_generation; g++)
        MUST(seen[g] == 1);
    for (unsigned i = 0; i < 16; i++)
        MUST(world_state(w)->buffer[i].owner == BUFFER_FREE);
    world_free(w);
    return 0;
}

static size_t record(uint8_t *buf, size_t at, uint8_t kind, const uint8_t *f, size_t len)
{
    buf[at] = kind;
    buf[at + 1] = (uint8_t)len;
    buf[at + 2] = (uint8_t)(len >> 8);
    if ((kind & 7) == KIND_TIME)
        return at + 3;
    memcpy(buf + at + 3, f, len);
    return at + 3 + len;
}

size_t fuzz_seed(unsigned n, uint8_t *buf)
{
    static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct ipv4 h = {.src = PEER, .dst = OURS, .id = 3, .protocol = PROTO_UDP};
    uint8_t f[1600], l4[1600];
    size_t at = record(buf, 0, 0, f, make_arp(f, all, ARP_REQUEST, peer_mac, PEER, OURS));

    memset(l4, 0, sizeof l4);
    switch (n) {
    case 0:
        h.protocol = PROTO_TCP;
        return record(buf, at, 0x80, f, make_ipv4(f, &h, l4, make_tcp(l4, 5, 80, 1, 30)));
    case 1:
        return record(buf, at, 0x80, f, make_ipv4(f, &h, l4, make_udp(l4, 5, 53, 1, 30)));
    case 2:
        h.protocol = PROTO_ICMP;
        return record(buf, at, 0x80, f, make_ipv4(f, &h, l4, make_echo(l4, 5, 53, 80)));
    case 3: /* fragments */
        make_udp(l4, 1, 53, 9, 292);
        h.mf = true;
        at = record(buf, at, 0x80, f, make_ipv4(f, &h, l4, 104));
        h.offset = 104;
        at = record(buf, at, 0x80, f, make_ipv4(f, &h, l4 + 104, 104));
        h.offset = 208;
        h.mf = false;
        return record(buf, at, 0x80, f, make_ipv4(f, &h, l4 + 208, 92));
    case 4: { /* an ICMP error about ours */
        const struct ipv4 q = {
            .ttl = 9, .protocol = PROTO_TCP, .total_len = 40, .src = OURS, .dst = PEER};
        l4[0] = ICMP_UNREACHABLE;
        l4[1] = ICMP_TOO_BIG;
        ipv4_emit(l4 + 8, &q);
        h.protocol = PROTO_ICMP;
        return record(buf, at, 0x80, f, make_ipv4(f, &h, l4, 48));
    }
    case 5: /* ARP that claims what is another's, and time */
        at = record(buf, at, 0, f, make_arp(f, our_mac, ARP_REPLY, other_mac, PEER, OURS));
        at = record(buf, at, KIND_TIME, f, 150);
        return record(buf, at, 0, f, make_arp(f, all, ARP_REQUEST, other_mac, OURS, OURS));
    case 6: /* options */
        h.protocol = PROTO_TCP;
        make_ipv4(f, &h, l4, make_tcp(l4, 5, 666, 1, 30));
        memmove(f + 38, f + 34, 50);
        f[14] = 0x46;
        put16(f + 16, 74);
        memset(f + 34, 1, 4);
        return record(buf, at, 0x80, f, 88);
    case 7: /* an unknown protocol, and fragments that never end */
        h.protocol = 132;
        at = record(buf, at, 0x80, f, make_ipv4(f, &h, l4, 40));
        h.mf = true;
        at = record(buf, at, 0x80, f, make_ipv4(f, &h, l4, 40));
        return record(buf, at, KIND_TIME, f, 1500);
    default:
        return 0;
    }
}
