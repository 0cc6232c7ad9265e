/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One experiment on one process: a fault is put in, what becomes of it is watched for a while, and
 * what it left is taken away. Everything random follows from the seed and from what the victim was
 * doing.
 */
#ifndef EFT_CRASH_INJECT_H
#define EFT_CRASH_INJECT_H

#include "fault.h"
#include "stores.h"

#include <json-c/json.h>
#include <sys/resource.h>

enum { INJECT_FAULTS = 128 };

enum inject_mode {
    MODE_GUIDED, /* instructions that the victim was seen to execute */
    MODE_MINIX,  /* any instructions, as in the campaigns of MINIX */
};
/* What happens to a victim that outlives its watch. */
enum inject_after { AFTER_KILL, AFTER_RESTORE, AFTER_KEEP };

struct injection {
    /* the plan */
    enum crash_class class;
    uint64_t seed;
    enum inject_after after;
    enum inject_mode mode;
    unsigned count;        /* of changed instructions, or of wild stores */
    enum wild_where where; /* of wild stores */
    server_id id;          /* of the victim, for its messages */
    const pid_t *peers;    /* process of each server_id; 0: none */
    int app;               /* the victim is this application; -1: a server */
    const char *at; /* "function+0x12", or "0x12" from the program's first byte; NULL: chosen */
    /* the victim; opened by inject_open() */
    struct target target;
    struct symbols symbols;
    /* what was done */
    uint64_t at_ns; /* CLOCK_REALTIME */
    struct fault fault[INJECT_FAULTS];
    unsigned faults;
    struct store store[STORES];
    unsigned stores;
    struct witness witness;
    enum crash_class drawn;  /* of a group: which one */
    struct rlimit old_limit; /* what the victim had */
    unsigned executed;       /* different instructions that it was seen to execute */
    /* what became of it */
    bool dead; /* within the watch */
    uint64_t dead_ns;
    struct watch_end end;
    bool restored;
    char error[160]; /* why not; empty: it was done */
};

/* 0, or -errno with the reason in `error`. */
int inject_open(struct injection *i, pid_t pid);
int inject(struct injection *i);
/* Watches `n` victims until all are dead, at most for `window_ms`. */
void inject_watch(struct injection *list, unsigned n, unsigned window_ms);
/* Does what `after` says, if the victim lives. */
void inject_finish(struct injection *i);
/* Is the code of `pid`, a successor, as the file says wherever ours was changed? */
bool inject_is_clean(const struct injection *i, pid_t pid);
/* Everything known, for a JSON line; the caller's. Before inject_close(). */
struct json_object *inject_json(const struct injection *i);
void inject_close(struct injection *i);

#endif
