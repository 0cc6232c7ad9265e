/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The IP server: between the drivers below, tcp and udp above, and pf at its side.
 *
 *   driver --frame--> input ----question--> pf --verdict--> verdict --> tcp, udp, ICMP
 *   tcp, udp -------> output ---question--> pf --verdict--> verdict --> neighbour --> driver
 *
 * The ring of questions is the list of all packets in IP's hands: a question's slot is not used
 * again before its verdict has had its effects (ip_state.answered). Verdict effects are published
 * before `answered`, that before the head of the verdict queue; inputs are released after the
 * questions that came of them. A crash anywhere shows the same item again, and provenance tells
 * what was done about it (made()).
 *
 * A restart keeps: packets in the question ring, ARP cache, reassembly, buffers, packets that wait
 * for a neighbour. It loses: rate limits, and the last part of counters that are kept per batch.
 * Not promised: that an ARP or ICMP message of our own is sent exactly once.
 */
#include "internal.h"

#include <errno.h>

static int attach_port(struct component *c, struct ip *ip, unsigned i)
{
    struct port *port = &ip->port[i];
    const server_id driver = SERVER_ID(SERVER_DRIVER, i);
    const struct region *r = &c->map->entry[REGION_OF_SERVER(driver)];
    struct wiring_entry e;
    int rc;

    if (!wiring_read(r, WIRING_TABLE, TABLE_DRIVER_POOL, 0, &e) || e.count == 0 ||
        e.count > UINT32_MAX)
        return -EPROTO;
    port->ifc = &c->cfg->interface[i];
    port->region = r;
    port->pool_off = e.off;
    port->frames = e.count;
    port->frame_size = e.size;
    if ((rc = component_rx(c, &port->in, EDGE_DRIVER_IP, driver)) < 0 ||
        (rc = component_tx(c, &port->out, EDGE_IP_DRIVER, driver)) < 0)
        return rc;
    return component_tx(c, &port->ret, EDGE_IP_RETURN, driver);
}

static int attach_tables(struct component *c, struct ip *ip)
{
    const struct region *tcp = &c->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_TCP, 0))];
    uint64_t n = 0;

    ip->tcp_chain = wiring_table(tcp, TABLE_TCP_CHAINS, &n);
    ip->shm = wiring_table(c->own, TABLE_IP_STATE, NULL);
    ip->tcp_done = wiring_table(c->own, TABLE_TCP_CHAIN_DONE, &ip->tcp_chains);
    ip->udp_done = wiring_table(c->own, TABLE_UDP_BUFFER_DONE, &ip->udp_buffers);
    if (ip->tcp_chain == NULL || n != ip->tcp_chains)
        return -EPROTO;
    ip->pool = wiring_table(c->own, TABLE_IP_POOL, &n);
    if (ip->shm == NULL || ip->tcp_done == NULL || ip->udp_done == NULL || ip->pool == NULL)
        return -EPROTO;
    ip->buffers = n < IP_BUFFERS_MAX ? (uint32_t)n : IP_BUFFERS_MAX;
    ip->pool_off = (uint64_t)(ip->pool - c->own->base);
    ip->pending = wiring_table(c->own, TABLE_IP_PENDING, &n);
    if (ip->pending == NULL)
        return -EPROTO;
    ip->pending_slots = (uint32_t)n;
    return 0;
}

static void limit_quota(struct ip *ip, const struct chan_tx *tx)
{
    const uint64_t half = (tx->mask + 1) / 2;

    if (ip->quota > half)
        ip->quota = (unsigned)half;
}

