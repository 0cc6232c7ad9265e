/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft crash: breaks running servers on purpose.
 *
 * kill without a watch: SIGKILL for servers, and exactly when. eft-rs kills the servers, all within
 * some microseconds; eft-rs itself is killed from here, as the last one. Everything else is an
 * experiment (crash_experiment.c).
 */
#include "crash.h"

#include "recovery/crash/again.h"
#include "recovery/crash/plan.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW_MAX_MS = 3600000, SHOWN_FAULTS = 8 };

static int report(const struct options *o, struct json_object *answer)
{
    if (o->json) {
        print_json(answer);
        return CLI_OK;
    }
    struct json_object *killed = json_member(answer, "killed");
    for (size_t i = 0; i < json_object_array_length(killed); i++) {
        struct json_object *k = json_object_array_get_idx(killed, i);
        printf("%llu %llu\n", (unsigned long long)json_number(k, "pid"),
               (unsigned long long)json_number(k, "time_ns"));
    }
    json_object_put(answer);
    return CLI_OK;
}

/* A pidfd of eft-rs, with which it can be killed while nothing asks it to answer. */
static int open_rs(const struct options *o, int *pid)
{
    struct json_object *status = client_once(o->name, "status");

    if (status == NULL)
        return -1;
    *pid = (int)json_number(status, "pid");
    json_object_put(status);
    int fd = (int)syscall(SYS_pidfd_open, *pid, 0);
    if (fd < 0)
        complain("process %d: %s", *pid, strerror(errno));
    return fd;
}

static int kill_rs(int fd, int pid, struct json_object *killed)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0)
        return complain("process %d: %s", pid, strerror(errno));
    struct json_object *k = json_object_new_object();
    json_object_object_add(k, "server", json_object_new_string("rs"));
    json_object_object_add(k, "pid", json_object_new_int(pid));
    json_object_object_add(
        k, "time_ns",
        json_object_new_uint64((uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec));
    json_object_array_add(killed, k);
    return CLI_OK;
}

/* Asks eft-rs to kill `servers` (given away), at once. Its answer, or NULL after a complaint. */
static struct json_object *kill_servers(const struct options *o, struct json_object *servers)
{
    struct json_object *request = json_object_new_object(), *answer = NULL;
    int fd = client_connect(o->name);

    json_object_object_add(request, "op", json_object_new_string("kill"));
    json_object_object_add(request, "servers", servers);
    if (fd < 0) {
        complain("stack %s is not up (%s)", o->name, strerror(-fd));
        json_object_put(request);
        return NULL;
    }
    answer = client_ask(fd, o->name, request);
    close(fd);
    return answer;
}

int crash_kill(const struct options *o, int n, char **server)
{
    int rc, rs = -1, rs_pid = 0;
    struct json_object *servers = json_object_new_array(), *answer;

    for (int i = 0; i < n; i++) {
        if (strcmp(server[i], "rs") != 0)
            json_object_array_add(servers, json_object_new_string(server[i]));
        else if (rs < 0 && (rs = open_rs(o, &rs_pid)) < 0) {
            json_object_put(servers);
            return CLI_FAILED;
        }
    }
    if (json_object_array_length(servers) > 0) {
        answer = kill_servers(o, servers);
    } else {
        json_object_put(servers);
        answer = json_object_new_object();
        json_object_object_add(answer, "ok", json_object_new_boolean(true));
        json_object_object_add(answer, "killed", json_object_new_array());
    }
    rc = answer != NULL ? CLI_OK : CLI_FAILED;
    if (rs >= 0) {
        if (rc == CLI_OK)
            rc = kill_rs(rs, rs_pid, json_member(answer, "killed"));
        close(rs);
    }
    if (rc == CLI_OK)
        return report(o, answer);
    json_object_put(answer);
    return rc;
}

/* For people: what was done and what came of it. */
static void print_line(struct json_object *l)
{
    struct json_object *end = json_member(l, "end"), *activated = json_member(l, "activated");

    if (!json_object_get_boolean(json_member(l, "injected"))) {
        printf("%s %s: not injected: %s\n", json_text(l, "class"), json_text(l, "server"),
               json_text(l, "error"));
        return;
    }
    struct json_object *faults = json_member(l, "faults");
    for (size_t i = 0; i < json_object_array_length(faults) && i < SHOWN_FAULTS; i++) {
        struct json_object *f = json_object_array_get_idx(faults, i);
        const char *text = json_text(json_member(f, "after"), "text");
        if (text[0] != '\0')
            printf("%s: %s for %s\n", json_text(f, "symbol"), text,
                   json_text(json_member(f, "before"), "text"));
    }
    printf("%s %s (process %llu): %s", json_text(l, "class"), json_text(l, "server"),
           (unsigned long long)json_number(l, "pid"),
           activated == NULL                    ? "activation unknown"
           : json_object_get_boolean(activated) ? "activated"
                                                : "not activated");
    if (end != NULL) {
        printf(", ended after %.1f ms", json_object_get_double(json_member(end, "after_ms")));
        if (json_member(end, "signal_name") != NULL)
            printf(" by %s", json_text(end, "signal_name"));
        else if (json_member(end, "status") != NULL)
            printf(" with status %llu", (unsigned long long)json_number(end, "status"));
    } else {
        printf(", lived on; then %s", json_text(l, "cleanup"));
    }
    struct json_object *again = json_member(l, "again");
    if (again != NULL)
        printf("; its successors killed %zu times", json_object_array_length(again));
    if (json_member(l, "last_end") != NULL)
        printf("; eft-rs: %s, back after %.2f ms", json_text(l, "last_end"),
               (double)json_number(l, "gap_ns") / 1e6);
    else if (json_member(l, "recovered") != NULL)
        printf("; %s", json_object_get_boolean(json_member(l, "recovered")) ? "back" : "NOT BACK");
    printf("\n");
}

