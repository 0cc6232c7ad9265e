/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The UDP server as a component: queues, applications, the order of a turn. See udp.h for what a
 * restart keeps, internal.h for the parts.
 */
#include "internal.h"

#include <errno.h>
#include <syslog.h>

#define STARVED_RETRY 10000000ull /* ns; completions ring us, unless IP dies in between */

/* Reads the records; their applications come later. */
static void load_records(struct udp *u)
{
    for (uint32_t n = u->socks; n > 0; n--) {
        const uint32_t i = n - 1;
        struct sock *s = &u->sock[i];

        if (!record_load(u, i, &s->rec)) {
            /* This socket alone is lost; its slot is freed when its application closes it. */
            s->rec.state = UDP_FREE;
            count(u, UDP_RECORDS_BAD, 1);
            u->c->log(u->c, LOG_ERR, "udp: record %u is broken and was dropped", i);
        }
        if (s->rec.state == UDP_FREE)
            u->free[u->free_top++] = i;
    }
}

static int attach(struct udp *u)
{
    struct component *c = u->c;
    const server_id ip = SERVER_ID(SERVER_IP, 0), ctl = SERVER_ID(SERVER_SYSCALL, 0);
    int r;

    if ((r = component_rx(c, &u->from_ip, EDGE_IP_UDP, ip)) != 0 ||
        (r = component_tx(c, &u->to_ip, EDGE_UDP_IP, ip)) != 0 ||
        (r = component_rx(c, &u->from_syscall, EDGE_SYSCALL_UDP, ctl)) != 0 ||
        (r = component_tx(c, &u->to_syscall, EDGE_UDP_SYSCALL, ctl)) != 0)
        return r;
    for (unsigned i = 0; i < 1 + CONFIG_INTERFACES; i++) {
        if (i > c->cfg->interfaces)
            break;
        const server_id owner = i == 0 ? ip : SERVER_ID(SERVER_DRIVER, i - 1);
        r = component_tx(c, &u->to_owner[i], EDGE_UDP_RETURN, owner);
        if (r != 0)
            return r;
        u->has_owner[i] = true;
    }
    return 0;
}

static int udp_start(struct component *c, uint64_t now)
{
    struct udp *u = c->state;
    uint64_t socks, apps, buffers, done, pool;

    u->c = c;
    u->cfg = c->cfg;
    u->now = now;
    app_layout(&u->layout, c->cfg);
    const int r = attach(u);
    if (r != 0)
        return r;
    u->shm = wiring_table(c->own, TABLE_UDP_SOCKS, &socks);
    u->app_shm = wiring_table(c->own, TABLE_UDP_APPS, &apps);
    u->buffer = wiring_table(c->own, TABLE_UDP_BUFFERS, &buffers);
    u->pool = wiring_table(c->own, TABLE_UDP_POOL, &pool);
    u->buffer_done = wiring_table(&c->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_IP, 0))],
                                  TABLE_UDP_BUFFER_DONE, &done);
    if (u->shm == NULL || u->app_shm == NULL || u->buffer == NULL || u->pool == NULL ||
        u->buffer_done == NULL || apps < APPS_MAX || done < buffers || pool < buffers) {
        c->log(c, LOG_ERR, "udp: tables are missing or too small");
        return -EPROTO;
    }
    u->socks = socks < UDP_SOCKETS_MAX ? (uint32_t)socks : UDP_SOCKETS_MAX;
    u->buffers = (uint32_t)buffers;
    u->pool_off = (uint64_t)(u->pool - c->own->base);
    load_records(u);
    shm_store(&c->block->counter[UDP_SOCKETS], (uint64_t)0);
    return 0;
}

/* A record whose blocks are not where blocks can be: only a wild store makes one. */
static bool take_blocks(struct app_state *a, const struct udp_record *rec)
{
    if (rec->tx.block[1].size != 0 || rec->tx.block[0].size == 0 || rec->rx.block[0].size == 0)
        return false;
    if (!block_take(&a->up, rec->tx.block[0].off, rec->tx.block[0].size))
        return false;
    if (!block_take(&a->down, rec->rx.block[0].off, rec->rx.block[0].size)) {
        block_free(&a->up, rec->tx.block[0].off, rec->tx.block[0].size);
        return false;
    }
    if (rec->rx.block[1].size != 0 &&
        !block_take(&a->down, rec->rx.block[1].off, rec->rx.block[1].size)) {
        block_free(&a->up, rec->tx.block[0].off, rec->tx.block[0].size);
        block_free(&a->down, rec->rx.block[0].off, rec->rx.block[0].size);
        return false;
    }
    return true;
}

static void record_forget(struct udp *u, uint32_t i)
{
    u->sock[i].rec.state = UDP_FREE;
    record_commit(u, i);
    u->free[u->free_top++] = i;
}

