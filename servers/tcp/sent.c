/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Records of what is under way: see sent.h. The tree is a treap: its shape follows from the numbers
 * of the records, which no peer knows, and not from the order in which they come and go.
 */
#include "engine.h"

#include <stdlib.h>

enum { FEW = 64 };

static struct tcp_sent *at(struct tcp *t, uint32_t id)
{
    return sent_of(&t->sent, id);
}

/* The number of a record, by its own neighbours' links: each record is named by the list of its
 * connection. */
static uint32_t id_of(struct tcp *t, const struct tcp_conn *k, const struct tcp_sent *r)
{
    return r->seq_prev ? at(t, r->seq_prev)->seq_next : k->sent.seq.first;
}

static uint32_t segments(const struct tcp_conn *k, uint64_t start, uint64_t end)
{
    return (uint32_t)((end - start + k->mss - 1) / k->mss);
}

/* --- the slab --- */

void tcp_sent_fini(struct sent_slab *s)
{
    for (uint32_t i = 0; i < s->chunks; i++)
        free(s->chunk[i]);
    s->chunks = 0;
    s->free = SENT_NONE;
}

bool tcp_sent_ready(struct tcp *t)
{
    struct sent_slab *s = &t->sent;
    if (s->free != SENT_NONE)
        return true;
    if (s->chunks == SENT_CHUNKS)
        return false;
    struct tcp_sent *c = calloc(SENT_CHUNK, sizeof *c);
    if (c == NULL)
        return false;
    uint32_t base = s->chunks * SENT_CHUNK;
    s->chunk[s->chunks++] = c;
    for (uint32_t i = SENT_CHUNK; i-- > 0;) {
        if (base + i == SENT_NONE)
            break;
        c[i].list_next = s->free;
        s->free = base + i;
    }
    return true;
}

static uint32_t take(struct tcp *t)
{
    uint32_t id = t->sent.free;
    struct tcp_sent *r = at(t, id);
    t->sent.free = r->list_next;
    t->sent.used++;
    *r = (struct tcp_sent){0};
    return id;
}

static void give(struct tcp *t, uint32_t id)
{
    at(t, id)->list_next = t->sent.free;
    t->sent.free = id;
    t->sent.used--;
}

/* --- the tree --- */

static uint32_t priority(uint32_t id)
{
    id *= 0x9e3779b1u;
    id ^= id >> 15;
    id *= 0x85ebca6bu;
    return id ^ id >> 13;
}

static void tree_add(struct tcp *t, struct tcp_conn *k, uint32_t id)
{
    struct tcp_sent *r = at(t, id);
    uint32_t *link = &k->sent.root, node;
    while ((node = *link) != SENT_NONE && priority(node) >= priority(id))
        link = r->start < at(t, node)->start ? &at(t, node)->left : &at(t, node)->right;
    *link = id;
    /* What was below is divided between its two sides. */
    uint32_t *less = &r->left, *more = &r->right;
    while (node != SENT_NONE) {
        struct tcp_sent *n = at(t, node);
        if (n->start < r->start) {
            *less = node;
            less = &n->right;
            node = n->right;
        } else {
            *more = node;
            more = &n->left;
            node = n->left;
        }
    }
    *less = *more = SENT_NONE;
}

static void tree_remove(struct tcp *t, struct tcp_conn *k, uint32_t id)
{
    struct tcp_sent *r = at(t, id);
    uint32_t *link = &k->sent.root, a = r->left, b = r->right;
    while (*link != id)
        link = r->start < at(t, *link)->start ? &at(t, *link)->left : &at(t, *link)->right;
    while (a != SENT_NONE && b != SENT_NONE) {
        if (priority(a) >= priority(b)) {
            *link = a;
            link = &at(t, a)->right;
            a = *link;
        } else {
            *link = b;
            link = &at(t, b)->left;
            b = *link;
        }
    }
    *link = a != SENT_NONE ? a : b;
}

struct tcp_sent *tcp_sent_find(struct tcp *t, const struct tcp_conn *k, uint64_t offset)
{
    struct tcp_sent *r = at(t, k->sent.root);
    while (r != NULL && (offset < r->start || offset >= r->end))
        r = at(t, offset < r->start ? r->left : r->right);
    return r;
}

/* --- the lists --- */

static struct sent_list *list_of(struct tcp_conn *k, enum sent_state state)
{
    return state == SENT_OUT ? &k->sent.out : state == SENT_LOST ? &k->sent.lost : NULL;
}

