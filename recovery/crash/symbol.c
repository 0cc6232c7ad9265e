/* SPDX-License-Identifier: BSD-2-Clause */
#include "symbol.h"

#include <elfutils/libdwfl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *debug_path; /* NULL: where the distribution has it */
static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                         .find_debuginfo = dwfl_standard_find_debuginfo,
                                         .debuginfo_path = &debug_path};

static int by_address(const void *a, const void *b)
{
    const struct function *f = a, *g = b;

    return f->start < g->start ? -1 : f->start > g->start;
}

static int add(struct symbols *s, struct function f)
{
    if ((s->n & (s->n - 1)) == 0) {
        struct function *more = realloc(s->function, (s->n ? 2 * s->n : 1) * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        s->function = more;
    }
    s->function[s->n++] = f;
    return 0;
}

static bool is_code(const struct target_map *map, int n, const char *path, uint64_t address)
{
    for (int i = 0; i < n; i++)
        if (address >= map[i].start && address < map[i].end)
            return map[i].execute && strcmp(map[i].path, path) == 0;
    return false;
}

static int read_functions(struct symbols *s, Dwfl_Module *module, const struct target_map *map,
                          int maps, const char *path)
{
    const int n = dwfl_module_getsymtab(module);

    for (int i = 0; i < n; i++) {
        GElf_Sym sym;
        GElf_Addr at;
        const char *name = dwfl_module_getsym_info(module, i, &sym, &at, NULL, NULL, NULL);
        if (name == NULL || GELF_ST_TYPE(sym.st_info) != STT_FUNC || sym.st_size == 0 ||
            !is_code(map, maps, path, at))
            continue;
        if (add(s, (struct function){.start = at, .size = sym.st_size, .name = name}) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* One name for each place: aliases and what lies in another function go. */
static void tidy(struct symbols *s)
{
    unsigned kept = 0;

    qsort(s->function, s->n, sizeof *s->function, by_address);
    for (unsigned i = 0; i < s->n; i++) {
        const struct function *f = &s->function[i];
        if (kept > 0 && f->start < s->function[kept - 1].start + s->function[kept - 1].size)
            continue;
        s->function[kept++] = *f;
        s->bytes += f->size;
    }
    s->n = kept;
}

int symbols_read(struct symbols *s, const struct target *t)
{
    struct target_map *map = malloc(TARGET_MAPS * sizeof *map);
    char path[TARGET_PATH];

    *s = (struct symbols){0};
    int rc = map == NULL ? -ENOMEM : target_program(t, path, sizeof path, &s->base);
    int maps = rc == 0 ? target_maps(t, map, TARGET_MAPS) : 0;
    if (rc == 0 && (s->dwfl = dwfl_begin(&callbacks)) != NULL &&
        dwfl_linux_proc_report(s->dwfl, t->pid) == 0 && dwfl_report_end(s->dwfl, NULL, NULL) == 0) {
        Dwfl_Module *module = dwfl_addrmodule(s->dwfl, s->base);
        if (module != NULL)
            rc = read_functions(s, module, map, maps, path);
    }
    for (int i = 0; rc == 0 && s->n == 0 && i < maps; i++)
        if (map[i].execute && strcmp(map[i].path, path) == 0)
            rc = add(s, (struct function){
                            .start = map[i].start, .size = map[i].end - map[i].start, .name = ""});
    free(map);
    if (rc == 0 && s->n == 0)
        rc = -ENOEXEC;
    if (rc == 0)
        tidy(s);
    else
        symbols_free(s);
    return rc;
}

const struct function *symbols_find(const struct symbols *s, uint64_t address)
{
    unsigned low = 0, high = s->n;

    while (low < high) {
        unsigned mid = (low + high) / 2;
        const struct function *f = &s->function[mid];
        if (address < f->start)
            high = mid;
        else if (address >= f->start + f->size)
            low = mid + 1;
        else
            return f;
    }
    return NULL;
}

uint64_t symbols_place(const struct symbols *s, const char *text)
{
    const size_t len = strcspn(text, "+");
    char *end;
    uint64_t add = strtoull(text[len] == '+' ? text + len + 1 : text, &end, 0);

    if (text[len] == '\0' && *end == '\0')
        return symbols_find(s, s->base + add) != NULL ? s->base + add : 0;
    for (unsigned i = 0; i < s->n; i++) {
        const struct function *f = &s->function[i];
        if (strlen(f->name) != len || strncmp(f->name, text, len) != 0)
            continue;
        if (text[len] == '\0')
            return f->start;
        return *end == '\0' && add < f->size ? f->start + add : 0;
    }
    return 0;
}

void symbols_free(struct symbols *s)
{
    if (s->dwfl != NULL)
        dwfl_end(s->dwfl);
    free(s->function);
    *s = (struct symbols){0};
}
