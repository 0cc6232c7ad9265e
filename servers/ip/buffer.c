/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Ownership of payload: IP's own buffers, the done-tables of tcp and udp, frames of drivers.
 *
 * Keeps, in the own region: owner and generation of each buffer, done-tables, how far each
 * driver's queue is accounted for. The free list is private and rebuilt by a sweep.
 */
#include "internal.h"

int64_t buffer_take(struct ip *ip)
{
    if (ip->free_buffers == 0)
        return -1;
    uint32_t b = ip->free_buffer[--ip->free_buffers];
    struct ip_buffer *s = &ip->shm->buffer[b];
    /* The generation first: a crash in between leaves a free buffer of a newer generation, to
     * which nothing refers. */
    shm_store(&s->generation, s->generation + 1);
    shm_store(&s->owner, (uint32_t)BUFFER_HELD);
    return b;
}

bool buffer_in_use(const struct ip *ip, uint32_t buffer, uint32_t generation)
{
    return buffer < ip->buffers && ip->shm->buffer[buffer].generation == generation &&
           ip->shm->buffer[buffer].owner != BUFFER_FREE;
}

bool buffer_free(struct ip *ip, uint32_t buffer, uint32_t generation)
{
    if (!buffer_in_use(ip, buffer, generation))
        return false;
    shm_store(&ip->shm->buffer[buffer].owner, (uint32_t)BUFFER_FREE);
    ip->free_buffer[ip->free_buffers++] = buffer;
    return true;
}

void buffer_pass_up(struct ip *ip, uint32_t buffer)
{
    shm_store(&ip->shm->buffer[buffer].owner, (uint32_t)BUFFER_UP);
}

struct rptr buffer_piece(const struct ip *ip, uint32_t buffer, uint64_t off, uint32_t len)
{
    return (struct rptr){
        .off = ip->pool_off + (uint64_t)buffer * IP_BUFFER_SIZE + off,
        .len = len,
        .region = ip->c->own->id,
        .generation = ip->c->own->generation,
    };
}

unsigned buffer_returns(struct ip *ip, struct chan_rx *rx, uint64_t now)
{
    unsigned n = 0;

    for (const void *slot; n < WORK_QUOTA && (slot = chan_rx_peek(rx)) != NULL; n++) {
        struct frame_return r;

        memcpy(&r, slot, sizeof r);
        /* Only what was passed up can come back: a second return finds another generation or
         * another owner. */
        if (chan_rx_condemned(rx)) /* the buffer is lost: better than the server */
            chan_rx_keep(rx, now, NULL, 0);
        else if (!buffer_in_use(ip, r.frame, r.generation) ||
                 ip->shm->buffer[r.frame].owner != BUFFER_UP ||
                 !buffer_free(ip, r.frame, r.generation))
            count(ip, IP_C_BUFFER_RETURN_BAD);
        chan_rx_next(rx);
    }
    chan_rx_release(rx);
    return n;
}

/* The element of a done-table that belongs to `p`, or NULL. */
static uint32_t *done_entry(const struct ip *ip, const struct packet *p)
{
    switch (SERVER_ID_KIND(p->origin)) {
    case SERVER_TCP:
        return p->chain < ip->tcp_chains ? &ip->tcp_done[p->chain] : NULL;
    case SERVER_UDP:
        return p->chain < ip->udp_buffers ? &ip->udp_done[p->chain] : NULL;
    default:
        return NULL;
    }
}

bool chain_is_complete(const struct ip *ip, const struct packet *p)
{
    if (p->chain == NO_CHAIN)
        return false;
    if (p->origin == ip->c->id)
        return !buffer_in_use(ip, p->chain, p->chain_generation);
    const uint32_t *done = done_entry(ip, p);
    return done != NULL && (int32_t)(p->chain_generation - *done) <= 0;
}

