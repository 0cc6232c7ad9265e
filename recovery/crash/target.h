/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A running process that is going to be broken: its memory, its threads, its mappings.
 *
 * The process is meant by pidfd, so that a successor with the same number is never hit. Memory is
 * written through /proc/PID/mem: text pages are private mappings of a file, so that a write to them
 * is seen by this process alone (the kernel copies the page) and its successor, which is executed
 * anew, begins with what the file says. Stops are kept short: who stands still looks hung to
 * eft-rs.
 */
#ifndef EFT_CRASH_TARGET_H
#define EFT_CRASH_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

enum { TARGET_THREADS = 64, TARGET_MAPS = 4096, TARGET_PATH = 192 };

struct target {
    pid_t pid;
    int pidfd, mem;
    unsigned threads; /* that are stopped */
    struct {
        pid_t tid;
        int signal; /* that it was about to get; given back when it goes on */
    } thread[TARGET_THREADS];
};

struct target_map {
    uint64_t start, end;
    uint64_t offset; /* in the file */
    uint64_t inode;
    bool read, write, execute, shared;
    char path[TARGET_PATH]; /* empty: anonymous */
};

/* Needs root. 0 or -errno; -ESRCH: it is gone. */
int target_open(struct target *t, pid_t pid);
/* Lets everything go on and closes. */
void target_close(struct target *t);

/* Stops all threads, with ptrace: 0, or -errno with none stopped; -ETIMEDOUT: it does not stop. */
int target_stop(struct target *t);
/* Lets all threads go on, unattached. */
void target_go(struct target *t);
/* One instruction of the first thread, stopped. 0; -EINTR: it was stopped for a signal before,
 * which it will get; -ETIMEDOUT: it waits in the kernel, and is stopped where it waits; -ESRCH. */
int target_step(struct target *t, unsigned wait_us);
/* Registers of the first thread; stopped. `system_call`: whether it is in one that would be made
 * again, or go on, with the present registers. */
int target_registers(const struct target *t, struct user_regs_struct *r);
int target_set_registers(const struct target *t, const struct user_regs_struct *r);

/* All bytes, or -errno. Stopped or not. */
int target_read(const struct target *t, uint64_t address, void *bytes, size_t len);
int target_write(const struct target *t, uint64_t address, const void *bytes, size_t len);

/* Reads the mappings, at most `max` of them. Their number or -errno. */
int target_maps(const struct target *t, struct target_map *map, unsigned max);
/* The program's own file: its path, and where the mapping of its first byte begins. */
int target_program(const struct target *t, char *path, size_t size, uint64_t *base);

bool target_is_alive(const struct target *t);

#endif
