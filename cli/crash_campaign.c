/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft crash campaign: many experiments, one after the other, on a stack that runs and works. Who
 * judges is outside: a command that is run after each one, has the line of the experiment in
 * $EFT_CRASH_LINE, and says by its exit status whether all is well; a JSON object that it prints is
 * kept with the line.
 *
 * The results are lines in a file. The same call goes on where an earlier one stopped.
 */
#include "crash.h"

#include "recovery/crash/plan.h"
#include "recovery/crash/summary.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AWAY_LIMIT_MS = 10000, LOOK_MS = 50 };

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
}

struct progress {
    uint64_t total, before, now; /* runs: of all, made by earlier calls, made by this one */
    unsigned failed;
    time_t begin;
    bool shown;
};

static void show(const struct progress *p)
{
    const double elapsed = (double)(time(NULL) - p->begin);
    const uint64_t left = p->total - p->before - p->now;
    const unsigned long long s =
        p->now > 0 ? (unsigned long long)(elapsed / (double)p->now * (double)left) : 0;

    if (!p->shown)
        return;
    fprintf(stderr, "\r\033[K%llu of %llu runs, %u failed, %llu:%02llu:%02llu left",
            (unsigned long long)(p->before + p->now), (unsigned long long)p->total, p->failed,
            s / 3600, s / 60 % 60, s % 60);
}

/* Adds what the judge says: {"status": …, what it printed last}. */
static void judge(const char *command, struct json_object *line)
{
    struct json_object *said = NULL;
    char *text = NULL;
    size_t size = 0;

    setenv("EFT_CRASH_LINE", json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN), 1);
    FILE *f = popen(command, "re");
    while (f != NULL && getline(&text, &size, f) > 0) {
        struct json_object *o = json_tokener_parse(text);
        if (json_object_is_type(o, json_type_object)) {
            json_object_put(said);
            said = o;
        } else {
            json_object_put(o);
        }
    }
    free(text);
    const int status = f != NULL ? pclose(f) : -1;
    if (said == NULL)
        said = json_object_new_object();
    json_object_object_add(said, "status",
                           json_object_new_int(WIFEXITED(status) ? WEXITSTATUS(status) : 255));
    json_object_object_add(line, "judge", said);
}

/* Is the stack there, all of it? A judge may have had to start it anew. */
static bool stack_is_up(const char *stack)
{
    for (int ms = 0; ms < AWAY_LIMIT_MS && !interrupted; ms += LOOK_MS) {
        struct json_object *status = client_try(stack, "status");
        const bool up = status != NULL && json_object_get_boolean(json_member(status, "up"));
        json_object_put(status);
        if (up)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000l}, NULL);
    }
    return false;
}

static void add_line(void *summary, struct json_object *line)
{
    summary_add(summary, line);
}

/* One run: its line in the file, and in the summary. False: the campaign cannot go on. */
static bool one_run(const struct campaign *c, const struct plan *plan, uint64_t run, FILE *f,
                    struct summary *s)
{
    const struct plan_step step = plan_step(plan, run);
    struct experiment e = c->experiment;
    struct json_object *lines = json_object_new_array();

    e.class = step.class;
    e.seed = step.seed;
    e.server[0] = step.server;
    e.servers = 1;
    experiment_defaults(&e);
    experiment_run(&e, lines);
    if (json_object_array_length(lines) == 0) {
        json_object_put(lines);
        return false; /* it has complained */
    }
    struct json_object *line = json_object_get(json_object_array_get_idx(lines, 0));
    json_object_put(lines);
    json_object_object_add(line, "run", json_object_new_uint64(run));
    if (c->judge != NULL)
        judge(c->judge, line);
    fprintf(f, "%s\n", json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN));
    fflush(f);
    summary_add(s, line);
    json_object_put(line);
    return true;
}

