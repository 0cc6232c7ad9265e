/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-rs: the reincarnation server's program. See rs.h for what it is, eft(8) for its options.
 */
#include "drivers/device.h"
#include "fdstore.h"
#include "log.h"
#include "loop.h"
#include "require.h"
#include "rs.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

_Static_assert((int)DRIVER_DEVICE_FDS <= (int)RS_DEVICE_FDS, "devices");

struct options {
    const char *name, *config, *shape;
    int ready_fd;
    bool background;
};

static void usage(FILE *f)
{
    fprintf(f, "usage: eft-rs [--name NAME] [--config FILE] [--shape split|fused]\n"
               "              [--background] [--ready-fd N]\n"
               "Runs the stack NAME (default: eft) until SIGTERM. See eft(8), eft.conf(5).\n");
}

static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option list[] = {
        {"name", required_argument, NULL, 'n'},  {"config", required_argument, NULL, 'c'},
        {"shape", required_argument, NULL, 's'}, {"ready-fd", required_argument, NULL, 'r'},
        {"background", no_argument, NULL, 'b'},  {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},     {0},
    };

    *o = (struct options){.name = "eft", .ready_fd = -1};
    for (int c; (c = getopt_long(argc, argv, "", list, NULL)) != -1;) {
        switch (c) {
        case 'n':
            o->name = optarg;
            break;
        case 'c':
            o->config = optarg;
            break;
        case 's':
            o->shape = optarg;
            break;
        case 'r':
            o->ready_fd = atoi(optarg);
            break;
        case 'b':
            o->background = true;
            break;
        case 'h':
            usage(stdout);
            exit(EXIT_OK);
        case 'v':
            printf("eft-rs %s\n", EFT_VERSION);
            exit(EXIT_OK);
        default:
            usage(stderr);
            return EXIT_USAGE;
        }
    }
    if (optind != argc) {
        usage(stderr);
        return EXIT_USAGE;
    }
    return 0;
}

static int load_config(struct rs *rs, const struct options *o)
{
    char error[CONFIG_ERROR_MAX];

    if (config_load(rs->cfg, o->name, o->config, error) < 0) {
        log_say(LOG_ERR, "", "%s", error);
        return EXIT_CONFIG;
    }
    if (o->shape == NULL)
        return 0;
    if (strcmp(o->shape, "split") == 0) {
        rs->cfg->shape = SHAPE_SPLIT;
    } else if (strcmp(o->shape, "fused") == 0) {
        rs->cfg->shape = SHAPE_FUSED;
    } else {
        log_say(LOG_ERR, "", "--shape: found \"%s\", expected split or fused", o->shape);
        return EXIT_USAGE;
    }
    return 0;
}

/* The servers' programs lie where ours lies: in the build tree and installed alike. */
static int find_libexec(struct rs *rs)
{
    ssize_t n = readlink("/proc/self/exe", rs->libexec, sizeof rs->libexec - 1);

    if (n <= 0) {
        log_say(LOG_ERR, "", "cannot read /proc/self/exe: %s; mount /proc", strerror(errno));
        return EXIT_KERNEL;
    }
    rs->libexec[n] = '\0';
    char *slash = strrchr(rs->libexec, '/');
    if (slash != NULL)
        *slash = '\0';
    return 0;
}

/* The descriptors of a device that a predecessor of ours has opened. */
static int adopt_device(struct server *s, unsigned instance)
{
    char name[32];

    for (unsigned n = 0; n < RS_DEVICE_FDS; n++) {
        snprintf(name, sizeof name, "device%u.%u", instance, n);
        if ((s->device[n] = fdstore_take(name)) < 0)
            break;
        s->devices++;
    }
    return s->devices > 0 ? 0 : EXIT_TROUBLE;
}

static int store_device(const struct server *s, unsigned instance)
{
    char name[32];

    for (unsigned n = 0; n < s->devices; n++) {
        snprintf(name, sizeof name, "device%u.%u", instance, n);
        if (fdstore_put(name, s->device[n]) < 0)
            return EXIT_TROUBLE;
    }
    return 0;
}

static int open_devices(struct rs *rs)
{
    for (unsigned i = 0; i < rs->cfg->interfaces; i++) {
        struct server *s = &rs->server[SERVER_ID(SERVER_DRIVER, i)];
        if (rs->adopting) {
            if (adopt_device(s, i) != 0)
                return EXIT_TROUBLE;
            continue;
        }
        const struct config_interface *f = &rs->cfg->interface[i];
        struct region region;
        char error[256] = "";
        int rc = region_map_fd(&region, s->region.rw, REGION_OF_SERVER(SERVER_ID(SERVER_DRIVER, i)),
                               s->region.generation, true);
        if (rc == 0) {
            rc = device_open(f, &region, s->device, &s->devices, error, sizeof error);
            region_unmap(&region);
        }
        if (rc < 0) {
            log_say(LOG_ERR, "", "interface %s: %s", f->device,
                    error[0] != '\0' ? error : strerror(-rc));
            return EXIT_TROUBLE;
        }
        if (store_device(s, i) != 0)
            return EXIT_TROUBLE;
    }
    return 0;
}