static int ip_start(struct component *c, uint64_t now)
{
    struct ip *ip = c->state;
    const server_id tcp = SERVER_ID(SERVER_TCP, 0), udp = SERVER_ID(SERVER_UDP, 0);
    const server_id pf = SERVER_ID(SERVER_PF, SERVER_ID_INSTANCE(c->id));
    int rc;

    ip->c = c;
    ip->cfg = c->cfg;
    ip->ports = c->cfg->interfaces < CONFIG_INTERFACES ? c->cfg->interfaces : CONFIG_INTERFACES;
    if ((rc = attach_tables(c, ip)) < 0)
        return rc;
    for (unsigned i = 0; i < ip->ports; i++)
        if ((rc = attach_port(c, ip, i)) < 0)
            return rc;
    if ((rc = component_tx(c, &ip->question, EDGE_IP_PF, pf)) < 0 ||
        (rc = component_rx(c, &ip->verdict, EDGE_PF_IP, pf)) < 0 ||
        (rc = component_tx(c, &ip->to_tcp, EDGE_IP_TCP, tcp)) < 0 ||
        (rc = component_rx(c, &ip->tcp, EDGE_TCP_IP, tcp)) < 0 ||
        (rc = component_rx(c, &ip->tcp_ret, EDGE_TCP_RETURN, tcp)) < 0 ||
        (rc = component_tx(c, &ip->to_udp, EDGE_IP_UDP, udp)) < 0 ||
        (rc = component_rx(c, &ip->udp, EDGE_UDP_IP, udp)) < 0 ||
        (rc = component_rx(c, &ip->udp_ret, EDGE_UDP_RETURN, udp)) < 0)
        return rc;
    ip->tcp_next = ip->tcp.head;
    ip->quota = WORK_QUOTA;
    limit_quota(ip, &ip->question);
    limit_quota(ip, &ip->to_tcp);
    limit_quota(ip, &ip->to_udp);
    for (unsigned i = 0; i < ip->ports; i++) {
        limit_quota(ip, &ip->port[i].out);
        limit_quota(ip, &ip->port[i].ret);
    }
    ip_recover(ip, now);
    return 0;
}

bool made(const struct chan_tx *tx, uint16_t src, uint64_t index)
{
    if (!passed(tx, src, index))
        return false;
    for (uint64_t i = tx->tail; i > 0 && tx->tail - i <= tx->mask; i--) {
        const struct slot_head *h = chan_tx_slot(tx, i - 1);

        if (h->src == src && h->src_index <= index)
            return h->src_index == index;
    }
    return false;
}

bool ip_question_room(struct ip *ip, unsigned n, bool internal)
{
    const uint64_t capacity = ip->question.mask + 1;
    const uint64_t spare = internal ? 0 : capacity / 8;

    return ip->question.tail + n + spare - ip->shm->answered <= capacity &&
           chan_tx_room(&ip->question, n);
}

int ip_ask(struct ip *ip, const struct packet *p, uint16_t src, uint64_t index)
{
    void *slot;
    int rc = chan_tx_reserve(&ip->question, src, index, 0, &slot);

    if (rc != CHAN_OK)
        return rc == CHAN_DUP ? CHAN_OK : rc;
    packet_put(slot, p);
    chan_tx_commit(&ip->question);
    return CHAN_OK;
}

void ip_publish(struct ip *ip)
{
    chan_tx_publish(&ip->question);
    chan_tx_publish(&ip->to_tcp);
    chan_tx_publish(&ip->to_udp);
    for (unsigned i = 0; i < ip->ports; i++) {
        chan_tx_publish(&ip->port[i].out);
        chan_tx_publish(&ip->port[i].ret);
    }
}

static void add(struct ip *ip, enum ip_counter which, uint64_t *n)
{
    if (*n == 0)
        return;
    uint64_t *at = &ip->c->block->counter[which];
    shm_store(at, *at + *n);
    *n = 0;
}

