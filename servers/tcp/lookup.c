/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who gets a segment: connections by a keyed hash of addresses and ports, in TCP's region, so that
 * a successor finds a connection before it has walked all records.
 *
 * The index is a hint. Every hit is compared with the record; an entry that does not match is
 * passed over. Removing shifts entries back (copy first, clear after), so that a crash leaves at
 * most an entry twice, never one missing.
 *
 * It grows without a pause: the next table is twice as large and lies behind this one in memory
 * that was never used; each connection that comes moves a line of the old table there, and until
 * all has moved both are looked at. Entries are copied, not moved: what a predecessor left half
 * done is whole again when the walk has added every connection. One word (tcp_state_shm.index) says
 * which table holds.
 *
 * The key is rs's, so that nobody can choose ports that collide. A restart loses: how many there
 * are, how far a growth has come, which entries are of connections that have gone (they are swept
 * out).
 */
#include "engine.h"

enum { STEP = CACHE_LINE / sizeof(struct tcp_index_entry), GROWING = 1 << 8 };

static uint32_t index_hash(const struct tcp *t, const struct sock_name *l,
                           const struct sock_name *r)
{
    return (uint32_t)tcp_tuple_hash(t, TCP_PURPOSE_INDEX, l, r);
}

static struct tcp_table table(const struct tcp *t, unsigned shift)
{
    return (struct tcp_table){t->index + (1ull << shift), (1ull << shift) - 1};
}

static uint64_t word(const struct tcp_table *x, uint64_t pos)
{
    return load_relaxed(&x->entry[pos & x->mask].word);
}

static void store_word(const struct tcp_table *x, uint64_t pos, uint64_t w)
{
    shm_store(&x->entry[pos & x->mask].word, w);
}

static void store_state(struct tcp *t)
{
    const uint32_t state = t->index_shift | (t->index_old.entry != NULL ? GROWING : 0);
    shm_store(&t->state_shm->index, (uint64_t)~state << 32 | state);
}

void tcp_lookup_begin(struct tcp *t, uint64_t elements)
{
    const uint64_t w = t->state_shm->index;
    const uint32_t state = (uint32_t)w, shift = state & (GROWING - 1);
    unsigned most = 0;

    while (4ull << most <= elements)
        most++;
    t->index_most = most;
    t->index_old = (struct tcp_table){0};
    t->index_used = 0;
    t->index_at = 0;
    if (!(t->c->start & START_FRUGAL) && (uint32_t)(w >> 32) == ~state && shift >= 1 &&
        shift <= most && state < 2 * GROWING) {
        t->index_shift = shift;
        t->index_now = table(t, shift);
        if (state & GROWING)
            t->index_old = table(t, shift - 1);
    } else if (w == 0 && tcp_record_load_used(t) == 0) {
        t->index_shift = most < TCP_INDEX_FIRST ? most : TCP_INDEX_FIRST;
        t->index_now = table(t, t->index_shift);
        store_state(t);
    } else {
        /* Nobody knows which table held. The walk fills the last one; misses are held until then.
         */
        t->index_shift = most;
        t->index_now = table(t, most);
        shm_zero(t->index_now.entry, (t->index_now.mask + 1) * sizeof *t->index_now.entry);
        store_state(t);
    }
}

/* Every connection is in the present table. */
void tcp_lookup_walked(struct tcp *t)
{
    t->index_at = 0; /* the sweep begins */
    if (t->index_old.entry == NULL)
        return;
    t->index_old = (struct tcp_table){0};
    store_state(t);
}

static void insert(const struct tcp_table *x, uint64_t w)
{
    for (uint64_t i = 0, at = w >> 32; i <= x->mask; i++) {
        const uint64_t found = word(x, at + i);
        if (found == w)
            return;
        if (found == 0) {
            store_word(x, at + i, w);
            return;
        }
    }
}

