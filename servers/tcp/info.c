/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What getsockopt(TCP_INFO) tells, in Linux's units: times in us or ms, windows in segments. The
 * counts are private, and begin anew at a restart; of what is published here, the successor uses
 * the round-trip time as a first guess (recover.c).
 */
#include "engine.h"

/* What holds the sender up now (RFC 4898 tcpEStatsPerf..., as Linux counts it). Called when it has
 * done what it could. */
void tcp_info_limit(struct tcp *t, struct tcp_conn *k)
{
    uint64_t unsent = k->tx_end > k->snd_max ? k->tx_end - k->snd_max : 0;
    enum tcp_limit now = TCP_LIMIT_NONE;
    if (unsent && k->tx_una + k->snd_wnd < k->snd_max + k->mss)
        now = TCP_LIMIT_RWND;
    else if (!unsent && k->snd_max > k->tx_una && k->tx_end - k->tx_free == ring_bytes(&k->r.tx))
        now = TCP_LIMIT_SNDBUF;
    else if (unsent || k->snd_max > k->tx_una)
        now = TCP_LIMIT_BUSY;
    if (now == k->stat.limit)
        return;
    k->stat.limited[k->stat.limit] += t->now - k->stat.limit_since;
    k->stat.limit = now;
    k->stat.limit_since = t->now;
}

/* Timeouts, and the time until something was acknowledged (as Linux since 6.7). */
void tcp_info_timeout(const struct tcp *t, struct tcp_conn *k)
{
    k->stat.timeouts++;
    if (k->stat.run_since != 0)
        return;
    k->stat.timeout_runs++;
    k->stat.run_since = t->now;
}

void tcp_info_progress(const struct tcp *t, struct tcp_conn *k)
{
    if (k->stat.run_since != 0)
        k->stat.run_time += t->now - k->stat.run_since;
    k->stat.run_since = 0;
}

/* Segments in flight for the second time or more. */
static uint32_t in_flight_again(const struct tcp *t, const struct tcp_conn *k)
{
    uint32_t n = 0;
    if (k->retrans_total == 0)
        return 0;
    for (uint32_t id = k->sent.out.first; id != SENT_NONE;) {
        const struct tcp_sent *r = sent_of(&t->sent, id);
        n += r->again && !r->unknown ? r->segs : 0;
        id = r->list_next;
    }
    return n;
}

static uint64_t limited_us(const struct tcp *t, const struct tcp_conn *k, enum tcp_limit limit)
{
    uint64_t ns = k->stat.limited[limit];
    return (k->stat.limit == limit ? ns + t->now - k->stat.limit_since : ns) / 1000;
}

static uint32_t ms_ago(const struct tcp *t, uint64_t at)
{
    return at ? (uint32_t)((t->now - at) / MSEC) : 0;
}

static uint8_t ca_state(const struct tcp_conn *k)
{
    if (k->lost_state)
        return INFO_CA_LOSS;
    if (k->recovering)
        return INFO_CA_RECOVERY;
    if (k->cc.event == TCP_CC_ECN && k->tx_una < k->cc.event_end)
        return INFO_CA_CWR;
    return k->sent.sacked_segs || k->dupacks ? INFO_CA_DISORDER : INFO_CA_OPEN;
}

static uint32_t segments(const struct tcp_conn *k, uint64_t bytes)
{
    return (uint32_t)((bytes + k->mss - 1) / k->mss);
}

