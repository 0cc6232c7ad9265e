/* SPDX-License-Identifier: BSD-2-Clause
 *
 * /run/eft/NAME/rs: what `eft` asks for. One JSON object per line in, one per line out. For root
 * only: by the socket's mode, and by the kernel's word on who has connected.
 *
 *   {"op":"status"}                   what runs
 *   {"op":"maps"}                     regions (device, inode, owner) and processes, for `eft maps`
 *   {"op":"kill","servers":["tcp0"]}  SIGKILL by pidfd, for all or for none of them, back to back;
 *                                     the answer has pid and CLOCK_REALTIME of each
 *   {"op":"restart"}                  rs itself, from its program as it is now
 *   {"op":"update","server":"tcp0","program":"/path"}   begins to replace its program ("": by the
 *                                     installed one); how it goes on is in status: "update"
 *   {"op":"stop"}                     orderly stop; the connection ends when it is done
 *
 * An operator that does not read its answers is cut off; nothing waits for it.
 */
#include "counters.h"
#include "fdstore.h"
#include "log.h"
#include "rs.h"

#include <errno.h>
#include <json-c/json.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, OPERATORS = 16 };

struct operator_link {
    bool used;
    struct watch watch;
    size_t len;
    char line[LINE_MAX_BYTES];
};
static struct operator_link operators[OPERATORS];

static void put(struct json_object *o, const char *key, struct json_object *value)
{
    json_object_object_add(o, key, value);
}

static void put_text(struct json_object *o, const char *key, const char *value)
{
    put(o, key, json_object_new_string(value));
}

static void put_number(struct json_object *o, const char *key, uint64_t value)
{
    put(o, key, json_object_new_uint64(value));
}

static const char *state_name(enum process_state s)
{
    switch (s) {
    case PROCESS_WAITING:
        return "waiting";
    case PROCESS_STARTING:
        return "starting";
    case PROCESS_RUNNING:
        return "running";
    case PROCESS_ENDED:
        return "ended";
    }
    return "?";
}

static struct json_object *components(const struct process *p)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < p->components; i++)
        json_object_array_add(list, json_object_new_string(server_id_name(p->id[i])));
    return list;
}

static struct json_object *spare_pids(const struct process *p)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < INCARNATIONS; i++)
        if (p->incarnation[i].state == INCARNATION_STANDBY && p->incarnation[i].ready != 0)
            json_object_array_add(list, json_object_new_int(p->incarnation[i].pid));
    return list;
}

static struct json_object *counters(const struct rs *rs, const struct process *p)
{
    struct json_object *all = json_object_new_object();

    for (unsigned i = 0; i < p->components; i++) {
        const struct server_block *b = rs->server[p->id[i]].block;
        const char *const *names;
        const unsigned n = counter_names(SERVER_ID_KIND(p->id[i]), &names);
        struct json_object *o = json_object_new_object();
        for (unsigned k = 0; k < n; k++)
            put_number(o, names[k], load_relaxed(&b->counter[k]));
        put(all, server_id_name(p->id[i]), o);
    }
    return all;
}

static struct json_object *status_of(const struct rs *rs, const struct process *p, uint64_t now)
{
    struct json_object *o = json_object_new_object();
    const struct server_block *b = rs->server[p->id[0]].block;
    const struct incarnation *running = p->running;
    struct hang_sample s = {0};

    put_text(o, "name", p->name);
    put(o, "components", components(p));
    put_number(o, "pid", running != NULL ? (uint64_t)running->pid : 0);
    put(o, "cpu", json_object_new_int(rs->cfg->cpu[p->id[0]]));
    put_text(o, "state", state_name(p->state));
    put_number(o, "spares", spare_count(p));
    put(o, "spare_pids", spare_pids(p));
    put_number(o, "restarts", p->restarts);
    put_number(o, "hangs", p->hangs);
    put_text(o, "last_end", end_name(p->end));
    put_number(o, "last_gap_ns", p->last_gap_ns);
    put_number(o, "uptime_ns", running != NULL ? now - running->started_at : 0);
    if (running != NULL && watchdog_process(running->pid, &s) == 0)
        put_number(o, "cpu_ns", s.cpu_ns);
    put_number(o, "epoch", load_relaxed(&b->epoch));
    put_number(o, "turns", load_relaxed(&b->turns));
    put_number(o, "progress", load_relaxed(&b->progress));
    put_number(o, "busy_ns", load_relaxed(&b->busy_ns));
    put_number(o, "dropped", load_relaxed(&b->dropped));
    if (p->program.path[0] != '\0')
        put_text(o, "program", p->program.path);
    if (p->update.state != UPDATE_NONE) {
        struct json_object *u = json_object_new_object();
        put_text(u, "state", update_state_name(p->update.state));
        put_text(u, "why", p->update.why);
        put_number(u, "number", p->update.builds);
        put(o, "update", u);
    }
    put(o, "counters", counters(rs, p));
    return o;
}

