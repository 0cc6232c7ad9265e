/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft update rs: eft-rs ends, is started again from its program as it is now, and takes over.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static uint64_t pid_of(const struct options *o)
{
    struct json_object *status = client_once(o->name, "status");
    const uint64_t pid = status != NULL ? json_number(status, "pid") : 0;

    json_object_put(status);
    return pid;
}

int command_update(int argc, char **argv)
{
    struct options o;
    int rc = options_parse(&o, argc, argv, OPT_JSON);

    if (rc >= 0)
        return rc;
    if (argc - o.first != 1 || strcmp(argv[o.first], "rs") != 0)
        return usage_error("expected rs");
    const uint64_t old = pid_of(&o);
    if (old == 0)
        return CLI_FAILED;
    struct json_object *answer = client_once(o.name, "restart");
    if (answer == NULL)
        return CLI_FAILED;
    /* who connects from now on waits for the next one */
    const uint64_t pid = pid_of(&o);
    if (pid == 0) {
        json_object_put(answer);
        return CLI_FAILED;
    }
    json_object_object_add(answer, "old_pid", json_object_new_uint64(old));
    json_object_object_add(answer, "pid", json_object_new_uint64(pid));
    if (o.json) {
        print_json(answer);
        return CLI_OK;
    }
    printf("eft-rs: process %llu has taken over from %llu\n", (unsigned long long)pid,
           (unsigned long long)old);
    json_object_put(answer);
    return CLI_OK;
}