/* Whoever waits for completions has said so by `want` on its queue to us. */
static void tell_completions(struct ip *ip)
{
    /* Pairs with the fence of whoever sets `want` and then looks at the done table once more. */
    if (ip->completed)
        fence_full();
    const bool tcp = load_relaxed(&ip->tcp.out->want) != 0;
    const bool udp = load_relaxed(&ip->udp.out->want) != 0;

    if (ip->completed) {
        if (tcp)
            bell_due(ip->tcp.bell);
        if (udp)
            bell_due(ip->udp.bell);
        ip->completed = false;
    }
    /* Frames are still with a driver, and somebody waits for their payload, or will without a
     * sound: udp has few buffers and no acknowledgements that would wake us. */
    for (unsigned i = 0; i < ip->ports; i++) {
        struct port *port = &ip->port[i];
        uint32_t *want = &port->out.out->want;
        const uint64_t reaped = ip->shm->reaped[i];

        port->waits = port->out.published != reaped && (tcp || udp || port->udp_sent > reaped);
        if (port->waits && *want == 0)
            shm_store(want, 1u);
        else if (!port->waits && *want != 0 && ip->blocked != &port->out && ip->pending_used == 0)
            shm_store(want, 0u); /* chan_tx_room() sets it and leaves it */
    }
}

/* Looks at the consumers' heads, so that a consumer that asks for a reset of its edge is heard even
 * while there is room. Nothing is unpublished at this moment. */
static void look_at_consumers(struct ip *ip)
{
    chan_tx_consumed(&ip->question);
    chan_tx_consumed(&ip->to_tcp);
    chan_tx_consumed(&ip->to_udp);
    for (unsigned i = 0; i < ip->ports; i++) {
        chan_tx_consumed(&ip->port[i].ret);
        port_reap(ip, &ip->port[i]);
    }
}

static unsigned ip_work(struct component *c, uint64_t now)
{
    struct ip *ip = c->state;
    unsigned n = 0;

    look_at_consumers(ip);
    n += (unsigned)ip->completions;
    n += buffer_returns(ip, &ip->tcp_ret, now);
    n += buffer_returns(ip, &ip->udp_ret, now);
    n += ip_verdicts(ip, now);
    for (unsigned i = 0; i < ip->ports; i++)
        n += ip_input(ip, &ip->port[i], now);
    n += ip_output(ip, &ip->tcp, SERVER_TCP, now);
    n += ip_output(ip, &ip->udp, SERVER_UDP, now);
    if (ip->shm->announced == 0)
        arp_announce(ip);
    if (now >= ip->arp_next)
        arp_tick(ip, now);
    if (now >= ip->reasm_next)
        reasm_tick(ip, now);
    if (ip->pending_used > 0)
        pending_run(ip, now);
    ip_publish(ip);
    add(ip, IP_C_RX_FRAMES, &ip->rx_frames);
    add(ip, IP_C_TX_FRAMES, &ip->tx_frames);
    add(ip, IP_C_COMPLETED, &ip->completions);
    tell_completions(ip);
    return n;
}

static bool ip_pending(struct component *c)
{
    struct ip *ip = c->state;

    /* The other half of asking a driver for a ring: it may have moved before we asked. */
    for (unsigned i = 0; i < ip->ports; i++) {
        struct port *port = &ip->port[i];
        const uint64_t head = port->waits ? chan_tx_consumed(&port->out) : 0;

        if (head > ip->shm->reaped[i] && head <= port->out.published)
            return true;
    }
    if (chan_rx_pending(&ip->tcp_ret) || chan_rx_pending(&ip->udp_ret))
        return true;
    /* Work that waits for a full queue is not work: chan_tx_room() has asked for a ring. */
    if (chan_rx_pending(&ip->verdict) &&
        (ip->blocked == NULL || chan_tx_room(ip->blocked, ip->blocked_for)))
        return true;
    if (!ip_question_room(ip, 1, false))
        return false;
    if (chan_rx_pending(&ip->tcp) || chan_rx_pending(&ip->udp))
        return true;
    for (unsigned i = 0; i < ip->ports; i++)
        if (chan_rx_pending(&ip->port[i].in) && chan_tx_room(&ip->port[i].ret, 1))
            return true;
    return false;
}

static uint64_t ip_deadline(struct component *c)
{
    const struct ip *ip = c->state;

    return ip->arp_next < ip->reasm_next ? ip->arp_next : ip->reasm_next;
}

const struct component_ops ip_ops = {
    .kind = SERVER_IP,
    .name = "ip",
    .size = sizeof(struct ip),
    .start = ip_start,
    .work = ip_work,
    .pending = ip_pending,
    .deadline = ip_deadline,
};
