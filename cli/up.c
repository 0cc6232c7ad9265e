/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft up, eft down.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_FD = 3, DOWN_LIMIT_MS = 10000, DOWN_TRIES = 3 };

static void __attribute__((noreturn)) child(const char *keeper, const char *program,
                                            const struct options *o, const char *config, int ready)
{
    const char *argv[16];
    unsigned n = 0;

    setsid();
    int null = open("/dev/null", O_RDWR);
    /* until it has its log, what eft-rs has to say comes through `ready` */
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (ready != READY_FD)
        dup2(ready, READY_FD);
    close_range(READY_FD + 1, ~0u, 0);
    if (chdir("/") < 0)
        _exit(CLI_FAILED);
    argv[n++] = "eft-keeper";
    argv[n++] = "--ready-fd";
    argv[n++] = "3";
    argv[n++] = program;
    argv[n++] = "--background";
    argv[n++] = "--name";
    argv[n++] = o->name;
    if (config != NULL) {
        argv[n++] = "--config";
        argv[n++] = config;
    }
    if (o->shape != NULL) {
        argv[n++] = "--shape";
        argv[n++] = o->shape;
    }
    argv[n] = NULL;
    execv(keeper, (char **)(uintptr_t)argv);
    dprintf(READY_FD, "cannot execute %s: %s\n", keeper, strerror(errno));
    _exit(CLI_FAILED);
}

/* Everything that eft-rs says before it is ready or dead. */
static size_t read_all(int fd, char *text, size_t size)
{
    size_t len = 0;

    while (len < size - 1) {
        ssize_t n = read(fd, text + len, size - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    return len;
}

static bool says_ready(const char *text, size_t len)
{
    return len >= 6 && strcmp(text + len - 6, "READY\n") == 0 &&
           (len == 6 || text[len - 7] == '\n');
}

int command_up(int argc, char **argv)
{
    char keeper[PATH_MAX], program[PATH_MAX], config[PATH_MAX], text[65536];
    struct options o;
    int ready[2], status = 0;
    int rc = options_parse(&o, argc, argv, OPT_UP | OPT_JSON);

    if (rc >= 0)
        return rc;
    if (o.first != argc)
        return usage_error("unexpected argument %s", argv[o.first]);
    if (o.config != NULL && realpath(o.config, config) == NULL)
        return complain("%s: %s", o.config, strerror(errno));
    if (!path_find("eft-rs", program, sizeof program) ||
        !path_find("eft-keeper", keeper, sizeof keeper))
        return complain("eft-rs and eft-keeper are neither beside this program nor in "
                        "../libexec/eft");
    if (pipe2(ready, O_CLOEXEC) < 0)
        return complain("pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        return complain("fork: %s", strerror(errno));
    if (pid == 0)
        child(keeper, program, &o, o.config != NULL ? config : NULL, ready[1]);
    close(ready[1]);
    size_t len = read_all(ready[0], text, sizeof text);
    if (says_ready(text, len)) {
        if (o.json) {
            struct json_object *answer = client_once(o.name, "status");
            if (answer == NULL)
                return CLI_FAILED;
            print_json(answer);
        }
        return CLI_OK;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    fprintf(stderr, "eft: stack %s did not come up\n%s", o.name, text);
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : CLI_FAILED;
}

/* ---- down ---- */

/* eft-rs and its keeper were killed: the servers end when their channel closes. What it left is
 * removed when nobody holds its lock. */
static int clean_up(const char *name)
{
    static const char *const names[] = {"rs", "pids", "pids.new", "log", "control", "lock"};
    char path[128];

    snprintf(path, sizeof path, "/run/eft/%.64s/lock", name);
    int lock = open(path, O_RDWR | O_CLOEXEC);
    if (lock < 0)
        return complain("stack %s is not up", name);
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        close(lock);
        return complain("stack %s: eft-rs runs, but does not listen", name);
    }
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "/run/eft/%.64s/%s", name, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "/run/eft/%.64s", name);
    rmdir(path);
    close(lock);
    fprintf(stderr, "eft: stack %s was not running; removed what it had left\n", name);
    return CLI_OK;
}

int command_down(int argc, char **argv)
{
    struct options o;
    int rc = options_parse(&o, argc, argv, OPT_JSON);

    if (rc >= 0)
        return rc;
    if (o.first != argc)
        return usage_error("unexpected argument %s", argv[o.first]);
    /* One that is dying, or a child of it that has not yet become a server, may still take the
     * connection; then there is no answer, and soon the next one, or nobody to connect to. */
    struct json_object *status = NULL;
    int fd = -1;
    for (unsigned n = 0; n < DOWN_TRIES && status == NULL; n++) {
        if (fd >= 0)
            close(fd);
        fd = client_connect(o.name);
        if (fd == -EACCES || fd == -EPERM)
            return complain("stack %s: %s; run this as root", o.name, strerror(-fd));
        if (fd < 0)
            return clean_up(o.name);
        status = client_query(fd, "status");
    }
    if (status == NULL)
        return complain("stack %s: eft-rs does not answer", o.name);
    const int pid = (int)json_number(status, "pid"),
              keeper = (int)json_number(status, "keeper_pid");
    json_object_put(status);
    int pidfd[2] = {(int)syscall(SYS_pidfd_open, pid, 0), -1};
    if (keeper != 0)
        pidfd[1] = (int)syscall(SYS_pidfd_open, keeper, 0);
    struct json_object *request = json_object_new_object();
    json_object_object_add(request, "op", json_object_new_string("stop"));
    struct json_object *answer = client_ask(fd, o.name, request);
    if (answer == NULL || pidfd[0] < 0)
        return CLI_FAILED;
    /* their pidfds, as everything is gone only when they are; the keeper last, as another eft-rs
     * goes on should this one die before it is done */
    for (unsigned i = 0; i < 2; i++) {
        struct pollfd p = {.fd = pidfd[i], .events = POLLIN};
        if (pidfd[i] >= 0 && poll(&p, 1, DOWN_LIMIT_MS) != 1) {
            json_object_put(answer);
            return complain("stack %s: process %d does not end", o.name, i == 0 ? pid : keeper);
        }
        close(pidfd[i]);
    }
    close(fd);
    if (o.json)
        print_json(answer);
    else
        json_object_put(answer);
    return CLI_OK;
}