/* Knuth 6.4 R, with the copy before the clearing. */
static void take_out(const struct tcp_table *x, uint64_t hole)
{
    for (uint64_t i = hole + 1;; i++) {
        uint64_t w = word(x, i);
        if (w == 0)
            break;
        uint64_t home = w >> 32;
        /* May the entry at i move to the hole? Only if its home is not behind the hole. */
        if (((i - home) & x->mask) >= ((i - hole) & x->mask)) {
            store_word(x, hole, w);
            hole = i;
        }
        if (((i + 1 - hole) & x->mask) > x->mask)
            break;
    }
    store_word(x, hole, 0);
}

/* Is this entry one of a connection that is there? */
static bool holds(const struct tcp *t, uint64_t w)
{
    const uint32_t idx = (uint32_t)w - 1;
    return idx < t->n_conns && t->conn[idx].ready && t->conn[idx].indexed &&
           t->conn[idx].hash == w >> 32;
}

/* A line of the old table to the new one; without a growth, a line of this table is swept. */
static void step(struct tcp *t)
{
    const struct tcp_table *x = t->index_old.entry != NULL ? &t->index_old : &t->index_now;
    for (unsigned i = 0; i < STEP && t->index_at <= x->mask; i++) {
        const uint64_t w = word(x, t->index_at);
        if (x == &t->index_old) {
            if (w != 0 && holds(t, w))
                insert(&t->index_now, w);
        } else if (w != 0 && !holds(t, w)) {
            take_out(x, t->index_at);
            continue; /* another one may have come here */
        }
        t->index_at++;
    }
    if (x == &t->index_old && t->index_at > x->mask) {
        t->index_old = (struct tcp_table){0};
        t->index_at = t->index_now.mask + 1; /* nothing in there to be swept */
        store_state(t);
    }
}

static void grow(struct tcp *t)
{
    t->index_old = t->index_now;
    t->index_shift++;
    t->index_now = table(t, t->index_shift);
    t->index_at = 0;
    /* From here on a successor looks at both. */
    store_state(t);
}

void tcp_lookup_add(struct tcp *t, struct tcp_conn *k)
{
    k->hash = index_hash(t, &k->r.local, &k->r.remote);
    if (!k->indexed)
        t->index_used++;
    k->indexed = true;
    insert(&t->index_now, (uint64_t)k->hash << 32 | (k->idx + 1));
    if (!t->walked)
        return;
    if (t->index_old.entry == NULL && t->index_shift < t->index_most &&
        4ull * t->index_used > 3 * (t->index_now.mask + 1))
        grow(t);
    step(t);
}

/* What an old table still says of it does no harm: it does not match the record any more. */
void tcp_lookup_remove(struct tcp *t, struct tcp_conn *k)
{
    if (!k->indexed)
        return;
    k->indexed = false;
    t->index_used--;
    const uint64_t mine = (uint64_t)k->hash << 32 | (k->idx + 1);
    for (uint64_t at = k->hash, w; (w = word(&t->index_now, at)) != 0;) {
        if (w == mine)
            take_out(&t->index_now, at); /* a crash may have left it twice: go on */
        else if (++at - k->hash > t->index_now.mask)
            break;
    }
}

static struct tcp_conn *find(struct tcp *t, const struct tcp_table *x, uint32_t hash,
                             const struct sock_name *local, const struct sock_name *remote)
{
    for (uint64_t i = 0; i <= x->mask; i++) {
        const uint64_t w = word(x, hash + i);
        if (w == 0)
            return NULL;
        if (w >> 32 != hash)
            continue;
        struct tcp_conn *k = tcp_conn_get(t, (uint32_t)w - 1);
        if (k != NULL && k->r.kind == TCP_KIND_CONN && k->r.state != TCP_CLOSED &&
            memcmp(&k->r.local, local, sizeof *local) == 0 &&
            memcmp(&k->r.remote, remote, sizeof *remote) == 0)
            return k;
    }
    return NULL;
}

struct tcp_conn *tcp_lookup_find(struct tcp *t, const struct sock_name *local,
                                 const struct sock_name *remote)
{
    const uint32_t hash = index_hash(t, local, remote);
    struct tcp_conn *k = find(t, &t->index_now, hash, local, remote);
    if (k == NULL && t->index_old.entry != NULL)
        k = find(t, &t->index_old, hash, local, remote);
    return k;
}
