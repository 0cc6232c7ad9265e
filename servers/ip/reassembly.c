/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Reassembly of IPv4 fragments, RFC 791 and RFC 815, with the policy of RFC 5722: fragments that
 * overlap end the datagram. An exact duplicate is not an overlap: the network makes those, and so
 * does a replay after a crash.
 *
 * Fragments are copied out of the driver's frames into a buffer of our own. Memory is bounded by
 * the contexts, per source and in all; the oldest makes room. Keeps all of it: a successor goes on
 * with the datagrams under way.
 */
#include "internal.h"
#include "servers/wire/checksum.h"
#include "servers/wire/icmp.h"

enum { REASM_PER_SOURCE = 16 };
#define REASM_TIMEOUT (30 * SECOND) /* RFC 1122 section 3.3.2 says 60 to 120 s, Linux 30 */

static void drop(struct ip *ip, struct reasm_context *x, enum ip_counter why)
{
    count(ip, why);
    if (x->state == REASM_OPEN) {
        /* The context first: a buffer that is free is not named by anything. */
        shm_store(&x->state, (uint32_t)REASM_FREE);
        buffer_free(ip, x->buffer, x->buffer_generation);
    } else {
        shm_store(&x->state, (uint32_t)REASM_FREE); /* the buffer is its question's */
    }
    ip->reasm_open--;
}

static struct reasm_context *find(struct ip *ip, const struct ipv4 *h)
{
    for (unsigned i = 0; i < REASM_CONTEXTS; i++) {
        struct reasm_context *x = &ip->shm->reasm[i];

        if (x->state != REASM_FREE && x->id == h->id && x->src == h->src && x->dst == h->dst &&
            x->protocol == h->protocol)
            return x;
    }
    return NULL;
}

static struct reasm_context *open_context(struct ip *ip, const struct ipv4 *h, unsigned interface,
                                          uint64_t now)
{
    struct reasm_context *x = NULL, *oldest = NULL, *oldest_same = NULL;
    unsigned same = 0;

    for (unsigned i = 0; i < REASM_CONTEXTS; i++) {
        struct reasm_context *c = &ip->shm->reasm[i];

        if (c->state == REASM_FREE) {
            if (x == NULL)
                x = c;
            continue;
        }
        if (oldest == NULL || c->started_ns < oldest->started_ns)
            oldest = c;
        if (c->src != h->src)
            continue;
        same++;
        if (oldest_same == NULL || c->started_ns < oldest_same->started_ns)
            oldest_same = c;
    }
    if (same >= REASM_PER_SOURCE) {
        drop(ip, oldest_same, IP_C_DROP_FRAG_MEMORY);
        x = oldest_same;
    } else if (x == NULL || (ip->free_buffers <= ip->buffers / 4 && oldest != NULL)) {
        /* Never more than three quarters of the buffers: echoes need some. */
        drop(ip, oldest, IP_C_DROP_FRAG_MEMORY);
        x = oldest;
    }
    const int64_t buffer = buffer_take(ip);
    if (buffer < 0)
        return NULL;
    shm_store(&x->src, h->src);
    shm_store(&x->dst, h->dst);
    shm_store(&x->id, h->id);
    shm_store(&x->protocol, h->protocol);
    shm_store(&x->interface, (uint8_t)interface);
    shm_store(&x->buffer, (uint32_t)buffer);
    shm_store(&x->buffer_generation, ip->shm->buffer[buffer].generation);
    shm_store(&x->started_ns, now);
    shm_store(&x->total, 0u);
    shm_store(&x->count, 0u);
    shm_store(&x->hdr_len, (uint16_t)0);
    /* Everything above belongs to nobody until this says so. */
    shm_store(&x->state, (uint32_t)REASM_OPEN);
    ip->reasm_open++;
    if (ip->reasm_next > now + REASM_TIMEOUT)
        ip->reasm_next = now + REASM_TIMEOUT;
    return x;
}

static bool complete(const struct reasm_context *x)
{
    uint32_t sum = 0;

    if (x->total == 0 || x->hdr_len == 0)
        return false;
    for (uint32_t i = 0; i < x->count; i++)
        sum += (uint32_t)(x->range[i].end - x->range[i].start);
    return sum == x->total; /* no two overlap, none is beyond total */
}

/* Where does [start, end) stand to what is there? */
enum relation { NEW, SAME, OVERLAP };
static enum relation relate(const struct reasm_context *x, uint32_t start, uint32_t end)
{
    for (uint32_t i = 0; i < x->count; i++) {
        const struct reasm_range *r = &x->range[i];

        if (r->start == start && r->end == end)
            return SAME;
        if (start < r->end && r->start < end)
            return OVERLAP;
    }
    return NEW;
}

enum reasm_result reasm_insert(struct ip *ip, const struct ipv4 *h, const uint8_t *hdr,
                               const uint8_t *data, uint32_t len, unsigned interface, uint64_t now,
                               struct reasm_context **out)
{
    const uint32_t start = h->offset, end = start + len;