static int list_classes(void)
{
    for (unsigned i = 0; i < CRASH_CLASSES; i++)
        printf("%-12s %s\n", crash_kind((enum crash_class)i)->name,
               crash_kind((enum crash_class)i)->help);
    return CLI_OK;
}

static int experiment(struct experiment *e, bool json)
{
    struct json_object *lines = json_object_new_array();
    int rc = experiment_run(e, lines);

    for (size_t i = 0; i < json_object_array_length(lines); i++) {
        struct json_object *line = json_object_array_get_idx(lines, i);
        if (json)
            puts(json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN));
        else
            print_line(line);
    }
    json_object_put(lines);
    return rc;
}

/* Words of options that are names of something. -1: they are fine, else the exit status. */
static int parse_words(struct experiment *e, const char *after, const char *mode, const char *where)
{
    if (after_parse(after, &e->after) < 0)
        return usage_error("--after: found \"%s\", expected kill, restore or keep", after);
    if (mode_parse(mode, &e->mode) < 0)
        return usage_error("--mode: found \"%s\", expected guided or minix", mode);
    if (where_parse(where, &e->where) < 0)
        return usage_error("--where: found \"%s\", expected any, shared, private or stack", where);
    if (e->count > INJECT_FAULTS)
        return usage_error("--count: expected at most %d", INJECT_FAULTS);
    if (e->again > AGAIN_MAX)
        return usage_error("--again: expected at most %d", AGAIN_MAX);
    if (e->window_ms != UINT64_MAX && e->window_ms > WINDOW_MAX_MS)
        return usage_error("--window: expected at most %d ms", WINDOW_MAX_MS);
    return -1;
}

static int campaign(struct campaign *c, bool json)
{
    if (c->output == NULL)
        return usage_error("campaign: where to, --output FILE?");
    if (c->runs < 1 || c->runs > PLAN_RUNS)
        return usage_error("--runs: expected 1 to %d", PLAN_RUNS);
    if (c->pause_ms > WINDOW_MAX_MS)
        return usage_error("--pause: expected at most %d ms", WINDOW_MAX_MS);
    if (c->experiment.seed == UINT64_MAX)
        c->experiment.seed = 1;
    return crash_campaign(c, json);
}

int command_crash(int argc, char **argv)
{
    struct options o;
    const char *after = "kill", *mode = "guided", *where = "any";
    struct campaign c = {.experiment = {.window_ms = UINT64_MAX, .seed = UINT64_MAX},
                         .classes = "kill,abort,segv,exit,stop,spin,mutate,wildwrite,message",
                         .runs = 100};
    struct experiment *e = &c.experiment;
    const struct more_option more[] = {
        {.name = "seed", .number = &e->seed},    {.name = "window", .number = &e->window_ms},
        {.name = "after", .text = &after},       {.name = "mode", .text = &mode},
        {.name = "count", .number = &e->count},  {.name = "at", .text = &e->at},
        {.name = "where", .text = &where},       {.name = "again", .number = &e->again},
        {.name = "classes", .text = &c.classes}, {.name = "servers", .text = &c.servers},
        {.name = "runs", .number = &c.runs},     {.name = "output", .text = &c.output},
        {.name = "judge", .text = &c.judge},     {.name = "pause", .number = &c.pause_ms},
    };
    int rc = options_parse_more(&o, argc, argv, OPT_JSON, more, sizeof more / sizeof more[0]);

    if (rc >= 0 || (rc = parse_words(e, after, mode, where)) >= 0)
        return rc;
    e->stack = o.name;
    const int n = argc - o.first;
    char **word = argv + o.first;
    if (n == 1 && strcmp(word[0], "list") == 0)
        return list_classes();
    if (n == 1 && strcmp(word[0], "campaign") == 0)
        return campaign(&c, o.json);
    if (n < 2)
        return usage_error("expected a class of faults and a server");
    if (n - 1 > CRASH_VICTIMS)
        return usage_error("at most %d servers", CRASH_VICTIMS);
    if (crash_class_parse(word[0], &e->class) < 0)
        return usage_error("there is no class \"%s\"; eft crash list", word[0]);
    if (e->class == CRASH_KILL && e->window_ms == UINT64_MAX && e->again == 0)
        return crash_kill(&o, n - 1, word + 1);
    experiment_defaults(e);
    if (e->seed == UINT64_MAX)
        e->seed = random_seed();
    for (int i = 1; i < n; i++)
        e->server[e->servers++] = word[i];
    return experiment(e, o.json);
}
