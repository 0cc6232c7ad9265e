/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Explicit congestion notification (RFC 3168): a router marks what it would have to drop, the
 * receiver echoes that until it hears that the sender has heard, and the sender reduces its window
 * as for a loss.
 *
 *   agreeing   SYN with ECE and CWR, SYN-ACK with ECE alone (6.1.1); `[tcp] ecn` says whether we
 *              ask, answer, or neither. A SYN that goes again after a timeout does not ask, as some
 *              networks drop those that do (6.1.1.1). TCPF_ECN in the record: agreed.
 *              TCPF_ECN_PLAIN: a SYN or SYN-ACK without it was sent or received; marks are echoed
 *              if it is agreed nonetheless, but nothing of ours may be marked (6.1.1).
 *   receiving  CE on data in the window sets the latch `echo`, CWR on data clears it; while it is
 *              set each segment says ECE. Either is acknowledged at once: the sender's window may
 *              be a single segment.
 *   sending    ECT(0) on new data only: not on SYN, ACK, probe or retransmission (6.1.4 to 6.1.6).
 *              ECE reduces cwnd once per window; after each reduction, whatever for, the next new
 *              segment says CWR, and is sent on its own, as not every device that cuts large
 *              segments knows that CWR is for the first piece alone.
 *
 * A restart keeps what was agreed. It loses the latch: a mark that no ACK has echoed by then is
 * lost. It loses that CWR is due: the peer goes on with ECE, which costs one reduction of a window
 * that is the initial one anyway.
 */
#include "engine.h"

/* Of its kind, is it one that sets ECN up? */
static bool sets_up(const struct tcp_seg *s)
{
    uint8_t is = s->flags & (TH_ECE | TH_CWR);
    return is == (s->flags & TH_ACK ? TH_ECE : TH_ECE | TH_CWR);
}

void tcp_ecn_agree(const struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    bool willing = k->r.flags & TCPF_PASSIVE ? t->cfg->tcp_ecn != CONFIG_ECN_OFF
                                             : t->cfg->tcp_ecn == CONFIG_ECN_ON;
    k->r.flags &= ~(uint32_t)TCPF_ECN;
    if (willing && sets_up(s))
        k->r.flags |= TCPF_ECN;
}

uint8_t tcp_ecn_syn(const struct tcp *t, const struct tcp_conn *k)
{
    if (k->r.flags & TCPF_ECN_PLAIN)
        return 0;
    if (k->r.state == TCP_SYN_RCVD)
        return k->r.flags & TCPF_ECN ? TH_ECE : 0;
    return t->cfg->tcp_ecn == CONFIG_ECN_ON ? TH_ECE | TH_CWR : 0;
}

/* In the record before the plain one leaves: a successor must not mark either. */
static void plain(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.flags & TCPF_ECN_PLAIN)
        return;
    k->r.flags |= TCPF_ECN_PLAIN;
    tcp_record_commit(t, k);
}

void tcp_ecn_syn_timeout(struct tcp *t, struct tcp_conn *k)
{
    if (k->r.state == TCP_SYN_SENT && t->cfg->tcp_ecn == CONFIG_ECN_ON)
        plain(t, k);
}

void tcp_ecn_syn_again(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s)
{
    if ((k->r.flags & TCPF_ECN) && !sets_up(s))
        plain(t, k);
}

void tcp_ecn_received(struct tcp_conn *k, const struct tcp_seg *s)
{
    if (!(k->r.flags & TCPF_ECN) || s->len == 0)
        return;
    if (s->ecn != ECN_NOT_ECT)
        k->ecn.seen = true;
    if (s->flags & TH_CWR) {
        k->ecn.echo = false;
        k->ack_now = true;
    }
    /* After CWR: a segment with both was marked since. */
    if (s->ecn == ECN_CE && !k->ecn.echo) {
        k->ecn.echo = true;
        k->ack_now = true;
    }
}

bool tcp_ecn_marks(const struct tcp_conn *k)
{
    return (k->r.flags & (TCPF_ECN | TCPF_ECN_PLAIN)) == TCPF_ECN;
}

bool tcp_ecn_cwr_due(const struct tcp_conn *k)
{
    return k->ecn.cwr && tcp_ecn_marks(k);
}

void tcp_ecn_stamp(const struct tcp_conn *k, struct tcp_seg *s, bool fresh)
{
    if (k->ecn.echo)
        s->flags |= TH_ECE;
    if (!fresh || !tcp_ecn_marks(k))
        return;
    s->ecn = ECN_ECT0;
    if (k->ecn.cwr)
        s->flags |= TH_CWR;
}

void tcp_ecn_echoed(struct tcp *t, struct tcp_conn *k, const struct tcp_ack *a)
{
    if (!(k->r.flags & TCPF_ECN) || !(a->s->flags & TH_ECE))
        return;
    k->stat.delivered_ce += (uint32_t)((a->acked + a->sacked + k->mss - 1) / k->mss);
    /* Not yet above the end of the last event: CWR, in the segment behind it, cannot have arrived.
     * A repair of losses has reduced the window already. */
    if (!k->recovering && !k->lost_state &&
        (k->cc.event == TCP_CC_NONE || k->tx_una > k->cc.event_end))
        tcp_cc_ecn(t, k, a->flight);
    /* There was congestion, whether or not the loss in the same window was one. */
    k->cc.before.cwnd = 0;
}
