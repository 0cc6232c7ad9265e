/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Random runs: several connections between two stacks, both directions at once, over a wire drawn
 * from the seed, while components die. After each run: every stream was equal byte for byte, every
 * connection ended in order, and no frame is missing from the pool.
 *
 *   sim_run [--seeds N] [--from S] [--json FILE]
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

enum { CONNECTIONS = 4, PORT = 7777 };

struct totals {
    uint64_t seeds, failed, crashes, bytes;
};

/* True: all is well. */
static bool run(uint64_t seed, struct totals *t)
{
    static struct sim s;
    struct rng rng = {.s = seed * 77 + 5};
    const bool clean = rng_chance(&rng, 0.2);
    const struct wire_conditions wire = {
        .loss = clean ? 0 : (double)rng_below(&rng, 5) / 100,
        .duplicate = clean ? 0 : (double)rng_below(&rng, 3) / 100,
        .reorder = clean ? 0 : (double)rng_below(&rng, 10) / 100,
        .corrupt = clean ? 0 : (double)rng_below(&rng, 2) / 100,
        .delay_ns = rng_below(&rng, 20) * SIM_MS / 2,
        .jitter_ns = rng_below(&rng, 10) * SIM_MS / 2,
        .queue = 200,
    };
    struct sim_socket listener = {0}, side[2][CONNECTIONS];
    bool ok = true;

    sim_create(&s, seed, &wire);
    s.crash_chance = rng_chance(&rng, 0.8) ? 0.002 : 0;
    memset(side, 0, sizeof side);
    listener.st = &s.stack[1];
    listener.app = sim_add_app(&s.stack[1]);
    socket_listen(&listener, PORT);
    const unsigned client = sim_add_app(&s.stack[0]);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        const uint64_t bytes = 1 + rng_below(&rng, 300000);

        side[0][i] = (struct sim_socket){.st = &s.stack[0],
                                         .app = client,
                                         .slot = i,
                                         .to_send = bytes,
                                         .pattern = seed,
                                         .expect = seed + 1000,
                                         .slow = rng_chance(&rng, 0.3)};
        side[1][i] = (struct sim_socket){.st = &s.stack[1],
                                         .app = listener.app,
                                         .slot = 1 + i,
                                         .pattern = seed + 1000,
                                         .expect = seed,
                                         .slow = rng_chance(&rng, 0.3)};
    }
    /* Accepted connections do not say which connect() they belong to: all send the same amount. */
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        side[0][i].to_send = side[1][i].to_send = side[0][0].to_send;
        socket_claim(&side[1][i], &listener);
    }

    const uint64_t end = s.now + 900000 * SIM_MS;
    unsigned finished = 0, connected = 0, idle = 0;
    while (ok && finished < 2 * CONNECTIONS && s.now < end) {
        if (connected < CONNECTIONS && socket_done(&listener) && rng_chance(&rng, 0.05))
            socket_connect(&side[0][connected++], &s.stack[1].cfg.interface[0].addr, PORT);
        unsigned n = sim_turn(&s);
        finished = 0;
        for (unsigned i = 0; i < 2 * CONNECTIONS; i++) {
            struct sim_socket *k = &side[i % 2][i / 2];

            socket_step(k, &rng);
            if (k->unreachable) {
                k->unreachable = false;
                k->slot += CONNECTIONS; /* the old slot is closed, and free when tcp says so */
                socket_connect(k, &s.stack[1].cfg.interface[0].addr, PORT);
            }
            finished += k->finished;
            ok = ok && !k->failed;
        }
        idle = n == 0 ? idle + 1 : 0;
        /* Applications draw whether they act: give them some turns before time passes. */
        if (idle < 8)
            continue;
        const uint64_t next = sim_next(&s);
        if (next != NEVER && next > s.now)
            s.now = next;
        else
            s.now += SIM_MS;
    }
    if (ok && finished < 2 * CONNECTIONS) {
        fprintf(stderr, "seed %lu: stuck at %lu ms with %u of %u ends finished\n",
                (unsigned long)seed, (unsigned long)(s.now / SIM_MS), finished, 2 * CONNECTIONS);
        ok = false;
    }
    /* Let what is under way come to rest: no frame may be missing. */
    s.crash_chance = 0;
    for (unsigned quiet = 0; ok && quiet < 20;) {
        if (sim_turn(&s) != 0) {
            quiet = 0;
            continue;
        }
        quiet++;
        const uint64_t next = sim_next(&s);
        if (next == NEVER || next > s.now + 30000 * SIM_MS)
            break;
        s.now = next > s.now ? next : s.now + SIM_MS;
    }
    for (unsigned i = 0; ok && i < SIM_STACKS; i++)
        if (sim_frames_out(&s.stack[i]) != 0) {
            fprintf(stderr, "seed %lu: stack %u lost %u frames\n", (unsigned long)seed, i,
                    sim_frames_out(&s.stack[i]));
            ok = false;
        }
    for (unsigned i = 0; i < 2 * CONNECTIONS; i++)
        t->bytes += side[i % 2][i / 2].received;
    t->crashes += s.crashes;
    sim_destroy(&s);
    return ok;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 'n'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"json", required_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    uint64_t seeds = 100, from = 1;
    const char *json = NULL;
    struct totals t = {0};
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (c == 'n')
            seeds = strtoull(optarg, NULL, 0);
        else if (c == 'f')
            from = strtoull(optarg, NULL, 0);
        else if (c == 'j')
            json = optarg;
        else
            return 2;
    }
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        t.seeds++;
        if (!run(seed, &t)) {
            printf("seed %lu failed: sim_run --seeds 1 --from %lu\n", (unsigned long)seed,
                   (unsigned long)seed);
            t.failed++;
        }
    }
    printf("%lu seeds, %lu failed, %lu crashes, %lu bytes\n", (unsigned long)t.seeds,
           (unsigned long)t.failed, (unsigned long)t.crashes, (unsigned long)t.bytes);
    if (json != NULL) {
        FILE *f = fopen(json, "w");

        if (f == NULL) {
            fprintf(stderr, "%s: %s\n", json, strerror(errno));
            return 2;
        }
        fprintf(f, "{\"seeds\":%lu,\"failed\":%lu,\"crashes_injected\":%lu,\"bytes\":%lu}\n",
                (unsigned long)t.seeds, (unsigned long)t.failed, (unsigned long)t.crashes,
                (unsigned long)t.bytes);
        fclose(f);
    }
    return t.failed != 0;
}
