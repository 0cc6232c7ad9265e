/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between run.c and scenario.c: a run of one seed.
 */
#ifndef EFT_TESTS_SIM_SCENARIO_H
#define EFT_TESTS_SIM_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

struct result {
    uint64_t crashes, bytes;
    uint64_t digest; /* of every frame and its time */
    bool failed;
};

/* Adds to `r`. `trace`: file for the packets, or NULL. */
void scenario_run(uint64_t seed, const char *trace, struct result *r);
extern bool sim_quiet; /* failures are not printed: for a replay */
/* Nothing is lost or disturbed and nobody dies: what is left shows whether anything is sent twice.
 */
extern bool scenario_clean;

#endif