static void op_status(const struct rs *rs, struct json_object *o)
{
    const char *keeper = getenv("EFT_KEEPER"); /* 0 with systemd, or without anybody */
    struct json_object *list = json_object_new_array();
    uint64_t now = rs_now();

    put_text(o, "stack", rs->cfg->name);
    put_text(o, "version", EFT_VERSION);
    put_text(o, "shape", rs->cfg->shape == SHAPE_FUSED ? "fused" : "split");
    put_number(o, "pid", (uint64_t)getpid());
    put_number(o, "rs_restarts", rs->lives - 1);
    put_number(o, "keeper_pid", keeper != NULL ? strtoull(keeper, NULL, 10) : 0);
    put(o, "up", json_object_new_boolean(rs->up));
    put_number(o, "uptime_ns", now - rs->started_at);
    put_number(o, "now_ns", now);
    put_number(o, "applications", app_count(rs));
    for (unsigned i = 0; i < rs->processes; i++)
        json_object_array_add(list, status_of(rs, &rs->process[i], now));
    put(o, "servers", list);
}

static void put_region(struct json_object *list, const struct keep *k, region_id id,
                       const char *name, server_id owner)
{
    struct json_object *o;
    struct stat st;

    if (k->rw < 0 || fstat(k->rw, &st) < 0)
        return;
    o = json_object_new_object();
    put_number(o, "id", id);
    put_text(o, "name", name);
    put_text(o, "owner", owner == SERVER_ID(SERVER_RS, 0) ? "rs" : server_id_name(owner));
    put_number(o, "major", major(st.st_dev));
    put_number(o, "minor", minor(st.st_dev));
    put_number(o, "inode", st.st_ino);
    put_number(o, "size", k->size);
    json_object_array_add(list, o);
}

static void op_maps(const struct rs *rs, struct json_object *o)
{
    static const char *const kinds[4] = {"up", "down-tcp", "down-udp", "down-ctl"};
    struct json_object *regions = json_object_new_array(), *processes = json_object_new_array(),
                       *apps = json_object_new_array();
    char name[64];

    put_region(regions, &rs->config[0], REGION_CONFIG, "config", SERVER_ID(SERVER_RS, 0));
    put_region(regions, &rs->config[1], REGION_CONFIG, "config+secret", SERVER_ID(SERVER_RS, 0));
    put_region(regions, &rs->page_kept, REGION_OF_SERVER(SERVER_ID(SERVER_RS, 0)), "rs",
               SERVER_ID(SERVER_RS, 0));
    put_region(regions, &(struct keep){.rw = rs->state_fd}, REGION_RS_STATE, "rs-state",
               SERVER_ID(SERVER_RS, 0));
    for (unsigned id = 0; id < RS_SERVERS; id++) {
        const struct server *s = &rs->server[id];
        if (!s->used)
            continue;
        put_region(regions, &s->region, REGION_OF_SERVER(id), server_id_name((server_id)id),
                   (server_id)id);
        snprintf(name, sizeof name, "%s-public", server_id_name((server_id)id));
        put_region(regions, &s->public_page, REGION_PUBLIC(id), name, (server_id)id);
    }
    for (unsigned i = 0; i < APPS_MAX; i++) {
        static const server_id owner[4] = {SERVER_ID(SERVER_RS, 0), SERVER_ID(SERVER_TCP, 0),
                                           SERVER_ID(SERVER_UDP, 0), SERVER_ID(SERVER_SYSCALL, 0)};
        const struct application *a = rs->app[i];
        if (a == NULL || a->state == APP_FREE)
            continue;
        for (unsigned k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "app%u-%s", i, kinds[k]);
            put_region(regions, &a->region[k], REGION_OF_APP(i, k), name, owner[k]);
        }
        struct json_object *app = json_object_new_object();
        put_number(app, "number", i);
        put_number(app, "pid", (uint64_t)a->pid);
        put_number(app, "uid", a->uid);
        put(app, "gone", json_object_new_boolean(a->state == APP_GONE));
        json_object_array_add(apps, app);
    }
    for (unsigned i = 0; i < rs->processes; i++)
        for (unsigned k = 0; k < INCARNATIONS; k++) {
            const struct incarnation *who = &rs->process[i].incarnation[k];
            /* one that has not said a word may still be a copy of ourselves, before its exec */
            if (who->pid == 0 || who->ready == 0)
                continue;
            struct json_object *p = json_object_new_object();
            put_text(p, "name", rs->process[i].name);
            put_number(p, "pid", (uint64_t)who->pid);
            put(p, "components", components(&rs->process[i]));
            json_object_array_add(processes, p);
        }
    put_number(o, "pid", (uint64_t)getpid());
    put(o, "regions", regions);
    put(o, "processes", processes);
    put(o, "applications", apps);
}