struct sock_info tcp_info(const struct tcp *t, const struct tcp_conn *k)
{
    static const uint8_t linux_state[TCP_STATES] = {
        [TCP_CLOSED] = 7,     [TCP_SYN_SENT] = 2,   [TCP_SYN_RCVD] = 3, [TCP_ESTABLISHED] = 1,
        [TCP_FIN_WAIT_1] = 4, [TCP_FIN_WAIT_2] = 5, [TCP_CLOSING] = 11, [TCP_TIME_WAIT] = 6,
        [TCP_CLOSE_WAIT] = 8, [TCP_LAST_ACK] = 9};
    uint64_t busy = limited_us(t, k, TCP_LIMIT_BUSY), rwnd = limited_us(t, k, TCP_LIMIT_RWND),
             sndbuf = limited_us(t, k, TCP_LIMIT_SNDBUF), pacing = tcp_cc_pacing_rate(t, k);
    uint64_t fin = conn_has_fin(k) && k->tx_una > k->r.tx_fin ? 1 : 0;
    uint64_t run = k->stat.run_since ? t->now - k->stat.run_since : 0;
    uint32_t option_space = k->r.flags & TCPF_TIMESTAMPS ? 12 : 0;
    return (struct sock_info){
        .state = k->r.kind == TCP_KIND_LISTEN ? 10 : linux_state[k->r.state],
        .ca_state = ca_state(k),
        .retransmits = k->rexmt == REXMT_PERSIST ? 0 : (uint8_t)k->tries,
        .probes = (uint8_t)(k->rexmt == REXMT_PERSIST ? k->tries : k->keep_probes),
        .backoff = (uint8_t)k->backoff,
        .options = (uint8_t)((k->r.flags & TCPF_TIMESTAMPS ? INFO_OPT_TIMESTAMPS : 0) |
                             (k->r.flags & TCPF_SACK ? INFO_OPT_SACK : 0) |
                             (k->r.flags & TCPF_WSCALE ? INFO_OPT_WSCALE : 0) |
                             (k->r.flags & TCPF_ECN ? INFO_OPT_ECN : 0) |
                             (k->ecn.seen ? INFO_OPT_ECN_SEEN : 0)),
        .wscale = (uint8_t)((k->r.snd_wscale & 15) | (k->r.rcv_wscale & 15) << 4),
        .flags = k->cc.paused_at ? INFO_RATE_APP_LIMITED : 0,
        .rto = (uint32_t)(tcp_rtt_timeout(t, k) / 1000),
        .ato = t->cfg->tcp_delack_ms * 1000,
        .snd_mss = k->mss,
        .rcv_mss = k->rcv_mss,
        .unacked = segments(k, k->snd_max - k->tx_una),
        .sacked = k->sent.sacked_segs,
        .lost = segments(k, k->sent.lost_bytes),
        .retrans = in_flight_again(t, k),
        .last_data_sent = ms_ago(t, k->stat.data_sent_at),
        .last_data_recv = ms_ago(t, k->rx_at),
        .last_ack_recv = ms_ago(t, k->last_heard),
        .pmtu = k->pmtu,
        .rcv_ssthresh = (uint32_t)ring_bytes(&k->r.rx),
        .rtt = (uint32_t)(k->srtt / 1000),
        .rttvar = (uint32_t)(k->rttvar / 1000),
        .snd_ssthresh = k->ssthresh == TCP_CC_NO_THRESHOLD ? INT32_MAX : segments(k, k->ssthresh),
        .snd_cwnd = (uint32_t)(k->cwnd / k->mss),
        .advmss = k->advmss > option_space ? k->advmss - option_space : 0,
        .reordering = t->cfg->tcp_reordering,
        .rcv_rtt = k->drs.rtt_us,
        .rcv_space = (uint32_t)(k->rx_edge - k->rx_nxt),
        .total_retrans = (uint32_t)k->retrans_total,
        .pacing_rate = pacing ? pacing : UINT64_MAX,
        .max_pacing_rate = UINT64_MAX,
        .bytes_acked = k->tx_una - fin,
        .bytes_received = k->rx_nxt,
        .segs_out = (uint32_t)k->segs_out,
        .segs_in = (uint32_t)k->segs_in,
        .notsent_bytes = (uint32_t)(k->tx_end > k->snd_max ? k->tx_end - k->snd_max : 0),
        .min_rtt = k->min_rtt ? (uint32_t)(k->min_rtt / 1000) : UINT32_MAX,
        .data_segs_in = k->stat.data_segs_in,
        .data_segs_out = k->stat.data_segs_out,
        .delivery_rate = k->cc.rate,
        .busy_time = busy + rwnd + sndbuf,
        .rwnd_limited = rwnd,
        .sndbuf_limited = sndbuf,
        .delivered = k->stat.delivered,
        .delivered_ce = k->stat.delivered_ce,
        .bytes_sent = k->stat.bytes_sent,
        .bytes_retrans = k->stat.bytes_retrans,
        .dsack_dups = k->stat.dsacks,
        .reord_seen = k->stat.reorderings,
        .rcv_ooopack = k->stat.ooo_segs,
        .snd_wnd = (uint32_t)k->snd_wnd,
        .rcv_wnd = (uint32_t)(k->rx_edge - k->rx_nxt),
        .total_rto = (uint16_t)k->stat.timeouts,
        .total_rto_recoveries = (uint16_t)k->stat.timeout_runs,
        .total_rto_time = (uint32_t)((k->stat.run_time + run) / MSEC),
    };
}

void tcp_conn_publish_info(struct tcp *t, struct tcp_conn *k)
{
    struct sock_info *at = tcp_app_info(t, k->r.app, k->r.slot);
    if (at == NULL)
        return;
    struct sock_info i = tcp_info(t, k);
    shm_copy(at, &i, sizeof i);
    k->info_at = t->now;
}
