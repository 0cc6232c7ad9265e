/* SPDX-License-Identifier: BSD-2-Clause */
#include "limit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

int limit_of(enum crash_class c)
{
    return c == CRASH_MEMORY ? RLIMIT_AS : c == CRASH_MEMLOCK ? RLIMIT_MEMLOCK : RLIMIT_NOFILE;
}

/* prlimit() for a process of the same real user, which is who may; without CAP_SYS_RESOURCE root
 * alone does not suffice. */
int limit_set(pid_t pid, int resource, const struct rlimit *now, struct rlimit *old)
{
    char path[64], line[128];
    unsigned uid = 0, gid = 0;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    while (fgets(line, sizeof line, f) != NULL) {
        sscanf(line, "Uid: %u", &uid);
        sscanf(line, "Gid: %u", &gid);
    }
    fclose(f);
    if (setresgid(gid, (gid_t)-1, (gid_t)-1) < 0 || setresuid(uid, (uid_t)-1, (uid_t)-1) < 0)
        return -errno;
    int rc = prlimit(pid, (__rlimit_resource_t)resource, now, old) < 0 ? -errno : 0;
    if (setresuid(geteuid(), (uid_t)-1, (uid_t)-1) < 0 ||
        setresgid(getegid(), (gid_t)-1, (gid_t)-1) < 0)
        rc = -errno;
    return rc;
}
