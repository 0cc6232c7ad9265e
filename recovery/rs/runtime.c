/* SPDX-License-Identifier: BSD-2-Clause
 *
 * /run/eft/NAME: lock (held while rs lives), pids (of the servers, for whoever finds the folder
 * after a crash of rs), log (without systemd), control (for applications), rs (for operators).
 * An orderly stop leaves nothing behind. When rs is started again, the lock and both sockets come
 * from its predecessor, so that nobody else gets the one, and who connects to the others waits.
 */
#include "fdstore.h"
#include "log.h"
#include "rs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static void path_of(const struct rs *rs, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", rs->run_dir, name);
}

/* One that exists stays as it is: systemd may have made it, and /run may be read-only around it. */
static int make_dir(const char *path)
{
    if (mkdir(path, 0755) < 0)
        return errno == EEXIST ? 0 : -errno;
    return chmod(path, 0755) < 0 ? -errno : 0;
}

/* When a process started, in ticks since boot: together with its number it names it for ever. 0: it
 * has ended. */
static unsigned long long start_time(int pid)
{
    char path[64], text[1024];
    unsigned long long start = 0;
    char state = 'Z';

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    char *p = strrchr(text, ')');
    if (p == NULL ||
        sscanf(p + 1,
               " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
               "%*d %llu",
               &state, &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}

/* The servers of a predecessor that was killed: they end by themselves when their channel closes,
 * except when they hang. Nobody else may write to the new stack's devices. */
static void end_orphans(const struct rs *rs)
{
    char path[128], name[64];
    int pid;
    unsigned long long started;

    path_of(rs, "pids", path, sizeof path);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    while (fscanf(f, "%63s %d %llu", name, &pid, &started) == 3) {
        int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (fd < 0)
            continue;
        if (started != 0 && start_time(pid) == started) {
            log_say(LOG_WARNING, name, "process %d is left of an earlier eft-rs, killing it", pid);
            syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
        }
        close(fd);
    }
    fclose(f);
}

void runtime_pids(const struct rs *rs)
{
    char path[128], temporary[128];

    path_of(rs, "pids", path, sizeof path);
    path_of(rs, "pids.new", temporary, sizeof temporary);
    FILE *f = fopen(temporary, "we");
    if (f == NULL)
        return;
    for (unsigned i = 0; i < rs->processes; i++)
        for (unsigned k = 0; k < INCARNATIONS; k++) {
            const struct incarnation *who = &rs->process[i].incarnation[k];
            if (who->pid != 0)
                fprintf(f, "%s %d %llu\n", rs->process[i].name, who->pid, start_time(who->pid));
        }
    if (fclose(f) == 0)
        rename(temporary, path);
}

static int open_lock(struct rs *rs)
{
    char path[128];

    if (rs->adopting) {
        rs->lock = fdstore_take("lock");
        return rs->lock >= 0 ? 0 : EXIT_TROUBLE;
    }
    path_of(rs, "lock", path, sizeof path);
    rs->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (rs->lock < 0) {
        log_say(LOG_ERR, "", "cannot open %s: %s", path, strerror(errno));
        return EXIT_TROUBLE;
    }
    if (flock(rs->lock, LOCK_EX | LOCK_NB) < 0) {
        log_say(LOG_ERR, "", "stack %s is already up; stop it first: eft down --name %s",
                rs->cfg->name, rs->cfg->name);
        close(rs->lock);
        rs->lock = -1;
        return EXIT_ALREADY_UP;
    }
    return fdstore_put("lock", rs->lock) == 0 ? 0 : EXIT_TROUBLE;
}

static int open_control(struct rs *rs)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    if (rs->control_fd >= 0) {
        rs->control_passed = true;
        return 0;
    }
    if (rs->adopting) {
        rs->control_fd = fdstore_take("control");
        return rs->control_fd >= 0 ? 0 : EXIT_TROUBLE;
    }
    path_of(rs, "control", a.sun_path, sizeof a.sun_path);
    unlink(a.sun_path);
    rs->control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Everybody may connect; who may use the stack is decided by the kernel's word on who it is. */
    if (rs->control_fd < 0 || bind(rs->control_fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        chmod(a.sun_path, 0666) < 0 || listen(rs->control_fd, 512) < 0) {
        log_say(LOG_ERR, "", "cannot listen on %s: %s", a.sun_path, strerror(errno));
        return EXIT_TROUBLE;
    }
    return fdstore_put("control", rs->control_fd) == 0 ? 0 : EXIT_TROUBLE;
}

static int open_log(const struct rs *rs)
{
    char path[128];

    path_of(rs, "log", path, sizeof path);
    int fd =
        open(path, O_WRONLY | O_CREAT | (rs->adopting ? 0 : O_TRUNC) | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) {
        log_say(LOG_ERR, "", "cannot open %s: %s", path, strerror(errno));
        return EXIT_TROUBLE;
    }
    dup2(fd, STDERR_FILENO);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    return 0;
}

int runtime_open(struct rs *rs, bool background)
{
    snprintf(rs->run_dir, sizeof rs->run_dir, "/run/eft/%s", rs->cfg->name);
    int rc = make_dir("/run/eft");
    if (rc == 0)
        rc = make_dir(rs->run_dir);
    if (rc < 0) {
        log_say(LOG_ERR, "", "cannot make %s: %s", rs->run_dir, strerror(-rc));
        return EXIT_TROUBLE;
    }
    rc = open_lock(rs);
    if (rc == 0 && background)
        rc = open_log(rs);
    if (rc != 0)
        return rc;
    if (!rs->adopting)
        end_orphans(rs);
    rc = open_control(rs);
    return rc != 0 ? rc : operator_listen(rs);
}

void runtime_show_log(const struct rs *rs, int fd)
{
    char path[128], line[512];

    if (fd < 0 || rs->lock < 0)
        return;
    path_of(rs, "log", path, sizeof path);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    /* our own errors were told already */
    while (fgets(line, sizeof line, f) != NULL)
        if (strstr(line, "eft-rs: ") == NULL)
            dprintf(fd, "%s", line + (line[0] == '<' ? strcspn(line, ">") + 1 : 0));
    fclose(f);
}

void runtime_close(struct rs *rs)
{
    static const char *const names[] = {"rs", "pids", "pids.new", "log"};
    char path[128];

    if (rs->lock < 0)
        return; /* the folder belongs to another */
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_of(rs, names[i], path, sizeof path);
        unlink(path);
    }
    if (!rs->control_passed) {
        path_of(rs, "control", path, sizeof path);
        unlink(path);
    }
    /* last: whoever gets the lock from now on makes a folder of its own */
    path_of(rs, "lock", path, sizeof path);
    unlink(path);
    rmdir(rs->run_dir);
    close(rs->lock);
    rs->lock = -1;
}
