/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What pf decided, in the order of the questions. Only a verdict of the present rules that names
 * the oldest open question makes a packet pass; anything else drops it or is ignored. Provenance of
 * the outputs is the index of the question.
 */
#include "internal.h"
#include "servers/wire/icmp.h"

/* Passes a received packet to tcp or udp. */
static int pass_up(struct ip *ip, struct chan_tx *tx, const struct packet *q, uint64_t index)
{
    void *slot;
    int rc = chan_tx_reserve(tx, ip->verdict.number, index, 0, &slot);

    if (rc != CHAN_OK)
        return rc == CHAN_DUP ? CHAN_OK : rc;
    packet_put(slot, q);
    /* Before it is published: from then on they may give it back. */
    if (q->origin == ip->c->id)
        buffer_pass_up(ip, q->chain);
    chan_tx_commit(tx);
    return CHAN_OK;
}

static int blocked_on(struct ip *ip, struct chan_tx *tx)
{
    ip->blocked = tx;
    ip->blocked_for = 1;
    return CHAN_FULL;
}

/* Gives back what a received packet refers to. */
static int release(struct ip *ip, const struct packet *q, uint64_t index)
{
    int rc = payload_release(ip, q, ip->verdict.number, index);

    if (rc == CHAN_FULL)
        return blocked_on(ip, &ip->port[SERVER_ID_INSTANCE(q->origin)].ret);
    return rc;
}

static int received(struct ip *ip, const struct packet *q, uint64_t index, bool pass, uint64_t now)
{
    const uint16_t src = ip->verdict.number;
    const bool frame = SERVER_ID_KIND(q->origin) == SERVER_DRIVER;
    const unsigned i = SERVER_ID_INSTANCE(q->origin);
    int rc;

    if (frame && (i >= ip->ports || made(&ip->port[i].ret, src, index)))
        return CHAN_OK;
    if (!frame && !buffer_in_use(ip, q->chain, q->chain_generation)) {
        count(ip, IP_C_DROP_STALE_BUFFER);
        return CHAN_OK;
    }
    if (!pass) {
        count(ip, IP_C_DROP_BLOCKED_IN);
        return release(ip, q, index);
    }
    switch (q->protocol) {
    case PROTO_TCP:
        if (pass_up(ip, &ip->to_tcp, q, index) == CHAN_FULL)
            return blocked_on(ip, &ip->to_tcp);
        count(ip, IP_C_TO_TCP);
        return CHAN_OK;
    case PROTO_UDP:
        /* Later ones were published and this one was not: it was dropped. */
        if ((passed(&ip->to_udp, src, index) && !made(&ip->to_udp, src, index)) ||
            pass_up(ip, &ip->to_udp, q, index) == CHAN_FULL) {
            count(ip, IP_C_DROP_UDP_FULL);
            return release(ip, q, index);
        }
        count(ip, IP_C_TO_UDP);
        return CHAN_OK;
    case PROTO_ICMP:
        if ((rc = icmp_input(ip, q, index, now)) == CHAN_FULL)
            return blocked_on(ip, &ip->to_tcp);
        break;
    default:
        count(ip, IP_C_DROP_PROTOCOL);
        if (ip_question_room(ip, 1, true))
            icmp_error(ip, ICMP_UNREACHABLE, ICMP_PROTOCOL, q->hdr, q->hdr_len, src, index, now);
        break;
    }
    /* What was made of it is published before the frame goes back, and so before a successor could
     * take the return for the end of all its effects. */
    ip_publish(ip);
    return release(ip, q, index);
}

static int to_send(struct ip *ip, const struct packet *q, uint64_t index, bool pass, uint64_t now)
{
    /* Dropped, or sent and completed, by a predecessor. */
    if (chain_is_complete(ip, q))
        return CHAN_OK;
    if (!pass) {
        count(ip, IP_C_DROP_BLOCKED_OUT);
        chain_complete(ip, q);
        return CHAN_OK;
    }
    return ip_transmit(ip, q, ip->verdict.number, index, now);
}

