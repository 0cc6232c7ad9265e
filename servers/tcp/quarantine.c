/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Segments that bring TCP down (libchan/quarantine.h). The peer sends what was dropped again, in
 * another slot, and that is another item. So a flow is accused of each of its segments that was
 * condemned: the first one is dropped alone, as a fault may have been of that moment; from the
 * second on the connection is reset alone and nothing of the flow is looked at any more.
 *
 * A restart keeps the counts. Not promised: that a flow stays shut. Its name holds the minute, so
 * that a port which is used again is not shut for ever.
 */
#include "engine.h"

#include <errno.h>

enum { FLOW_CONDEMNED = 2 };
#define FLOW_PERIOD (60 * SEC)

/* Who sent it to whom, without the parser: it may be the parser that faults. */
static bool ends(const struct packet *p, struct sock_name *local, struct sock_name *remote)
{
    if (p->icmp_type != 0 || p->hdr_len < p->l4 + 4u)
        return false;
    const uint8_t *h = p->hdr + p->l4;
    *remote = (struct sock_name){.addr = p->src, .port = (uint16_t)(h[0] << 8 | h[1])};
    *local = (struct sock_name){.addr = p->dst, .port = (uint16_t)(h[2] << 8 | h[3])};
    return true;
}

bool tcp_quarantine_judge(struct tcp *t, const struct packet *p)
{
    struct server_block *b = t->c->block;
    struct sock_name local, remote;
    const bool named = ends(p, &local, &remote);
    const uint64_t flow = named ? item_numbered(ITEM_FLOW, (uint32_t)(t->now / FLOW_PERIOD),
                                                (uint32_t)tcp_tuple_hash(t, 0, &local, &remote))
                                : 0;
    if (chan_rx_condemned(&t->rx_ip)) {
        tcp_count(t, TCP_C_QUARANTINED);
        const bool first = chan_rx_keep(&t->rx_ip, t->now, region_resolve(t->c->map, &p->piece[0]),
                                        p->piece[0].len);
        if (first && named)
            quarantine_accuse(b, flow, t->now);
        return true;
    }
    const unsigned times = named ? item_times(b, flow) : 0;
    if (times < FLOW_CONDEMNED)
        return false;
    tcp_count(t, TCP_C_QUARANTINED);
    /* If the reset faults as well, that is one count more, and it is not tried again. */
    struct tcp_conn *k = times == FLOW_CONDEMNED ? tcp_lookup_find(t, &local, &remote) : NULL;
    if (k != NULL)
        tcp_conn_abort(t, k, ECONNABORTED);
    return true;
}
