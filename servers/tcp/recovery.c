/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The reaction to loss: fast recovery at the rate of PRR (RFC 9937), slow start after a timeout,
 * and taking either back when it was needless (RFC 3522, 3708, 5682). Congestion control (cc.h)
 * decides what the window becomes; this file decides when, and what may leave meanwhile.
 */
#include "engine.h"

static bool has_sack(const struct tcp_conn *k)
{
    return (k->r.flags & TCPF_SACK) != 0;
}

uint64_t tcp_loss_pipe(const struct tcp_conn *k)
{
    uint64_t pipe = k->sent.out_bytes, left = (uint64_t)k->dupacks * k->mss;
    if (has_sack(k))
        return pipe;
    /* Each duplicate ACK says that a segment has left the network. */
    return pipe > left ? pipe - left : 0;
}

/* --- taking back --- */

static void undo_begin(struct tcp_conn *k)
{
    k->undo = (struct tcp_undo){.from = k->tx_una, .may = true};
}

void tcp_loss_sent_again(struct tcp *t, struct tcp_conn *k, uint32_t segs)
{
    if (!k->undo.sent)
        k->undo.tsval = tcp_clock(t, k);
    k->undo.sent = true;
    k->undo.again += segs;
}

/* All that was sent again has arrived twice, or tx_una has passed the first of it by an ACK that
 * answers what was sent before (RFC 3522: the echoed timestamp is older). Or what was taken for
 * lost arrived before it was sent again, for which the pace, or PRR, makes time. */
static bool needless(const struct tcp_conn *k, const struct tcp_ack *a)
{
    if (!k->undo.may)
        return false;
    if (!k->undo.sent)
        return k->sent.lost.first == SENT_NONE;
    if (k->undo.again == 0)
        return true;
    return a->advanced && a->s->has_ts && (k->r.flags & TCPF_TIMESTAMPS) && a->s->tsecr &&
           seq_lt(a->s->tsecr, k->undo.tsval);
}

static void undo(struct tcp *t, struct tcp_conn *k)
{
    tcp_count(t, k->lost_state ? TCP_C_SPURIOUS_TIMEOUTS : TCP_C_SPURIOUS_RECOVERIES);
    tcp_cc_undo(t, k);
    tcp_sent_unmark_lost(t, k);
    k->undo.may = false;
    k->recovering = k->lost_state = k->send_first = false;
    k->frto = FRTO_OFF;
    k->dupacks = 0;
    k->backoff = 0;
    /* What seemed lost was late. */
    k->rack.reordering = true;
}

static void dsack_received(struct tcp *t, struct tcp_conn *k, const struct tcp_ack *a)
{
    uint64_t segs = (a->dsack_end - a->dsack_start + k->mss - 1) / k->mss;
    tcp_count(t, TCP_C_DSACKS_IN);
    k->stat.dsacks += (uint32_t)segs;
    /* Of the probe alone: nobody took anything for lost. */
    if (k->rack.probe && a->dsack_end == k->rack.probe)
        return;
    /* More duplicates than we sent again: the network makes them. */
    if (k->retrans_total == 0)
        return;
    tcp_rack_dsack(k);
    if (k->undo.may && a->dsack_start >= k->undo.from && k->undo.again)
        k->undo.again -= segs < k->undo.again ? segs : k->undo.again;
}

/* --- fast recovery --- */

static void enter(struct tcp *t, struct tcp_conn *k, const struct tcp_ack *a)
{
    tcp_count(t, TCP_C_FAST_RECOVERIES);
    undo_begin(k);
    tcp_cc_enter_recovery(t, k, k->snd_max - k->tx_una);
    k->recovering = true;
    k->recover = k->snd_max;
    k->rack.probe = 0;
    /* RFC 9937 5: what was SACKed before is not delivered during recovery. */
    k->prr = (struct tcp_prr){.flight = k->snd_max - k->tx_una - k->sent.sacked_bytes};
    if (a != NULL)
        k->prr.flight += a->sacked + a->acked;
    if (k->prr.flight == 0)
        k->prr.flight = 1;
}

/* cwnd for what may be sent on this ACK: in proportion to what arrives while more than ssthresh is
 * in flight; what arrives, and one segment more while all goes well, to come back up to it. */
