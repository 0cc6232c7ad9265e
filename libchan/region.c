/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Making and mapping regions. See region.h for the contract.
 */
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const kind_names[SERVER_KINDS] = {"rs",  "driver", "ip",     "pf",
                                                     "tcp", "udp",    "syscall"};

const char *server_kind_name(enum server_kind kind)
{
    return (unsigned)kind < SERVER_KINDS ? kind_names[kind] : "?";
}

const char *server_id_name(server_id id)
{
    static char names[256][16];
    char *name = names[id];

    if (name[0] == '\0')
        snprintf(name, sizeof names[id], "%s%u", server_kind_name(SERVER_ID_KIND(id)),
                 SERVER_ID_INSTANCE(id));
    return name;
}

int server_id_parse(const char *name, server_id *id)
{
    for (unsigned kind = 0; kind < SERVER_KINDS; kind++) {
        size_t n = strlen(kind_names[kind]);
        char *end;

        if (strncmp(name, kind_names[kind], n) != 0)
            continue;
        if (name[n] == '\0') {
            *id = SERVER_ID(kind, 0);
            return 0;
        }
        if (name[n] < '0' || name[n] > '9')
            continue;
        unsigned long instance = strtoul(name + n, &end, 10);
        if (*end == '\0' && instance < SERVER_INSTANCES) {
            *id = (server_id)SERVER_ID(kind, instance);
            return 0;
        }
    }
    return -EINVAL;
}

int region_create(const char *name, uint64_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return -errno;
    /* The mode before anything else: a memfd is born 0777, and then anybody who holds a read-only
     * descriptor could reopen it for writing through /proc/self/fd. */
    if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int region_open_readonly(int fd)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int ro = open(path, O_RDONLY | O_CLOEXEC);
    return ro < 0 ? -errno : ro;
}

void region_format(void *base, region_id id, server_id owner, uint64_t size, uint32_t generation,
                   uint32_t dir_count)
{
    struct region_header *h = base;

    h->layout = REGION_LAYOUT_VERSION;
    h->id = id;
    h->owner = owner;
    h->size = size;
    h->generation = generation;
    h->dir_count = dir_count;
    h->magic = REGION_MAGIC;
}

int region_map_fd(struct region *r, int fd, region_id id, uint32_t generation, bool writable)
{
    struct region_header h;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    /* Read by pread: a region that is not what was announced is never mapped. */
    ssize_t n = pread(fd, &h, sizeof h, 0);
    if (n < 0)
        return -errno;
    if ((size_t)n != sizeof h || h.magic != REGION_MAGIC || h.layout != REGION_LAYOUT_VERSION ||
        h.id != id || h.generation != generation || h.size != (uint64_t)st.st_size)
        return -EPROTO;
    void *base = mmap(NULL, h.size, PROT_READ | (writable ? PROT_WRITE : 0),
                      MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    *r = (struct region){
        .base = base, .size = h.size, .generation = generation, .id = id, .writable = writable};
    return 0;
}

void region_unmap(struct region *r)
{
    if (r->base != NULL)
        munmap(r->base, r->size);
    *r = (struct region){0};
}
