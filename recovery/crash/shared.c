/* SPDX-License-Identifier: BSD-2-Clause */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int map_if_it_is(struct region *r, const struct target *t, const struct target_map *m,
                        region_id id, bool writable)
{
    struct region_header h;
    char path[96];

    if (target_read(t, m->start, &h, sizeof h) < 0 || h.magic != REGION_MAGIC || h.id != id)
        return -ENOENT;
    snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", t->pid,
             (unsigned long long)m->start, (unsigned long long)m->end);
    int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = region_map_fd(r, fd, id, h.generation, writable);
    close(fd);
    return rc;
}

int shared_map(struct region *r, const struct target *t, region_id id, bool writable)
{
    struct target_map *map = malloc(TARGET_MAPS * sizeof *map);
    int rc = -ENOENT;

    if (map == NULL)
        return -ENOMEM;
    int n = target_maps(t, map, TARGET_MAPS);
    for (int i = 0; i < n && rc == -ENOENT; i++)
        if (map[i].shared && map[i].read && map[i].offset == 0 &&
            strncmp(map[i].path, "/memfd:eft:", 11) == 0)
            rc = map_if_it_is(r, t, &map[i], id, writable);
    free(map);
    return rc;
}
