/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a successor makes of memory that is not as its predecessor left it. Three connections, of
 * one application or of one each, move data; at a random step TCP dies, and random words of its
 * region are changed: records, hot words, ranges, index, chains, marks. Then a successor goes on.
 * Or what a live application has written is changed, with and without a death of TCP: ring
 * counters, requests, the queue of its slots. TCP never faults or hangs; what was not touched goes
 * on with exact streams; what was touched ends alone, or goes on where the change means nothing; no
 * frame is lost, no block missing to who asks for one; and new connections work.
 *
 *   damage [--seeds N] [--from S]
 */
#include "pairs.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BYTES = 30000, HANG_S = 20 };

static struct world w;
static uint64_t seed, state;
static struct sock listener, a[PAIRS], b[PAIRS];
static bool touched[PAIRS];

static uint64_t rnd(uint64_t below)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % below;
}

static void *table(unsigned what, uint64_t *n)
{
    return wiring_table(&w.side[0].map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_TCP, 0))], what, n);
}

/* Something else than it was: a bit, a small step, nothing, noise. */
static void change(void *p, size_t len)
{
    uint8_t *at = p;
    uint64_t v = 0;
    size_t n = len < 8 ? len : 8, off = len > 8 ? rnd(len / 8) * 8 : 0;
    memcpy(&v, at + off, n);
    switch (rnd(5)) {
    case 0:
        v ^= 1ull << rnd(8 * n);
        break;
    case 1:
        v += 1 + rnd(2000);
        break;
    case 2:
        v -= 1 + rnd(2000);
        break;
    case 3:
        v = 0;
        break;
    default:
        v = rnd(1ull << 31) << 33 ^ rnd(1ull << 31);
    }
    memcpy(at + off, &v, n);
}

static int pair_of(const struct tcp *t, uint32_t idx)
{
    for (int i = 0; i < PAIRS; i++)
        if (t->app[a[i].app]->slot_conn[a[i].slot] == idx + 1)
            return i;
    return -1;
}

static void touch(const struct tcp *t, uint32_t idx)
{
    int i = pair_of(t, idx);
    if (i >= 0)
        touched[i] = true;
}

static void damage(const struct tcp *t)
{
    uint64_t n;
    struct tcp_conn_shm *shm = table(TABLE_TCP_CONNS, &n);
    uint32_t idx = (uint32_t)rnd(t->used);
    struct tcp_chain *chain;
    struct tcp_ooo_shm *ooo;
    switch (rnd(11)) {
    case 9:
    case 10: /* the copy that held before, perhaps of another connection */
        shm[idx].select ^= 1;
        touch(t, idx);
        break;
    case 0:
    case 1:
        change(&shm[idx].record[rnd(2)], sizeof shm[idx].record[0]);
        touch(t, idx);
        break;
    case 2:
    case 3:
        change(&shm[idx], offsetof(struct tcp_conn_shm, record)); /* hot words */
        touch(t, idx);
        break;
    case 4:
        ooo = table(TABLE_TCP_OOO, &n);
        change(&ooo[idx].range[rnd(2)][rnd(4)], sizeof(struct tcp_range));
        touch(t, idx);
        break;
    case 5:
        for (unsigned i = 0; i < sizeof shm[idx] / 8; i++)
            change((uint8_t *)&shm[idx] + 8 * i, 8);
        touch(t, idx);
        break;
    case 6: { /* a hint: nobody is harmed */
        struct tcp_index_entry *e = table(TABLE_TCP_INDEX, &n);
        for (uint64_t i = 0; i < n; i++)
            if (e[i].word != 0 || rnd(8) == 0)
                change(&e[i], sizeof e[i]);
        break;
    }
    case 7:
        chain = table(TABLE_TCP_CHAINS, &n);
        chain += rnd(n);
        touch(t, chain->conn);
        change(chain, sizeof *chain);
        touch(t, chain->conn);
        break;
    default: /* redundant in itself */
        change(table(TABLE_TCP_STATE, &n), sizeof(struct tcp_state_shm));
    }
}

/* What application number i has written for its connection, or about all of its slots. */
static void damage_app(unsigned i)
{
    struct up_slot *up = sock_up(&a[i]);
    struct app_work *work =
        &((struct up_region *)(void *)w.side[0].map->entry[REGION_OF_APP(a[i].app, APP_UP)].base)
             ->work_tcp;
    switch (rnd(6)) {
    case 0:
    case 1:
        change(&up->tx_end, sizeof up->tx_end);
        break;
    case 2:
        change(&up->rx_read, sizeof up->rx_read);
        break;
    case 3: /* as if it had asked for something */
        up->op = (uint32_t)rnd(12);
        change(&up->arg0, sizeof up->arg0);
        up->req_id++;
        break;
    case 4:
        change(up, sizeof *up);
        break;
    default:
        if (rnd(2))
            change(&work->tail, sizeof work->tail);
        else
            change(&work->slot[rnd(WORK_SLOTS)], sizeof work->slot[0]);
        for (unsigned n = 0; n < PAIRS; n++)
            touched[n] |= a[n].app == a[i].app;
    }
    touched[i] = true;
}

