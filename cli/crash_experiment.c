/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One experiment: who is meant (eft-rs says), the fault (recovery/crash), and how it went on
 * (eft-rs says again).
 */
#include "crash.h"

#include "recovery/crash/again.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { BACK_LIMIT_MS = 15000, LOOK_MS = 5, WINDOW_MS = 2000, WILD_STORES = 20 };

uint64_t random_seed(void)
{
    uint32_t seed = 0;

    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint32_t)time(NULL);
    return seed;
}

static int choice(const char *text, const char *const *names, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(text, names[i]) == 0)
            return (int)i;
    return -EINVAL;
}

int after_parse(const char *text, enum inject_after *after)
{
    static const char *const names[] = {
        [AFTER_KILL] = "kill", [AFTER_RESTORE] = "restore", [AFTER_KEEP] = "keep"};
    int k = choice(text, names, 3);

    *after = k < 0 ? AFTER_KILL : (enum inject_after)k;
    return k;
}

int mode_parse(const char *text, enum inject_mode *mode)
{
    static const char *const names[] = {[MODE_GUIDED] = "guided", [MODE_MINIX] = "minix"};
    int k = choice(text, names, 2);

    *mode = k < 0 ? MODE_GUIDED : (enum inject_mode)k;
    return k;
}

int where_parse(const char *text, enum wild_where *where)
{
    static const char *const names[] = {[WILD_ANY] = "any",
                                        [WILD_SHARED] = "shared",
                                        [WILD_PRIVATE] = "private",
                                        [WILD_STACK] = "stack"};
    int k = choice(text, names, 4);

    *where = k < 0 ? WILD_ANY : (enum wild_where)k;
    return k;
}

struct victim {
    char name[24]; /* of the process */
    pid_t pid;
    server_id id; /* of the component that was meant */
    int app;      /* -1: none */
    uint64_t epoch, restarts;
    struct again again[AGAIN_MAX];
    unsigned agains;
};

/* Everybody, by component. */
static void find_peers(struct json_object *status, pid_t *peers)
{
    struct json_object *list = json_member(status, "servers");

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *s = json_object_array_get_idx(list, i);
        struct json_object *parts = json_member(s, "components");
        server_id id;
        for (size_t k = 0; k < json_object_array_length(parts); k++)
            if (server_id_parse(json_object_get_string(json_object_array_get_idx(parts, k)), &id) ==
                0)
                peers[id] = (pid_t)json_number(s, "pid");
    }
}

static int find_application(const struct experiment *e, const char *name, struct victim *v)
{
    struct json_object *maps = client_once(e->stack, "maps"), *list;

    if (maps == NULL)
        return CLI_FAILED;
    list = json_member(maps, "applications");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *a = json_object_array_get_idx(list, i);
        if (json_number(a, "number") == (uint64_t)v->app &&
            !json_object_get_boolean(json_member(a, "gone")))
            v->pid = (pid_t)json_number(a, "pid");
    }
    json_object_put(maps);
    return v->pid != 0 ? CLI_OK : complain("stack %s: there is no application %s", e->stack, name);
}

static int find_victim(const struct experiment *e, const char *name, struct json_object *status,
                       struct victim *v)
{
    int number, end = 0;

    snprintf(v->name, sizeof v->name, "%s", name);
    v->app = -1;
    if (strcmp(name, "rs") == 0) {
        v->pid = (pid_t)json_number(status, "pid");
        return CLI_OK;
    }
    if (sscanf(name, "app%d%n", &number, &end) == 1 && name[end] == '\0') {
        v->app = number;
        return find_application(e, name, v);
    }
    struct json_object *s = client_server(status, name);
    if (s == NULL)
        return complain("stack %s: there is no server \"%s\"", e->stack, name);
    snprintf(v->name, sizeof v->name, "%s", json_text(s, "name"));
    v->pid = (pid_t)json_number(s, "pid");
    v->epoch = json_number(s, "epoch");
    v->restarts = json_number(s, "restarts");
    if (server_id_parse(name, &v->id) < 0) {
        struct json_object *part = json_object_array_get_idx(json_member(s, "components"), 0);
        server_id_parse(json_object_get_string(part), &v->id);
    }
    return v->pid != 0 ? CLI_OK : complain("stack %s: %s is not running", e->stack, v->name);
}

static int find_victims(const struct experiment *e, struct victim *v, pid_t *peers)
{
    struct json_object *status = client_once(e->stack, "status");
    int rc = CLI_OK;

    if (status == NULL)
        return CLI_FAILED;
    find_peers(status, peers);
    for (unsigned i = 0; i < e->servers && rc == CLI_OK; i++) {
        v[i] = (struct victim){0};
        rc = find_victim(e, e->server[i], status, &v[i]);
    }
    json_object_put(status);
    return rc;
}

static pid_t last_killed(const struct victim *v)
{
    return v->agains > 0 ? v->again[v->agains - 1].pid : v->pid;
}

/* Kills the successor while it recovers, and its successor. */
static void kill_again(const struct experiment *e, struct victim *v, struct injection *i,
                       const struct region *region)
{
    const struct server_block *block = wiring_block(region);
    struct random r = {.state = e->seed};

    while (block != NULL && v->agains < e->again && v->agains < AGAIN_MAX) {
        const uint64_t epoch = v->agains > 0 ? v->again[v->agains - 1].epoch : v->epoch;
        if (again_kill(block, last_killed(v), epoch, (unsigned)e->window_ms, &r,
                       &v->again[v->agains]) < 0)
            return;
        inject_watch(i, 1, 0); /* note when the first one died */
        v->agains++;
    }
}