static void reduce(struct tcp_conn *k, uint64_t delivered, bool safe)
{
    struct tcp_prr *p = &k->prr;
    uint64_t pipe = tcp_loss_pipe(k), send;
    p->delivered += delivered;
    if (pipe > k->ssthresh) {
        uint64_t due = (p->delivered * k->ssthresh + p->flight - 1) / p->flight;
        send = due > p->out ? due - p->out : 0;
    } else {
        send = p->delivered > p->out ? p->delivered - p->out : 0;
        if (send < delivered)
            send = delivered;
        if (safe)
            send += k->mss;
        if (send > k->ssthresh - pipe)
            send = k->ssthresh - pipe;
    }
    if (p->out == 0 && send < k->mss)
        send = k->mss; /* the first retransmission goes at once */
    k->cwnd = pipe + send;
}

/* The window is ssthresh; but after a long repair little may be in flight, and nobody clocks what
 * fills it: from an initial window on that is slow start's work. */
static void leave(struct tcp *t, struct tcp_conn *k)
{
    uint64_t burst = tcp_loss_pipe(k) + tcp_cc_initial(t, k);
    k->recovering = false;
    k->dupacks = 0;
    k->cwnd = k->ssthresh < burst ? k->ssthresh : burst;
    tcp_rack_recovered(k);
}

/* Without SACK (RFC 6582): the segment at tx_una. */
static void mark_first(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_sent *r = sent_of(&t->sent, k->sent.seq.first);
    if (r == NULL || r->state != SENT_OUT)
        return;
    if (r->end - r->start > k->mss && tcp_sent_cut(t, k, r, r->start + k->mss) == NULL)
        return;
    tcp_sent_mark_lost(t, k, r);
}

/* Bytes that this ACK says have left the network. */
static uint64_t delivered(struct tcp_conn *k, const struct tcp_ack *a)
{
    if (has_sack(k))
        return a->acked + a->sacked;
    if (a->duplicate)
        return k->mss;
    /* What duplicate ACKs have told before does not count again (RFC 9937 5). */
    uint64_t told = (uint64_t)k->dupacks * k->mss;
    return a->acked > told ? a->acked - told : 0;
}

static void recovery_ack(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a)
{
    uint64_t bytes = delivered(k, a), lost = 0;
    if ((a->advanced || a->sacked || a->dsack_start != a->dsack_end) && needless(k, a)) {
        undo(t, k);
        return;
    }
    if (k->tx_una >= k->recover) {
        leave(t, k);
        return;
    }
    if (has_sack(k)) {
        lost = tcp_rack_detect(t, k);
    } else if (a->advanced) {
        /* Partial ACK: the next hole (RFC 6582 3.2). */
        uint64_t segs = a->advanced / k->mss;
        k->dupacks = k->dupacks > segs ? k->dupacks - (unsigned)segs : 0;
        mark_first(t, k);
    }
    if (bytes)
        reduce(k, bytes, a->advanced && lost == 0);
}

/* --- after a timeout --- */

void tcp_loss_timeout(struct tcp *t, struct tcp_conn *k)
{
    bool fresh = !k->recovering && (!k->lost_state || k->tx_una >= k->recover);
    if (fresh)
        undo_begin(k);
    /* RFC 5682: not when recovery was going on already, its retransmissions would be mistaken for
     * what was sent before. */
    k->frto = t->cfg->tcp_frto && k->undo.may && (fresh || k->backoff) ? FRTO_WAIT : FRTO_OFF;
    tcp_cc_timeout(t, k, k->snd_max - k->tx_una);
    tcp_rack_timeout(t, k);
    k->dupacks = 0;
    k->recovering = false;
    k->lost_state = k->send_first = true;
    k->recover = k->snd_max;
    k->cwnd = k->sent.out_bytes + k->mss;
}

/* F-RTO with SACK (RFC 5682 3, as Linux): the ACK of the retransmission is answered with new data.
 * What was sent before the timeout and arrives without having been sent again shows that it was not
 * lost. True: the timeout is taken back. */