static uint64_t *bytes_of(struct tcp_conn *k, enum sent_state state)
{
    return state == SENT_OUT    ? &k->sent.out_bytes
           : state == SENT_LOST ? &k->sent.lost_bytes
                                : &k->sent.sacked_bytes;
}

static void list_insert(struct tcp *t, struct sent_list *l, uint32_t after, uint32_t id)
{
    struct tcp_sent *r = at(t, id);
    r->list_prev = after;
    r->list_next = after ? at(t, after)->list_next : l->first;
    *(after ? &at(t, after)->list_next : &l->first) = id;
    *(r->list_next ? &at(t, r->list_next)->list_prev : &l->last) = id;
}

static void list_remove(struct tcp *t, struct sent_list *l, uint32_t id)
{
    struct tcp_sent *r = at(t, id);
    *(r->list_prev ? &at(t, r->list_prev)->list_next : &l->first) = r->list_next;
    *(r->list_next ? &at(t, r->list_next)->list_prev : &l->last) = r->list_prev;
}

/* Leaves the list and the sums of its state. */
static void leave(struct tcp *t, struct tcp_conn *k, uint32_t id)
{
    struct tcp_sent *r = at(t, id);
    *bytes_of(k, r->state) -= r->end - r->start;
    if (r->state == SENT_SACKED)
        k->sent.sacked_segs -= r->segs;
    else
        list_remove(t, list_of(k, r->state), id);
}

static void enter(struct tcp *t, struct tcp_conn *k, uint32_t id, enum sent_state state,
                  uint32_t after)
{
    struct tcp_sent *r = at(t, id);
    r->state = state;
    *bytes_of(k, state) += r->end - r->start;
    if (state == SENT_SACKED)
        k->sent.sacked_segs += r->segs;
    else
        list_insert(t, list_of(k, state), after, id);
}

static uint32_t place(struct tcp *t, struct tcp_conn *k, uint32_t after, uint64_t start,
                      uint64_t end)
{
    uint32_t id = take(t);
    struct tcp_sent *r = at(t, id);
    r->start = start;
    r->end = end;
    r->seq_prev = after;
    r->seq_next = after ? at(t, after)->seq_next : k->sent.seq.first;
    *(after ? &at(t, after)->seq_next : &k->sent.seq.first) = id;
    *(r->seq_next ? &at(t, r->seq_next)->seq_prev : &k->sent.seq.last) = id;
    r->segs = segments(k, start, end);
    tree_add(t, k, id);
    k->sent.n++;
    return id;
}

static void drop(struct tcp *t, struct tcp_conn *k, uint32_t id)
{
    struct tcp_sent *r = at(t, id);
    leave(t, k, id);
    tree_remove(t, k, id);
    *(r->seq_prev ? &at(t, r->seq_prev)->seq_next : &k->sent.seq.first) = r->seq_next;
    *(r->seq_next ? &at(t, r->seq_next)->seq_prev : &k->sent.seq.last) = r->seq_prev;
    k->sent.n--;
    give(t, id);
}

/* --- what the rest of TCP does with them --- */

void tcp_sent_add(struct tcp *t, struct tcp_conn *k, uint64_t start, uint64_t end)
{
    struct tcp_sent *last = at(t, k->sent.seq.last);
    if (last != NULL && k->sent.n >= FEW && last->state == SENT_OUT && !last->again &&
        end - last->start <= k->mss) {
        /* A program that writes single bytes shall not make us keep a record of each. The later
         * transmission counts: nothing is taken for lost too early. */
        last->end = end;
        last->at = t->now;
        k->sent.out_bytes += end - start;
        return;
    }
    uint32_t id = place(t, k, k->sent.seq.last, start, end);
    at(t, id)->at = t->now;
    enter(t, k, id, SENT_OUT, k->sent.out.last);
}

bool tcp_sent_few(const struct tcp_conn *k)
{
    return k->sent.n < FEW + 2 * (k->snd_max - k->tx_una) / k->mss;
}

bool tcp_sent_restore(struct tcp *t, struct tcp_conn *k, uint64_t start, uint64_t end)
{
    if (!tcp_sent_ready(t))
        return false;
    uint32_t id = place(t, k, k->sent.seq.last, start, end);
    struct tcp_sent *r = at(t, id);
    r->at = t->now;
    r->again = r->unknown = true;
    enter(t, k, id, SENT_OUT, k->sent.out.last);
    return true;
}

