/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Send chains: which bytes of an application's memory packets under way refer to. Space is given
 * back only below every chain that is not done, not merely when it is acknowledged: else a queued
 * retransmission would carry another connection's bytes to the old peer.
 *
 * A restart loses the lists; they are rebuilt from the table. A chain whose packet was never
 * published (its queue_index is at or behind the tail) goes back to its former generation, and its
 * connection's snd_max to what it was before, so that a successor knows exactly what is under way.
 */
#include "engine.h"

static void link_chain(struct tcp *t, struct tcp_conn *k, uint32_t id)
{
    struct tcp_chain_link *l = &t->link[id];
    *l = (struct tcp_chain_link){
        .next = NO_CHAIN, .prev = t->chain_last, .conn_next = 0, .conn_prev = k->chain_last};
    l->used = true;
    if (t->chain_last != NO_CHAIN)
        t->link[t->chain_last].next = id;
    else
        t->chain_first = id;
    t->chain_last = id;
    if (k->chain_last != 0)
        t->link[k->chain_last - 1].conn_next = id + 1;
    else
        k->chain_first = id + 1;
    k->chain_last = id + 1;
    t->chains_used++;
}

uint32_t tcp_chain_take(struct tcp *t, struct tcp_conn *k, uint64_t start)
{
    uint32_t id = NO_CHAIN;
    for (unsigned i = 0; i < 64 && i < t->n_chains; i++) {
        uint32_t try = (t->chain_next + i) & (t->n_chains - 1);
        if (!t->link[try].used &&
            load_acquire(&t->chain_done[try]) == load_relaxed(&t->chains[try].generation)) {
            id = try;
            break;
        }
    }
    if (id == NO_CHAIN) {
        t->chain_next += 64; /* these may be stuck for long; others are not */
        tcp_count(t, TCP_C_CHAINS_FULL);
        return id;
    }
    t->chain_next = id + 1;
    t->chain_wait = 0;
    t->chain_look = t->now + MSEC;
    struct tcp_chain *c = &t->chains[id];
    shm_store(&c->conn, k->idx);
    shm_store(&c->start, start);
    shm_keep(&c->snd_max, k->snd_max);
    shm_store(&c->queue_index, t->tx_ip.tail);
    /* Last: from here on the chain is taken, and a successor reads the rest of it. */
    shm_store_release(&c->generation, load_relaxed(&c->generation) + 1);
    link_chain(t, k, id);
    return id;
}

static void unlink_chain(struct tcp *t, uint32_t id)
{
    struct tcp_chain_link *l = &t->link[id];
    struct tcp_conn *k = &t->conn[t->chains[id].conn];
    if (l->prev != NO_CHAIN)
        t->link[l->prev].next = l->next;
    else
        t->chain_first = l->next;
    if (l->next != NO_CHAIN)
        t->link[l->next].prev = l->prev;
    else
        t->chain_last = l->prev;
    if (l->conn_prev != 0)
        t->link[l->conn_prev - 1].conn_next = l->conn_next;
    else
        k->chain_first = l->conn_next;
    if (l->conn_next != 0)
        t->link[l->conn_next - 1].conn_prev = l->conn_prev;
    else
        k->chain_last = l->conn_prev;
    l->used = false;
    t->chains_used--;
}

/* Looks at the oldest chains; passes over a few that wait (an unresolved neighbour). When none of
 * those moves, it is time to look at all: more than a few may wait for something else than the
 * rest, and what is behind them must not wait with them. */
void tcp_chain_poll(struct tcp *t)
{
    unsigned waiting = 0, looked = 0;
    uint32_t before = t->chains_used;
    const bool all = t->chain_wait != 0 && t->now >= t->chain_look;
    for (uint32_t id = t->chain_first, next;
         id != NO_CHAIN && (all || (waiting < 16 && looked < 256)); id = next, looked++) {
        next = t->link[id].next;
        if (load_acquire(&t->chain_done[id]) != load_relaxed(&t->chains[id].generation)) {
            waiting++;
            continue;
        }
        struct tcp_conn *k = &t->conn[t->chains[id].conn];
        unlink_chain(t, id);
        if (!k->ready)
            continue;
        tcp_chain_tx_free(t, k);
        if (k->chain_first == 0)
            tcp_conn_detach_try(t, k);
    }
    /* A longer and longer wait, while nothing completes. */
    if (t->chains_used != before || t->chain_wait == 0) {
        t->chain_wait = MSEC;
        t->chain_look = t->now + t->chain_wait;
    } else if (t->now >= t->chain_look) {
        t->chain_wait = t->chain_wait < SEC ? 2 * t->chain_wait : SEC;
        t->chain_look = t->now + t->chain_wait;
    }
}

/* Gives back what is acknowledged and below every chain of the connection. */
void tcp_chain_tx_free(struct tcp *t, struct tcp_conn *k)
{
    uint64_t free = k->tx_una;
    if (conn_has_fin(k) && free > k->r.tx_fin)
        free = k->r.tx_fin;
    if (free <= k->tx_free)
        return;
#ifndef EFT_BREAK_FREE_AT_ACK /* negative control */
    for (uint32_t i = k->chain_first; i != 0; i = t->link[i - 1].conn_next)
        if (t->chains[i - 1].start < free)
            free = t->chains[i - 1].start;
#endif
    if (free <= k->tx_free)
        return;
    k->tx_free = free;
    /* Ours first: the application's copy is derived from it. */
    shm_keep(&t->shm[k->idx].tx_free, free);
    tcp_conn_publish_tx(t, k);
    tcp_block_passed(t, k);
}

/* This one never left, so that nothing from its snd_max on did: the first of them that a connection
 * had in its hands says how far it was. Stored before the chain is given back, so that a second
 * kill finds either the chain or what follows from it. */
static void take_back(struct tcp *t, const struct tcp_chain *c)
{
    struct tcp_conn_shm *s = &t->shm[c->conn];
    if (c->snd_max < s->snd_max && c->snd_max >= s->tx_una)
        shm_store(&s->snd_max, c->snd_max);
}

void tcp_chain_recover(struct tcp *t)
{
    uint64_t tail = t->tx_ip.published;
    t->chain_first = t->chain_last = NO_CHAIN;
    for (uint32_t id = 0; id < t->n_chains; id++) {
        struct tcp_chain *c = &t->chains[id];
        uint32_t done = load_acquire(&t->chain_done[id]);
        if (c->generation == done)
            continue;
        const bool sound = c->generation == done + 1 && c->conn < t->used;
        if (c->queue_index >= tail || !sound) {
            if (sound)
                take_back(t, c);
            /* Nobody else has ever seen this use of it, or it is none. */
            shm_store(&c->generation, done);
            continue;
        }
        link_chain(t, &t->conn[c->conn], id);
    }
}
