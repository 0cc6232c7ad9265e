/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See quarantine.h. Order of the stores: a suspect's count after its name, `condemned` after the
 * count, a copy's number after the copy. A crash in between costs one count, or makes a copy again.
 */
#include "quarantine.h"

#include <inttypes.h>
#include <stdio.h>

static struct server_suspect *find(struct server_block *b, uint64_t item)
{
    for (unsigned i = 0; i < SERVER_SUSPECTS; i++)
        if (b->suspect[i].item == item)
            return &b->suspect[i];
    return NULL;
}

unsigned quarantine_count(const struct server_block *b, uint64_t item)
{
    for (unsigned i = 0; i < SERVER_SUSPECTS; i++)
        if (b->suspect[i].item == item)
            return b->suspect[i].times;
    return 0;
}

/* Whom a new suspect replaces: the one that was blamed longest ago. */
static struct server_suspect *oldest(struct server_block *b)
{
    struct server_suspect *o = &b->suspect[0];

    for (unsigned i = 1; i < SERVER_SUSPECTS; i++)
        if (b->suspect[i].item == 0 ||
            (o->item != 0 && (int32_t)(b->suspect[i].last - o->last) < 0))
            o = &b->suspect[i];
    return o;
}

void quarantine_accuse(struct server_block *b, uint64_t item, uint64_t now)
{
    struct server_suspect *s = find(b, item);

    if (s == NULL) {
        s = oldest(b);
        shm_store(&s->times, 0u);
        shm_store(&s->item, item);
    }
    shm_store(&s->last, (uint32_t)(now / 1000000ull));
    shm_store(&s->times, s->times + 1);
    if (s->times >= QUARANTINE_TIMES)
        shm_store(&b->condemned, b->condemned + 1);
}

void quarantine_blame(struct server_block *b, enum rs_end end, uint64_t life, uint64_t now)
{
    const uint64_t item = load_relaxed(&b->in_progress);

    if ((end != END_FAULT && end != END_HANG) || item == 0)
        return;
    /* A connection is worked on all the time: that it was in progress says little, unless whoever
     * touches it dies at once. All other items are there only once. */
    struct server_suspect *s = find(b, item);
    if (s != NULL && ITEM_KIND(item) == ITEM_RECORD && life > QUARANTINE_TRUST_MS * 1000000ull)
        shm_store(&s->times, 0u);
    quarantine_accuse(b, item, now);
    /* Blamed once for one death. */
    item_end(b);
}

bool quarantine_keep(const struct region *own, uint64_t item, uint64_t now,
                     const struct item_part *part, unsigned parts)
{
    struct quarantine *q = wiring_table(own, TABLE_QUARANTINE, NULL);
    struct server_block *b = wiring_block(own);

    if (q == NULL || b == NULL)
        return false;
    const uint64_t taken = load_relaxed(&q->taken);
    for (uint64_t i = 0; i < taken && i < QUARANTINE_COPIES; i++)
        if (q->copy[i].item == item)
            return false;
    struct quarantine_copy *c = &q->copy[taken % QUARANTINE_COPIES];
    size_t length = 0, kept = 0;

    for (unsigned i = 0; i < parts; i++) {
        const size_t room = sizeof c->data - kept, n = part[i].len < room ? part[i].len : room;

        length += part[i].len;
        if (part[i].data == NULL || n == 0)
            continue;
        shm_copy(c->data + kept, part[i].data, n);
        kept += n;
    }
    shm_store(&c->time_ns, now);
    shm_store(&c->epoch, b->epoch);
    shm_store(&c->times, quarantine_count(b, item));
    shm_store(&c->bytes, (uint32_t)kept);
    shm_store(&c->length, (uint32_t)length);
    shm_store(&c->item, item);
    shm_store(&b->dropped, b->dropped + 1);
    /* A reader that sees the number sees the copy. */
    shm_store_release(&q->taken, taken + 1);
    return true;
}

void item_print(uint64_t item, char *text, size_t size)
{
    const uint64_t what = ITEM_WHAT(item);
    const uint32_t number = (uint32_t)(what >> 32), use = (uint32_t)what;

    switch (ITEM_KIND(item)) {
    case ITEM_REQUEST:
        snprintf(text, size, "request %" PRIu32 " of application %u, slot %u", use, number >> 14,
                 number & 0x3fff);
        return;
    case ITEM_RECORD:
        snprintf(text, size, "record %" PRIu32 " (use %08" PRIx32 ")", number, use);
        return;
    case ITEM_DATAGRAM:
        snprintf(text, size, "datagram of socket %" PRIu32 " at offset %" PRIu32, number, use);
        return;
    case ITEM_FRAME:
        snprintf(text, size, "frame %" PRIu32 " (use %" PRIu32 ")", number, use);
        return;
    case ITEM_CONTROL:
        snprintf(text, size, "control message %" PRIu32 " of %s %" PRIu32, use,
                 number & 0x800000 ? "process" : "application", number & 0x7fffff);
        return;
    case ITEM_FLOW:
        snprintf(text, size, "flow %08" PRIx32, use);
        return;
    default:
        if (item == 0)
            snprintf(text, size, "nothing");
        else if (ITEM_KIND(item) < ITEM_REQUEST)
            snprintf(text, size, "slot %" PRIu64 " of input %u", what - 1, ITEM_KIND(item));
        else
            snprintf(text, size, "item %016" PRIx64, item);
    }
}
