/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft update: another program for a server that runs. eft-rs does it (recovery/rs/update.c); this
 * asks how far it is, until the new program runs, or with --wait until it has proved itself.
 */
#include "cli.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_NS = 10000000 };

static bool is(const char *state, const char *name)
{
    return strcmp(state, name) == 0;
}

/* Is there something to wait for yet? */
static bool goes_on(struct json_object *entry, bool to_the_end)
{
    const char *state = json_text(json_member(entry, "update"), "state");

    if (is(state, "trial")) /* it runs once it is ready */
        return to_the_end || !is(json_text(entry, "state"), "running");
    return is(state, "preparing") || is(state, "handing");
}

/* The server's entry when the update is over as far as we wait for it; the caller's. */
static struct json_object *await(const struct options *o, const char *server, bool to_the_end)
{
    for (;;) {
        struct json_object *status = client_once(o->name, "status");
        if (status == NULL)
            return NULL;
        struct json_object *entry = client_server(status, server);
        if (!goes_on(entry, to_the_end)) {
            entry = json_object_get(entry);
            json_object_put(status);
            return entry;
        }
        json_object_put(status);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
}

static int report(const struct options *o, const char *server, struct json_object *entry)
{
    struct json_object *update = json_member(entry, "update");
    const char *state = json_text(update, "state");
    const bool good = is(state, "trial") || is(state, "done");
    const double gap = (double)json_number(entry, "last_gap_ns") / 1e6;

    if (o->json) {
        struct json_object *answer = json_object_new_object();
        json_object_object_add(answer, "ok", json_object_new_boolean(good));
        json_object_object_add(answer, "server", json_object_new_string(server));
        json_object_object_add(answer, "state", json_object_new_string(state));
        json_object_object_add(answer, "why", json_object_new_string(json_text(update, "why")));
        json_object_object_add(answer, "pid", json_object_new_uint64(json_number(entry, "pid")));
        json_object_object_add(answer, "gap_ms", json_object_new_double(gap));
        print_json(answer);
    } else if (good) {
        printf("%s runs the new program (process %llu) after %.2f ms%s\n", server,
               (unsigned long long)json_number(entry, "pid"), gap,
               is(state, "trial") ? ", on trial" : "");
    } else {
        complain("%s goes on with its old program: update %s: %s", server, state,
                 json_text(update, "why"));
    }
    return good ? CLI_OK : CLI_FAILED;
}

static uint64_t pid_of(const struct options *o)
{
    struct json_object *status = client_once(o->name, "status");
    const uint64_t pid = status != NULL ? json_number(status, "pid") : 0;

    json_object_put(status);
    return pid;
}

/* eft-rs ends, is started again from its program as it is now, and takes over. */
static int update_rs(const struct options *o)
{
    const uint64_t old = pid_of(o);
    struct json_object *answer = old != 0 ? client_once(o->name, "restart") : NULL;

    if (answer == NULL)
        return CLI_FAILED;
    /* who connects from now on waits for the next one */
    const uint64_t pid = pid_of(o);
    if (pid == 0) {
        json_object_put(answer);
        return CLI_FAILED;
    }
    json_object_object_add(answer, "old_pid", json_object_new_uint64(old));
    json_object_object_add(answer, "pid", json_object_new_uint64(pid));
    if (o->json) {
        print_json(answer);
        return CLI_OK;
    }
    printf("eft-rs: process %llu has taken over from %llu\n", (unsigned long long)pid,
           (unsigned long long)old);
    json_object_put(answer);
    return CLI_OK;
}

int command_update(int argc, char **argv)
{
    struct json_object *request, *answer, *entry;
    char program[PATH_MAX] = "";
    struct options o;
    bool to_the_end = false;
    const struct more_option more[] = {{.name = "wait", .flag = &to_the_end}};
    int rc = options_parse_more(&o, argc, argv, OPT_JSON, more, 1);

    if (rc >= 0)
        return rc;
    if (argc - o.first < 1 || argc - o.first > 2)
        return usage_error("expected SERVER and perhaps PROGRAM");
    const char *server = argv[o.first];
    if (strcmp(server, "rs") == 0)
        return argc - o.first == 1 ? update_rs(&o) : usage_error("rs takes its own program");
    if (argc - o.first == 2 && realpath(argv[o.first + 1], program) == NULL)
        return complain("%s: there is no such program", argv[o.first + 1]);
    int fd = client_connect(o.name);
    if (fd < 0)
        return complain("stack %s is not up (%s)", o.name, strerror(-fd));
    request = json_object_new_object();
    json_object_object_add(request, "op", json_object_new_string("update"));
    json_object_object_add(request, "server", json_object_new_string(server));
    json_object_object_add(request, "program", json_object_new_string(program));
    answer = client_ask(fd, o.name, request);
    close(fd);
    if (answer == NULL)
        return CLI_FAILED;
    json_object_put(answer);
    entry = await(&o, server, to_the_end);
    if (entry == NULL)
        return CLI_FAILED;
    rc = report(&o, server, entry);
    json_object_put(entry);
    return rc;
}
