/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a campaign found, by class and server, with how sure that is. Pure: lines in, a table out.
 */
#ifndef EFT_CRASH_SUMMARY_H
#define EFT_CRASH_SUMMARY_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { SUMMARY_ROWS = 1024, SUMMARY_NAME = 24 };

struct tally {
    char class[SUMMARY_NAME], server[SUMMARY_NAME];
    unsigned runs;
    unsigned injected;   /* something was changed */
    unsigned activated;  /* and executed, or seen: proven */
    unsigned unknown;    /* whether it was is not known */
    unsigned manifested; /* a server ended */
    unsigned back;       /* and came back by itself */
    unsigned failed;     /* the judge said no; without a judge: somebody did not come back */
};

struct summary {
    struct tally row[SUMMARY_ROWS];
    unsigned rows;
    struct tally all;
};

/* Counts the line of one run. */
void summary_add(struct summary *s, struct json_object *line);
/* Did this run fail? What `failed` counts. */
bool summary_failed(struct json_object *line);
/* The table, for people. */
void summary_print(const struct summary *s, FILE *f);
/* The same as an object; the caller's. */
struct json_object *summary_json(const struct summary *s);
/* Clopper and Pearson, one-sided, 95 %: with a larger rate than this, k or fewer of n would be seen
 * in less than 1 of 20 such campaigns. In percent; 100 when n is 0. */
double summary_bound(unsigned k, unsigned n);

#endif