static struct json_object *agains_json(const struct victim *v)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < v->agains; i++) {
        const struct again *a = &v->again[i];
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "pid", json_object_new_int(a->pid));
        json_object_object_add(o, "epoch", json_object_new_uint64(a->epoch));
        json_object_object_add(o, "time_ns", json_object_new_uint64(a->at_ns));
        json_object_object_add(o, "delay_ns", json_object_new_uint64(a->delay_ns));
        json_object_object_add(o, "ready", json_object_new_boolean(a->ready));
        json_object_array_add(list, o);
    }
    return list;
}

/* The victim's successor as eft-rs sees it, once it runs: part of *status. NULL: not within the
 * time. eft-rs itself may be away for a while. */
static struct json_object *wait_back(const struct experiment *e, const struct victim *v,
                                     struct json_object **status)
{
    const bool rs = strcmp(v->name, "rs") == 0;

    for (int ms = 0; ms < BACK_LIMIT_MS; ms += LOOK_MS) {
        struct json_object *s;
        *status = client_try(e->stack, "status");
        s = *status == NULL ? NULL : rs ? *status : client_server(*status, v->name);
        if (s != NULL && json_number(s, "pid") != 0 &&
            (pid_t)json_number(s, "pid") != last_killed(v) &&
            (rs || strcmp(json_text(s, "state"), "running") == 0))
            return s;
        json_object_put(*status);
        *status = NULL;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000l}, NULL);
    }
    return NULL;
}

static void describe_back(const struct experiment *e, const struct injection *i,
                          const struct victim *v, struct json_object *line)
{
    struct json_object *status = NULL, *s = wait_back(e, v, &status);

    json_object_object_add(line, "recovered", json_object_new_boolean(s != NULL));
    if (s != NULL) {
        json_object_object_add(line, "successor", json_object_new_int((int)json_number(s, "pid")));
        if (strcmp(v->name, "rs") != 0) {
            json_object_object_add(
                line, "restarts", json_object_new_uint64(json_number(s, "restarts") - v->restarts));
            json_object_object_add(line, "gap_ns",
                                   json_object_new_uint64(json_number(s, "last_gap_ns")));
            json_object_object_add(line, "last_end",
                                   json_object_new_string(json_text(s, "last_end")));
        }
        if (i->faults > 0)
            json_object_object_add(
                line, "clean",
                json_object_new_boolean(inject_is_clean(i, (pid_t)json_number(s, "pid"))));
    }
    json_object_put(status);
}

void experiment_defaults(struct experiment *e)
{
    const bool code = crash_kind(e->class)->means == MEANS_MUTATE;

    if (e->window_ms == UINT64_MAX)
        e->window_ms = WINDOW_MS;
    if (e->count == 0)
        e->count = code ? 1 : WILD_STORES;
}

int experiment_run(const struct experiment *e, struct json_object *lines)
{
    struct victim victim[CRASH_VICTIMS];
    pid_t peers[256] = {0};
    int rc = find_victims(e, victim, peers);

    if (rc != CLI_OK)
        return rc;
    struct injection *list = calloc(e->servers, sizeof *list);
    if (list == NULL)
        return complain("%s", strerror(ENOMEM));
    struct region region[CRASH_VICTIMS] = {0};
    for (unsigned k = 0; k < e->servers; k++) {
        list[k] = (struct injection){.class = e->class,
                                     .seed = e->seed + k,
                                     .after = e->after,
                                     .mode = e->mode,
                                     .count = (unsigned)e->count,
                                     .where = e->where,
                                     .id = victim[k].id,
                                     .peers = peers,
                                     .app = victim[k].app,
                                     .at = e->at,
                                     .target = {.pidfd = -1, .mem = -1}};
        if (list[k].app >= 0) /* it would not come back */
            list[k].after = AFTER_KEEP;
        if (inject_open(&list[k], victim[k].pid) < 0) {
            rc = CLI_FAILED;
            continue;
        }
        if (e->again > 0 && victim[k].id != SERVER_RS)
            shared_map(&region[k], &list[k].target, REGION_OF_SERVER(victim[k].id), false);
        if (region[k].base != NULL)
            again_get_ready(victim[k].pid);
        if (inject(&list[k]) < 0)
            rc = CLI_FAILED;
    }
    for (unsigned k = 0; k < e->servers; k++) {
        if (region[k].base == NULL)
            continue;
        kill_again(e, &victim[k], &list[k], &region[k]);
        region_unmap(&region[k]);
    }
    inject_watch(list, e->servers, (unsigned)e->window_ms);
    for (unsigned k = 0; k < e->servers; k++)
        inject_finish(&list[k]);
    for (unsigned k = 0; k < e->servers; k++) {
        struct json_object *line = inject_json(&list[k]);
        json_object_object_add(line, "server", json_object_new_string(victim[k].name));
        json_object_object_add(line, "epoch", json_object_new_uint64(victim[k].epoch));
        if (e->again > 0)
            json_object_object_add(line, "again", agains_json(&victim[k]));
        if (victim[k].app < 0 && (list[k].dead || list[k].after == AFTER_KILL))
            describe_back(e, &list[k], &victim[k], line);
        inject_close(&list[k]);
        json_object_array_add(lines, line);
    }
    free(list);
    return rc;
}
