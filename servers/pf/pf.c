/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The packet filter server: reads IP's questions, applies the rules, answers in order.
 *
 * Keeps: counters. Its queues are its state: verdict i names question i (head.src_index), so that
 * a successor learns from its own last verdicts how far its predecessor was. A restart loses
 * nothing: questions without a verdict are still in IP's queue, and IP lets nothing pass
 * meanwhile. Not promised: counters that are exact across a crash.
 */
#include "pf.h"
#include "counters.h"
#include "libchan/edge/ip_pf.h"
#include "libchan/edge/pf_ip.h"
#include "rules.h"
#include "state.h"

#include <errno.h>

struct pf {
    struct component *c;
    struct chan_rx in;
    struct chan_tx out;
    struct pf_state *shm;
};

static int pf_start(struct component *c, uint64_t now)
{
    struct pf *pf = c->state;
    const server_id ip = SERVER_ID(SERVER_IP, SERVER_ID_INSTANCE(c->id));
    int rc;

    (void)now;
    pf->c = c;
    pf->shm = wiring_table(c->own, TABLE_PF_STATE, NULL);
    if (pf->shm == NULL)
        return -EPROTO;
    if ((rc = component_rx(c, &pf->in, EDGE_IP_PF, ip)) < 0 ||
        (rc = component_tx(c, &pf->out, EDGE_PF_IP, ip)) < 0)
        return rc;
    /* Counters are about one set of rules. The generation is stored last: a crash in between
     * clears them again. */
    if (pf->shm->rules_generation != c->cfg->rules_generation) {
        shm_zero(pf->shm->rule, sizeof pf->shm->rule);
        shm_store(&pf->shm->rules_generation, (uint64_t)c->cfg->rules_generation);
    }
    return 0;
}

static void count(struct pf *pf, enum pf_counter which)
{
    uint64_t *n = &pf->c->block->counter[which];
    shm_store(n, *n + 1);
}

static void judge(struct pf *pf, struct pf_verdict *v, const void *question, uint64_t now)
{
    struct packet p;
    struct rule_subject s;

    v->verdict = RULE_BLOCK;
    v->rule = RULE_NONE;
    if (chan_rx_condemned(&pf->in)) {
        count(pf, PF_C_QUARANTINED);
        chan_rx_keep(&pf->in, now, NULL, 0);
        return;
    }
    if (!packet_copy(&p, question) || !rules_subject(&s, &p)) {
        count(pf, PF_C_BAD_QUESTION);
        return;
    }
    v->verdict = (uint8_t)rules_match(pf->c->cfg, &s, &v->rule);
    struct pf_rule_count *r =
        &pf->shm->rule[v->rule < CONFIG_RULES ? v->rule : (uint16_t)CONFIG_RULES];
    shm_store(&r->packets, r->packets + 1);
    shm_store(&r->bytes, r->bytes + (uint64_t)(p.hdr_len - p.l3) + p.payload_len);
    if (s.direction == RULE_IN)
        count(pf, v->verdict == RULE_PASS ? PF_C_PASSED_IN : PF_C_BLOCKED_IN);
    else
        count(pf, v->verdict == RULE_PASS ? PF_C_PASSED_OUT : PF_C_BLOCKED_OUT);
}

static unsigned pf_work(struct component *c, uint64_t now)
{
    struct pf *pf = c->state;
    unsigned n = 0;

    chan_tx_consumed(&pf->out); /* hears ip ask for a reset of the edge */
    for (const void *q; n < WORK_QUOTA && (q = chan_rx_peek(&pf->in)) != NULL; n++) {
        void *slot;
        int rc = chan_tx_reserve(&pf->out, pf->in.number, chan_rx_index(&pf->in), 0, &slot);

        if (rc == CHAN_FULL)
            break;
        if (rc == CHAN_OK) {
            struct pf_verdict v = {.rules_generation = c->cfg->rules_generation};

            judge(pf, &v, q, now);
            shm_copy((uint8_t *)slot + sizeof v.head, (const uint8_t *)&v + sizeof v.head,
                     sizeof v - sizeof v.head);
            chan_tx_commit(&pf->out);
        }
        chan_rx_next(&pf->in);
    }
    /* Verdicts first, then the head: a crash in between shows the questions again, and the
     * provenance of the verdicts says that they are answered. */
    chan_tx_publish(&pf->out);
    chan_rx_release(&pf->in);
    return n;
}

static bool pf_pending(struct component *c)
{
    struct pf *pf = c->state;
    return chan_rx_pending(&pf->in) && chan_tx_room(&pf->out, 1);
}

static uint64_t pf_deadline(struct component *c)
{
    (void)c;
    return NEVER;
}

const struct component_ops pf_ops = {
    .kind = SERVER_PF,
    .name = "pf",
    .size = sizeof(struct pf),
    .start = pf_start,
    .work = pf_work,
    .pending = pf_pending,
    .deadline = pf_deadline,
};
