/* SPDX-License-Identifier: BSD-2-Clause */
#include "target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STOP_LIMIT_US = 1000000 };

int target_open(struct target *t, pid_t pid)
{
    char path[64];

    *t = (struct target){.pid = pid, .mem = -1};
    t->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (t->pidfd < 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    t->mem = open(path, O_RDWR | O_CLOEXEC);
    if (t->mem < 0) {
        int rc = -errno;
        close(t->pidfd);
        t->pidfd = -1;
        return rc;
    }
    return 0;
}

void target_close(struct target *t)
{
    target_go(t);
    if (t->mem >= 0)
        close(t->mem);
    if (t->pidfd >= 0)
        close(t->pidfd);
    t->mem = t->pidfd = -1;
}

bool target_is_alive(const struct target *t)
{
    struct pollfd p = {.fd = t->pidfd, .events = POLLIN};

    return poll(&p, 1, 0) == 0;
}

/* Waits until the thread stands. 0, -ETIMEDOUT, or -ESRCH when it has ended. *signal: one that it
 * was about to get, which is ours to pass on. */
static int wait_stopped(pid_t tid, unsigned limit_us, int *signal)
{
    struct timespec begin, now;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        int status;
        pid_t got = waitpid(tid, &status, __WALL | WNOHANG);
        if (got < 0)
            return -ESRCH;
        if (got == tid) {
            if (!WIFSTOPPED(status))
                return -ESRCH;
            if (status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP)
                *signal = WSTOPSIG(status);
            return 0;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t us = (now.tv_sec - begin.tv_sec) * 1000000ll + (now.tv_nsec - begin.tv_nsec) / 1000;
        if (us > (int64_t)limit_us)
            return -ETIMEDOUT;
        if (us > 100)
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

static int stop_thread(struct target *t, pid_t tid)
{
    if (t->threads == TARGET_THREADS)
        return -E2BIG;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
        return -errno;
    t->thread[t->threads].tid = tid;
    t->thread[t->threads].signal = 0;
    int *signal = &t->thread[t->threads++].signal;
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0)
        return -errno;
    return wait_stopped(tid, STOP_LIMIT_US, signal);
}

static bool has_thread(const struct target *t, pid_t tid)
{
    for (unsigned i = 0; i < t->threads; i++)
        if (t->thread[i].tid == tid)
            return true;
    return false;
}

int target_stop(struct target *t)
{
    char path[64];
    int rc = 0;
    bool more = true;

    snprintf(path, sizeof path, "/proc/%d/task", t->pid);
    /* until a look finds none that runs: threads may be starting others */
    while (rc == 0 && more) {
        DIR *dir = opendir(path);
        if (dir == NULL)
            return -ESRCH;
        more = false;
        for (struct dirent *e; rc == 0 && (e = readdir(dir)) != NULL;) {
            pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);
            if (tid <= 0 || has_thread(t, tid))
                continue;
            rc = stop_thread(t, tid);
            more = true;
        }
        closedir(dir);
    }
    if (rc < 0)
        target_go(t);
    return rc;
}

void target_go(struct target *t)
{
    for (unsigned i = 0; i < t->threads; i++)
        ptrace(PTRACE_DETACH, t->thread[i].tid, NULL, (void *)(intptr_t)t->thread[i].signal);
    t->threads = 0;
}

/* A step that ends a system call leaves its trap behind, which would kill who is let go with it. */
static bool has_trap_pending(pid_t tid)
{
    char path[64], line[128];
    unsigned long long pending = 0;

    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "SigPnd: %llx", &pending) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return (pending >> (SIGTRAP - 1) & 1) != 0;
}

int target_step(struct target *t, unsigned wait_us)
{
    pid_t tid = t->thread[0].tid;
    int signal = 0;

    if (t->thread[0].signal != 0)
        return -EINTR;
    if (ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL) < 0)
        return -ESRCH;
    int rc = wait_stopped(tid, wait_us, &signal);
    if (rc == -ETIMEDOUT) {
        if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0 ||
            wait_stopped(tid, STOP_LIMIT_US, &signal) < 0)
            return -ESRCH;
        if (has_trap_pending(tid) && (ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL) < 0 ||
                                      wait_stopped(tid, STOP_LIMIT_US, &signal) < 0))
            return -ESRCH;
    }
    t->thread[0].signal = signal;
    return rc == 0 && signal != 0 ? -EINTR : rc;
}

int target_registers(const struct target *t, struct user_regs_struct *r)
{
    return ptrace(PTRACE_GETREGS, t->thread[0].tid, NULL, r) < 0 ? -errno : 0;
}

int target_set_registers(const struct target *t, const struct user_regs_struct *r)
{
    return ptrace(PTRACE_SETREGS, t->thread[0].tid, NULL, r) < 0 ? -errno : 0;
}

int target_read(const struct target *t, uint64_t address, void *bytes, size_t len)
{
    ssize_t n = pread(t->mem, bytes, len, (off_t)address);

    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EFAULT;
}

int target_write(const struct target *t, uint64_t address, const void *bytes, size_t len)
{
    ssize_t n = pwrite(t->mem, bytes, len, (off_t)address);

    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EFAULT;
}

int target_maps(const struct target *t, struct target_map *map, unsigned max)
{
    char path[64], *line = NULL;
    size_t size = 0;
    unsigned n = 0;

    snprintf(path, sizeof path, "/proc/%d/maps", t->pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    while (n < max && getline(&line, &size, f) > 0) {
        unsigned long long start, end, offset, inode;
        char rights[8], name[TARGET_PATH] = "";
        if (sscanf(line, "%llx-%llx %7s %llx %*s %llu %191[^\n]", &start, &end, rights, &offset,
                   &inode, name) < 5)
            continue;
        struct target_map *m = &map[n++];
        *m = (struct target_map){.start = start,
                                 .end = end,
                                 .offset = offset,
                                 .inode = inode,
                                 .read = rights[0] == 'r',
                                 .write = rights[1] == 'w',
                                 .execute = rights[2] == 'x',
                                 .shared = rights[3] == 's'};
        memcpy(m->path, name, sizeof name);
    }
    free(line);
    fclose(f);
    return (int)n;
}

int target_program(const struct target *t, char *path, size_t size, uint64_t *base)
{
    char link[64];
    struct target_map *map = malloc(TARGET_MAPS * sizeof *map);
    int rc = -ENOENT;

    if (map == NULL)
        return -ENOMEM;
    snprintf(link, sizeof link, "/proc/%d/exe", t->pid);
    ssize_t len = readlink(link, path, size - 1);
    int n = target_maps(t, map, TARGET_MAPS);
    if (len > 0) {
        path[len] = '\0';
        for (int i = 0; i < n && rc < 0; i++) {
            if (map[i].offset != 0 || strcmp(map[i].path, path) != 0)
                continue;
            *base = map[i].start;
            rc = 0;
        }
    }
    free(map);
    return rc;
}
