/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One server process: its own user, no capabilities, no way to gain any, no core dump (which would
 * delay its successor), pinned. Always fork and exec: a server that was merely forked would keep
 * libc's stale thread id. All servers share rs's PID namespace.
 */
#include "log.h"
#include "rs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_UID = 61900, EXIT_BEFORE_EXEC = 125 };

static enum server_kind kind_of(const struct process *p)
{
    return p->components > 1 ? SERVER_RS : SERVER_ID_KIND(p->id[0]);
}

void spawn_user(struct process *p)
{
    const enum server_kind kind = kind_of(p);
    char name[32];

    snprintf(name, sizeof name, "eft-%s", kind == SERVER_RS ? "fused" : server_kind_name(kind));
    struct passwd *pw = getpwnam(name);
    p->uid = pw != NULL ? pw->pw_uid : (uid_t)(FIRST_UID + kind);
    p->gid = pw != NULL ? pw->pw_gid : (gid_t)(FIRST_UID + kind);
}

static void __attribute__((noreturn)) child_fails(const struct process *p, const char *what)
{
    dprintf(STDERR_FILENO, "<3>eft-rs: %s: cannot %s: %s\n", p->name, what, strerror(errno));
    _exit(EXIT_BEFORE_EXEC);
}

static void limit(int resource, rlim_t soft, rlim_t hard)
{
    struct rlimit r = {.rlim_cur = soft, .rlim_max = hard};

    if (setrlimit(resource, &r) == 0)
        return;
    /* not allowed to raise it: as far as it goes */
    if (getrlimit(resource, &r) == 0) {
        r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
        setrlimit(resource, &r);
    }
}

/* In the kernel a packet is handled before programs run. Our servers hand it on five times, and at
 * each time would wait behind every program that computes on their processor. Ten times the weight
 * of one is enough, and leaves the programs something even when a server spins. A new session is a
 * scheduling group of its own (sched_autogroup), within which a nice value means nothing: so the
 * group gets it as well. Where neither is allowed they are as slow as everybody else. */
static void prefer(pid_t pid)
{
    static const char nice[] = "-10";
    char path[48];

    snprintf(path, sizeof path, "/proc/%d/autogroup", pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t done = setpriority(PRIO_PROCESS, (id_t)pid, -10);

    if (fd >= 0) {
        done = write(fd, nice, sizeof nice - 1);
        close(fd);
    }
    (void)done;
}

/* -errno, or 0 where it may run anywhere. */
static int pin(const struct rs *rs, const struct process *p, pid_t pid)
{
    const int cpu = rs->cfg->cpu[p->id[0]];
    cpu_set_t set;

    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(pid, sizeof set, &set) < 0 ? -errno : 0;
}

void spawn_stand_by(const struct rs *rs, const struct incarnation *i)
{
    prefer(i->pid);
    if (pin(rs, i->process, i->pid) < 0)
        log_say(LOG_DEBUG, i->process->name, "cannot pin spare %d: %s", i->pid, strerror(errno));
}

static void __attribute__((noreturn))
child(const struct rs *rs, const struct process *p, int program, int channel, bool spare)
{
    static const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
                                              NULL, NULL};
    const char *env[8];
    char *argv[2 + 2 * RS_PROCESSES];
    unsigned argc = 0, envc = 0;
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    /* A spare begins like any program, wherever there is room, and not before the one that runs. */
    if (!spare)
        prefer(getpid());
    /* The channel to its fixed place; the program's descriptor out of its way. */
    if (program == RS_CHANNEL_FD && (program = fcntl(program, F_DUPFD, RS_CHANNEL_FD + 1)) < 0)
        child_fails(p, "duplicate a descriptor");
    if (channel == RS_CHANNEL_FD ? fcntl(channel, F_SETFD, 0) < 0
                                 : dup2(channel, RS_CHANNEL_FD) < 0)
        child_fails(p, "place its channel");
    if (close_range(RS_CHANNEL_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        child_fails(p, "close descriptors");

    if (!spare && pin(rs, p, 0) < 0)
        child_fails(p, "pin it to its processor");
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_NOFILE, 262144, 262144);

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        child_fails(p, "set no_new_privs");
    /* The bounding set is empty already: rs has emptied its own (require.c). */
    if (setgroups(0, NULL) < 0 || setresgid(p->gid, p->gid, p->gid) < 0 ||
        setresuid(p->uid, p->uid, p->uid) < 0)
        child_fails(p, "change to its own user");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct nothing[2] = {{0}};
    if (syscall(SYS_capset, &header, nothing) < 0 ||
        (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL))
        child_fails(p, "drop its capabilities");

    argv[argc++] = (char *)(uintptr_t)p->name;
    for (unsigned i = 0; i < p->components; i++) {
        argv[argc++] = (char *)(uintptr_t) "--name";
        argv[argc++] = (char *)(uintptr_t)server_id_name(p->id[i]);
    }
    argv[argc] = NULL;
    for (unsigned i = 0; environment[i] != NULL; i++)
        env[envc++] = environment[i];
    env[envc] = NULL;
    execveat(program, "", argv, (char **)(uintptr_t)env, AT_EMPTY_PATH);
    child_fails(p, "execute its program");
}

int spawn_process(struct rs *rs, struct incarnation *i, int channel, bool spare)
{
    const struct process *p = i->process;
    const enum server_kind kind = kind_of(p);
    const char *program_name = kind == SERVER_RS ? "fused" : server_kind_name(kind);
    char path[320];

    /* Opened here, so that the server's user need not be able to reach the folder. */
    if (i->program.path[0] != '\0')
        snprintf(path, sizeof path, "%s", i->program.path);
    else
        snprintf(path, sizeof path, "%s/eft-%s", rs->libexec, program_name);
    int program = open(path, O_PATH | O_CLOEXEC);
    if (program < 0) {
        int rc = -errno;
        log_say(LOG_ERR, p->name, "cannot open its program %s: %s", path, strerror(-rc));
        return rc;
    }
    pid_t pid = fork();
    if (pid == 0)
        child(rs, p, program, channel, spare);
    int rc = pid < 0 ? -errno : 0;
    close(program);
    if (rc < 0) {
        log_say(LOG_ERR, p->name, "cannot fork: %s", strerror(-rc));
        return rc;
    }
    i->pid = pid;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    i->stat = open(path, O_RDONLY | O_CLOEXEC);
    /* It cannot be reaped before we do it: the number is still its own. */
    i->pidfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (i->pidfd.fd < 0) {
        rc = -errno;
        log_say(LOG_ERR, p->name, "cannot open its pidfd: %s", strerror(-rc));
        if (i->stat >= 0)
            close(i->stat);
        i->stat = -1;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        i->pid = 0;
        return rc;
    }
    return 0;
}
