/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Take-over: what a predecessor left in our region is checked, and what is private is rebuilt. The
 * queues name all packets, so that a buffer which nothing names is free.
 */
#include "internal.h"

static void initialise(struct ip *ip)
{
    uint64_t seed, x;

    /* The version is stored last: a crash before that starts over. Nothing has used it yet. */
    shm_zero(ip->shm, sizeof *ip->shm);
    memcpy(&seed, ip->cfg->secret, sizeof seed);
    shm_store(&ip->shm->id_seed, seed);
    x = seed | 1;
    for (unsigned i = 0; i < IP_IDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        shm_store(&ip->shm->id[i], (uint16_t)(x >> 24));
    }
    shm_store(&ip->shm->version, (uint64_t)IP_STATE_VERSION);
}

static void check_indices(struct ip *ip)
{
    struct ip_state *s = ip->shm;
    const uint64_t tail = ip->question.published, capacity = ip->question.mask + 1;

    if (s->answered > tail || tail - s->answered > capacity) {
        count(ip, IP_C_RECOVERED_DROPS);
        shm_store(&s->answered, tail);
    }
    ip->answered = s->answered;
    for (unsigned i = 0; i < ip->ports; i++) {
        const uint64_t out = ip->port[i].out.published;

        if (s->reaped[i] > out || out - s->reaped[i] > ip->port[i].out.mask + 1) {
            count(ip, IP_C_RECOVERED_DROPS);
            shm_store(&s->reaped[i], out);
        }
        ip->port[i].udp_sent = out; /* not known: any of them may be udp's */
    }
}

/* Is this frame the last one of its datagram? (send.c) */
static bool last_fragment(const struct packet *p)
{
    return p->l3 + 8u > p->hdr_len || (p->hdr[p->l3 + 6] & 0x20) == 0;
}

/* An entry whose frame is in the queue to the driver is off the list. */
static bool pending_sent(const struct ip *ip, const struct ip_pending *e)
{
    const struct chan_tx *tx = &ip->port[e->interface].out;

    for (uint64_t i = ip->shm->reaped[e->interface]; i < tx->published; i++) {
        const struct packet *p = chan_tx_slot(tx, i);

        if (p->head.src == 0 && p->head.src_index == e->seq && last_fragment(p))
            return true;
    }
    return false;
}

static void check_pending(struct ip *ip)
{
    for (uint32_t i = 0; i < ip->pending_slots; i++) {
        struct ip_pending *e = &ip->pending[i];
        const struct packet *p = &e->packet;

        if (e->seq == 0)
            continue;
        const bool sane = e->seq <= ip->shm->pending_seq && e->interface < ip->ports &&
                          p->interface == e->interface && p->hdr_len <= PACKET_HEADERS &&
                          p->l3 == QUESTION_HDR && p->l4 <= p->hdr_len && p->l3 < p->l4 &&
                          p->pieces <= PACKET_PIECES;
        if (!sane || pending_sent(ip, e)) {
            if (!sane)
                count(ip, IP_C_RECOVERED_DROPS);
            shm_store(&e->seq, 0ull);
            continue;
        }
        ip->pending_used++;
        ip->pending_end = i + 1;
    }
}

static void check_reassembly(struct ip *ip, uint64_t now)
{
    for (unsigned i = 0; i < REASM_CONTEXTS; i++) {
        struct reasm_context *x = &ip->shm->reasm[i];

        if (x->state == REASM_FREE)
            continue;
        bool sane =
            (x->state == REASM_OPEN || x->state == REASM_DONE) &&
            (x->state == REASM_DONE || buffer_in_use(ip, x->buffer, x->buffer_generation)) &&
            x->buffer < ip->buffers && x->count <= REASM_FRAGMENTS && x->total <= IPV4_MAX &&
            x->hdr_len <= IPV4_LEN_MAX && x->started_ns <= now;
        for (uint32_t r = 0; sane && r < x->count; r++)
            sane = x->range[r].start < x->range[r].end;
        if (!sane) {
            count(ip, IP_C_RECOVERED_DROPS);
            shm_store(&x->state, (uint32_t)REASM_FREE);
            continue;
        }
        ip->reasm_open++;
    }
    ip->reasm_next = ip->reasm_open > 0 ? now : NEVER;
}

