/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Committing and loading state. The record lies in two copies: the one that `select` does not name
 * is written, then `select` takes its version: one store makes the whole change. A version, an
 * epoch and a checksum tell a successor whether a copy is what it was (a wild store, a broken
 * predecessor), and the version in `select` that it is the one which held last.
 */
#include "engine.h"

#include <errno.h>

static uint32_t checksum(const struct tcp_record *r)
{
    uint64_t h = 0x9e3779b97f4a7c15ull, w;
    const uint8_t *p = (const uint8_t *)r + 4;
    size_t n = sizeof *r - 4;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdull;
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, p, n);
    h = (h ^ w) * 0xc4ceb9fe1a85ec53ull;
    return (uint32_t)(h ^ h >> 32);
}

void tcp_record_commit(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_conn_shm *s = &t->shm[k->idx];
    const uint32_t other = ~s->select & 1;
    if (!SHM_KEEP)
        return;
    k->r.version += (k->r.version & 1) == other ? 2 : 1;
    k->r.epoch = t->c->epoch;
    k->r.checksum = checksum(&k->r);
#ifdef EFT_BREAK_RECORD_ONE_SLOT
    /* Negative control: in the place of the one that holds, so that a crash leaves half of each. */
    k->r.version++;
    k->r.checksum = checksum(&k->r);
    struct tcp_record *in_place = &s->record[s->select & 1];
    shm_copy(in_place, &k->r, sizeof k->r / 2);
    shm_copy((uint8_t *)in_place + sizeof k->r / 2, (uint8_t *)&k->r + sizeof k->r / 2,
             sizeof k->r / 2);
    shm_store_release(&s->select, k->r.version);
#else
    shm_copy(&s->record[other], &k->r, sizeof k->r);
    /* Last: from here on the new state holds, with its request id. */
    shm_store_release(&s->select, k->r.version);
#endif
}

bool tcp_record_copy(const struct tcp_conn_shm *s, unsigned n, struct tcp_record *r)
{
    *r = s->record[n & 1];
    return r->checksum == checksum(r);
}

int tcp_record_load(const struct tcp_conn_shm *s, struct tcp_record *r)
{
    const uint32_t select = s->select;
    const bool sound = tcp_record_copy(s, select, r);
    if (select == 0 && r->version == 0 && r->kind == TCP_KIND_FREE && r->checksum == 0)
        return 0; /* never used */
    return sound && r->version == select ? 0 : -EBADMSG;
}

void tcp_record_store_used(struct tcp *t)
{
    shm_keep(&t->state_shm->used, (uint64_t)(uint32_t)~t->used << 32 | t->used);
}

uint32_t tcp_record_load_used(const struct tcp *t)
{
    const uint64_t word = t->state_shm->used;
    const uint32_t used = (uint32_t)word;

    if (word == 0 && t->c->epoch == 1)
        return 0; /* new memory */
    return (uint32_t)(word >> 32) == (uint32_t)~used && used <= t->n_conns ? used : t->n_conns;
}

/* For a free record: nothing of the former connection may be taken for the next one's. */
void tcp_record_clear_hot(struct tcp *t, uint32_t idx)
{
    struct tcp_conn_shm *s = &t->shm[idx];
    shm_keep(&s->rx_nxt, 0);
    shm_keep(&s->tx_una, 0);
    shm_keep(&s->snd_max, 0);
    shm_keep(&s->tx_free, 0);
    shm_keep(&s->rx_edge, 0);
    shm_keep(&s->rx_acked, 0);
    shm_keep(&s->snd_wnd, 0);
    shm_keep(&s->rx_told, 0);
    shm_keep(&s->ooo, 0);
    shm_keep(&s->ts_recent, 0);
}

void tcp_record_ooo(struct tcp *t, struct tcp_conn *k)
{
    struct tcp_conn_shm *s = &t->shm[k->idx];
    uint32_t other = ~s->ooo & 1;
    if (!SHM_KEEP)
        return;
    if (k->n_ooo)
        shm_copy(t->ooo_shm[k->idx].range[other], k->ooo, k->n_ooo * sizeof k->ooo[0]);
    shm_store_release(&s->ooo, other | k->n_ooo << 8);
}

unsigned tcp_record_ooo_load(const struct tcp_conn_shm *s, const struct tcp_ooo_shm *o,
                             struct tcp_range *range)
{
    unsigned n = s->ooo >> 8;
    if (n > TCP_OOO_RANGES)
        return TCP_OOO_RANGES + 1;
    memcpy(range, o->range[s->ooo & 1], n * sizeof *range);
    return n;
}