static void mark_gone(struct udp *u, unsigned app)
{
    struct app_state *a = &u->app[app];

    a->gone = true;
    /* Close all of them; what the program had sent before it ended is still sent. */
    for (uint32_t n = a->first; n != 0;) {
        const uint32_t i = n - 1;

        n = u->sock[i].app_next; /* finishing takes it off the list */
        if (u->sock[i].rec.state == UDP_OPEN) {
            sock_close(u, i);
            record_commit(u, i);
        }
        sock_finish(u, i);
        if (!a->ready)
            return;
    }
    app_check_done(u, app);
}

void app_check_done(struct udp *u, unsigned app)
{
    struct app_state *a = &u->app[app];

    if (!a->ready || !a->gone || a->first != 0)
        return;
    a->ready = false;
    for (unsigned i = 0; i < u->app_count; i++)
        if (u->apps[i] == app)
            u->apps[i--] = u->apps[--u->app_count];
    /* Payload was copied to our own pool: nothing refers to its memory any more. */
    u->c->app_done(u->c, app);
}

static void udp_app_added(struct component *c, unsigned app)
{
    struct udp *u = c->state;
    struct app_state *a = &u->app[app];
    const struct region *up = &c->map->entry[REGION_OF_APP(app, APP_UP)];
    const struct region *down = &c->map->entry[REGION_OF_APP(app, APP_DOWN_UDP)];

    if (a->ready || app_up(u, app) == NULL || app_down(u, app) == NULL)
        return;
    memset(a, 0, sizeof *a);
    a->ready = a->scan = true;
    u->apps[u->app_count++] = (uint16_t)app;
    const uint64_t up_end = u->layout.up_end < up->size ? u->layout.up_end : up->size;
    const uint64_t down_end =
        u->layout.down_udp_end < down->size ? u->layout.down_udp_end : down->size;
    block_init(&a->up, u->layout.up_udp_blocks, up_end);
    block_init(&a->down, u->layout.down_udp_blocks, down_end);
    for (uint32_t i = 0; i < u->socks; i++) {
        struct sock *s = &u->sock[i];

        if (s->live || s->rec.state == UDP_FREE || s->rec.app != app)
            continue;
        const uint64_t item = item_numbered(ITEM_RECORD, i, s->rec.generation);
        item_begin(c->block, item);
        if (item_condemned(c->block, item) || s->rec.app_generation != c->app[app].generation ||
            s->rec.slot >= u->layout.n_udp || slot_find(u, app, s->rec.slot) != NO_SOCK ||
            !take_blocks(a, &s->rec)) {
            count(u, UDP_RECORDS_BAD, 1);
            record_forget(u, i);
            continue;
        }
        slot_list_insert(u, i);
        table_insert(u, i);
        slot_publish(u, i); /* the predecessor may have died between commit and view */
        count(u, UDP_SOCKETS, 1);
    }
    item_end(c->block);
    if (c->app[app].gone && u->recovered)
        mark_gone(u, app);
}

static void udp_app_gone(struct component *c, unsigned app)
{
    struct udp *u = c->state;

    if (u->app[app].ready && u->recovered)
        mark_gone(u, app);
}

/* Before the first work: all applications that exist are known. */
static void recover(struct udp *u)
{
    for (uint32_t i = 0; i < u->socks; i++)
        if (u->sock[i].rec.state != UDP_FREE && !u->sock[i].live)
            record_forget(u, i); /* its application went while we were away */
    send_recover(u);
    for (uint32_t i = 0; i < u->socks; i++)
        if (u->sock[i].live)
            sock_moved(u, i);
    u->recovered = true;
    for (unsigned i = u->app_count; i > 0; i--)
        if (u->c->app[u->apps[i - 1]].gone)
            mark_gone(u, u->apps[i - 1]);
}

/* Idempotent: a bit is set. */
static int grant(struct udp *u, const struct syscall_request *q)
{
    if (q->op != SYSCALL_GRANT_PORT || q->port >= 1024)
        return -EINVAL;
    if (q->app >= APPS_MAX || !u->app[q->app].ready ||
        u->c->app[q->app].generation != q->app_generation)
        return -ESRCH;
    struct udp_app_shm *g = &u->app_shm[q->app];
    if (g->generation != q->app_generation) {
        /* What was granted to the number's last user goes first. */
        shm_zero(g->granted, sizeof g->granted);
        shm_store(&g->generation, q->app_generation);
    }
    shm_store(&g->granted[q->port / 64], g->granted[q->port / 64] | 1ull << (q->port % 64));
    count(u, UDP_GRANTS, 1);
    return 0;
}

