/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Packet traces as pcapng (IETF draft-ietf-opsawg-pcapng): a section header, an interface with a
 * name and nanoseconds for each stack, and an enhanced packet block per frame, with its direction
 * and, where something happened to it, a comment. Wireshark shows the comments as they are.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

enum {
    BLOCK_SECTION = 0x0a0d0d0a,
    BLOCK_INTERFACE = 1,
    BLOCK_PACKET = 6,
    MAGIC = 0x1a2b3c4d,
    LINK_ETHERNET = 1,
    PCAPNG_END = 0,
    PCAPNG_COMMENT = 1,
    PCAPNG_IF_NAME = 2,
    PCAPNG_EPB_FLAGS = 2,
    PCAPNG_IF_TSRESOL = 9,
};

struct trace {
    FILE *f;
};

struct block {
    uint8_t data[65536 + 1024];
    uint32_t len;
};

static void put(struct block *b, const void *p, size_t n)
{
    memcpy(b->data + b->len, p, n);
    b->len += (uint32_t)n;
    while (b->len % 4 != 0)
        b->data[b->len++] = 0;
}

static void put32(struct block *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void option(struct block *b, uint16_t code, const void *p, size_t n)
{
    const uint16_t head[2] = {code, (uint16_t)n};

    put(b, head, sizeof head);
    put(b, p, n);
}

static void begin(struct block *b, uint32_t type)
{
    b->len = 0;
    put32(b, type);
    put32(b, 0); /* length, when it is known */
}

static void end(struct trace *t, struct block *b)
{
    const uint32_t len = b->len + 4;

    memcpy(b->data + 4, &len, sizeof len);
    put32(b, len);
    fwrite(b->data, b->len, 1, t->f);
}

struct trace *trace_open(const char *path, unsigned interfaces)
{
    static struct block b;
    FILE *f = fopen(path, "wb");
    const uint16_t version[2] = {1, 0};
    const uint64_t unknown = UINT64_MAX;

    if (f == NULL) {
        perror(path);
        return NULL;
    }
    struct trace *t = calloc(1, sizeof *t);
    t->f = f;
    begin(&b, BLOCK_SECTION);
    put32(&b, MAGIC);
    put(&b, version, sizeof version);
    put(&b, &unknown, sizeof unknown);
    end(t, &b);
    for (unsigned i = 0; i < interfaces; i++) {
        const uint8_t nanoseconds = 9;
        char name[16];

        snprintf(name, sizeof name, "stack%u", i);
        begin(&b, BLOCK_INTERFACE);
        put32(&b, LINK_ETHERNET);
        put32(&b, 0); /* no limit to the length of packets */
        option(&b, PCAPNG_IF_NAME, name, strlen(name));
        option(&b, PCAPNG_IF_TSRESOL, &nanoseconds, 1);
        option(&b, PCAPNG_END, NULL, 0);
        end(t, &b);
    }
    return t;
}

void trace_frame(struct trace *t, unsigned interface, bool out, uint64_t now, const uint8_t *data,
                 size_t len, const char *comment)
{
    static struct block b;
    const uint32_t direction = out ? 2 : 1;

    begin(&b, BLOCK_PACKET);
    put32(&b, interface);
    put32(&b, (uint32_t)(now >> 32));
    put32(&b, (uint32_t)now);
    put32(&b, (uint32_t)len);
    put32(&b, (uint32_t)len);
    put(&b, data, len);
    option(&b, PCAPNG_EPB_FLAGS, &direction, sizeof direction);
    if (comment != NULL)
        option(&b, PCAPNG_COMMENT, comment, strlen(comment));
    option(&b, PCAPNG_END, NULL, 0);
    end(t, &b);
}

void trace_close(struct trace *t)
{
    if (t == NULL)
        return;
    if (fclose(t->f) != 0)
        perror("trace");
    free(t);
}