static void name(const struct ip *ip, bool *named, uint32_t buffer, uint32_t generation)
{
    if (buffer_in_use(ip, buffer, generation))
        named[buffer] = true;
}

static void name_packet(const struct ip *ip, bool *named, const struct packet *p)
{
    if (p->origin == ip->c->id && p->chain != NO_CHAIN)
        name(ip, named, p->chain, p->chain_generation);
}

/* Frees the buffers that nothing names. Those that were passed up are with tcp or udp, or in the
 * queue to them, and come back. */
static void sweep_buffers(struct ip *ip)
{
    bool named[IP_BUFFERS_MAX] = {false};

    for (uint64_t i = ip->shm->answered; i < ip->question.published; i++)
        name_packet(ip, named, chan_tx_slot(&ip->question, i));
    for (unsigned p = 0; p < ip->ports; p++)
        for (uint64_t i = ip->shm->reaped[p]; i < ip->port[p].out.published; i++)
            name_packet(ip, named, chan_tx_slot(&ip->port[p].out, i));
    for (uint32_t i = 0; i < ip->pending_slots; i++)
        if (ip->pending[i].seq != 0)
            name_packet(ip, named, &ip->pending[i].packet);
    for (unsigned i = 0; i < REASM_CONTEXTS; i++)
        if (ip->shm->reasm[i].state != REASM_FREE)
            name(ip, named, ip->shm->reasm[i].buffer, ip->shm->reasm[i].buffer_generation);

    ip->free_buffers = 0;
    for (uint32_t b = ip->buffers; b-- > 0;) {
        struct ip_buffer *s = &ip->shm->buffer[b];

        if (s->owner == BUFFER_HELD && !named[b])
            shm_store(&s->owner, (uint32_t)BUFFER_FREE);
        if (s->owner == BUFFER_FREE)
            ip->free_buffer[ip->free_buffers++] = b;
    }
}

/* What packets can do without: neighbours are asked again, senders repeat their fragments. */
static void forget_optional(struct ip *ip)
{
    shm_zero(ip->shm->arp, sizeof ip->shm->arp);
    for (unsigned i = 0; i < REASM_CONTEXTS; i++)
        shm_store(&ip->shm->reasm[i].state, (uint32_t)REASM_FREE);
}

/* Every packet in our hands is dropped, and its frame or chain goes back. */
static void drop_all(struct ip *ip)
{
    for (uint32_t i = 0; i < ip->pending_slots; i++) {
        struct ip_pending *e = &ip->pending[i];

        if (e->seq == 0)
            continue;
        count(ip, IP_C_RECOVERED_DROPS);
        chain_complete(ip, &e->packet);
        shm_store(&e->seq, 0ull);
    }
    ip_drop_held(ip, ip->question.published);
}

void ip_recover(struct ip *ip, uint64_t now)
{
    if (ip->shm->version != IP_STATE_VERSION)
        initialise(ip);
    if (ip->c->start & START_FRUGAL)
        forget_optional(ip);
    check_indices(ip);
    if (ip->c->start & START_COLD)
        drop_all(ip);
    check_pending(ip);
    check_reassembly(ip, now);
    sweep_buffers(ip);
    arp_recover(ip, now);
    memcpy(&ip->random, ip->cfg->secret, sizeof ip->random);
    ip->random ^= ip->c->epoch * 0x9e3779b97f4a7c15ull;
    ip->random |= 1;
    ip->icmp_tokens = 1;
    ip->icmp_tokens_ns = now;
}