static void fail(struct json_object *o, const char *what, const char *arg)
{
    char text[512];

    snprintf(text, sizeof text, "%.320s: \"%.100s\"", what, arg);
    put(o, "ok", json_object_new_boolean(false));
    put_text(o, "error", text);
}

static void op_kill(struct rs *rs, struct json_object *request, struct json_object *o)
{
    struct json_object *servers = NULL, *killed;
    struct incarnation *who[RS_PROCESSES];
    struct timespec t[RS_PROCESSES];
    size_t n = 0;

    if (json_object_object_get_ex(request, "servers", &servers) &&
        json_object_is_type(servers, json_type_array))
        n = json_object_array_length(servers);
    if (n == 0 || n > RS_PROCESSES) {
        fail(o, "expected an array of servers", "servers");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct json_object *server = json_object_array_get_idx(servers, i);
        const char *name = server != NULL ? json_object_get_string(server) : "";
        struct process *p = server_find(rs, name);
        if (p == NULL) {
            fail(o, "there is no such server", name);
            return;
        }
        who[i] = p->running;
        if (who[i] == NULL) {
            fail(o, "this server is not running", name);
            return;
        }
    }
    for (size_t i = 0; i < n; i++) {
        clock_gettime(CLOCK_REALTIME, &t[i]);
        who[i]->handing = false; /* whatever it was about to do */
        server_kill(who[i], false);
    }
    killed = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        struct json_object *k = json_object_new_object();
        put_text(k, "server", who[i]->process->name);
        put_number(k, "pid", (uint64_t)who[i]->pid);
        put_number(k, "time_ns", (uint64_t)t[i].tv_sec * 1000000000ull + (uint64_t)t[i].tv_nsec);
        json_object_array_add(killed, k);
    }
    put(o, "killed", killed);
}

static void op_restart(struct rs *rs, struct json_object *o)
{
    if (rs->complete)
        rs->restart = true; /* when this was answered */
    else
        fail(o, "nobody would start it again", "restart");
}

static const char *text_of(struct json_object *request, const char *key)
{
    struct json_object *value = NULL;

    return json_object_object_get_ex(request, key, &value) ? json_object_get_string(value) : "";
}

static void op_update(struct rs *rs, struct json_object *request, struct json_object *o)
{
    const char *name = text_of(request, "server");
    struct process *p = server_find(rs, name);
    char error[320];

    if (p == NULL)
        fail(o, "there is no such server", name);
    else if (update_begin(rs, p, text_of(request, "program"), error, sizeof error) < 0)
        fail(o, error, name);
    else
        put_text(o, "server", p->name);
}

static struct json_object *answer(struct rs *rs, const char *line)
{
    struct json_object *o = json_object_new_object(), *op = NULL;
    struct json_object *request = json_tokener_parse(line);