void chain_complete(struct ip *ip, const struct packet *p)
{
    if (p->chain == NO_CHAIN)
        return;
    if (p->origin == ip->c->id) {
        buffer_free(ip, p->chain, p->chain_generation);
        return;
    }
    uint32_t *done = done_entry(ip, p);
    /* Never backwards: a successor may mark once more what was marked, reused and marked again. */
    if (done != NULL && (int32_t)(p->chain_generation - *done) > 0) {
        shm_store_release(done, p->chain_generation);
        ip->completed = true;
    }
}

bool chain_is_of_slot(const struct ip *ip, const struct packet *p, uint64_t index)
{
    const struct tcp_chain *c = &ip->tcp_chain[p->chain];

    return load_acquire(&c->generation) == p->chain_generation &&
           load_relaxed(&c->queue_index) == index;
}

void chains_abandon(struct ip *ip, uint64_t from, uint64_t to)
{
    for (uint64_t i = 0; i < ip->tcp_chains; i++) {
        const uint32_t generation = load_acquire(&ip->tcp_chain[i].generation);
        const uint64_t index = load_relaxed(&ip->tcp_chain[i].queue_index);

        if (index < from || index >= to || (int32_t)(generation - ip->tcp_done[i]) <= 0)
            continue;
        shm_store_release(&ip->tcp_done[i], generation);
        ip->completed = true;
    }
}

int frame_give_back(struct ip *ip, struct port *port, uint32_t frame, uint32_t generation,
                    uint16_t src, uint64_t index)
{
    void *slot;
    int rc = chan_tx_reserve(&port->ret, src, index, 0, &slot);

    (void)ip;
    if (rc != CHAN_OK)
        return rc == CHAN_DUP ? CHAN_OK : rc;
    struct frame_return r = {.frame = frame, .generation = generation};
    shm_copy((uint8_t *)slot + sizeof r.head, (uint8_t *)&r + sizeof r.head,
             sizeof r - sizeof r.head);
    chan_tx_commit(&port->ret);
    return CHAN_OK;
}

int payload_release(struct ip *ip, const struct packet *p, uint16_t src, uint64_t index)
{
    if (SERVER_ID_KIND(p->origin) == SERVER_DRIVER) {
        unsigned i = SERVER_ID_INSTANCE(p->origin);
        if (i >= ip->ports)
            return CHAN_OK;
        return frame_give_back(ip, &ip->port[i], p->chain, p->chain_generation, src, index);
    }
    chain_complete(ip, p);
    return CHAN_OK;
}

static void reap_to(struct ip *ip, struct port *port, uint64_t end)
{
    uint64_t *reaped = &ip->shm->reaped[port - ip->port];

    for (uint64_t i = *reaped; i < end; i++) {
        chain_complete(ip, chan_tx_slot(&port->out, i));
        ip->completions++;
    }
    /* After the marks: marking again is harmless, not marking would leak. */
    if (*reaped != end)
        shm_store(reaped, end);
}

void port_reap(struct ip *ip, struct port *port)
{
    const uint64_t reaped = ip->shm->reaped[port - ip->port];
    const uint64_t head = chan_tx_consumed(&port->out);

    if (port->out.resets != port->out_resets) {
        /* The driver showed an impossible head. What was in the queue is lost and will not be
         * looked at again, so that its payload is free. The tail may have jumped: one turn of the
         * ring covers all that was in it, and marking older slots again changes nothing. */
        const uint64_t end = reaped + port->out.mask + 1;

        port->out_resets = port->out.resets;
        count(ip, IP_C_EDGE_RESETS);
        reap_to(ip, port, end < port->out.published ? end : port->out.published);
        shm_store(&ip->shm->reaped[port - ip->port], port->out.published);
        return;
    }
    /* While an edge is being reset the head may still be anything. */
    if (head > reaped && head <= port->out.published)
        reap_to(ip, port, head);
}

bool port_room(struct ip *ip, struct port *port, unsigned n)
{
    const uint64_t capacity = port->out.mask + 1;

    if (port->out.tail + n - ip->shm->reaped[port - ip->port] > capacity)
        port_reap(ip, port);
    return chan_tx_room(&port->out, n) &&
           port->out.tail + n - ip->shm->reaped[port - ip->port] <= capacity;
}
