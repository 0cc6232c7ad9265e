/* SPDX-License-Identifier: BSD-2-Clause */
#include "mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum mapped_answer mapped_begin(struct mapped *m, pid_t pid, int region)
{
    char path[64];
    struct stat st;

    *m = (struct mapped){.fd = -1};
    if (pid <= 0 || fstat(region, &st) < 0)
        return MAPPED_YES; /* it lives in a PID namespace that we do not see */
    m->dev = st.st_dev;
    m->ino = st.st_ino;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    m->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (m->fd < 0)
        return errno == ENOENT || errno == ESRCH ? MAPPED_NO : MAPPED_YES;
    return MAPPED_MORE;
}

void mapped_end(struct mapped *m)
{
    if (m->fd >= 0)
        close(m->fd);
    m->fd = -1;
}

/* ADDRESSES PERMISSIONS OFFSET MAJOR:MINOR INODE … */
static bool line_names_it(const struct mapped *m)
{
    unsigned major, minor;
    unsigned long long inode;

    return sscanf(m->line, "%*s %*s %*s %x:%x %llu", &major, &minor, &inode) == 3 &&
           inode == m->ino && makedev(major, minor) == m->dev;
}

enum mapped_answer mapped_step(struct mapped *m, unsigned reads)
{
    char text[4096];

    for (; reads > 0; reads--) {
        const ssize_t n = read(m->fd, text, sizeof text);

        if (n <= 0) {
            const bool gone = n == 0 || errno == ESRCH;

            mapped_end(m);
            return gone ? MAPPED_NO : MAPPED_YES;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] != '\n') {
                if (m->len < sizeof m->line - 1)
                    m->line[m->len++] = text[i];
                continue;
            }
            m->line[m->len] = '\0';
            m->len = 0;
            if (line_names_it(m)) {
                mapped_end(m);
                return MAPPED_YES;
            }
        }
    }
    return MAPPED_MORE;
}