static unsigned control(struct udp *u)
{
    unsigned n = 0;

    for (; n < WORK_QUOTA; n++) {
        const void *slot = chan_rx_peek(&u->from_syscall);
        struct syscall_request q;
        void *out;

        if (slot == NULL)
            break;
        memcpy(&q, slot, sizeof q);
        const bool condemned = chan_rx_condemned(&u->from_syscall);
        if (condemned) {
            count(u, UDP_QUARANTINED, 1);
            chan_rx_keep(&u->from_syscall, u->now, NULL, 0);
        }
        const struct syscall_reply r = {
            .result = condemned ? -EIO : grant(u, &q),
            .client = q.client,
            .id = q.id,
        };
        const int reserved = chan_tx_reserve(&u->to_syscall, u->from_syscall.number,
                                             chan_rx_index(&u->from_syscall), 0, &out);
        if (reserved == CHAN_FULL)
            break;
        if (reserved == CHAN_OK) {
            shm_copy((uint8_t *)out + sizeof r.head, (const uint8_t *)&r + sizeof r.head,
                     sizeof r - sizeof r.head);
            chan_tx_commit(&u->to_syscall);
        }
        chan_rx_next(&u->from_syscall);
    }
    if (n > 0) {
        chan_tx_publish(&u->to_syscall);
        chan_rx_release(&u->from_syscall);
    }
    return n;
}

static void serve_slot(struct udp *u, unsigned app, uint32_t slot)
{
    request_serve(u, app, slot);
    item_end(u->c->block);
    const uint32_t i = slot_find(u, app, slot);
    if (i == NO_SOCK) {
        slot_settle(u, app, slot);
        return;
    }
    const struct up_slot *up = sock_up(u, &u->sock[i]);
    if ((load_acquire(&up->tx_end) & OFF_MASK) > sock_down(u, &u->sock[i])->tx_una)
        send_enqueue(u, i);
    else
        sock_finish(u, i);
}

/* Work of one application: slots that it named, or all when it could not name them. */
static unsigned serve_app(struct udp *u, unsigned app)
{
    struct app_state *a = &u->app[app];
    const struct up_region *up = app_up(u, app);
    struct down_region *down = app_down(u, app);
    const uint64_t tail = load_acquire(&up->work_udp.tail);
    const uint64_t scan = load_acquire(&up->work_udp.scan);
    uint64_t head = down->work_head;
    unsigned n = 0;

    if (a->gone)
        return 0;
    if (tail - head > WORK_SLOTS) {
        count(u, UDP_RING_BROKEN, 1); /* indices that cannot be: look at everything, go on there */
        head = tail;
        a->scan = true;
    }
    if (a->scan || scan != down->scan_done) {
        a->scan = false;
        for (uint32_t slot = 0; slot < u->layout.n_udp && a->ready; slot++)
            serve_slot(u, app, slot);
        if (!a->ready)
            return 1;
        /* After the look: a successor looks again. */
        shm_store(&down->scan_done, scan);
        n++;
    }
    for (; head != tail && n < WORK_QUOTA; head++, n++) {
        const uint32_t slot = load_relaxed(&up->work_udp.slot[head % WORK_SLOTS]);
        if (slot < u->layout.n_udp)
            serve_slot(u, app, slot);
        else
            count(u, UDP_RING_BROKEN, 1);
    }
    /* The counters and requests behind these entries were read. */
    if (head != down->work_head)
        shm_store_release(&down->work_head, head);
    return n;
}

static unsigned udp_work(struct component *c, uint64_t now)
{
    struct udp *u = c->state;
    unsigned n;

    u->now = now;
    if (!u->recovered)
        recover(u);
    n = receive(u);
    n += control(u);
    for (unsigned i = u->app_count; i > 0; i--)
        n += serve_app(u, u->apps[i - 1]);
    n += send_work(u);
    item_end(c->block);
    notify_flush(u);
    return n;
}

static bool udp_pending(struct component *c)
{
    struct udp *u = c->state;

    if (!u->recovered || chan_rx_pending(&u->from_ip) || chan_rx_pending(&u->from_syscall))
        return true;
    /* Without a buffer or room, the next turn could do nothing: see deadline and `want`. */
    if (u->send_count != 0 && !u->starved && !u->queue_full)
        return true;
    if ((u->queue_full && chan_tx_room(&u->to_ip, 1)) || (u->starved && send_buffer_free(u)))
        return true;
    for (unsigned i = 0; i < u->app_count; i++) {
        const unsigned app = u->apps[i];
        const struct up_region *up = app_up(u, app);
        const struct down_region *down = app_down(u, app);

        if (!u->app[app].gone &&
            (u->app[app].scan || load_acquire(&up->work_udp.tail) != down->work_head ||
             load_acquire(&up->work_udp.scan) != down->scan_done))
            return true;
    }
    return false;
}

static uint64_t udp_deadline(struct component *c)
{
    const struct udp *u = c->state;

    return u->starved ? u->now + STARVED_RETRY : NEVER;
}

const struct component_ops udp_ops = {
    .kind = SERVER_UDP,
    .name = "udp",
    .size = sizeof(struct udp),
    .start = udp_start,
    .work = udp_work,
    .pending = udp_pending,
    .deadline = udp_deadline,
    .app_added = udp_app_added,
    .app_gone = udp_app_gone,
};
