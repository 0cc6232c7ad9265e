/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Runs of seeds over several processes.
 *
 *   sim_run [--seeds N] [--from S] [--jobs N] [--json FILE] [--trace FILE] [--twice] [--clean]
 *           [--verbose]
 *
 * A seed that fails is run once more with a packet trace. --trace writes one of a single seed in
 * any case. --twice runs each seed twice, and asks for the same frames at the same times. With
 * --clean no path loses anything and nobody dies, so that nothing may be sent twice.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenario.h"

struct totals { /* shared by the processes */
    uint64_t seeds, failed, crashes, bytes;
};

struct options {
    uint64_t seeds, from;
    long jobs;
    const char *json, *trace;
    bool twice, verbose;
};

static void run_seed(const struct options *o, uint64_t seed, struct totals *t)
{
    struct result r = {0}, again = {0};
    char path[4096];

    scenario_run(seed, o->trace, &r);
    if (o->twice && !r.failed) {
        scenario_run(seed, NULL, &again);
        if (again.digest != r.digest || again.bytes != r.bytes) {
            fprintf(stderr, "  seed %lu is not the same twice\n", (unsigned long)seed);
            r.failed = true;
        }
    }
    if (o->verbose)
        printf("seed %lu: %lu crashes, %lu bytes, digest %016lx\n", (unsigned long)seed,
               (unsigned long)r.crashes, (unsigned long)r.bytes, (unsigned long)r.digest);
    __atomic_add_fetch(&t->seeds, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&t->crashes, r.crashes, __ATOMIC_RELAXED);
    __atomic_add_fetch(&t->bytes, r.bytes, __ATOMIC_RELAXED);
    if (!r.failed)
        return;
    __atomic_add_fetch(&t->failed, 1, __ATOMIC_RELAXED);
    if (o->trace != NULL) {
        snprintf(path, sizeof path, "%s", o->trace);
    } else {
        const char *tmp = getenv("TMPDIR");

        snprintf(path, sizeof path, "%s/eft-sim-%lu.pcapng", tmp != NULL ? tmp : "/tmp",
                 (unsigned long)seed);
        sim_quiet = true;
        scenario_run(seed, path, &again);
        sim_quiet = false;
    }
    fprintf(stderr, "seed %lu failed. Again: tests/sim/run --seeds 1 --from %lu%s. Packets: %s\n",
            (unsigned long)seed, (unsigned long)seed, scenario_clean ? " --clean" : "", path);
}

/* Seeds are dealt out one by one: some take long. */
static void work(const struct options *o, struct totals *t, uint64_t *next)
{
    uint64_t n;

    while ((n = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < o->seeds)
        run_seed(o, o->from + n, t);
}

static int usage(const char *name)
{
    fprintf(stderr,
            "usage: %s [--seeds N] [--from S] [--jobs N] [--json FILE] [--trace FILE] [--twice] "
            "[--clean] [--verbose]\n",
            name);
    return 2;
}

static int parse(struct options *o, int argc, char **argv)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 'n'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"jobs", required_argument, NULL, 'p'},
                                            {"json", required_argument, NULL, 'j'},
                                            {"trace", required_argument, NULL, 't'},
                                            {"twice", no_argument, NULL, '2'},
                                            {"clean", no_argument, NULL, 'c'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    int c;

    *o = (struct options){.seeds = 100, .from = 1, .jobs = sysconf(_SC_NPROCESSORS_ONLN)};
    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (c) {
        case 'n':
            o->seeds = strtoull(optarg, NULL, 0);
            break;
        case 'f':
            o->from = strtoull(optarg, NULL, 0);
            break;
        case 'p':
            o->jobs = strtol(optarg, NULL, 0);
            break;
        case 'j':
            o->json = optarg;
            break;
        case 't':
            o->trace = optarg;
            break;
        case '2':
            o->twice = true;
            break;
        case 'c':
            scenario_clean = true;
            break;
        case 'v':
            o->verbose = true;
            break;
        default:
            return usage(argv[0]);
        }
    }
    if (optind != argc || o->seeds == 0 || o->jobs < 1 || (o->trace != NULL && o->seeds != 1))
        return usage(argv[0]);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o;
    struct {
        struct totals t;
        uint64_t next;
    } * shared;
    unsigned lost = 0;

    if (parse(&o, argc, argv) != 0)
        return 2;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
    for (long i = 0; i < o.jobs; i++) {
        const pid_t pid = fork();

        if (pid < 0) {
            perror("fork");
            return 2;
        }
        if (pid == 0) {
            work(&o, &shared->t, &shared->next);
            fflush(stdout);
            _exit(0);
        }
    }
    for (int status; wait(&status) > 0;)
        lost += status != 0;
    const struct totals *t = &shared->t;
    if (lost != 0)
        fprintf(stderr, "%u of %ld processes died\n", lost, o.jobs);
    printf("%lu seeds, %lu failed, %lu crashes, %lu bytes\n", (unsigned long)t->seeds,
           (unsigned long)t->failed, (unsigned long)t->crashes, (unsigned long)t->bytes);
    if (o.json != NULL) {
        FILE *f = fopen(o.json, "w");

        if (f == NULL) {
            fprintf(stderr, "%s: %s\n", o.json, strerror(errno));
            return 2;
        }
        fprintf(f, "{\"seeds\":%lu,\"failed\":%lu,\"crashes_injected\":%lu,\"bytes\":%lu}\n",
                (unsigned long)t->seeds, (unsigned long)t->failed + lost, (unsigned long)t->crashes,
                (unsigned long)t->bytes);
        if (fclose(f) != 0)
            return 2;
    }
    return t->failed != 0 || lost != 0 || t->seeds != o.seeds;
}