/* True: in what TCP writes, so that it has to die. */
static bool damage_some(void)
{
    const struct tcp *t = w.side[0].tcp->state;
    bool own = false;
    for (unsigned n = 1 + (unsigned)rnd(4); n > 0; n--) {
        if (rnd(3) == 0) {
            damage_app((unsigned)rnd(PAIRS));
        } else {
            damage(t);
            own = true;
        }
    }
    return own;
}

static bool whole(const struct sock *k)
{
    return k->closed && !k->failed && k->eof && k->received == BYTES;
}

static unsigned failures;

static void fail(const char *what, unsigned i)
{
    fprintf(stderr, "seed %lu: %s %u\n", (unsigned long)seed, what, i);
    failures++;
}

static bool all_open(void)
{
    for (unsigned i = 0; i < PAIRS; i++)
        if (!a[i].open || !b[i].open)
            return false;
    return true;
}

static unsigned fates[3]; /* of touched connections: whole, ended, stuck */

static void run(void)
{
    state = seed * 77 + 5;
    w.resets = w.two = w.quiet = true;
    w.lossless = false;
    w.faults = (struct wire_faults){.lose_every = rnd(2) ? 11 : 0, .swap_every = rnd(2) ? 5 : 0};
    w.chain_delay = 1 + rnd(6);
    world_create(&w, NULL);
    const bool apart = rnd(2);
    unsigned va = world_add_app(&w.side[0]), pa = world_add_app(&w.side[1]);
    for (unsigned i = 1; apart && i < PAIRS; i++)
        world_add_app(&w.side[0]);
    /* The other copies of records, then, are of other connections, with blocks that are others'
     * now. */
    if (!pairs_exchange(&w, va, pa, 7070, 4, 3, -1, PAIRS, 2000))
        fail("connections before:", 0);
    listener = (struct sock){.s = &w.side[0], .app = va, .slot = 0};
    sock_listen(&listener, 8080, 8);
    for (unsigned i = 0; i < 50 && !sock_replied(&listener, NULL); i++)
        pairs_step(&w, false);
    for (unsigned i = 0; i < PAIRS; i++) {
        touched[i] = false;
        a[i] = pair_socket(&w.side[0], apart ? i : va, 1 + i, BYTES);
        b[i] = pair_socket(&w.side[1], pa, 1 + i, BYTES);
        sock_claim(&a[i], &listener);
        sock_connect(&b[i], &w.side[0], 8080);
    }
    uint64_t kill_in = 1 + rnd(60);
    const uint64_t limit = w.now + 600 * SEC;
    unsigned open = 2 * PAIRS;
    for (unsigned i = 0; i < 20000 && open && w.now < limit; i++) {
        bool busy = false;
        open = 0;
        for (unsigned k = 0; k < PAIRS; k++) {
            busy |= pair_move(&a[k]);
            busy |= pair_move(&b[k]);
            open += !a[k].closed + !b[k].closed;
        }
        pairs_step(&w, busy);
        if (all_open() && kill_in > 0 && --kill_in == 0) {
            if (damage_some() || rnd(2))
                world_successor(&w.side[0], END_KILLED);
        }
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        if (!touched[i]) {
            if (!whole(&a[i]))
                fail("a connection that was not touched did not go on:", i);
        } else {
            fates[whole(&a[i]) ? 0 : a[i].failed || a[i].closed ? 1 : 2]++;
        }
    }
    if (!pairs_exchange(&w, va, pa, 9090, 6, 7, 0, 1, 100)) /* it still does what it is for */
        fail("new connections:", 0);
    unsigned out = 1;
    for (unsigned i = 0; out && i < 2000; i++) { /* who waits for an answer sends again */
        pairs_step(&w, false);
        out = 0;
        for (unsigned f = 0; f < WORLD_FRAMES; f++)
            out += w.side[0].frame_out[f];
    }
    if (out)
        fail("frames are lost:", out);
    world_destroy(&w);
}

static void on_signal(int number)
{
    char text[80];
    int n = snprintf(text, sizeof text, "seed %lu: signal %d\n", (unsigned long)seed, number);
    if (write(STDERR_FILENO, text, (size_t)n) != n)
        _exit(3);
    signal(number, SIG_DFL);
    raise(number);
}

int main(int argc, char **argv)
{
    uint64_t seeds = 1000, from = 1, failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            seeds = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
            from = strtoull(argv[++i], NULL, 0);
        else
            return 2;
    }
    signal(SIGSEGV, on_signal);
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    for (seed = from; seed < from + seeds; seed++) {
        alarm(HANG_S);
        failures = 0;
        run();
        failed += failures != 0;
    }
    printf(
        "%lu seeds, %lu failed; connections that were touched: %u went on, %u ended, %u waited\n",
        (unsigned long)seeds, (unsigned long)failed, fates[0], fates[1], fates[2]);
    return failed != 0;
}
