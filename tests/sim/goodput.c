/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Goodput of one connection over loss, delay and algorithm, in virtual time: a table kept in
 * goodput.txt next to this file, so that a change of the protocol engine shows as a difference in
 * the commit. The figures are the same on every machine.
 *
 *   sim_goodput FILE            compares; fails if a figure differs by more than TOLERANCE
 *   sim_goodput --update FILE   writes the file anew
 *   sim_goodput --seeds N [--path NAME]   only prints, of N runs each
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "servers/tcp/counters.h"
#include "sim.h"

/* Of 5 runs each. A change that is meant to leave the engine alone changes nothing at all; one of
 * the order of a few packets may move a cell by some percent without being better or worse. */
enum { RUNS = 5, BYTES = 3000000, TOLERANCE = 20 /* percent */, LINES = 64 };

struct path {
    const char *name;
    struct link link;
};

/* 100 Mbit/s with a queue of 100 ms at most, as in a campus network; the last ones are slow lines
 * with a short queue and with a bloated one. */
#define FAST .rate = 12500000, .queue = 250000
static const struct path paths[] = {
    {"1 ms, no loss", {FAST, .delay_ns = SIM_MS}},
    {"1 ms, 0.1 %", {FAST, .delay_ns = SIM_MS, .loss = 0.001}},
    {"1 ms, 1 %", {FAST, .delay_ns = SIM_MS, .loss = 0.01}},
    {"1 ms, 5 %", {FAST, .delay_ns = SIM_MS, .loss = 0.05}},
    {"10 ms, no loss", {FAST, .delay_ns = 10 * SIM_MS}},
    {"10 ms, 0.1 %", {FAST, .delay_ns = 10 * SIM_MS, .loss = 0.001}},
    {"10 ms, 1 %", {FAST, .delay_ns = 10 * SIM_MS, .loss = 0.01}},
    {"10 ms, 5 %", {FAST, .delay_ns = 10 * SIM_MS, .loss = 0.05}},
    {"50 ms, no loss", {FAST, .delay_ns = 50 * SIM_MS}},
    {"50 ms, 0.1 %", {FAST, .delay_ns = 50 * SIM_MS, .loss = 0.001}},
    {"50 ms, 1 %", {FAST, .delay_ns = 50 * SIM_MS, .loss = 0.01}},
    {"50 ms, 5 %", {FAST, .delay_ns = 50 * SIM_MS, .loss = 0.05}},
    {"10 ms, bursts",
     {FAST, .delay_ns = 10 * SIM_MS, .burst = {.enter = 0.002, .loss = 0.5, .ns = 5 * SIM_MS}}},
    {"10 ms, 2 % reordered",
     {FAST, .delay_ns = 10 * SIM_MS, .jitter_ns = 2 * SIM_MS, .reorder = 0.02}},
    {"10 ms, 1 MB/s, queue 20 kB", {.delay_ns = 10 * SIM_MS, .rate = 1000000, .queue = 20000}},
    {"10 ms, 1 MB/s, queue 500 kB", {.delay_ns = 10 * SIM_MS, .rate = 1000000, .queue = 500000}},
};

static void configure(struct stack_config *cfg, void *arg)
{
    cfg->tcp_congestion = *(uint8_t *)arg;
    cfg->tcp_rcvbuf = cfg->tcp_sndbuf = 1 << 20;
}

struct figures {
    uint64_t ns, sent, repeated;
};

static void transfer(const struct path *path, uint8_t algorithm, uint64_t seed, struct figures *f)
{
    static struct sim s;
    struct rng rng = {.s = seed};
    struct sim_socket listener, from, to;
    unsigned idle = 0;

    sim_create(&s, seed, SIM_STACKS, configure, &algorithm);
    s.stack[0].in.link = s.stack[1].in.link = path->link;
    s.stack[0].in.link.loss = 0; /* data is what is lost, not its acknowledgements */
    s.stack[0].in.link.burst.enter = s.stack[0].in.link.reorder = 0;
    const unsigned client = sim_add_app(&s.stack[0]), server = sim_add_app(&s.stack[1]);
    socket_init(&from, &s.stack[0], client, 0);
    socket_init(&listener, &s.stack[1], server, 0);
    socket_init(&to, &s.stack[1], server, 1);
    from.plan = (struct plan){.to_send = BYTES, .pattern = 1};
    to.plan = (struct plan){.pattern = 2};
    from.expect = 2;
    to.expect = 1;
    to.expected = BYTES;
    socket_listen(&listener, 7777, 16);
    while (to.stage != STAGE_DONE && !s.failed && s.now < SIM_START + 1000 * SIM_S) {
        unsigned n = sim_turn(&s);

        if (listener.stage == STAGE_LISTEN && socket_replied(&listener) && to.stage == STAGE_NONE) {
            socket_claim(&to, &listener);
            socket_connect(&from, &s.stack[1], 7777);
        }
        n += socket_step(&from, &rng);
        n += socket_step(&to, &rng);
        if (from.stage == STAGE_DONE && from.refused) /* no answer to ARP: these may be lost, too */
            socket_connect(&from, &s.stack[1], 7777);
        if (n != 0 || ++idle < 2) {
            idle = n != 0 ? 0 : idle;
            continue;
        }
        const uint64_t next = sim_next(&s);
        if (next == NEVER)
            sim_fail(&s, "nothing will ever happen again");
        else
            s.now = next > s.now ? next : s.now + 10 * SIM_US;
        idle = 0;
    }
    if (to.received != BYTES)
        sim_fail(&s, "%s, seed %lu: stuck after %lu bytes", path->name, (unsigned long)seed,
                 (unsigned long)to.received);
    if (s.failed)
        exit(1);
    const uint64_t *c =
        wiring_block(&s.stack[0].map->entry[REGION_OF_SERVER(s.stack[0].component[SIM_TCP]->id)])
            ->counter;
    f->ns += s.now - SIM_START;
    f->sent += c[TCP_C_SEGS_OUT];
    f->repeated += c[TCP_C_RETRANS];
    sim_destroy(&s);
}

