/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Every region of the servers: made once, kept for the life of the stack. Applications' regions
 * are made in app.c, with the same two functions.
 */
#include "fdstore.h"
#include "libchan/chan.h"
#include "log.h"
#include "rs.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

int keep_create(struct keep *k, const char *name, uint64_t size)
{
    *k = (struct keep){.rw = -1, .ro = -1, .size = size};
    k->rw = region_create(name, size);
    if (k->rw < 0)
        return k->rw;
    k->ro = region_open_readonly(k->rw);
    if (k->ro < 0) {
        int rc = k->ro;
        keep_close(k);
        return rc;
    }
    return 0;
}

/* The region that the descriptor store has under the name `stored`, or else a new one, which is put
 * there. One that is adopted must be as large as ours would be. */
static int obtain(struct rs *rs, struct keep *k, const char *stored, const char *name,
                  uint64_t size)
{
    struct stat st;

    if (!rs->adopting) {
        int rc = keep_create(k, name, size);
        k->generation = 1;
        return rc == 0 ? fdstore_put(stored, k->rw) : rc;
    }
    *k = (struct keep){.rw = fdstore_take(stored), .ro = -1, .size = size, .generation = 1};
    if (k->rw < 0)
        return -ENOENT;
    k->ro = region_open_readonly(k->rw);
    if (k->ro < 0)
        return k->ro;
    return fstat(k->rw, &st) == 0 && (uint64_t)st.st_size == size ? 0 : -EPROTO;
}

void keep_close(struct keep *k)
{
    if (k->rw >= 0)
        close(k->rw);
    if (k->ro >= 0)
        close(k->ro);
    k->rw = k->ro = -1;
}

static void *map_for_writing(const struct keep *k)
{
    void *base = mmap(NULL, k->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, k->rw, 0);

    return base == MAP_FAILED ? NULL : base;
}

/* Servers that may know the secret: it is in their copy of the configuration alone. */
static bool knows_secret(server_id id)
{
    enum server_kind kind = SERVER_ID_KIND(id);

    return kind == SERVER_TCP || kind == SERVER_UDP || kind == SERVER_IP;
}

#define CONFIG_SIZE ((sizeof(struct stack_config) + 4095) & ~4095ull)

int memory_adopt_config(struct rs *rs)
{
    struct region r;

    for (int secret = 0; secret < 2; secret++) {
        int rc = obtain(rs, &rs->config[secret], secret ? "config.1" : "config.0", "", CONFIG_SIZE);
        if (rc < 0)
            return rc;
    }
    int rc = region_map_fd(&r, rs->config[1].ro, REGION_CONFIG, 1, false);
    if (rc < 0)
        return rc;
    memcpy(rs->cfg, r.base, sizeof *rs->cfg);
    region_unmap(&r);
    return 0;
}

static int create_config(struct rs *rs)
{
    struct stack_config *cfg = rs->cfg;
    const uint64_t size = CONFIG_SIZE;
    char name[64];

    if (getrandom(cfg->secret, sizeof cfg->secret, 0) != sizeof cfg->secret)
        return -EIO;
    region_format(cfg, REGION_CONFIG, SERVER_RS, size, 1, 0);
    for (int secret = 0; secret < 2; secret++) {
        struct keep *k = &rs->config[secret];
        snprintf(name, sizeof name, "eft:%s:config%s", cfg->name, secret ? "+" : "");
        int rc = obtain(rs, k, secret ? "config.1" : "config.0", name, size);
        if (rc < 0)
            return rc;
        struct stack_config *copy = map_for_writing(k);
        if (copy == NULL)
            return -errno;
        *copy = *cfg;
        if (!secret)
            explicit_bzero(copy->secret, sizeof copy->secret);
        munmap(copy, size);
    }
    return 0;
}

static int create_page(struct rs *rs)
{
    const uint64_t size = (sizeof *rs->page + 4095) & ~4095ull;
    char name[64];

    snprintf(name, sizeof name, "eft:%s:rs", rs->cfg->name);
    int rc = obtain(rs, &rs->page_kept, "page", name, size);
    if (rc < 0)
        return rc;
    rs->page = map_for_writing(&rs->page_kept);
    if (rs->page == NULL)
        return -errno;
    if (!rs->adopting)
        region_format(rs->page, REGION_OF_SERVER(SERVER_ID(SERVER_RS, 0)), SERVER_ID(SERVER_RS, 0),
                      size, 1, 0);
    return 0;
}

