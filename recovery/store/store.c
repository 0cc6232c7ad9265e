/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See store.h. A record is the version that counts (one line, so that the flip and what is flipped
 * never share one), then its two slots.
 */
#include "store.h"

#include "libchan/atomic.h"

#include <errno.h>

#define MAGIC 0x315345524f545345ull /* "ESTORES1" */
enum { READ_TRIES = 1000 };

static uint64_t fold(uint64_t sum, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) /* FNV-1a */
        sum = (sum ^ p[i]) * 0x100000001b3ull;
    return sum;
}

static uint64_t checksum(const struct store_slot *head, const void *payload, uint32_t length)
{
    uint64_t sum = fold(0xcbf29ce484222325ull, &head->version, sizeof head->version);

    sum = fold(sum, &head->erased, sizeof head->erased);
    return fold(sum, payload, length);
}

static uint64_t header_checksum(const struct store_header *h)
{
    return fold(0xcbf29ce484222325ull, h, offsetof(struct store_header, checksum));
}

static uint32_t round_up(size_t n, uint32_t to)
{
    return (uint32_t)((n + to - 1) / to * to);
}

static uint32_t slot_size(uint32_t length)
{
    return round_up(sizeof(struct store_slot) + length, CACHE_LINE);
}

static uint64_t *select_of(const struct store *s, uint32_t index)
{
    return (uint64_t *)(void *)(s->base + sizeof(struct store_header) + (size_t)index * s->stride);
}

static struct store_slot *slot_of(const struct store *s, uint32_t index, unsigned slot)
{
    uint8_t *record = (uint8_t *)select_of(s, index);

    return (struct store_slot *)(void *)(record + CACHE_LINE + (size_t)(slot & 1) * s->slot);
}

static struct store_header describe(const char *name, uint32_t layout, uint32_t count,
                                    uint32_t length)
{
    struct store_header h = {.magic = MAGIC,
                             .layout = layout,
                             .count = count,
                             .length = length,
                             .stride = CACHE_LINE + 2 * slot_size(length)};

    strncpy(h.name, name, sizeof h.name - 1);
    h.checksum = header_checksum(&h);
    return h;
}

static void bind_to(struct store *s, void *base, const struct store_header *h)
{
    *s = (struct store){.base = base,
                        .count = h->count,
                        .length = h->length,
                        .stride = h->stride,
                        .slot = slot_size(h->length)};
}

size_t store_size(uint32_t count, uint32_t length)
{
    return sizeof(struct store_header) + (size_t)count * (CACHE_LINE + 2 * slot_size(length));
}

void store_format(struct store *s, void *base, const char *name, uint32_t layout, uint32_t count,
                  uint32_t length)
{
    const struct store_header h = describe(name, layout, count, length);
    struct store_header *at = base;

    /* The magic last: half a header is none. */
    shm_copy((uint8_t *)base + sizeof h.magic, (const uint8_t *)&h + sizeof h.magic,
             sizeof h - sizeof h.magic);
    shm_store_release(&at->magic, h.magic);
    bind_to(s, base, &h);
}

int store_attach(struct store *s, void *base, size_t size, const char *name, uint32_t layout,
                 uint32_t count, uint32_t length)
{
    const struct store_header h = describe(name, layout, count, length);

    *s = (struct store){0};
    if (size < store_size(count, length) || memcmp(base, &h, sizeof h) != 0)
        return -EPROTO;
    bind_to(s, base, &h);
    return 0;
}

int store_inspect(struct store *s, void *base, size_t size, struct store_header *h)
{
    *s = (struct store){0};
    if (size < sizeof *h)
        return -EPROTO;
    memcpy(h, base, sizeof *h);
    if (h->magic != MAGIC || h->checksum != header_checksum(h) || h->length > STORE_LENGTH_MAX ||
        h->name[sizeof h->name - 1] != '\0' || h->stride != CACHE_LINE + 2 * slot_size(h->length) ||
        size < store_size(h->count, h->length))
        return -EPROTO;
    bind_to(s, base, h);
    return 0;
}

uint64_t store_version(const struct store *s, uint32_t index)
{
    return load_acquire(select_of(s, index));
}

/* The version that counts; if that copy is damaged, the newest whole one, so that none comes twice.
 */
static uint64_t newest(const struct store *s, uint32_t index)
{
    const uint64_t version = store_version(s, index);
    uint64_t best = 0;

    if (version == 0 || slot_of(s, index, (unsigned)(version & 1))->version == version)
        return version;
    for (unsigned i = 0; i < 2; i++) {
        const struct store_slot *at = slot_of(s, index, i);
        if (at->version > best && at->checksum == checksum(at, at + 1, s->length))
            best = at->version;
    }
    return best;
}

/* Into the slot that does not count, and then it does. */
static void put(struct store *s, uint32_t index, uint32_t erased, const void *payload)
{
    struct store_slot head = {.version = newest(s, index) + 1, .erased = erased};
    struct store_slot *at = slot_of(s, index, (unsigned)(head.version & 1));

    head.checksum = checksum(&head, payload, s->length);
    shm_copy(at + 1, payload, s->length);
    shm_copy(at, &head, sizeof head);
    shm_store_release(select_of(s, index), head.version);
}

void store_write(struct store *s, uint32_t index, const void *payload)
{
    put(s, index, 0, payload);
}

void store_erase(struct store *s, uint32_t index)
{
    struct store_slot *counts;

    if (store_version(s, index) == 0)
        return;
    /* What was there goes along: whoever inspects it wants to know what was erased. */
    counts = slot_of(s, index, (unsigned)(store_version(s, index) & 1));
    put(s, index, 1, counts + 1);
}

enum store_state store_copy(const struct store *s, uint32_t index, unsigned slot,
                            struct store_slot *head, void *payload)
{
    const struct store_slot *at = slot_of(s, index, slot);

    memcpy(head, at, sizeof *head);
    memcpy(payload, at + 1, s->length);
    if (head->version == 0 && head->checksum == 0)
        return STORE_EMPTY;
    return head->checksum == checksum(head, payload, s->length) && (head->version & 1) == (slot & 1)
               ? STORE_VALID
               : STORE_DAMAGED;
}

enum store_state store_read(const struct store *s, uint32_t index, void *payload)
{
    struct store_slot head;

    for (unsigned n = 0; n < READ_TRIES; n++) {
        const uint64_t version = store_version(s, index);
        enum store_state state = STORE_EMPTY;
        if (version != 0) {
            state = store_copy(s, index, (unsigned)(version & 1), &head, payload);
            if (state != STORE_VALID || head.version != version)
                state = STORE_DAMAGED;
            else if (head.erased != 0)
                state = STORE_EMPTY;
        }
        if (state == STORE_VALID)
            return STORE_VALID;
        /* The copy that counted when we looked may have been overtaken by its writer, twice. */
        if (store_version(s, index) != version)
            continue;
        memset(payload, 0, s->length);
        return state;
    }
    memset(payload, 0, s->length);
    return STORE_DAMAGED;
}
