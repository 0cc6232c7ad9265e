/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Memory that receive rings do not need goes back to the machine: that of free blocks, and
 * that of connections on which nothing was heard for reclaim_s and whose data was all read. The
 * blocks stay where they are; the next byte finds a page of zeroes.
 *
 * What is forgotten lies outside of [rx_read, rx_nxt) and of all that is remembered out of order:
 * there is nothing in a ring that is empty. We alone write there, so that nothing can come
 * meanwhile; the application reads below rx_nxt alone.
 *
 * Send rings are in memory that the application writes: not ours to forget.
 *
 * This happens in steps with a millisecond in between, and only while something may be there: an
 * idle server sleeps. A restart loses what was known: a successor takes each ring for used, and
 * each free page, and finds out.
 */
#include "engine.h"

enum { STEP_RECORDS = 1024, STEP_CALLS = 16, STEP_PAGES = 16384 };

void tcp_reclaim_wake(struct tcp *t)
{
    if (t->reclaim_at == NEVER && t->cfg->tcp_reclaim_s)
        t->reclaim_at = t->now + t->cfg->tcp_reclaim_s * SEC;
}

static bool empty(const struct tcp *t, const struct tcp_conn *k)
{
    const struct up_slot *up = tcp_app_up_slot(t, k->r.app, k->r.slot);
    return up != NULL && load_relaxed(&up->generation) == k->r.generation && k->n_ooo == 0 &&
           (load_acquire(&up->rx_read) & OFF_MASK) == k->r.rx_base + k->rx_nxt;
}

static void forget(struct tcp *t, unsigned app, uint32_t page, uint64_t pages)
{
    t->c->forget(t->c, REGION_OF_APP(app, APP_DOWN_TCP), (uint64_t)page << RING_PAGE_SHIFT,
                 pages << RING_PAGE_SHIFT);
    tcp_count_add(t, TCP_C_PAGES_FORGOTTEN, pages);
}

static unsigned look(struct tcp *t, struct tcp_conn *k)
{
    if (!k->ready || !k->rx_used || k->r.rx.shift[0] == 0)
        return 0;
    if (t->now - k->last_heard < t->cfg->tcp_reclaim_s * SEC || !empty(t, k)) {
        t->reclaim_again = true;
        return 0;
    }
    for (unsigned i = 0; i < 2; i++)
        if (k->r.rx.shift[i])
            forget(t, k->r.rx_app, k->r.rx.page[i], 1u << (k->r.rx.shift[i] - RING_PAGE_SHIFT));
    k->rx_used = false;
    return 1;
}

void tcp_reclaim_step(struct tcp *t)
{
    unsigned calls = 0;
    for (unsigned n = 0; n < STEP_RECORDS && calls < STEP_CALLS && t->reclaim_next < t->used; n++)
        calls += look(t, &t->conn[t->reclaim_next++]);
    for (unsigned app = 0; app < t->apps && t->reclaim_next == t->used; app++) {
        uint32_t page, n = 1;
        while (t->app[app] != NULL && calls < STEP_CALLS && n != 0) {
            n = tcp_ring_take_stale(&t->app[app]->down_space, STEP_PAGES, &page);
            if (n != 0)
                forget(t, app, page, n);
            calls += n != 0;
        }
    }
    if (t->reclaim_next < t->used || calls == STEP_CALLS) {
        t->reclaim_at = t->now + MSEC;
        return;
    }
    t->reclaim_at = NEVER;
    if (t->reclaim_again)
        tcp_reclaim_wake(t);
    t->reclaim_again = false;
    t->reclaim_next = 0;
}
