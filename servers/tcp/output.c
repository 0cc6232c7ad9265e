/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What to send now (RFC 9293 3.8, 5681): what is lost first, then new data, as far as windows,
 * Nagle, TCP_CORK and the pace allow. How one packet leaves is in emit.c.
 */
#include "engine.h"

static unsigned ip_header(const struct tcp_conn *k)
{
    return k->r.remote.addr.family == 6 ? 40 : 20;
}

void tcp_conn_set_mss(struct tcp *t, struct tcp_conn *k, uint32_t mtu)
{
    (void)t;
    uint32_t most = mtu > ip_header(k) + 20u + 64u ? mtu - ip_header(k) - 20 : 64;
    uint32_t mss = k->r.mss ? k->r.mss : (k->r.remote.addr.family == 6 ? 1220 : 536);
    if (mss > most)
        mss = most;
    if (k->r.maxseg && mss > k->r.maxseg)
        mss = k->r.maxseg;
    if (k->r.flags & TCPF_TIMESTAMPS)
        mss -= 12; /* RFC 6691: the option takes its space from the data */
    k->mss = mss < 32 ? 32 : mss;
    k->pmtu = mtu;
}

/* Path MTU, and what may be handed down at once. */
void tcp_conn_route(struct tcp *t, struct tcp_conn *k)
{
    struct route r;
    uint32_t mtu = 1500;
    bool offload = false;
    if (route_lookup(t->cfg, &k->r.remote.addr, &r) == 0) {
        mtu = r.mtu;
        offload = t->cfg->interface[r.interface].offload;
    }
    k->advmss = (uint16_t)(mtu - ip_header(k) - 20); /* what we take, whatever the path */
    uint32_t known = tcp_pmtu_get(t, &k->r.remote.addr);
    if (known && known < mtu)
        mtu = known;
    tcp_conn_set_mss(t, k, mtu);
    k->gso = offload ? TCP_GSO_MAX / k->mss * k->mss : k->mss;
}

/* --- what to send --- */

enum { SENT = 1, NOTHING = 0, BLOCKED = -1, PACED = -2 }; /* PACED: a timer tries again */

static uint64_t data_end(const struct tcp_conn *k)
{
    return conn_has_fin(k) && k->tx_end > k->r.tx_fin ? k->r.tx_fin : k->tx_end;
}

/* Is what ends at `end` followed by our FIN at once? */
static bool fin_at(const struct tcp_conn *k, uint64_t end)
{
    return conn_has_fin(k) && end == k->r.tx_fin;
}

static uint64_t room(const struct tcp_conn *k)
{
    uint64_t pipe = tcp_loss_pipe(k), left = k->cwnd > pipe ? k->cwnd - pipe : 0;
    /* Whatever the window became: one segment may always be under way. */
    return pipe == 0 && left < k->mss ? k->mss : left;
}

/* A record, or as much of it as may go, once more. */
static int send_again(struct tcp *t, struct tcp_conn *k, struct tcp_sent *r, uint64_t most)
{
    uint64_t end = r->end;
    if (conn_has_fin(k) && end > k->r.tx_fin)
        end = k->r.tx_fin;
    uint64_t len = end - r->start;
    if (len > most)
        len = most;
    if (len > tcp_pace_most(t, k))
        len = tcp_pace_most(t, k);
    uint64_t stop = r->start + len;
    bool fin = fin_at(k, stop) && r->end > k->r.tx_fin;
    if (stop + fin < r->end && tcp_sent_cut(t, k, r, stop + fin) == NULL)
        return BLOCKED;
    if (!tcp_emit(t, k, r->start, (uint32_t)len, (uint8_t)(TH_PUSH | (fin ? TH_FIN : 0))))
        return BLOCKED;
    tcp_sent_again(t, k, r);
    k->retrans_total += r->segs;
    k->stat.bytes_retrans += len;
    tcp_pace_sent(t, k, len);
    tcp_count_add(t, TCP_C_RETRANS, r->segs);
    tcp_loss_sent_again(t, k, r->segs);
    return SENT;
}

static int send_lost(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_sent *r = sent_of(&t->sent, k->sent.seq.first);
    /* The left edge before all others: a peer that has no room for more holes drops these. */
    if (r == NULL || r->state != SENT_LOST)
        r = sent_of(&t->sent, k->sent.lost.first);
    uint64_t most = room(k), win_end = k->tx_una + k->snd_wnd;
    if (r == NULL || k->frto == FRTO_NEW)
        return NOTHING;
    if (k->send_first && most < k->mss)
        most = k->mss;
    if (most < r->end - r->start)
        most -= most % k->mss;
    bool data = !conn_has_fin(k) || r->start < k->r.tx_fin;
    if (data) {
        /* The peer may have taken its window back, or the oldest word of it came last. What it has
         * still room for goes, be it less than a segment: nobody asks again for a window that is
         * not shut. */
        if (r->start >= win_end)
            return NOTHING;
        uint64_t open = win_end - r->start;
        if (most > open)
            most = open < k->mss ? open : open - open % k->mss;
    }
    if (most == 0)
        return NOTHING;
    if (data && !k->send_first && !tcp_pace_may(t, k))
        return PACED;
    uint64_t before = k->sent.lost_bytes;
    int sent = send_again(t, k, r, most);
    if (sent == SENT) {
        k->prr.out += before - k->sent.lost_bytes;
        k->send_first = false;
        if (k->rexmt != REXMT_DATA)
            tcp_timer_rexmt_arm(t, k);
    }
    return sent;
}

/* May less than a full segment leave? RFC 9293 3.8.6.2.1 (silly windows); Nagle as Minshall has it:
 * one that is not full may be under way, and as many full ones as there are; TCP_CORK. */
