/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft crash kill: SIGKILL for servers, and exactly when. eft-rs kills the servers, all within some
 * microseconds; eft-rs itself is killed from here, as the last one.
 */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

int command_crash(int argc, char **argv)
{
    struct options o;
    int rc = options_parse(&o, argc, argv, OPT_JSON), rs = -1, rs_pid = 0;

    if (rc >= 0)
        return rc;
    if (argc - o.first < 2 || strcmp(argv[o.first], "kill") != 0)
        return usage_error("expected kill SERVER…");
    struct json_object *servers = json_object_new_array(), *answer;
    for (int i = o.first + 1; i < argc; i++) {
        if (strcmp(argv[i], "rs") != 0)
            json_object_array_add(servers, json_object_new_string(argv[i]));
        else if (rs < 0 && (rs = open_rs(&o, &rs_pid)) < 0) {
            json_object_put(servers);
            return CLI_FAILED;
        }
    }
    if (json_object_array_length(servers) > 0) {
        answer = kill_servers(&o, servers);
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
        return report(&o, answer);
    json_object_put(answer);
    return rc;
}