struct row {
    char path[48];
    double kbytes[2], repeated[2];
};

static void measure(const struct path *path, unsigned seeds, struct row *r)
{
    snprintf(r->path, sizeof r->path, "%s", path->name);
    for (uint8_t a = 0; a < 2; a++) {
        struct figures f = {0};

        for (uint64_t seed = 1; seed <= seeds; seed++)
            transfer(path, a, seed, &f);
        r->kbytes[a] = (double)BYTES * seeds * 1e6 / (double)f.ns;
        r->repeated[a] = 1000.0 * (double)f.repeated / (double)(f.sent ? f.sent : 1);
    }
}

static void print(FILE *f, const struct row *r)
{
    fprintf(f, "%-28s | %8.0f %6.1f | %8.0f %6.1f\n", r->path, r->kbytes[0], r->repeated[0],
            r->kbytes[1], r->repeated[1]);
}

static void header(FILE *f, unsigned seeds)
{
    fprintf(f,
            "# Written by tests/sim/goodput.c (--update): kB/s of %u transfers of %d bytes, and\n"
            "# retransmissions per 1000 segments sent. Loss is that of data segments.\n"
            "# %-26s |    newreno      |     cubic\n",
            seeds, BYTES, "path, one way");
}

static bool far(double now, double kept)
{
    return now * 100 < kept * (100 - TOLERANCE) || kept * 100 < now * (100 - TOLERANCE);
}

/* True: as in the file, within the tolerance. */
static bool compare(const char *file, const struct row *rows, unsigned n)
{
    FILE *f = fopen(file, "r");
    char line[256];
    unsigned at = 0;
    bool same = true;

    if (f == NULL) {
        perror(file);
        return false;
    }
    while (fgets(line, sizeof line, f) != NULL) {
        struct row kept;

        if (line[0] == '#')
            continue;
        if (at == n || strncmp(line, rows[at].path, strlen(rows[at].path)) != 0 ||
            sscanf(line + 28, " | %lf %lf | %lf %lf", &kept.kbytes[0], &kept.repeated[0],
                   &kept.kbytes[1], &kept.repeated[1]) != 4) {
            fprintf(stderr, "not a row of this table: %s", line);
            same = false;
            break;
        }
        if (far(rows[at].kbytes[0], kept.kbytes[0]) || far(rows[at].kbytes[1], kept.kbytes[1])) {
            fprintf(stderr, "was  %snow  ", line);
            print(stderr, &rows[at]);
            same = false;
        }
        at++;
    }
    fclose(f);
    if (same && at != n) {
        fprintf(stderr, "%s has %u rows of %u\n", file, at, n);
        same = false;
    }
    if (!same)
        fprintf(stderr, "If that is what the change is for: sim_goodput --update %s\n", file);
    return same;
}

int main(int argc, char **argv)
{
    enum { N = sizeof paths / sizeof paths[0] };
    static const struct option options[] = {{"update", required_argument, NULL, 'u'},
                                            {"seeds", required_argument, NULL, 's'},
                                            {"path", required_argument, NULL, 'p'},
                                            {0}};
    static struct row rows[N];
    const char *update = NULL, *only = NULL;
    unsigned seeds = 0;
    int o;

    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o == 'u')
            update = optarg;
        else if (o == 's')
            seeds = (unsigned)strtoul(optarg, NULL, 10);
        else if (o == 'p')
            only = optarg;
    }
    const bool prints = seeds != 0, compares = !prints && update == NULL;
    if (argc - optind != compares || (only != NULL && !prints)) {
        fprintf(stderr, "usage: %s FILE | --update FILE | --seeds N [--path NAME]\n", argv[0]);
        return 2;
    }
    if (!prints)
        seeds = RUNS;
    header(stdout, seeds);
    for (unsigned i = 0; i < N; i++) {
        if (only != NULL && strcmp(paths[i].name, only) != 0)
            continue;
        measure(&paths[i], seeds, &rows[i]);
        print(stdout, &rows[i]);
        fflush(stdout);
    }
    if (prints)
        return 0;
    if (compares)
        return !compare(argv[optind], rows, N);
    FILE *f = fopen(update, "w");
    if (f == NULL) {
        perror(update);
        return 2;
    }
    header(f, seeds);
    for (unsigned i = 0; i < N; i++)
        print(f, &rows[i]);
    return fclose(f) != 0;
}
