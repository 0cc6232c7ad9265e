/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft status. The load is processor time over wall time between two looks.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct json_object *find(struct json_object *list, const char *name)
{
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        if (strcmp(json_text(o, "name"), name) == 0)
            return o;
    }
    return NULL;
}

/* In percent of one processor, over the interval; over its life if it has been restarted since. */
static double load(struct json_object *before, struct json_object *now, uint64_t interval_ns)
{
    uint64_t used = json_number(now, "cpu_ns"), over = json_number(now, "uptime_ns");

    if (before != NULL && json_number(before, "pid") == json_number(now, "pid")) {
        used -= json_number(before, "cpu_ns");
        over = interval_ns;
    }
    return over != 0 ? 100.0 * (double)used / (double)over : 0.0;
}

static void add_loads(struct json_object *before, struct json_object *now)
{
    struct json_object *list = json_member(now, "servers");
    uint64_t interval =
        before != NULL ? json_number(now, "now_ns") - json_number(before, "now_ns") : 0;

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *s = json_object_array_get_idx(list, i);
        struct json_object *b =
            before != NULL ? find(json_member(before, "servers"), json_text(s, "name")) : NULL;
        json_object_object_add(s, "load_percent", json_object_new_double(load(b, s, interval)));
    }
}

static void duration(uint64_t ns, char *text, size_t size)
{
    uint64_t s = ns / 1000000000u;

    if (s < 60)
        snprintf(text, size, "%.1f s", (double)ns / 1e9);
    else if (s < 3600)
        snprintf(text, size, "%u m %u s", (unsigned)(s / 60), (unsigned)(s % 60));
    else
        snprintf(text, size, "%u h %u m", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
}

static void print(struct json_object *now)
{
    struct json_object *list = json_member(now, "servers");
    char up[32];

    duration(json_number(now, "uptime_ns"), up, sizeof up);
    printf("stack %s: %s, %s, up %s, %llu applications, eft-rs is process %llu\n",
           json_text(now, "stack"), json_text(now, "shape"),
           json_object_get_boolean(json_member(now, "up")) ? "running" : "starting", up,
           (unsigned long long)json_number(now, "applications"),
           (unsigned long long)json_number(now, "pid"));
    if (json_number(now, "rs_restarts") != 0)
        printf("eft-rs was restarted %llu times\n",
               (unsigned long long)json_number(now, "rs_restarts"));
    printf("%-10s %8s %4s %-9s %6s %8s %9s %12s %7s\n", "SERVER", "PID", "CPU", "STATE", "SPARES",
           "RESTARTS", "GAP", "UPTIME", "LOAD");
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *s = json_object_array_get_idx(list, i);
        int cpu = json_object_get_int(json_member(s, "cpu"));
        char number[12] = "any", gap[24] = "-";
        const uint64_t gap_ns = json_number(s, "last_gap_ns");
        duration(json_number(s, "uptime_ns"), up, sizeof up);
        if (cpu >= 0)
            snprintf(number, sizeof number, "%d", cpu);
        if (gap_ns != 0)
            snprintf(gap, sizeof gap, "%.2f ms", (double)gap_ns / 1e6);
        printf("%-10s %8llu %4s %-9s %6llu %8llu %9s %12s %6.1f%%\n", json_text(s, "name"),
               (unsigned long long)json_number(s, "pid"), number, json_text(s, "state"),
               (unsigned long long)json_number(s, "spares"),
               (unsigned long long)json_number(s, "restarts"), gap, up,
               json_object_get_double(json_member(s, "load_percent")));
    }
}

int command_status(int argc, char **argv)
{
    struct options o;
    struct json_object *before = NULL;
    int rc = options_parse(&o, argc, argv, OPT_JSON | OPT_INTERVAL);

    if (rc >= 0)
        return rc;
    if (o.first != argc)
        return usage_error("unexpected argument %s", argv[o.first]);
    if (o.interval_ms != 0) {
        struct timespec t = {.tv_sec = (time_t)(o.interval_ms / 1000),
                             .tv_nsec = (long)(o.interval_ms % 1000 * 1000000)};
        before = client_once(o.name, "status");
        if (before == NULL)
            return CLI_FAILED;
        nanosleep(&t, NULL);
    }
    struct json_object *now = client_once(o.name, "status");
    if (now != NULL) {
        add_loads(before, now);
        if (o.json) {
            print_json(now);
        } else {
            print(now);
            json_object_put(now);
        }
    }
    json_object_put(before);
    return now != NULL ? CLI_OK : CLI_FAILED;
}
