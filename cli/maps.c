/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft maps: for every server and application of a stack, what of the stack's memory it has mapped
 * or could map (a descriptor open for writing), against wiring_may_map(). The kernel is asked
 * (/proc/PID), not the processes. Regions are recognised by device and inode, as rs has them.
 *
 * A process that ends while we look is left out.
 */
#include "cli.h"

#include "libchan/wiring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct party {
    const char *name;
    int pid;
    server_id id[32];
    unsigned components; /* 0: an application, or rs */
    int app;             /* number; -1: none */
};

struct report {
    struct json_object *regions; /* as rs says */
    struct json_object *entries;
    unsigned violations;
    bool json;
};

/* 0 no, 1 read, 2 write. */
static int may(const struct party *p, region_id id, bool secret)
{
    int most = 0;

    if (p->app >= 0) {
        if (id >= REGION_APP_FIRST)
            return REGION_APP(id) != (unsigned)p->app ? 0 : REGION_APP_KIND(id) == APP_UP ? 2 : 1;
        return id == REGION_PUBLIC(SERVER_ID(SERVER_TCP, 0)) ||
               id == REGION_PUBLIC(SERVER_ID(SERVER_UDP, 0));
    }
    if (p->components == 0)
        /* rs reads what its servers say, and writes what it says itself or is to remember */
        return id == REGION_OF_SERVER(SERVER_ID(SERVER_RS, 0)) || id == REGION_RS_STATE ? 2 : 1;
    for (unsigned i = 0; i < p->components; i++) {
        enum server_kind kind = SERVER_ID_KIND(p->id[i]);
        if (secret && kind != SERVER_TCP && kind != SERVER_UDP && kind != SERVER_IP)
            continue;
        int m = wiring_may_map(p->id[i], id);
        most = m > most ? m : most;
    }
    return most;
}

static struct json_object *region_of(const struct report *r, unsigned maj, unsigned min,
                                     uint64_t inode)
{
    for (size_t i = 0; i < json_object_array_length(r->regions); i++) {
        struct json_object *o = json_object_array_get_idx(r->regions, i);
        if (json_number(o, "inode") == inode && json_number(o, "major") == maj &&
            json_number(o, "minor") == min)
            return o;
    }
    return NULL;
}

static void found(struct report *r, const struct party *p, struct json_object *region,
                  const char *label, const char *how, bool writes)
{
    int allowed = 0;

    if (region != NULL)
        allowed = may(p, (region_id)json_number(region, "id"),
                      strcmp(json_text(region, "name"), "config+secret") == 0);
    bool ok = allowed >= (writes ? 2 : 1);
    r->violations += !ok;
    if (!r->json) {
        printf("%-8s %8d  %-18s %-10s %s%s\n", p->name, p->pid, label, how,
               writes ? "write" : "read", ok ? "" : "   NOT ALLOWED");
        return;
    }
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "process", json_object_new_string(p->name));
    json_object_object_add(o, "pid", json_object_new_int(p->pid));
    json_object_object_add(o, "region", json_object_new_string(label));
    json_object_object_add(o, "how", json_object_new_string(how));
    json_object_object_add(o, "access", json_object_new_string(writes ? "write" : "read"));
    json_object_object_add(o, "allowed", json_object_new_boolean(ok));
    json_object_array_add(r->entries, o);
}

static void look_at_maps(struct report *r, const struct party *p)
{
    char path[64], line[1024], last[128] = "";

    snprintf(path, sizeof path, "/proc/%d/maps", p->pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    while (fgets(line, sizeof line, f) != NULL) {
        char rights[8], name[256], key[128];
        unsigned maj, min;
        unsigned long long inode;
        if (sscanf(line, "%*s %7s %*s %x:%x %llu %255s", rights, &maj, &min, &inode, name) != 5)
            continue;
        struct json_object *region = region_of(r, maj, min, inode);
        if (region == NULL && strncmp(name, "/memfd:eft:", 11) != 0)
            continue;
        bool writes = strchr(rights, 'w') != NULL;
        /* locked pages split a mapping into several lines: one entry is enough */
        snprintf(key, sizeof key, "%llu %d", inode, writes);
        if (strcmp(key, last) == 0)
            continue;
        strcpy(last, key);
        found(r, p, region, region != NULL ? json_text(region, "name") : name, "mapping", writes);
    }
    fclose(f);
}

/* A descriptor that is open for writing is as good as a mapping. */
static void look_at_descriptors(struct report *r, const struct party *p)
{
    char path[320], text[256];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/fd", p->pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/fd/%s", p->pid, e->d_name);
        if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        struct json_object *region = region_of(r, major(st.st_dev), minor(st.st_dev), st.st_ino);
        if (region == NULL)
            continue;
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", p->pid, e->d_name);
        FILE *f = fopen(path, "re");
        unsigned flags = 0;
        while (f != NULL && fgets(text, sizeof text, f) != NULL)
            if (sscanf(text, "flags: %o", &flags) == 1)
                break;
        if (f != NULL)
            fclose(f);
        found(r, p, region, json_text(region, "name"), "descriptor",
              (flags & O_ACCMODE) != O_RDONLY);
    }
    if (dir != NULL)
        closedir(dir);
}

static void look_at_servers(struct report *r, struct json_object *list)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct json_object *names = json_member(o, "components");
        struct party p = {
            .name = json_text(o, "name"), .pid = (int)json_number(o, "pid"), .app = -1};
        for (size_t n = 0; n < json_object_array_length(names) && p.components < 32; n++)
            if (server_id_parse(json_object_get_string(json_object_array_get_idx(names, n)),
                                &p.id[p.components]) == 0)
                p.components++;
        if (p.pid == 0)
            continue;
        look_at_maps(r, &p);
        look_at_descriptors(r, &p);
    }
}

static void look_at_applications(struct report *r, struct json_object *list)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        char name[16];
        struct party p = {
            .name = name, .pid = (int)json_number(o, "pid"), .app = (int)json_number(o, "number")};
        snprintf(name, sizeof name, "app%d", p.app);
        look_at_maps(r, &p);
        look_at_descriptors(r, &p);
    }
}

int command_maps(int argc, char **argv)
{
    struct options o;
    int rc = options_parse(&o, argc, argv, OPT_JSON);

    if (rc >= 0)
        return rc;
    if (o.first != argc)
        return usage_error("unexpected argument %s", argv[o.first]);
    struct json_object *answer = client_once(o.name, "maps");
    if (answer == NULL)
        return CLI_FAILED;
    struct report r = {.regions = json_member(answer, "regions"),
                       .entries = json_object_new_array(),
                       .json = o.json};
    struct party rs = {.name = "rs", .pid = (int)json_number(answer, "pid"), .app = -1};
    look_at_maps(&r, &rs);
    look_at_servers(&r, json_member(answer, "processes"));
    look_at_applications(&r, json_member(answer, "applications"));
    if (o.json) {
        struct json_object *out = json_object_new_object();
        json_object_object_add(out, "ok", json_object_new_boolean(r.violations == 0));
        json_object_object_add(out, "violations", json_object_new_int((int)r.violations));
        json_object_object_add(out, "entries", r.entries);
        print_json(out);
    } else {
        json_object_put(r.entries);
        printf("%u violations\n", r.violations);
    }
    json_object_put(answer);
    return r.violations == 0 ? CLI_OK : CLI_FAILED;
}
