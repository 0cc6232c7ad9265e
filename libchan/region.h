/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Regions: the shared memory of the stack.
 *
 * A region is one memfd with exactly one writer. rs makes it (mode 0600 under rs's own user,
 * sealed against resizing and further sealing), fills in the header and the directory, and only
 * then opens the read-only descriptors that it gives to everybody but the writer. The writer is
 * the owner named in the header; "writer" includes all its incarnations, one after the other.
 *
 * What a restart keeps: everything; rs holds the descriptor.
 * What is not promised: that another region holds anything sensible. Whoever reads a region that
 * it does not own copies a value out, checks the copy, and uses the copy.
 */
#ifndef EFT_LIBCHAN_REGION_H
#define EFT_LIBCHAN_REGION_H

#include "atomic.h"
#include <stdbool.h>

enum server_kind {
    SERVER_RS = 0,
    SERVER_DRIVER = 1,
    SERVER_IP = 2,
    SERVER_PF = 3,
    SERVER_TCP = 4,
    SERVER_UDP = 5,
    SERVER_SYSCALL = 6,
    SERVER_KINDS
};

enum { SERVER_INSTANCES = 16, APPS_MAX = 1024, WAITERS_MAX = 64 };

/* A component of a stack: kind in the high, instance in the low four bits. */
typedef uint8_t server_id;
#define SERVER_ID(kind, instance) ((server_id)((kind) << 4 | (instance)))
#define SERVER_ID_KIND(id)        ((enum server_kind)((id) >> 4))
#define SERVER_ID_INSTANCE(id)    ((id)&15u)

/* "tcp0" and so on; server_id_parse() also takes "tcp" for "tcp0". Returns 0 or -EINVAL. */
const char *server_kind_name(enum server_kind kind);
const char *server_id_name(server_id id); /* static storage, one entry per id */
int server_id_parse(const char *name, server_id *id);

/* Region numbers are the same in every process of a stack.
 *   0                 none
 *   1 + id            the region of server `id`; of rs itself: struct rs_page (edge/rs.h)
 *   256 + id          the public page of server `id` (mapped read-only by every application)
 *   512               configuration (written by rs once, before anything else starts)
 *   513               what rs remembers (recovery/rs/state.h); mapped by nobody else
 *   1024 + 4*app + k  of application `app` (0..APPS_MAX-1): k as enum app_region
 */
typedef uint16_t region_id;
enum app_region { APP_UP = 0, APP_DOWN_TCP = 1, APP_DOWN_UDP = 2, APP_DOWN_CTL = 3 };
enum {
    REGION_NONE = 0,
    REGION_CONFIG = 512,
    REGION_RS_STATE = 513,
    REGION_APP_FIRST = 1024,
    REGION_IDS = 1024 + 4 * APPS_MAX
};
#define REGION_OF_SERVER(id)    ((region_id)(1 + (id)))
#define REGION_PUBLIC(id)       ((region_id)(256 + (id)))
#define REGION_OF_APP(app, k)   ((region_id)(REGION_APP_FIRST + 4 * (app) + (k)))
#define REGION_APP(region)      ((unsigned)((region)-REGION_APP_FIRST) / 4)
#define REGION_APP_KIND(region) ((enum app_region)(((region)-REGION_APP_FIRST) % 4))

#define REGION_MAGIC 0x3130544645ull /* "EFT01" */
#ifdef EFT_OTHER_LAYOUT /* a program that a running stack must refuse (tests/proc/update.sh) */
#define REGION_LAYOUT_VERSION 65535
#else
#define REGION_LAYOUT_VERSION 3
#endif

/* First bytes of every region. Written by rs before the region is handed out, constant after. */
struct region_header {
    uint64_t magic;
    uint32_t layout; /* REGION_LAYOUT_VERSION */
    uint16_t id;     /* region_id */
    uint8_t owner;   /* server_id of the writer; for APP_UP: SERVER_RS (meaning: the application) */
    uint8_t reserved0;
    uint64_t size;       /* bytes */
    uint32_t generation; /* of this use of the number; rich pointers name it */
    uint32_t dir_count;  /* entries of the directory, which follows the header (wiring.h) */
    uint8_t reserved[32];
};
_Static_assert(sizeof(struct region_header) == 64, "region header is one line");

/* A region as mapped by one process. */
struct region {
    uint8_t *base; /* NULL: not mapped */
    uint64_t size;
    uint32_t generation;
    region_id id;
    bool writable;
};

/* All regions that one component has mapped, by number. A component looks a rich pointer up here
 * and nowhere else. */
struct region_map {
    struct region entry[REGION_IDS];
};

/* A rich pointer: bytes in somebody's region. 24 bytes. */
struct rptr {
    uint64_t off;    /* from the start of the region; bytes */
    uint32_t len;    /* bytes */
    uint16_t region; /* region_id */
    uint16_t reserved;
    uint32_t generation; /* of the region (header.generation) */
    uint32_t reserved1;
};
_Static_assert(sizeof(struct rptr) == 24, "rptr");

/* Checks a copied rich pointer against the map: mapped, same generation, inside. Returns the
 * address in this process, or NULL (the caller counts). Never touches the memory. */
static inline const uint8_t *region_resolve(const struct region_map *map, const struct rptr *p)
{
    if (p->region >= REGION_IDS)
        return NULL;
    const struct region *r = &map->entry[p->region];
    if (r->base == NULL || r->generation != p->generation || p->off > r->size ||
        p->len > r->size - p->off)
        return NULL;
    return r->base + p->off;
}

/* --- used by rs, by tests, and by whoever maps --- */

/* A sealed memfd of `size` bytes, mode 0600. Returns the read-write descriptor or -errno. The
 * header is not yet written. rs only. */
int region_create(const char *name, uint64_t size);
/* A read-only descriptor of the same memory, which cannot be reopened for writing by another
 * user. Returns it or -errno. rs only. */
int region_open_readonly(int fd);
/* Writes the header. rs only, before any descriptor is handed out. */
void region_format(void *base, region_id id, server_id owner, uint64_t size, uint32_t generation,
                   uint32_t dir_count);
/* Maps `fd`, checks the header against what is expected, fills *r. Returns 0, -EPROTO when the
 * header is not what was announced, or -errno of mmap. */
int region_map_fd(struct region *r, int fd, region_id id, uint32_t generation, bool writable);
void region_unmap(struct region *r);

#endif
