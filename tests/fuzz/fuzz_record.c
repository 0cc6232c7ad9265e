/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a successor of TCP finds in memory that only TCP writes, and that something has changed
 * since. Three connections and a listener are under way when TCP dies; words of its region and of
 * what it shows to applications are changed, a record's with or without its checksum; a successor
 * recovers, serves the traffic that goes on, and may die again. Input: {steps before the death,
 * circumstances}, then records {where, index, word, how, value} (6 bytes). Invariants: the
 * successor neither faults nor hangs, all frames come back, and whatever became of the connections,
 * new ones work, unless a record that holds in itself may have taken what they need.
 */
#include "fuzz.h"
#include "tests/crashpoint/pairs.c"
#include "tests/crashpoint/sock.c"
#include "tests/crashpoint/world.c"

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { BYTES = 20000, DEATHS = 3, RECORD = 6 };
/* Where a word is: one of the tables, or else. */
enum { AT_SHOWN = 6, AT_SEALED, AT_DEATH, PLACES };
static const struct {
    enum wiring_table table;
    size_t size; /* of an element */
} place[AT_SHOWN] = {{TABLE_TCP_CONNS, sizeof(struct tcp_conn_shm)},
                     {TABLE_TCP_OOO, sizeof(struct tcp_ooo_shm)},
                     {TABLE_TCP_INDEX, sizeof(struct tcp_index_entry)},
                     {TABLE_TCP_CHAINS, sizeof(struct tcp_chain)},
                     {TABLE_TCP_STATE, sizeof(struct tcp_state_shm)},
                     {TABLE_TCP_APPS, sizeof(struct tcp_app_shm)}};

static struct world w;
static struct sock listener, a[PAIRS], b[PAIRS];

static const struct region *own(void)
{
    return &w.side[0].map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_TCP, 0))];
}

/* The word of which a record speaks. */
static uint8_t *word_at(unsigned where, unsigned index, unsigned word)
{
    if (where == AT_SHOWN) {
        uint8_t *slot = (uint8_t *)sock_down(&a[index % PAIRS]);
        return slot + word * 8 % sizeof(struct down_slot);
    }
    uint64_t n;
    uint8_t *table = wiring_table(own(), place[where].table, &n);
    const struct tcp *t = w.side[0].tcp->state;
    /* Records that were never used are of no interest. */
    if (where <= 1)
        n = t->used;
    return table + index % n * place[where].size + word * 8 % place[where].size;
}

static void change(uint8_t *at, uint8_t how, uint16_t value)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    switch (how & 3) {
    case 0:
        v ^= 1ull << (value & 63);
        break;
    case 1:
        v += (uint64_t)(int64_t)(int16_t)value << (how >> 2 & 48);
        break;
    case 2:
        v = (uint64_t)value << (how >> 2 & 48) | (how & 4 ? 0 : v & 0xffff);
        break;
    default: /* a half, or all of it, as large as can be */
        v = how & 4 ? UINT64_MAX - value : v | 0xffffffffull << (how & 32);
    }
    memcpy(at, &v, sizeof v);
}

/* As a server would leave it that is wrong in its mind: a valid record with odd content. */
static void change_sealed(unsigned index, unsigned word, uint8_t how, uint16_t value)
{
    const size_t first = offsetof(struct tcp_record, kind) / 8;
    struct tcp *t = w.side[0].tcp->state;
    struct tcp_conn *k = &t->conn[index % t->used];
    uint8_t *r = (uint8_t *)&k->r;
    if (!k->ready)
        return;
    change(r + 8 * (first + word % (sizeof k->r / 8 - first)), how, value);
    tcp_record_commit(t, k);
}

static void run(unsigned steps)
{
    for (unsigned n = 0; n < steps; n++) {
        bool busy = false;
        for (unsigned i = 0; i < PAIRS; i++) {
            busy |= pair_move(&a[i]);
            busy |= pair_move(&b[i]);
        }
        pairs_step(&w, busy);
    }
}

static void begin(unsigned how)
{
    w.resets = w.two = w.quiet = true;
    w.faults = (struct wire_faults){.lose_every = how & 1 ? 11 : 0, .swap_every = how & 2 ? 5 : 0};
    w.chain_delay = 1 + (how >> 2 & 7);
    world_create(&w, NULL);
    const unsigned va = world_add_app(&w.side[0]), pa = world_add_app(&w.side[1]);
    for (unsigned i = 1; how & 32 && i < PAIRS; i++)
        world_add_app(&w.side[0]);
    listener = (struct sock){.s = &w.side[0], .app = va};
    sock_listen(&listener, 8080, 8);
    for (unsigned i = 0; i < 50 && !sock_replied(&listener, NULL); i++)
        pairs_step(&w, false);
    for (unsigned i = 0; i < PAIRS; i++) {
        a[i] = pair_socket(&w.side[0], how & 32 ? i : va, 1 + i, BYTES);
        b[i] = pair_socket(&w.side[1], pa, 1 + i, BYTES);
        sock_claim(&a[i], &listener);
        sock_connect(&b[i], &w.side[0], 8080);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, data + size};
    unsigned deaths = 1;
    bool sealed = false;
    const unsigned steps = fuzz_u8(&in) & 127;
    begin(fuzz_u8(&in));
    run(steps);
    while (in.end - in.p >= RECORD) {
        const unsigned where = fuzz_u8(&in) % PLACES, index = fuzz_u8(&in), word = fuzz_u8(&in);
        const uint8_t how = fuzz_u8(&in);
        const uint16_t value = (uint16_t)fuzz_uint(&in, 2);
        if (where == AT_SEALED) {
            change_sealed(index, word, how, value);
            sealed = true;
        } else if (where != AT_DEATH) {
            change(word_at(where, index, word), how, value);
        } else if (deaths++ < DEATHS) {
            world_successor(&w.side[0], END_KILLED);
            run(index & 31);
        }
    }
    world_successor(&w.side[0], END_KILLED);
    run(200);
    MUST(pairs_exchange(&w, listener.app, b[0].app, 9090, 6, 7, 0, 1, 100) || sealed);
    unsigned out = 1;
    for (unsigned i = 0; out && i < 2000; i++) { /* who waits for an answer sends again */
        pairs_step(&w, false);
        out = 0;
        for (unsigned f = 0; f < WORLD_FRAMES; f++)
            out += w.side[0].frame_out[f];
    }
    MUST(out == 0);
    world_destroy(&w);
    return 0;
}

/* Each table in the middle of the streams, early and late; and twice. */
size_t fuzz_seed(unsigned n, uint8_t *buf)
{
    enum { SEEDS = 24, CHANGES = 4 };
    size_t len = 0;
    if (n >= SEEDS)
        return 0;
    buf[len++] = (uint8_t)(8 + 9 * (n % 6));
    buf[len++] = (uint8_t)(n * 37);
    for (unsigned i = 0; i < CHANGES; i++) {
        const uint8_t where = (uint8_t)(n >= SEEDS / 2 && i == CHANGES / 2 ? AT_DEATH : n % 8);
        const uint8_t record[RECORD] = {where,
                                        (uint8_t)(n / 7 + i),
                                        (uint8_t)(n + 5 * i),
                                        (uint8_t)(n * 11 + i),
                                        (uint8_t)(17 * i),
                                        (uint8_t)(n & 3)};
        memcpy(buf + len, record, sizeof record);
        len += sizeof record;
    }
    return len;
}
