/* SPDX-License-Identifier: BSD-2-Clause
 *
 * RACK-TLP (RFC 8985): what was sent before something that has arrived, and is later than a
 * reordering window, is lost. What was sent last has nothing after it: a probe asks for its fate.
 *
 * One difference in form: records are looked at oldest first and only up to the first that may
 * still come, and the timer is set for that one, not for the last of all (6.2 step 5). No ACK looks
 * at more than it changes; each is marked no later.
 */
#include "engine.h"

enum {
    PROBE_MIN_MS = 10,     /* less would be the scheduling of the two ends */
    PROBE_ACK_DELAY = 200, /* ms; a peer may delay the ACK of less than two segments so long */
    WIDER_MAX = 254,
    WIDER_PERSIST = 16, /* 6.2 step 4 */
};

static bool sent_after(uint64_t at1, uint64_t end1, uint64_t at2, uint64_t end2)
{
    return at1 > at2 || (at1 == at2 && end1 > end2);
}

/* 6.2 steps 1 to 3. */
void tcp_rack_delivered(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a,
                        const struct tcp_sent *r, uint64_t end)
{
    struct tcp_rack *q = &k->rack;
    uint64_t rtt = t->now - r->at;
    if (end > q->highest)
        q->highest = end;
    else if (end < q->highest && !r->again)
        q->reordering = a->reordered = true;
    if (r->again && !r->unknown) {
        /* Perhaps it is the first transmission that arrived (step 2). */
        uint32_t tsval = (uint32_t)(r->at / MSEC) + k->r.ts_offset;
        if (rtt < k->min_rtt ||
            (a->s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) && seq_lt(a->s->tsecr, tsval)))
            return;
    }
    q->rtt = rtt;
    if (sent_after(r->at, end, q->at, q->end)) {
        q->at = r->at;
        q->end = end;
    }
}

/* A retransmission was needless: late is not lost. One widening per round trip. */
void tcp_rack_dsack(struct tcp_conn *k)
{
    struct tcp_rack *q = &k->rack;
    if (q->round && k->tx_una < q->round)
        return;
    q->round = k->snd_max;
    q->persist = WIDER_PERSIST;
    if (q->wider < WIDER_MAX)
        q->wider++;
}

void tcp_rack_recovered(struct tcp_conn *k)
{
    if (k->rack.persist && --k->rack.persist == 0)
        k->rack.wider = 0;
}

static uint64_t reordering_window(const struct tcp *t, const struct tcp_conn *k)
{
    const struct tcp_rack *q = &k->rack;
    if (!q->reordering &&
        (k->recovering || k->lost_state || k->sent.sacked_segs >= t->cfg->tcp_reordering))
        return 0;
    uint64_t w = (1u + q->wider) * k->min_rtt / 4;
    return w < k->srtt ? w : k->srtt;
}

uint64_t tcp_rack_detect(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_rack *q = &k->rack;
    uint64_t lost = 0;
    q->due = NEVER;
    if (q->at == 0)
        return 0;
    uint64_t late = q->rtt + reordering_window(t, k);
    struct tcp_sent *r;
    while ((r = sent_of(&t->sent, k->sent.out.first)) != NULL &&
           sent_after(q->at, q->end, r->at, r->end)) {
        if (r->at + late > t->now) {
            q->due = r->at + late;
            break;
        }
        lost += r->end - r->start;
        tcp_sent_mark_lost(t, k, r);
    }
    return lost;
}

void tcp_rack_timeout(struct tcp *t, struct tcp_conn *k)
{
    const struct tcp_sent *first = sent_of(&t->sent, k->sent.seq.first);
    k->rack.due = NEVER;
    k->rack.probe = 0;
    if (first == NULL)
        return;
    /* SACKed at the left edge and not acknowledged: the peer has thrown it away (RFC 2018 8). */
    if (first->state == SENT_SACKED || !(k->r.flags & TCPF_SACK) || k->rack.at == 0) {
        tcp_sent_mark_all_lost(t, k, first->state == SENT_SACKED);
        return;
    }
    uint64_t late = k->rack.rtt + reordering_window(t, k);
    for (uint32_t id = k->sent.seq.first; id != SENT_NONE;) {
        struct tcp_sent *r = sent_of(&t->sent, id);
        id = r->seq_next;
        /* What was lost before is filed anew: from now on it goes in order, the left edge first. */
        if (r->state == SENT_LOST ||
            (r->state == SENT_OUT && (r == first || r->at + late <= t->now)))
            tcp_sent_mark_lost(t, k, r);
    }
}

/* --- the timer --- */

/* 7.2. When the peer may delay its ACK, that is waited for: it owes one for every second full
 * segment only (RFC 5681 4.2). Never later than the timeout would be. */
static uint64_t probe_time(const struct tcp *t, const struct tcp_conn *k)
{
    uint64_t wait = k->srtt ? 2 * k->srtt : SEC, rto = k->when[TIMER_REXMT];
    if (wait < PROBE_MIN_MS * MSEC)
        wait = PROBE_MIN_MS * MSEC;
    if (k->snd_max - k->tx_una <= 2ull * k->mss)
        wait += PROBE_ACK_DELAY * MSEC;
    return rto < t->now + wait ? rto : t->now + wait;
}

void tcp_rack_arm(struct tcp *t, struct tcp_conn *k)
{
    uint64_t when = NEVER;
    k->rack.timer = false;
    if ((k->r.flags & TCPF_SACK) && k->rexmt == REXMT_DATA && conn_synchronised(k)) {
        if (k->rack.due != NEVER && k->sent.out.first) {
            k->rack.timer = true;
            when = k->rack.due;
        } else if (t->cfg->tcp_tail_probe && !k->recovering && !k->lost_state &&
                   k->rack.probe == 0 && k->backoff == 0 && k->sent.sacked_bytes == 0 &&
                   k->sent.lost.first == SENT_NONE) {
            when = probe_time(t, k);
        }
    }
    if (when != k->when[TIMER_LOSS])
        tcp_timer_set(t, k, TIMER_LOSS, when);
}

bool tcp_rack_probe(struct tcp *t, struct tcp_conn *k)
{
    bool again;
    if (!tcp_output_tail(t, k, &again))
        return false;
    tcp_count(t, TCP_C_TAIL_PROBES);
    k->rack.probe = k->snd_max;
    k->rack.probe_again = again;
    /* The timeout begins anew, or both would go out together. */
    tcp_timer_rexmt_arm(t, k);
    return true;
}

void tcp_rack_expire(struct tcp *t, struct tcp_conn *k)
{
    if (k->snd_max == k->tx_una)
        return;
    if (!k->rack.timer)
        tcp_rack_probe(t, k);
    else if (tcp_rack_detect(t, k))
        tcp_loss_late(t, k);
    tcp_rack_arm(t, k);
    tcp_conn_dirty(t, k);
}

/* 7.4.2 */
bool tcp_rack_probe_acked(struct tcp_conn *k, const struct tcp_ack *a)
{
    struct tcp_rack *q = &k->rack;
    if (q->probe == 0 || k->tx_una < q->probe)
        return false;
    bool twice = a->dsack_end == q->probe && a->dsack_start != a->dsack_end;
    bool repaired = q->probe_again && !twice && k->tx_una > q->probe;
    bool both = !a->advanced && a->duplicate && !a->sacked;
    if (!q->probe_again || twice || repaired || both)
        q->probe = 0;
    return repaired;
}