    /* Ping of death: the whole would be longer than a datagram can be. */
    if (len == 0 || (h->mf && len % 8 != 0) || end + h->hdr_len > IPV4_MAX) {
        count(ip, IP_C_DROP_FRAG_BAD);
        return REASM_REFUSED;
    }
    struct reasm_context *x = find(ip, h);
    if (x == NULL && (x = open_context(ip, h, interface, now)) == NULL) {
        count(ip, IP_C_DROP_FRAG_MEMORY);
        return REASM_REFUSED;
    }
    *out = x;
    bool bad = (x->total != 0 && end > x->total) || (!h->mf && x->total != 0 && end != x->total);
    for (uint32_t i = 0; !h->mf && i < x->count; i++)
        bad = bad || x->range[i].end > end;
    const enum relation relation = relate(x, start, end);
    if (relation == OVERLAP || bad) {
        drop(ip, x, IP_C_DROP_FRAG_OVERLAP);
        return REASM_REFUSED;
    }
    if (relation == SAME) {
        /* Its marks may be missing when a predecessor died after the range. */
        count(ip, IP_C_FRAG_DUPLICATE);
    } else {
        if (x->count >= REASM_FRAGMENTS) {
            drop(ip, x, IP_C_DROP_FRAG_MANY);
            return REASM_REFUSED;
        }
        /* Bytes, range, count: a range that counts has its bytes. */
        shm_copy(buffer_at(ip, x->buffer) + start, data, len);
        const struct reasm_range r = {.start = (uint16_t)start, .end = (uint16_t)end};
        shm_copy(&x->range[x->count], &r, sizeof r);
        shm_store(&x->count, x->count + 1);
    }
    if (start == 0 && x->hdr_len == 0) {
        shm_copy(x->hdr, hdr, h->hdr_len);
        shm_store(&x->hdr_len, (uint16_t)h->hdr_len);
    }
    if (!h->mf && x->total == 0)
        shm_store(&x->total, end);
    return complete(x) ? REASM_COMPLETE : REASM_KEPT;
}

bool reasm_packet(struct ip *ip, struct reasm_context *x, struct packet *p)
{
    uint8_t b[PACKET_HEADERS];
    struct ipv4 h;

    if (IPV4_LEN > x->hdr_len || x->hdr_len > IPV4_LEN_MAX || x->hdr_len + x->total > IPV4_MAX) {
        drop(ip, x, IP_C_DROP_FRAG_BAD);
        return false;
    }
    /* The header of the first fragment, made that of the whole. */
    memcpy(b, x->hdr, x->hdr_len);
    put16(b + 2, (uint16_t)(x->hdr_len + x->total));
    put16(b + 6, 0);
    put16(b + 10, 0);
    put_csum(b + 10, csum_fold(csum_partial(b, x->hdr_len, 0)));
    const size_t more = sizeof b - x->hdr_len < x->total ? sizeof b - x->hdr_len : x->total;
    memcpy(b + x->hdr_len, buffer_at(ip, x->buffer), more);

    const size_t have = x->hdr_len + more;
    *p = (struct packet){
        .interface = x->interface,
        .origin = ip->c->id,
        .chain = x->buffer,
        .chain_generation = x->buffer_generation,
        .stamp_ns = x->started_ns,
    };
    if (ipv4_parse(&h, b, have, x->hdr_len + x->total) != IPV4_OK ||
        !packet_received(ip, p, &h, b, have, ip->c->own, buffer_piece(ip, x->buffer, 0, 0).off)) {
        drop(ip, x, IP_C_DROP_FRAG_BAD);
        return false;
    }
    /* From here the buffer is the question's, if that gets published; else a replay of the last
     * fragment finds the context in this state and asks again. */
    shm_store(&x->state, (uint32_t)REASM_DONE);
    count(ip, IP_C_FRAG_DONE);
    return true;
}

void reasm_end(struct ip *ip, struct reasm_context *x)
{
    shm_store(&x->state, (uint32_t)REASM_FREE);
    ip->reasm_open--;
}

void reasm_tick(struct ip *ip, uint64_t now)
{
    ip->reasm_next = NEVER;
    for (unsigned i = 0; i < REASM_CONTEXTS; i++) {
        struct reasm_context *x = &ip->shm->reasm[i];

        if (x->state == REASM_FREE)
            continue;
        const uint64_t end = x->started_ns + REASM_TIMEOUT;
        if (now < end) {
            if (end < ip->reasm_next)
                ip->reasm_next = end;
            continue;
        }
        /* RFC 1122 section 3.3.2: say so if the first fragment is here. */
        if (x->state == REASM_OPEN && x->hdr_len >= IPV4_LEN && x->hdr_len <= IPV4_LEN_MAX &&
            ip_question_room(ip, 1, true)) {
            uint8_t b[IPV4_LEN_MAX + 8];

            memcpy(b, x->hdr, x->hdr_len);
            memcpy(b + x->hdr_len, buffer_at(ip, x->buffer), 8);
            icmp_error(ip, ICMP_EXCEEDED, ICMP_REASSEMBLY, b, (size_t)x->hdr_len + 8, 0,
                       ip->own_index++ | OWN_INDEX, now);
        }
        drop(ip, x, IP_C_DROP_FRAG_TIMEOUT);
    }
}