struct tcp_sent *tcp_sent_cut(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r, uint64_t off)
{
    if (off <= r->start || off >= r->end || !tcp_sent_ready(t))
        return NULL;
    uint32_t id = id_of(t, k, r);
    uint64_t end = r->end;
    *bytes_of(k, r->state) -= end - off;
    if (r->state == SENT_SACKED)
        k->sent.sacked_segs -= r->segs;
    r->end = off;
    r->segs = segments(k, r->start, off);
    if (r->state == SENT_SACKED)
        k->sent.sacked_segs += r->segs;
    uint32_t second = place(t, k, id, off, end);
    struct tcp_sent *s = at(t, second);
    s->at = r->at;
    s->again = r->again;
    s->unknown = r->unknown;
    enter(t, k, second, r->state, r->state == SENT_SACKED ? SENT_NONE : id);
    return s;
}

void tcp_sent_again(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r)
{
    uint32_t id = id_of(t, k, r);
    leave(t, k, id);
    r->at = t->now;
    r->again = true;
    r->unknown = false;
    r->segs = segments(k, r->start, r->end);
    enter(t, k, id, SENT_OUT, k->sent.out.last);
}

void tcp_sent_mark_lost(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r)
{
    uint32_t id = id_of(t, k, r);
    leave(t, k, id);
    enter(t, k, id, SENT_LOST, id == k->sent.seq.first ? SENT_NONE : k->sent.lost.last);
}

void tcp_sent_mark_all_lost(struct tcp *t, struct tcp_conn *k, bool sacked_too)
{
    for (uint32_t id = k->sent.seq.first; id != SENT_NONE; id = at(t, id)->seq_next) {
        if (at(t, id)->state == SENT_SACKED && !sacked_too)
            continue;
        leave(t, k, id);
        enter(t, k, id, SENT_LOST, k->sent.lost.last);
    }
}

void tcp_sent_unmark_lost(struct tcp *t, struct tcp_conn *k)
{
    /* They were sent before all that is in flight, mostly, and in this order. */
    while (k->sent.lost.last != SENT_NONE) {
        uint32_t id = k->sent.lost.last;
        leave(t, k, id);
        enter(t, k, id, SENT_OUT, SENT_NONE);
    }
}

static void absorb(struct tcp *t, struct tcp_conn *k, uint32_t id, uint32_t next)
{
    struct tcp_sent *r = at(t, id);
    uint64_t end = at(t, next)->end;
    uint32_t segs = at(t, next)->segs;
    r->again |= at(t, next)->again;
    r->unknown |= at(t, next)->unknown;
    drop(t, k, next);
    k->sent.sacked_bytes += end - r->end;
    k->sent.sacked_segs += segs;
    r->segs += segs;
    r->end = end;
}

struct tcp_sent *tcp_sent_mark_sacked(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r)
{
    uint32_t id = id_of(t, k, r);
    leave(t, k, id);
    enter(t, k, id, SENT_SACKED, SENT_NONE);
    if (r->seq_next && at(t, r->seq_next)->state == SENT_SACKED)
        absorb(t, k, id, r->seq_next);
    if (r->seq_prev && at(t, r->seq_prev)->state == SENT_SACKED) {
        id = r->seq_prev;
        absorb(t, k, id, at(t, id)->seq_next);
    }
    return at(t, id);
}

void tcp_sent_trim(struct tcp *t, struct tcp_conn *k, uint64_t offset)
{
    uint32_t id = k->sent.seq.first;
    struct tcp_sent *r = at(t, id);
    if (offset >= r->end) {
        drop(t, k, id);
        return;
    }
    if (offset <= r->start)
        return;
    /* It stays the least: the tree does not notice. */
    *bytes_of(k, r->state) -= offset - r->start;
    uint32_t segs = segments(k, offset, r->end);
    segs = segs < r->segs ? segs : r->segs;
    if (r->state == SENT_SACKED)
        k->sent.sacked_segs -= r->segs - segs;
    r->segs = segs;
    r->start = offset;
}

void tcp_sent_clear(struct tcp *t, struct tcp_conn *k)
{
    for (uint32_t id = k->sent.seq.first, next; id != SENT_NONE; id = next) {
        next = at(t, id)->seq_next;
        give(t, id);
    }
    k->sent = (struct tcp_sent_board){0};
}
