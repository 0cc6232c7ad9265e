/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What must hold. Streams and errors are judged where they are seen (app.c); here is what shows
 * only when a run is over: everything that was taken has been given back, nothing ticks any more,
 * and nobody counted an impossible thing.
 */
#include <stdio.h>

#include "drivers/driver.h"
#include "servers/ip/counters.h"
#include "servers/ip/state.h"
#include "servers/tcp/engine.h"
#include "sim.h"

static const struct region *region(const struct stack *st, unsigned component)
{
    return &st->map->entry[REGION_OF_SERVER(st->component[component]->id)];
}

static const uint64_t *counters(const struct stack *st, unsigned component)
{
    return wiring_block(region(st, component))->counter;
}

static void none(struct sim *s, unsigned stack, uint64_t n, const char *what)
{
    if (n != 0)
        sim_fail(s, "stack %u: %lu %s", stack, (unsigned long)n, what);
}

/* Promise 5: free + held + in flight = pool; at rest nothing is held or in flight. */
static void judge_driver(struct sim *s, const struct stack *st)
{
    const uint64_t *c = counters(st, SIM_DRIVER);

    none(s, st->number, c[DRIVER_COUNT_OUT], "frames lost");
    none(s, st->number, c[DRIVER_COUNT_FILL] + c[DRIVER_COUNT_TX], "frames stay with the device");
    if (c[DRIVER_COUNT_FREE] != st->cfg.interface[0].frames)
        sim_fail(s, "stack %u: %lu of %u frames are free", st->number,
                 (unsigned long)c[DRIVER_COUNT_FREE], st->cfg.interface[0].frames);
    none(s, st->number, c[DRIVER_RETURN_BAD] + c[DRIVER_OWNER_BAD], "returns of no frame");
    none(s, st->number, c[DRIVER_TX_BAD] + c[DRIVER_TX_POINTER] + c[DRIVER_TX_ERROR],
         "packets that the driver refused");
    if (s->crashes == 0)
        none(s, st->number, c[DRIVER_RETURN_REPEATED], "frames returned twice");
}

static void judge_ip(struct sim *s, const struct stack *st)
{
    uint64_t n = 0, slots = 0, held = 0, waiting = 0, open = 0;
    const struct ip_state *ip = wiring_table(region(st, SIM_IP), TABLE_IP_STATE, &n);
    const struct ip_pending *pending = wiring_table(region(st, SIM_IP), TABLE_IP_PENDING, &slots);

    for (uint32_t i = 0; i < st->cfg.ip_buffers && i < IP_BUFFERS_MAX; i++)
        held += ip->buffer[i].owner != BUFFER_FREE;
    for (uint64_t i = 0; i < slots; i++)
        waiting += pending[i].seq != 0;
    for (unsigned i = 0; i < REASM_CONTEXTS; i++)
        open += ip->reasm[i].state != REASM_FREE;
    none(s, st->number, held, "buffers of ip lost");
    none(s, st->number, waiting, "packets wait for a neighbour for ever");
    none(s, st->number, open, "datagrams are half assembled for ever");
}

