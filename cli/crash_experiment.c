/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One experiment: who is meant (eft-rs says), the fault (recovery/crash), and how it went on
 * (eft-rs says again).
 */
#include "crash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { BACK_LIMIT_MS = 15000, LOOK_MS = 5 };

uint64_t random_seed(void)
{
    uint32_t seed = 0;

    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint32_t)time(NULL);
    return seed;
}

int after_parse(const char *text, enum inject_after *after)
{
    static const char *const names[] = {
        [AFTER_KILL] = "kill", [AFTER_RESTORE] = "restore", [AFTER_KEEP] = "keep"};

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *after = (enum inject_after)i;
            return 0;
        }
    }
    return -EINVAL;
}

int mode_parse(const char *text, enum inject_mode *mode)
{
    if (strcmp(text, "guided") != 0 && strcmp(text, "minix") != 0)
        return -EINVAL;
    *mode = strcmp(text, "guided") == 0 ? MODE_GUIDED : MODE_MINIX;
    return 0;
}

struct victim {
    char name[24]; /* of the process */
    pid_t pid;
    uint64_t epoch, restarts;
};

static int find_victims(const struct experiment *e, struct victim *v)
{
    struct json_object *status = client_once(e->stack, "status");
    int rc = CLI_OK;

    if (status == NULL)
        return CLI_FAILED;
    for (unsigned i = 0; i < e->servers && rc == CLI_OK; i++) {
        v[i] = (struct victim){.name = "rs", .pid = (pid_t)json_number(status, "pid")};
        if (strcmp(e->server[i], "rs") == 0)
            continue;
        struct json_object *s = client_server(status, e->server[i]);
        if (s == NULL) {
            rc = complain("stack %s: there is no server \"%s\"", e->stack, e->server[i]);
            break;
        }
        snprintf(v[i].name, sizeof v[i].name, "%s", json_text(s, "name"));
        v[i].pid = (pid_t)json_number(s, "pid");
        v[i].epoch = json_number(s, "epoch");
        v[i].restarts = json_number(s, "restarts");
        if (v[i].pid == 0)
            rc = complain("stack %s: %s is not running", e->stack, v[i].name);
    }
    json_object_put(status);
    return rc;
}

/* The victim's successor as eft-rs sees it, once it runs: part of *status. NULL: not within the
 * time. eft-rs itself may be away for a while. */
static struct json_object *wait_back(const struct experiment *e, const struct victim *v,
                                     struct json_object **status)
{
    struct json_object *request, *s;

    for (int ms = 0; ms < BACK_LIMIT_MS; ms += LOOK_MS) {
        int fd = client_connect(e->stack);
        if (fd >= 0) {
            request = json_object_new_object();
            json_object_object_add(request, "op", json_object_new_string("status"));
            *status = client_ask(fd, e->stack, request);
            close(fd);
            bool rs = strcmp(v->name, "rs") == 0;
            s = *status == NULL ? NULL : rs ? *status : client_server(*status, v->name);
            if (s != NULL && (pid_t)json_number(s, "pid") != v->pid && json_number(s, "pid") != 0 &&
                (rs || strcmp(json_text(s, "state"), "running") == 0))
                return s;
            json_object_put(*status);
            *status = NULL;
        }
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

int experiment_run(const struct experiment *e, struct json_object *lines)
{
    struct victim victim[CRASH_VICTIMS];
    int rc = find_victims(e, victim);

    if (rc != CLI_OK)
        return rc;
    struct injection *list = calloc(e->servers, sizeof *list);
    if (list == NULL)
        return complain("%s", strerror(ENOMEM));
    for (unsigned k = 0; k < e->servers; k++) {
        list[k] = (struct injection){.class = e->class,
                                     .seed = e->seed + k,
                                     .after = e->after,
                                     .mode = e->mode,
                                     .count = (unsigned)e->count,
                                     .at = e->at,
                                     .target = {.pidfd = -1, .mem = -1}};
        if (inject_open(&list[k], victim[k].pid) < 0 || inject(&list[k]) < 0)
            rc = CLI_FAILED;
    }
    inject_watch(list, e->servers, (unsigned)e->window_ms);
    for (unsigned k = 0; k < e->servers; k++)
        inject_finish(&list[k]);
    for (unsigned k = 0; k < e->servers; k++) {
        struct json_object *line = inject_json(&list[k]);
        json_object_object_add(line, "server", json_object_new_string(victim[k].name));
        json_object_object_add(line, "epoch", json_object_new_uint64(victim[k].epoch));
        if (list[k].dead || (list[k].after == AFTER_KILL && list[k].target.pidfd >= 0))
            describe_back(e, &list[k], &victim[k], line);
        inject_close(&list[k]);
        json_object_array_add(lines, line);
    }
    free(list);
    return rc;
}
