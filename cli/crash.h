/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the parts of `eft crash` share.
 */
#ifndef EFT_CLI_CRASH_H
#define EFT_CLI_CRASH_H

#include "cli.h"

#include "recovery/crash/inject.h"

enum { CRASH_VICTIMS = 32 };

/* One fault of one class, for one server or several at once. */
struct experiment {
    const char *stack;
    enum crash_class class;
    const char *server[CRASH_VICTIMS];
    unsigned servers;
    uint64_t seed;
    uint64_t window_ms; /* watched for so long; UINT64_MAX: not said */
    enum inject_after after;
    enum inject_mode mode;
    uint64_t count; /* of changed instructions, or wild stores; 0: not said */
    enum wild_where where;
    uint64_t again; /* so many times more, while the successor recovers */
    const char *at; /* as in struct injection */
};

/* Fills in what was not said. */
void experiment_defaults(struct experiment *e);
/* Carries it out and waits until all that died are back. One JSON object per victim in `lines`, an
 * array (the caller's). CLI_OK when every fault was put in; CLI_FAILED otherwise, with the reason
 * in "error" of its line, or, when there is no line, on standard error. */
int experiment_run(const struct experiment *e, struct json_object *lines);
/* "kill", "restore", "keep": 0 or -EINVAL. */
int after_parse(const char *text, enum inject_after *after);
/* "guided", "minix": 0 or -EINVAL. */
int mode_parse(const char *text, enum inject_mode *mode);
/* "any", "shared", "private", "stack": 0 or -EINVAL. */
int where_parse(const char *text, enum wild_where *where);
/* A seed from the kernel, for those who gave none. */
uint64_t random_seed(void);

/* Experiments without end; crash_campaign.c. */
struct campaign {
    struct experiment experiment;  /* all but class and servers */
    const char *classes, *servers; /* with commas; no servers: all */
    const char *output;            /* file of results */
    const char *judge;             /* command, or NULL */
    uint64_t runs, pause_ms;
};
/* CLI_OK: all runs are made, and none failed. */
int crash_campaign(const struct campaign *c, bool json);

/* eft crash kill SERVER…, without a watch. */
int crash_kill(const struct options *o, int servers, char **server);

#endif