static void close_devices(struct rs *rs)
{
    for (unsigned i = 0; i < rs->cfg->interfaces; i++) {
        struct server *s = &rs->server[SERVER_ID(SERVER_DRIVER, i)];
        if (s->devices > 0)
            device_close(s->device, s->devices);
        s->devices = 0;
    }
}

static int start(struct rs *rs, const struct options *o)
{
    int rc = rs->adopting ? memory_adopt_config(rs) : load_config(rs, o);

    if (rc == 0)
        rc = require_all(rs->cfg);
    if (rc == 0)
        rc = find_libexec(rs);
    if (rc != 0)
        return rc;
    if (loop_open(rs) < 0) {
        log_say(LOG_ERR, "", "cannot make the event loop: %s", strerror(errno));
        return EXIT_TROUBLE;
    }
    rc = runtime_open(rs, o->background);
    if (rc != 0)
        return rc;
    require_limits(rs->adopting);
    if ((!rs->adopting && state_open(rs, -1) < 0) || memory_create(rs) < 0 || server_setup(rs) < 0)
        return EXIT_TROUBLE;
    rc = open_devices(rs);
    return rc == 0 && rs->adopting && adopt_stack(rs) < 0 ? EXIT_TROUBLE : rc;
}

/* Everything is there, and nobody has started. */
static void begin(struct rs *rs)
{
    rs->lives = 1;
    rs->complete = fdstore_there() && fdstore_sync() == 0;
    state_save_stack(rs);
    for (unsigned i = 0; i < rs->processes; i++)
        server_start(rs, &rs->process[i]);
}

static void finish(struct rs *rs)
{
    rs->complete = false;
    state_save_stack(rs);
    operator_close_all(rs);
    app_close_all(rs);
    close_devices(rs);
    fdstore_clear();
    state_close(rs);
    runtime_close(rs);
}

/* What a predecessor left cannot be adopted. Without it the servers end; whoever started us does it
 * again, and then there is nothing to adopt. */
static int start_afresh(void)
{
    log_say(LOG_ERR, "",
            "cannot take over the stack that was left, starting afresh: its "
            "connections are lost");
    fdstore_clear();
    return EXIT_AGAIN;
}

int main(int argc, char **argv)
{
    struct options o;
    uint64_t usec = 0;
    int rc = parse_options(argc, argv, &o);

    if (rc != 0)
        return rc;
    if (!config_name_valid(o.name)) {
        log_open("", o.ready_fd);
        log_say(LOG_ERR, "",
                "\"%s\" cannot be the name of a stack: letters, digits, - and _, at "
                "most 31",
                o.name);
        return EXIT_USAGE;
    }
    struct rs *rs = calloc(1, sizeof *rs);
    log_open(o.name, o.ready_fd);
    if (o.ready_fd >= 0)
        fcntl(o.ready_fd, F_SETFD, FD_CLOEXEC);
    if (rs == NULL || (rs->cfg = calloc(1, sizeof *rs->cfg)) == NULL)
        return EXIT_TROUBLE;
    umask(0022);
    rs->lock = rs->epoll = rs->signals.fd = rs->operator_listen.fd = rs->control_fd = -1;
    rs->state_fd = -1;
    for (unsigned i = 0; i < APPS_MAX; i++)
        rs->app_park[i] = PARK_NONE;
    rs->leavers_at = UINT64_MAX;
    rs->started_at = rs_now();
    fdstore_open();
    rs->control_fd = fdstore_take("passed-control"); /* that systemd listens on for us */
    rs->adopting = adopt_begin(rs);
    if (!rs->adopting)
        fdstore_clear(); /* what nobody knows how to use */
    rc = start(rs, &o);
    if (rc != 0 && rs->adopting)
        return start_afresh();
    if (rc == 0) {
        if (sd_watchdog_enabled(0, &usec) > 0)
            rs->watchdog_every = usec * 1000 / 3;
        if (!rs->adopting)
            begin(rs);
        rs->adopting = false;
        loop_run(rs);
        if (rs->restart)
            return EXIT_AGAIN;
        rc = rs->exit_status;
    }
    if (!rs->up && rc != 0) {
        if (o.background)
            runtime_show_log(rs, o.ready_fd);
        sd_notifyf(0, "STATUS=%s\nERRNO=%d", log_last_error(), rc);
    }
    finish(rs);
    free(rs->cfg);
    free(rs);
    return rc;
}
