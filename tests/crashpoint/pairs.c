/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See pairs.h.
 */
#include "pairs.h"

struct sock pair_socket(struct side *s, unsigned app, uint32_t slot, uint64_t bytes)
{
    return (struct sock){.s = s,
                         .app = app,
                         .slot = slot,
                         .to_send = bytes,
                         .seed_tx = 1 + s->number,
                         .seed_rx = 2 - s->number,
                         .may_fail = true};
}

bool pair_move(struct sock *k)
{
    bool busy = sock_step(k);
    if (k->open && k->sent == k->to_send && !k->shut)
        sock_shutdown(k);
    if (((k->eof && k->shut) || k->failed) && !k->closed)
        sock_close(k, false);
    return busy;
}

void pairs_step(struct world *w, bool busy)
{
    busy |= world_tcp_turn(&w->side[0]) != 0;
    busy |= world_tcp_turn(&w->side[1]) != 0;
    busy |= world_wire(w) != 0;
    world_time(w, busy);
}

static bool over(const struct sock *k)
{
    return k->closed && sock_down(k)->state == SOCK_FREE;
}

bool pairs_exchange(struct world *w, unsigned app, unsigned peers_app, uint16_t port, uint32_t l,
                    uint32_t from, int step_by, unsigned n, uint64_t bytes)
{
    struct sock ls = {.s = &w->side[0], .app = app, .slot = l}, x[PAIRS], y[PAIRS];
    unsigned open = n, good = 0;
    sock_listen(&ls, port, 8);
    for (unsigned i = 0; i < 200 && !sock_replied(&ls, NULL); i++)
        pairs_step(w, false);
    for (unsigned i = 0; i < n; i++) {
        const uint32_t slot = (uint32_t)((int)from + (int)i * step_by);
        x[i] = pair_socket(&w->side[0], app, slot, bytes);
        y[i] = pair_socket(&w->side[1], peers_app, slot, bytes);
        sock_claim(&x[i], &ls);
        sock_connect(&y[i], &w->side[0], port);
    }
    for (unsigned s = 0; s < 3000 && open; s++) {
        bool busy = false;
        open = 0;
        for (unsigned i = 0; i < n; i++) {
            busy |= pair_move(&x[i]);
            busy |= pair_move(&y[i]);
            open += !over(&x[i]) || !over(&y[i]);
        }
        pairs_step(w, busy);
    }
    for (unsigned i = 0; i < n; i++)
        good += x[i].received == bytes && y[i].received == bytes;
    sock_close(&ls, false);
    for (unsigned i = 0; i < 200 && sock_down(&ls)->state != SOCK_FREE; i++)
        pairs_step(w, false);
    return good == n;
}
