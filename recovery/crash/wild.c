/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Stores to random places. Only to pages that are there: regions are sparse, and what nobody ever
 * looks at proves nothing.
 */
#include "stores.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES_MAX = 1 << 20, CHUNK = 4096 };
#define PAGE_PRESENT (1ull << 63)

struct pages {
    unsigned n;
    uint64_t *address;
    uint16_t *map; /* in which mapping each of them is */
};

static bool wanted(const struct target_map *m, enum wild_where where)
{
    const bool stack = strcmp(m->path, "[stack]") == 0;

    if (!m->write)
        return false;
    switch (where) {
    case WILD_ANY:
        return true;
    case WILD_SHARED:
        return m->shared;
    case WILD_PRIVATE:
        return !m->shared && !stack;
    case WILD_STACK:
        return stack;
    }
    return false;
}

static void add_present(struct pages *p, int pagemap, const struct target_map *m, unsigned number)
{
    uint64_t entry[CHUNK];

    for (uint64_t at = m->start; at < m->end;) {
        size_t n = (m->end - at) / PAGE < CHUNK ? (m->end - at) / PAGE : CHUNK;
        ssize_t got =
            pread(pagemap, entry, n * sizeof entry[0], (off_t)(at / PAGE * sizeof *entry));
        if (got <= 0)
            return;
        for (size_t i = 0; i < (size_t)got / sizeof entry[0] && p->n < PAGES_MAX; i++) {
            if ((entry[i] & PAGE_PRESENT) == 0)
                continue;
            p->address[p->n] = at + i * PAGE;
            p->map[p->n++] = (uint16_t)number;
        }
        at += n * PAGE;
    }
}

static int store_once(const struct target *t, uint64_t page, struct random *r, struct store *s)
{
    const uint64_t value = random_next(r);

    s->len = 1u << random_below(r, 4);
    s->at = page + (random_below(r, PAGE) & ~(uint64_t)(s->len - 1));
    memcpy(s->after, &value, s->len);
    int rc = target_read(t, s->at, s->before, s->len);
    return rc < 0 ? rc : target_write(t, s->at, s->after, s->len);
}

int wild_write(const struct target *t, enum wild_where where, unsigned count, struct random *r,
               struct store *list, unsigned max)
{
    struct target_map *map = malloc(TARGET_MAPS * sizeof *map);
    struct pages p = {.address = malloc(PAGES_MAX * sizeof *p.address),
                      .map = malloc(PAGES_MAX * sizeof *p.map)};
    char path[64];
    unsigned n = 0;

    snprintf(path, sizeof path, "/proc/%d/pagemap", t->pid);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC), rc = -ENOMEM;
    if (map != NULL && p.address != NULL && p.map != NULL)
        rc = pagemap < 0 ? -errno : target_maps(t, map, TARGET_MAPS);
    for (int i = 0; i < rc; i++)
        if (wanted(&map[i], where))
            add_present(&p, pagemap, &map[i], (unsigned)i);
    if (rc >= 0 && p.n == 0)
        rc = -ENOENT;
    /* A page may go, or be of a device that cannot be written so: then another one. */
    for (unsigned tries = 0; rc >= 0 && n < count && n < max && tries < 4 * count; tries++) {
        const unsigned k = (unsigned)random_below(r, p.n);
        list[n] = (struct store){0};
        if (store_once(t, p.address[k], r, &list[n]) < 0)
            continue;
        snprintf(list[n].place, sizeof list[n].place, "%.63s",
                 map[p.map[k]].path[0] != '\0' ? map[p.map[k]].path : "[anonymous]");
        n++;
    }
    if (pagemap >= 0)
        close(pagemap);
    free(p.address);
    free(p.map);
    free(map);
    return rc < 0 ? rc : (int)n;
}