static int go_through(const struct campaign *c, const struct plan *plan, const bool *done, FILE *f,
                      struct summary *s)
{
    struct progress p = {.total = plan->runs,
                         .before = s->all.runs,
                         .begin = time(NULL),
                         .shown = isatty(STDERR_FILENO) == 1};
    int rc = CLI_OK;

    for (uint64_t run = 0; run < plan->runs && !interrupted && rc == CLI_OK; run++) {
        if (done[run])
            continue;
        p.failed = s->all.failed;
        show(&p);
        if (!stack_is_up(c->experiment.stack) && !interrupted)
            rc = complain("stack %s is not up; the same call goes on from here",
                          c->experiment.stack);
        else if (!interrupted && !one_run(c, plan, run, f, s))
            rc = CLI_FAILED;
        else
            nanosleep(&(struct timespec){.tv_sec = (time_t)(c->pause_ms / 1000),
                                         .tv_nsec = (long)(c->pause_ms % 1000 * 1000000)},
                      NULL);
        p.now++;
    }
    show(&p);
    if (p.shown)
        fputc('\n', stderr);
    if (interrupted)
        rc = complain("interrupted; the same call goes on from here");
    return rc;
}

static int all_servers(const char *stack, struct plan *plan)
{
    struct json_object *status = client_once(stack, "status");
    struct json_object *list = json_member(status, "servers");

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++)
        plan_servers(plan, json_text(json_object_array_get_idx(list, i), "name"));
    json_object_put(status);
    return plan->servers > 0 ? CLI_OK : CLI_FAILED;
}

static int make_plan(const struct campaign *c, struct plan *plan)
{
    const char *word;

    *plan = (struct plan){.seed = c->experiment.seed, .runs = c->runs};
    if (plan_classes(plan, c->classes, &word) < 0)
        return usage_error("--classes: \"%s\" begins with no class; eft crash list", word);
    if (c->servers == NULL)
        return all_servers(c->experiment.stack, plan);
    return plan_servers(plan, c->servers) < 0
               ? usage_error("--servers: found \"%s\", expected names with commas", c->servers)
               : CLI_OK;
}

static int with_file(const struct campaign *c, const struct plan *plan, FILE *f, struct summary *s)
{
    bool *done = calloc(plan->runs, sizeof *done);
    long end;
    int rc = done != NULL ? plan_resume(plan, f, done, &end, add_line, s) : -ENOMEM;

    if (rc == -EEXIST || rc == -EPROTO)
        rc = complain("%s is %s", c->output,
                      rc == -EEXIST ? "of another campaign: other classes, servers or seed"
                                    : "no results of a campaign");
    else if (rc < 0 || fseek(f, end, SEEK_SET) < 0 || ftruncate(fileno(f), end) < 0)
        rc = complain("%s: %s", c->output, strerror(rc < 0 ? -rc : errno));
    else {
        if (end == 0) {
            struct json_object *first = plan_json(plan);
            fprintf(f, "%s\n", json_object_to_json_string_ext(first, JSON_C_TO_STRING_PLAIN));
            json_object_put(first);
        }
        rc = go_through(c, plan, done, f, s);
    }
    free(done);
    return rc;
}

int crash_campaign(const struct campaign *c, bool json)
{
    const struct sigaction act = {.sa_handler = on_signal};
    struct plan plan;
    int rc = make_plan(c, &plan);

    if (rc != CLI_OK)
        return rc;
    struct summary *s = calloc(1, sizeof *s);
    FILE *f = fopen(c->output, "a+e");
    if (f != NULL) { /* "a" would write behind what is cut off */
        fclose(f);
        f = fopen(c->output, "r+e");
    }
    if (s == NULL || f == NULL) {
        free(s);
        return complain("%s: %s", c->output, strerror(errno));
    }
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    rc = with_file(c, &plan, f, s);
    fclose(f);
    if (json)
        print_json(summary_json(s));
    else if (s->all.runs > 0)
        summary_print(s, stdout);
    if (rc == CLI_OK && s->all.failed > 0)
        rc = CLI_FAILED;
    free(s);
    return rc;
}