static int create_server(struct rs *rs, server_id id)
{
    struct server *s = &rs->server[id];
    const enum server_kind kind = SERVER_ID_KIND(id);
    char name[64], stored[64];

    s->used = true;
    s->public_page = (struct keep){.rw = -1, .ro = -1};
    snprintf(name, sizeof name, "eft:%s:%s", rs->cfg->name, server_id_name(id));
    snprintf(stored, sizeof stored, "region.%s", server_id_name(id));
    int rc = obtain(rs, &s->region, stored, name, wiring_region_size(rs->cfg, id));
    if (rc < 0)
        return rc;
    if (!rs->adopting) {
        void *base = map_for_writing(&s->region);
        if (base == NULL)
            return -errno;
        wiring_format(base, rs->cfg, id, 1);
        munmap(base, s->region.size);
    }
    rc = region_map_fd(&s->map, s->region.ro, REGION_OF_SERVER(id), 1, false);
    if (rc < 0)
        return rc;
    s->block = wiring_block(&s->map);
    if (s->block == NULL)
        return -EPROTO;
    if (kind != SERVER_TCP && kind != SERVER_UDP)
        return 0;
    snprintf(name, sizeof name, "eft:%s:%s-public", rs->cfg->name, server_id_name(id));
    snprintf(stored, sizeof stored, "public.%s", server_id_name(id));
    rc = obtain(rs, &s->public_page, stored, name, 4096);
    if (rc < 0 || rs->adopting)
        return rc;
    void *base = map_for_writing(&s->public_page);
    if (base == NULL)
        return -errno;
    region_format(base, REGION_PUBLIC(id), id, 4096, 1, 0);
    munmap(base, 4096);
    return 0;
}

/* The queue on edge `e` from `from` to `to`, as both directories have it. False: there is none. */
static bool find_queue(const struct server *from, const struct server *to, enum edge e,
                       server_id from_id, server_id to_id, struct queue *q)
{
    const struct wiring_entry *out = wiring_find(&from->map, WIRING_OUT, e, to_id);
    const struct wiring_entry *in = wiring_find(&to->map, WIRING_IN, e, from_id);

    if (out == NULL || in == NULL)
        return false;
    *q = (struct queue){
        .out = (const struct chan_out *)(from->map.base + out->off),
        .in = (const struct chan_in *)(to->map.base + in->off),
        .slots = out->count,
    };
    return true;
}

/* Neighbours (whose bells a server gets) and queues (for the hang detector), from the directory
 * that was just written. */
static void find_neighbours(struct rs *rs, server_id id)
{
    enum { QUEUES = sizeof rs->server[0].input / sizeof rs->server[0].input[0] };
    struct server *s = &rs->server[id];

    for (unsigned peer = 0; peer < RS_SERVERS; peer++) {
        const struct server *o = &rs->server[peer];
        if (!o->used || peer == id)
            continue;
        for (unsigned e = EDGE_NONE + 1; e < EDGES; e++) {
            struct queue q;
            if (find_queue(o, s, e, (server_id)peer, id, &q)) {
                s->neighbours[peer / 64] |= 1ull << (peer % 64);
                if (s->inputs < QUEUES)
                    s->input[s->inputs++] = q;
            }
            if (find_queue(s, o, e, id, (server_id)peer, &q)) {
                s->neighbours[peer / 64] |= 1ull << (peer % 64);
                if (s->outputs < QUEUES)
                    s->output[s->outputs++] = q;
            }
        }
    }
}

int memory_create(struct rs *rs)
{
    server_id ids[RS_SERVERS];
    unsigned n = wiring_servers(rs->cfg, ids, RS_SERVERS);
    int rc = rs->adopting ? 0 : create_config(rs);

    if (rc == 0)
        rc = create_page(rs);
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = create_server(rs, ids[i]);
    if (rc < 0) {
        log_say(LOG_ERR, "", "cannot make the shared memory: %s", strerror(-rc));
        return rc;
    }
    for (unsigned i = 0; i < n; i++)
        find_neighbours(rs, ids[i]);
    return 0;
}

const struct keep *memory_find(const struct rs *rs, server_id reader, region_id id)
{
    const struct keep *k = NULL;

    if (id == REGION_CONFIG)
        k = &rs->config[knows_secret(reader)];
    else if (id == REGION_OF_SERVER(SERVER_ID(SERVER_RS, 0)))
        k = &rs->page_kept;
    else if (id >= REGION_APP_FIRST && id < REGION_IDS && rs->app[REGION_APP(id)] != NULL)
        k = &rs->app[REGION_APP(id)]->region[REGION_APP_KIND(id)];
    else if (id >= 256 && id < 256 + RS_SERVERS && rs->server[id - 256].used)
        k = &rs->server[id - 256].public_page;
    else if (id >= 1 && id < 1 + RS_SERVERS && rs->server[id - 1].used)
        k = &rs->server[id - 1].region;
    return k != NULL && k->rw >= 0 ? k : NULL;
}