static bool small_may_go(const struct tcp_conn *k, uint64_t len, bool tail)
{
    if (k->push_now)
        return true;
    if (tail) {
        if (conn_has_fin(k))
            return true;
        if (k->r.flags & TCPF_CORK)
            return false;
        return (k->r.flags & TCPF_NODELAY) || k->small <= k->tx_una;
    }
    return len * 2 >= k->max_wnd && k->max_wnd;
}

static int send_range(struct tcp *t, struct tcp_conn *k, uint64_t len, bool fin)
{
    uint64_t at = k->snd_max, stop = at + len;
    uint8_t flags = fin ? TH_FIN : 0;
    if (stop == data_end(k))
        flags |= TH_PUSH;
    if (!tcp_sent_ready(t) || !tcp_emit(t, k, at, (uint32_t)len, flags))
        return BLOCKED;
    tcp_sent_add(t, k, at, stop + fin);
    if (len % k->mss)
        k->small = stop;
    k->push_now = false;
    k->prr.out += len;
    tcp_pace_sent(t, k, len);
    k->idle_since = t->now;
    if (k->rexmt != REXMT_DATA) {
        k->progress_at = t->now;
        tcp_timer_rexmt_arm(t, k);
    }
    return SENT;
}

static int send_new(struct tcp *t, struct tcp_conn *k)
{
    uint64_t at = k->snd_max, end = data_end(k), win_end = k->tx_una + k->snd_wnd;
    uint64_t len = 0;
    if (at < end && at < win_end) {
        uint64_t most = room(k);
        len = (end < win_end ? end : win_end) - at;
        if (len > most)
            len = most;
        uint64_t packet = tcp_ecn_cwr_due(k) ? k->mss : tcp_pace_most(t, k);
        if (len > packet)
            len = packet;
        uint64_t rest = len % k->mss;
        if (rest && !small_may_go(k, rest, at + len == end))
            len -= rest;
        if (len == 0)
            return NOTHING;
        if (!tcp_pace_may(t, k))
            return PACED;
    }
    bool fin = fin_at(k, at + len) && at + len <= win_end;
    if (len == 0 && !fin)
        return NOTHING;
    return send_range(t, k, len, fin);
}

/* RFC 8985 7.3: new data if there is any that the peer takes, whatever the congestion window; else
 * the last segment again. */
bool tcp_output_tail(struct tcp *t, struct tcp_conn *k, bool *again)
{
    uint64_t end = data_end(k), win_end = k->tx_una + k->snd_wnd, at = k->snd_max;
    *again = !(at < end && at < win_end);
    if (!*again) {
        uint64_t len = (end < win_end ? end : win_end) - at;
        if (len > k->mss)
            len = k->mss;
        return send_range(t, k, len, fin_at(k, at + len) && at + len <= win_end) == SENT;
    }
    struct tcp_sent *r = sent_of(&t->sent, k->sent.seq.last);
    if (r == NULL || r->state != SENT_OUT || r->start >= win_end)
        return false;
    if (r->end - r->start > k->mss && (r = tcp_sent_cut(t, k, r, r->end - k->mss)) == NULL)
        return false;
    return send_again(t, k, r, k->mss) == SENT;
}

static bool send_ack(struct tcp *t, struct tcp_conn *k)
{
    if (tcp_emit(t, k, k->snd_max, 0, 0))
        return true;
    tcp_conn_dirty(t, k);
    return false;
}

static void send_data(struct tcp *t, struct tcp_conn *k)
{
    unsigned n = 0, fresh = 0;
    int sent;
    if (k->snd_max == k->tx_una && t->now - k->idle_since > k->rto)
        tcp_cc_idle(t, k);
    do {
        sent = k->sent.lost.first ? send_lost(t, k) : NOTHING;
        if (sent == NOTHING) {
            sent = send_new(t, k);
            fresh += sent == SENT;
        }
    } while (sent == SENT && ++n < TCP_BURST);
    if (sent == SENT || sent == BLOCKED)
        tcp_conn_dirty(t, k); /* more to do, or to be tried again */
    if (sent != PACED)
        tcp_pace_idle(t, k);
    if (k->frto == FRTO_NEW && sent == NOTHING && !fresh && k->snd_max == k->recover) {
        /* There is nothing new to send: the usual way (RFC 5682 3.1 step 2b). */
        k->frto = FRTO_OFF;
        tcp_conn_dirty(t, k);
    }
    if (k->rexmt == REXMT_NONE && k->tx_end > k->snd_max && sent != PACED)
        tcp_timer_rexmt_arm(t, k); /* kept back by the window: probe it */
    if (n)
        tcp_rack_arm(t, k);
}

void tcp_output(struct tcp *t, struct tcp_conn *k)
{
    if (!k->ready || k->r.kind != TCP_KIND_CONN || k->r.state == TCP_CLOSED)
        return;
    if (k->r.state == TCP_SYN_SENT || k->r.state == TCP_SYN_RCVD) {
        if (k->syn_now)
            tcp_emit_syn(t, k);
        else if (k->ack_now && k->r.state == TCP_SYN_RCVD)
            send_ack(t, k);
        return;
    }
    /* With blocks of SACK, which data segments do not carry. */
    if (k->ack_now && (k->n_ooo || k->dsack_due) && !send_ack(t, k))
        return;
    if (k->r.state != TCP_TIME_WAIT && k->r.state != TCP_FIN_WAIT_2)
        send_data(t, k);
    if (k->ack_now)
        send_ack(t, k);
    tcp_info_limit(t, k);
    if (t->now - k->info_at > 100 * MSEC)
        tcp_conn_publish_info(t, k);
}
