/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Each operation of TCP that changes state, killed before every single store to shared memory,
 * taken over by a successor on the same memory, and carried to its end. Afterwards: streams equal
 * byte for byte, every request answered once, no ACK or SACK beyond what was committed, no window
 * taken back, no counter that goes back, no byte sent twice on a wire that loses nothing, none
 * changed while it was being sent, no reset, no error, every frame, chain, block and record
 * accounted for. A second pass kills the successor, too, a little later.
 *
 *   crashpoint_run [--json FILE] [--only NAME] [--expect-violations]
 */
#include "play.h"

#include <stdio.h>
#include <stdlib.h>

static jmp_buf crash;
static bool armed;
static uint64_t stores, crash_at, crash_again;
static const char *crash_file;
static int crash_line;

void shm_crashpoint(const char *file, int line)
{
    if (!armed)
        return;
    if (++stores == crash_at) {
        armed = false;
        crash_file = file;
        crash_line = line;
        longjmp(crash, 1);
    }
}

/* One turn of the victim; a crash in it is followed by a successor, which may be crashed, too. */
static unsigned victim_turn(struct side *s)
{
    static volatile unsigned n; /* survives the jump */
    if (setjmp(crash) == 0) {
        armed = true;
        n = world_tcp_turn(s);
        armed = false;
        return n;
    }
    crash_at = crash_again ? stores + crash_again : 0;
    crash_again = 0;
    if (setjmp(crash) == 0) {
        armed = true;
        world_successor(s, END_KILLED);
        armed = false;
    } else {
        crash_at = 0;
        world_successor(s, END_KILLED);
    }
    return 1;
}

static unsigned violations;
static char caught_by[128];

/* Runs an operation with the victim's store number `at` its last (0: none). Stores made. */
static uint64_t run(const struct op *op, uint64_t at, uint64_t again)
{
    char first[128];
    stores = 0;
    crash_at = at;
    crash_again = again;
    armed = false;
    if (play_run(op, victim_turn, violations >= 20, first) == 0)
        return stores;
    if (violations++ == 0)
        memcpy(caught_by, first, sizeof caught_by);
    if (violations <= 20 && at)
        fprintf(stderr, "  %s: killed before store %lu, %s:%d, again after %lu\n", op->name,
                (unsigned long)at, crash_file ? crash_file : "?", crash_line, (unsigned long)again);
    return stores;
}

static int write_json(const char *path, unsigned operations, uint64_t points)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    fprintf(f, "{\"operations\":%u,\"points\":%lu,\"violations\":%u}\n", operations,
            (unsigned long)points, violations);
    return fclose(f) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *json = NULL, *only = NULL;
    bool expect = false;
    unsigned operations = 0;
    uint64_t points = 0, seed = 12345;
    const struct op *op;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            json = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            only = argv[++i];
        else if (strcmp(argv[i], "--expect-violations") == 0)
            expect = true;
        else
            return 2;
    }
    for (unsigned i = 0; (op = play_op(i)) != NULL; i++) {
        if (only != NULL && strcmp(only, op->name) != 0)
            continue;
        unsigned before = violations;
        uint64_t n = run(op, 0, 0);
        if (violations != before) {
            fprintf(stderr, "%s fails without a crash\n", op->name);
            if (!expect)
                return 1;
        }
        for (uint64_t at = 1; at <= n && !(expect && violations); at++) {
            run(op, at, 0);
            points++;
            if (expect)
                continue;
            /* Once more, with a second kill while the successor recovers or goes on. */
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            run(op, at, 1 + (seed >> 33) % 60);
            points++;
        }
        operations++;
        printf("%-30s %5lu stores, %u violations\n", op->name, (unsigned long)n,
               violations - before);
        fflush(stdout);
        if (expect && violations)
            break;
    }
    printf("%u operations, %lu crash points, %u violations\n", operations, (unsigned long)points,
           violations);
    if (expect && violations)
        printf("caught by: %s\n", caught_by);
    if (json != NULL && write_json(json, operations, points) != 0)
        return 1;
    return expect ? violations == 0 : violations != 0;
}