static void judge_tcp(struct sim *s, const struct stack *st)
{
    const struct tcp *t = st->component[SIM_TCP]->state;
    struct app_layout l;
    uint64_t n = 0, done_n = 0, records = 0, open = 0;
    const uint32_t *done = wiring_table(region(st, SIM_IP), TABLE_TCP_CHAIN_DONE, &done_n);
    const struct tcp_conn_shm *conn = wiring_table(region(st, SIM_TCP), TABLE_TCP_CONNS, &n);
    const struct tcp_chain *chain = t->chains;

    app_layout(&l, &st->cfg);
    for (uint64_t i = 0; i < n; i++) {
        struct tcp_record r;

        records += tcp_record_load(&conn[i], &r) != 0 || r.kind != TCP_KIND_FREE;
    }
    for (uint64_t i = 0; i < done_n; i++)
        open += chain[i].generation != done[i];
    none(s, st->number, records, "sockets left");
    none(s, st->number, open, "send chains are not done");
    none(s, st->number, t->chains_used, "send chains held");
    for (unsigned i = 0; i < st->apps; i++) {
        const struct tcp_app *a = t->app[i];

        if (st->app[i].dead) {
            none(s, st->number, a != NULL, "dead applications are held");
            for (unsigned k = SIM_TCP; k <= SIM_UDP; k++)
                none(s, st->number, !st->app[i].done[k] && !host_app_done(st->component[k], i),
                     "components have not let go of a dead application");
            continue;
        }
        if (a->up_space.free_pages != (l.up_udp_blocks - l.up_tcp_blocks) / APP_PAGE ||
            a->down_space.free_pages != (l.down_tcp_end - l.down_tcp_blocks) / APP_PAGE)
            sim_fail(s, "stack %u: blocks of application %u are missing", st->number, i);
        none(s, st->number, a->refs, "references to an application");
    }
    static const struct {
        enum tcp_counter which;
        const char *what;
    } never[] = {
        {TCP_C_RECOVERY_RESETS, "connections failed the check of a successor"},
        {TCP_C_FORENSIC, "forensic copies"},
        {TCP_C_APP_VIOLATIONS, "applications accused"},
        {TCP_C_DROP_GARBAGE, "slots of garbage"},
        {TCP_C_BAD_RETURN, "frames of nobody"},
    };
    for (unsigned i = 0; i < sizeof never / sizeof never[0]; i++)
        none(s, st->number, t->counter[never[i].which], never[i].what);
}

void judge_explain(const struct sim *s)
{
    static const char *const name[TCP_COUNTERS] = {
#define X(id, text) text,
        TCP_COUNTER_LIST(X)
#undef X
    };

    for (unsigned i = 0; i < s->stacks; i++) {
        const uint64_t *c = counters(&s->stack[i], SIM_TCP);

        fprintf(stderr, "    stack %u:", i);
        for (unsigned k = 0; k < TCP_COUNTERS; k++)
            if (c[k] != 0)
                fprintf(stderr, " %s %lu", name[k], (unsigned long)c[k]);
        fputc('\n', stderr);
    }
}

void judge_rest(struct sim *s)
{
    for (unsigned i = 0; i < s->stacks; i++) {
        const struct stack *st = &s->stack[i];

        judge_driver(s, st);
        judge_ip(s, st);
        judge_tcp(s, st);
        for (unsigned k = 0; k < SIM_COMPONENTS; k++) {
            struct component *c = st->component[k];

            if (c->ops->deadline != NULL && c->ops->deadline(c) != NEVER)
                sim_fail(s, "stack %u: %s still has a timer", i, c->ops->name);
            if (c->ops->pending(c))
                sim_fail(s, "stack %u: %s still has work", i, c->ops->name);
        }
    }
}

void judge_clean(struct sim *s)
{
    if (s->crashes != 0)
        return;
    /* Where delay grows within a round trip by more than the least timeout, even the best estimate
     * sends too early. A tail loss probe waits for two round trips only (RFC 8985 7.2), which a
     * queue that fills makes too few. */
    bool queue = false;
    for (unsigned i = 0; i < SIM_STACKS; i++) {
        const struct wire_end *e = &s->stack[i].in;
        const uint64_t queue_ns = e->link.rate != 0 ? e->link.queue * SIM_S / e->link.rate : 0;

        if (e->lost != 0 || e->disturbed != 0 || e->resets != 0 ||
            e->link.jitter_ns + queue_ns > 50 * SIM_MS)
            return;
        queue |= e->link.rate != 0;
    }
    for (unsigned i = 0; i < s->stacks; i++)
        if (counters(&s->stack[i], SIM_TCP)[TCP_C_DROP_BACKLOG] != 0 ||
            counters(&s->stack[i], SIM_IP)[IP_C_DROP_PENDING_FULL] != 0)
            return; /* what overflows has to be sent again */
    for (unsigned i = 0; i < s->stacks; i++) {
        const uint64_t *c = counters(&s->stack[i], SIM_TCP);

        const uint64_t probes = queue ? c[TCP_C_TAIL_PROBES] : 0;

        if (c[TCP_C_RETRANS] > probes)
            none(s, i, c[TCP_C_RETRANS], "retransmissions on a clean link");
        none(s, i, c[TCP_C_TIMEOUTS], "timeouts on a clean link");
    }
}
