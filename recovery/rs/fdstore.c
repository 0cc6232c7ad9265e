/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See fdstore.h.
 */
#include "fdstore.h"

#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define SYNC_LIMIT_US 10000000ull

struct entry {
    char *name;
    int fd; /* left by a predecessor and not taken; -1: none */
};

static struct entry *entries;
static unsigned count, room;
static bool there;

static struct entry *add(const char *name)
{
    if (count == room) {
        const unsigned more = room != 0 ? 2 * room : 256;
        struct entry *list = realloc(entries, more * sizeof *list);
        if (list == NULL)
            return NULL;
        entries = list;
        room = more;
    }
    struct entry *e = &entries[count];
    *e = (struct entry){.name = strdup(name), .fd = -1};
    if (e->name == NULL)
        return NULL;
    count++;
    return e;
}

void fdstore_open(void)
{
    char **names = NULL;
    const int n = sd_listen_fds_with_names(1, &names);

    there = getenv("NOTIFY_SOCKET") != NULL;
    for (int i = 0; i < n; i++) {
        struct entry *e = add(names[i]);
        if (e != NULL)
            e->fd = SD_LISTEN_FDS_START + i;
        free(names[i]);
    }
    free(names);
}

bool fdstore_there(void)
{
    return there;
}

int fdstore_take(const char *name)
{
    for (unsigned i = 0; i < count; i++) {
        const int fd = entries[i].fd;
        if (fd < 0 || strcmp(entries[i].name, name) != 0)
            continue;
        entries[i].fd = -1;
        return fd;
    }
    return -1;
}

int fdstore_put(const char *name, int fd)
{
    char text[128];

    if (!there)
        return 0;
    if (add(name) == NULL)
        return -ENOMEM;
    /* Whatever becomes of what is behind it, it is for us to let it go: FDPOLL=0. */
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
    const int rc = sd_pid_notify_with_fds(0, 0, text, &fd, 1);
    return rc < 0 ? rc : 0;
}

int fdstore_sync(void)
{
    if (!there)
        return 0;
    const int rc = sd_notify_barrier(0, SYNC_LIMIT_US);
    if (rc < 0)
        log_say(LOG_WARNING, "", "whoever keeps descriptors for us does not answer: %s",
                strerror(-rc));
    return rc < 0 ? rc : 0;
}

void fdstore_clear(void)
{
    for (unsigned i = 0; i < count; i++) {
        if (there)
            sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", entries[i].name);
        if (entries[i].fd >= 0)
            close(entries[i].fd);
        free(entries[i].name);
    }
    count = 0;
    fdstore_sync();
}