/* Our own slot, but a predecessor wrote it that may have gone mad before it died. */
static bool intact(const struct ip *ip, const struct packet *q)
{
    return q->hdr_len <= PACKET_HEADERS && q->l3 + IPV4_LEN <= q->l4 && q->l4 <= q->hdr_len &&
           q->pieces <= PACKET_PIECES && q->interface < ip->ports &&
           (q->direction == RULE_IN || (q->direction == RULE_OUT && q->l3 == QUESTION_HDR));
}

static int apply(struct ip *ip, uint64_t index, bool pass, uint64_t now)
{
    const struct packet *q = chan_tx_slot(&ip->question, index);

    if (!intact(ip, q)) {
        count(ip, IP_C_RECOVERED_DROPS);
        return CHAN_OK;
    }
    return q->direction == RULE_IN ? received(ip, q, index, pass, now)
                                   : to_send(ip, q, index, pass, now);
}

/* Makes all effects up to ip->answered final. */
static void settle(struct ip *ip)
{
    ip_publish(ip);
    if (ip->shm->answered != ip->answered)
        shm_store(&ip->shm->answered, ip->answered);
}

void ip_drop_held(struct ip *ip, uint64_t end)
{
    while (ip->answered < end) {
        count(ip, IP_C_DROP_VERDICT_LOST);
        /* The return queue has room for every frame there is, or its driver is broken; then the
         * driver's own audit finds the frame. */
        const struct packet *q = chan_tx_slot(&ip->question, ip->answered);
        if (!(q->direction == RULE_OUT && chain_is_complete(ip, q)))
            payload_release(ip, q, ip->verdict.number, ip->answered);
        ip->answered++;
    }
    settle(ip);
}

/* An edge to pf was reset: whatever was in it gets no verdict any more. */
static void check_resets(struct ip *ip)
{
    if (ip->question.resets == ip->question_resets && ip->verdict.resets == ip->verdict_resets)
        return;
    const uint64_t ring_end = ip->answered + ip->question.mask + 1;
    const uint64_t end = ip->question.published;

    count(ip, IP_C_EDGE_RESETS);
    ip->question_resets = ip->question.resets;
    ip->verdict_resets = ip->verdict.resets;
    /* The tail may have jumped: slots beyond one turn of the ring were never ours to fill. */
    ip_drop_held(ip, end < ring_end ? end : ring_end);
    ip->answered = end;
    settle(ip);
}

unsigned ip_verdicts(struct ip *ip, uint64_t now)
{
    struct chan_rx *rx = &ip->verdict;
    unsigned n = 0;

    ip->blocked = NULL;
    check_resets(ip);
    for (const void *slot; n < ip->quota && (slot = chan_rx_peek(rx)) != NULL; n++) {
        struct pf_verdict v;

        memcpy(&v, slot, sizeof v);
        const uint64_t index = v.head.src_index;
        if (index < ip->answered || index >= ip->question.published) {
            /* Seen before the crash of a predecessor, or not the answer to anything. */
            if (index >= ip->question.published)
                count(ip, IP_C_VERDICT_BAD);
            chan_rx_next(rx);
            continue;
        }
        if (index > ip->answered)
            ip_drop_held(ip, index); /* pf left some out */
        if (v.rules_generation != ip->cfg->rules_generation || v.verdict > RULE_BLOCK) {
            count(ip, IP_C_VERDICT_BAD);
            v.verdict = RULE_BLOCK;
        }
        if (chan_rx_condemned(rx) && !passed(&ip->to_tcp, rx->number, index) &&
            !passed(&ip->to_udp, rx->number, index)) {
            const struct packet *q = chan_tx_slot(&ip->question, index);

            count(ip, IP_C_DROP_QUARANTINE);
            chan_rx_keep(rx, now, q, sizeof *q);
            v.verdict = RULE_BLOCK;
        }
        if (apply(ip, index, v.verdict == RULE_PASS, now) == CHAN_FULL)
            break;
        ip->answered = index + 1;
        chan_rx_next(rx);
    }
    if (n > 0) {
        settle(ip);
        chan_rx_release(rx);
    }
    return n;
}
