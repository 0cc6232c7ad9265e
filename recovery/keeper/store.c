/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the program says, and the descriptors that it gives to keep.
 */
#include "keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHORT_LIFE_NS 200000000ull
#define LONGEST_NS    1000000000ull
enum { KILLS = 50 }; /* in a row that are answered at once */

static bool keep(struct keeper *k, int fd, const char *name)
{
    if (k->count == k->room) {
        const unsigned room = k->room != 0 ? 2 * k->room : 256;
        struct held *more = realloc(k->held, room * sizeof *more);
        if (more == NULL)
            return false;
        k->held = more;
        k->room = room;
    }
    struct held *h = &k->held[k->count++];
    h->fd = fd;
    snprintf(h->name, sizeof h->name, "%s", name);
    return true;
}

static void forget(struct keeper *k, const char *name)
{
    unsigned left = 0;

    for (unsigned i = 0; i < k->count; i++) {
        if (strcmp(k->held[i].name, name) == 0)
            close(k->held[i].fd);
        else
            k->held[left++] = k->held[i];
    }
    k->count = left;
}

void keeper_message(struct keeper *k, pid_t from, char *text, const int *fds, unsigned nfds,
                    uint64_t now)
{
    bool store = false, drop = false;
    const char *name = "stored";
    unsigned kept = 0;
    char *rest = text;

    /* 0 is whoever the kernel cannot name to us */
    for (char *line; from > 0 && from == k->child && (line = strsep(&rest, "\n")) != NULL;) {
        if (strncmp(line, "FDNAME=", 7) == 0)
            name = line + 7;
        store |= strcmp(line, "FDSTORE=1") == 0;
        drop |= strcmp(line, "FDSTOREREMOVE=1") == 0;
        k->ready |= strcmp(line, "READY=1") == 0;
        k->alive_at = now;
    }
    /* a colon would make two of it in LISTEN_FDNAMES */
    const bool fits = strlen(name) < KEEPER_NAME && strchr(name, ':') == NULL;
    if (drop && fits)
        forget(k, name);
    while (store && fits && kept < nfds && keep(k, fds[kept], name))
        kept++;
    /* of a barrier, of others, of what there is no room for */
    for (; kept < nfds; kept++)
        close(fds[kept]);
}

bool keeper_short_life(uint64_t started, uint64_t now)
{
    return now - started < SHORT_LIFE_NS;
}

uint64_t keeper_delay(unsigned deaths, bool killed)
{
    const uint64_t delay = deaths == 0 || (killed && deaths <= KILLS)
                               ? 0
                               : 1000000ull << (deaths < 11 ? deaths - 1 : 10);

    return delay < LONGEST_NS ? delay : LONGEST_NS;
}
