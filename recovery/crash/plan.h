/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A campaign: which fault goes to whom in which run, and which runs are done. Pure but for the file
 * that is read: everything follows from the seed, and a longer plan begins with the shorter.
 *
 * The results are JSON lines in one file: first what the campaign is, then a line per run. A run
 * whose line was not written to its end was not made.
 */
#ifndef EFT_CRASH_PLAN_H
#define EFT_CRASH_PLAN_H

#include "class.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { PLAN_CLASSES = 48, PLAN_SERVERS = 32, PLAN_RUNS = 1000000 };

struct plan {
    uint64_t seed, runs;
    enum crash_class class[PLAN_CLASSES];
    unsigned classes;
    char server[PLAN_SERVERS][24];
    unsigned servers;
};

struct plan_step {
    uint64_t seed;
    enum crash_class class;
    const char *server;
};

/* Names with commas. 0, or -EINVAL: one is unknown (*word points at it), or there are too many. */
int plan_classes(struct plan *p, const char *list, const char **word);
int plan_servers(struct plan *p, const char *list);
/* Run `run`. Every class comes to every server before one comes again, in an order of each round.
 */
struct plan_step plan_step(const struct plan *p, uint64_t run);
/* The first line of the results; the caller's. */
struct json_object *plan_json(const struct plan *p);
/* Reads results: sets done[run] for each of the plan's runs, and calls `each` (may be NULL) with
 * its line. *end: where the next line goes. 0; -EEXIST: these are of another campaign; -EPROTO:
 * they are no results. An empty file is a new campaign. */
int plan_resume(const struct plan *p, FILE *f, bool *done, long *end,
                void (*each)(void *arg, struct json_object *line), void *arg);

#endif