    put(o, "ok", json_object_new_boolean(true));
    if (request != NULL)
        json_object_object_get_ex(request, "op", &op);
    const char *name = op != NULL ? json_object_get_string(op) : "";
    if (strcmp(name, "status") == 0)
        op_status(rs, o);
    else if (strcmp(name, "maps") == 0)
        op_maps(rs, o);
    else if (strcmp(name, "kill") == 0)
        op_kill(rs, request, o);
    else if (strcmp(name, "restart") == 0)
        op_restart(rs, o);
    else if (strcmp(name, "update") == 0)
        op_update(rs, request, o);
    else if (strcmp(name, "stop") == 0)
        rs_stop(rs, EXIT_OK);
    else
        fail(o, "unknown request", name);
    json_object_put(request);
    return o;
}

static void hang_up(struct rs *rs, struct operator_link *op)
{
    rs_unwatch(rs, &op->watch);
    op->used = false;
}

/* Answers one line; false: the operator is gone. */
static bool serve_line(struct rs *rs, struct operator_link *op, const char *line)
{
    struct json_object *o = answer(rs, line);
    size_t len;
    const char *text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &len);
    struct iovec iov[2] = {{.iov_base = (void *)(uintptr_t)text, .iov_len = len},
                           {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    ssize_t n = sendmsg(op->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

    json_object_put(o);
    return n == (ssize_t)len + 1;
}

static void on_operator(struct rs *rs, struct watch *w, uint32_t events)
{
    struct operator_link *op =
        (struct operator_link *)(void *)((char *)w - offsetof(struct operator_link, watch));

    (void)events;
    ssize_t n = recv(w->fd, op->line + op->len, sizeof op->line - 1 - op->len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up(rs, op);
        return;
    }
    op->len += (size_t)n;
    op->line[op->len] = '\0';
    for (char *end; (end = memchr(op->line, '\n', op->len)) != NULL;) {
        *end = '\0';
        if (!serve_line(rs, op, op->line)) {
            hang_up(rs, op);
            return;
        }
        size_t used = (size_t)(end + 1 - op->line);
        op->len -= used;
        memmove(op->line, end + 1, op->len + 1);
    }
    if (op->len == sizeof op->line - 1)
        hang_up(rs, op);
}

static void on_connection(struct rs *rs, struct watch *w, uint32_t events)
{
    const int buffer = 4 << 20;
    struct ucred who;
    socklen_t len = sizeof who;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    for (unsigned i = 0; i < OPERATORS; i++) {
        struct operator_link *op = &operators[i];
        if (op->used)
            continue;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
            (who.uid != 0 && who.uid != geteuid()))
            break;
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
        op->used = true;
        op->len = 0;
        op->watch = (struct watch){.fd = fd, .ready = on_operator};
        if (rs_watch(rs, &op->watch, EPOLLIN) == 0)
            return;
        op->used = false;
        break;
    }
    close(fd);
}

static int watch_listener(struct rs *rs, int fd)
{
    rs->operator_listen = (struct watch){.fd = fd, .ready = on_connection};
    return fd >= 0 && rs_watch(rs, &rs->operator_listen, EPOLLIN) == 0 ? 0 : EXIT_TROUBLE;
}

int operator_listen(struct rs *rs)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    if (rs->adopting)
        return watch_listener(rs, fdstore_take("operator"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.90s/rs", rs->run_dir);
    unlink(a.sun_path);
    mode_t mask = umask(0177);
    int rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof a);
    umask(mask);
    if (rc < 0 || listen(fd, OPERATORS) < 0) {
        log_say(LOG_ERR, "", "cannot listen on %s: %s", a.sun_path, strerror(errno));
        return EXIT_TROUBLE;
    }
    return fdstore_put("operator", fd) == 0 ? watch_listener(rs, fd) : EXIT_TROUBLE;
}

void operator_close_all(struct rs *rs)
{
    for (unsigned i = 0; i < OPERATORS; i++)
        if (operators[i].used)
            hang_up(rs, &operators[i]);
    rs_unwatch(rs, &rs->operator_listen);
}
