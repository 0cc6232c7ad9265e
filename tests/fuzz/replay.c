/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Runs a fuzz target without libFuzzer: files that are named, or else all seeds and a number of
 * mutations of each (EFT_FUZZ_RUNS in all; the default is what fits into a test run). A failure
 * leaves its input in fuzz-crash.bin of the current folder's build tree, by name on stderr.
 */
#include "fuzz.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint8_t buf[FUZZ_MAX];
static size_t len;
static char crash_file[4096];

/* The input is what one needs to look at a failure. Async-signal-safe. */
static void save(int sig)
{
    FILE *f = fopen(crash_file, "wb");

    if (f != NULL) {
        fwrite(buf, 1, len, f);
        fclose(f);
        fprintf(stderr, "input saved as %s\n", crash_file);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

static int run_file(const char *name)
{
    FILE *f = fopen(name, "rb");

    if (f == NULL) {
        perror(name);
        return 1;
    }
    len = fread(buf, 1, sizeof buf, f);
    fclose(f);
    LLVMFuzzerTestOneInput(buf, len);
    return 0;
}

int main(int argc, char **argv)
{
    const char *env = getenv("EFT_FUZZ_RUNS");
    const unsigned long runs = env != NULL ? strtoul(env, NULL, 10) : 4000;
    unsigned seeds = 0;

    snprintf(crash_file, sizeof crash_file, "%s.crash", argv[0]);
    signal(SIGABRT, save);
    signal(SIGSEGV, save);
    signal(SIGBUS, save);
    signal(SIGALRM, save); /* an endless loop */
    if (argc > 1) {
        int rc = 0;

        for (int i = 1; i < argc; i++)
            rc |= run_file(argv[i]);
        return rc;
    }
    while ((len = fuzz_seed(seeds, buf)) > 0) {
        alarm(10);
        LLVMFuzzerTestOneInput(buf, len);
        seeds++;
    }
    for (unsigned long i = 0; seeds > 0 && i < runs; i++) {
        len = fuzz_seed((unsigned)(i % seeds), buf);
        len = fuzz_mutate(buf, len, sizeof buf, (uint32_t)i * 2654435761u);
        alarm(10);
        LLVMFuzzerTestOneInput(buf, len);
    }
    printf("%u seeds, %lu mutations\n", seeds, runs);
    return 0;
}
