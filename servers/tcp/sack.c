/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What an acknowledgement says about the records of what was sent: cumulative (RFC 9293), selective
 * (RFC 2018) and duplicate (RFC 2883). Blocks outside [tx_una, snd_max] say nothing.
 */
#include "engine.h"

/* [r->start, end) of a record that was not SACKed has arrived. */
static void arrived(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a, const struct tcp_sent *r,
                    uint64_t end)
{
    if (!r->again) {
        if (end <= k->recover)
            a->original = true;
        if (a->rtt == 0 || t->now - r->at < a->rtt)
            a->rtt = t->now - r->at;
        if (a->rtt == 0)
            a->rtt = 1000; /* none is 0 */
    }
    tcp_rack_delivered(t, k, a, r, end);
}

void tcp_sack_advance(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a, uint64_t ack)
{
    const struct tcp_sent *r;
    a->advanced = ack - k->tx_una;
    while ((r = sent_of(&t->sent, k->sent.seq.first)) != NULL && r->start < ack) {
        uint64_t end = r->end < ack ? r->end : ack;
        if (r->state != SENT_SACKED) {
            a->acked += end - r->start;
            a->repeated |= r->again;
            arrived(t, k, a, r, end);
        }
        tcp_sent_trim(t, k, end);
    }
    k->tx_una = ack;
}

/* The part of a record that lies in [from, to). NULL: it is not remembered, the record stays whole.
 * Honest peers SACK what we sent as one, or whole segments of it. */
static struct tcp_sent *part(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r, uint64_t from,
                             uint64_t to)
{
    if ((from > r->start || to < r->end) && !tcp_sent_few(k))
        return NULL;
    if (from > r->start && (r = tcp_sent_cut(t, k, r, from)) == NULL)
        return NULL;
    if (to < r->end && tcp_sent_cut(t, k, r, to) == NULL)
        return NULL;
    return r;
}

static void block(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a, uint64_t from, uint64_t to)
{
    struct tcp_sent *r = tcp_sent_find(t, k, from);
    while (r != NULL && r->start < to) {
        uint32_t next = r->seq_next;
        if (r->state != SENT_SACKED) {
            struct tcp_sent *p = part(t, k, r, from, to);
            if (p != NULL) {
                a->sacked += p->end - p->start;
                arrived(t, k, a, p, p->end);
                p = tcp_sent_mark_sacked(t, k, p);
                next = p->seq_next;
            }
        }
        r = sent_of(&t->sent, next);
    }
}

void tcp_sack_blocks(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a)
{
    const struct tcp_seg *s = a->s;
    int64_t ack = conn_tx_rel(k, s->ack), una = (int64_t)k->tx_una, max = (int64_t)k->snd_max;
    for (unsigned i = 0; i < s->sacks; i++) {
        int64_t from = conn_tx_rel(k, s->sack[i].start), to = conn_tx_rel(k, s->sack[i].end);
        if (to <= from || to > max)
            continue;
        /* RFC 2883 4: the first block, below the ACK or inside the second. */
        bool inside = s->sacks > 1 && !seq_lt(s->sack[0].start, s->sack[1].start) &&
                      seq_le(s->sack[0].end, s->sack[1].end);
        if (i == 0 && (to <= ack || inside)) {
            if (from >= 0) {
                a->dsack_start = (uint64_t)from;
                a->dsack_end = (uint64_t)to;
            }
            continue;
        }
        if (from >= una)
            block(t, k, a, (uint64_t)from, (uint64_t)to);
    }
}