static bool frto(struct tcp *t, struct tcp_conn *k, const struct tcp_ack *a)
{
    /* Without SACK one ACK for both does not say which of them arrived. */
    if (a->original && (has_sack(k) || !a->repeated)) {
        undo(t, k);
        return true;
    }
    if (k->frto == FRTO_NEW) {
        if (a->sacked || a->duplicate || a->advanced)
            k->frto = FRTO_OFF;
    } else if (a->advanced && k->tx_una < k->recover) {
        k->frto = FRTO_NEW;
    } else if (a->duplicate && !a->advanced) {
        k->frto = FRTO_OFF;
    }
    return false;
}

static void timeout_ack(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a)
{
    if ((a->advanced || a->dsack_start != a->dsack_end) && needless(k, a)) {
        undo(t, k);
        return;
    }
    if (k->frto != FRTO_OFF && frto(t, k, a))
        return;
    if (k->tx_una >= k->recover) {
        k->lost_state = false;
        k->frto = FRTO_OFF;
        tcp_rack_recovered(k);
    }
    if (has_sack(k))
        tcp_rack_detect(t, k);
}

/* --- every acknowledgement --- */

void tcp_loss_ack(struct tcp *t, struct tcp_conn *k, struct tcp_ack *a)
{
    bool repairing = k->recovering;
    if (a->dsack_start != a->dsack_end)
        dsack_received(t, k, a);
    if (tcp_rack_probe_acked(k, a) && !repairing && !k->lost_state) {
        /* The probe repaired what nobody had noticed: a loss like any other (RFC 8985 7.4). */
        tcp_count(t, TCP_C_PROBE_RECOVERIES);
        tcp_cc_enter_recovery(t, k, a->flight);
    }
    if (!has_sack(k) && a->duplicate)
        k->dupacks++;
    if (k->recovering) {
        recovery_ack(t, k, a);
    } else if (k->lost_state) {
        timeout_ack(t, k, a);
    } else {
        if (a->dsack_start != a->dsack_end && needless(k, a)) {
            k->rack.reordering = true;
            k->undo.may = false;
            tcp_count(t, TCP_C_SPURIOUS_RECOVERIES);
            tcp_cc_undo(t, k);
        }
        if (has_sack(k)) {
            tcp_rack_detect(t, k);
        } else if (a->advanced) {
            k->dupacks = 0;
        } else if (k->dupacks == t->cfg->tcp_reordering &&
                   (k->recover == 0 || k->tx_una > k->recover)) {
            /* Above `recover`: not the echo of the last recovery (RFC 6582 4.1). */
            mark_first(t, k);
        }
        if (k->sent.lost.first != SENT_NONE) {
            enter(t, k, a);
            reduce(k, delivered(k, a), false);
        }
    }
    /* What is SACKed beyond a hole is no progress, unless the path is known to reorder. */
    if (!repairing && !k->recovering && (a->acked || a->sacked) &&
        (a->advanced || k->rack.reordering))
        tcp_cc_acked(t, k, a->acked + a->sacked, a->flight);
}

void tcp_loss_late(struct tcp *t, struct tcp_conn *k)
{
    if (!k->recovering && !k->lost_state) {
        enter(t, k, NULL);
        reduce(k, 0, false);
    } else if (k->recovering) {
        reduce(k, 0, false);
    }
}

void tcp_loss_too_big(struct tcp *t, struct tcp_conn *k)
{
    if (k->snd_max == k->tx_una)
        return;
    tcp_sent_mark_all_lost(t, k, false);
    k->undo.may = k->recovering = false;
    k->lost_state = k->send_first = true;
    k->frto = FRTO_OFF;
    k->recover = k->snd_max;
}

bool tcp_loss_restore(struct tcp *t, struct tcp_conn *k)
{
    uint64_t end = k->snd_max;
    /* A FIN on its own refers to no send chain: whether it left nobody knows. It goes once more. */
    bool fin = conn_has_fin(k) && end > k->r.tx_fin && k->tx_una <= k->r.tx_fin;
    if (fin)
        end = k->r.tx_fin;
    k->rack.due = NEVER;
    if (end > k->tx_una && !tcp_sent_restore(t, k, k->tx_una, end))
        return false;
    if (fin) {
        if (!tcp_sent_restore(t, k, end, k->snd_max))
            return false;
        tcp_sent_mark_lost(t, k, sent_of(&t->sent, k->sent.seq.last));
    }
    return true;
}
