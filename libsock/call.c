/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Slots, requests, the work queue. The protocol is in edge/app.h.
 *
 * Slots go round: taken, released, and again when the server has let go. The queue of released
 * ones is private; nothing is lost with us but our own sockets.
 */
#include "sock.h"

#include <sys/syscall.h>
#include <unistd.h>

struct slots {
    uint32_t queue[1 << 16]; /* released, oldest first */
    uint32_t head, tail;
    uint32_t fresh; /* first never used */
};
static struct slots slots[2];
static uint64_t random_pool[32];
static unsigned random_left;

void call_reset(void)
{
    for (int i = 0; i < 2; i++)
        slots[i].head = slots[i].tail = slots[i].fresh = 0;
    random_left = 0; /* a child must not make its parent's tokens */
}

static uint64_t random_token(void)
{
    if (random_left == 0) {
        if (syscall(SYS_getrandom, random_pool, sizeof random_pool, 0) != (long)sizeof random_pool)
            return (uint64_t)now_ns() * 0x9e3779b97f4a7c15ull | 1;
        random_left = sizeof random_pool / sizeof random_pool[0];
    }
    return random_pool[--random_left];
}

static bool slot_free(bool dgram, uint32_t i)
{
    const struct down_slot *d = slot_down(dgram, i);
    const struct up_slot *u = slot_up(dgram, i);
    return load_acquire(&d->state) == SOCK_FREE && load_acquire(&d->generation) == u->generation &&
           load_acquire(&d->req_done) == u->req_id;
}

/* Under lib.slots. */
static int slot_find(bool dgram)
{
    struct slots *q = &slots[dgram];
    uint32_t n = dgram ? lib.n_udp : lib.n_tcp;
    uint32_t mask = sizeof q->queue / sizeof q->queue[0] - 1;
    uint32_t tries = q->tail - q->head;
    if (tries > 8 && q->fresh < n)
        tries = 8;
    for (; tries > 0; tries--) {
        uint32_t i = q->queue[q->head++ & mask];
        if (slot_free(dgram, i))
            return (int)i;
        q->queue[q->tail++ & mask] = i;
    }
    while (q->fresh < n && q->fresh <= mask) {
        uint32_t i = q->fresh++;
        if (slot_free(dgram, i))
            return (int)i;
    }
    return q->head != q->tail ? -EAGAIN : -ENOBUFS;
}

static bool slots_moved(struct sock *s, void *arg)
{
    (void)s;
    bool dgram = *(const bool *)arg;
    const struct slots *q = &slots[dgram];
    uint32_t mask = sizeof q->queue / sizeof q->queue[0] - 1;
    for (uint32_t i = load_relaxed(&q->head); i != load_relaxed(&q->tail); i++)
        if (slot_free(dgram, q->queue[i & mask]))
            return true;
    return false;
}

int slot_take_index(bool dgram)
{
    for (;;) {
        if (!lock_take(&lib.slots))
            return -EAGAIN;
        int i = slot_find(dgram);
        if (i >= 0) {
            struct up_slot *u = slot_up(dgram, (uint32_t)i);
            /* All of this before the generation: with it the slot is in use. What the last use
             * left unread is nobody's any more, so that both sides begin at rx_nxt. */
            shm_store(&u->tx_end, u->tx_end & OFF_MASK);
            shm_store(&u->rx_read, load_relaxed(&slot_down(dgram, (uint32_t)i)->rx_nxt) & OFF_MASK);
            shm_store(&u->share_token, random_token());
            shm_store_release(&u->generation, u->generation + 1);
            lock_give(&lib.slots);
            return i;
        }
        lock_give(&lib.slots);
        if (i != -EAGAIN)
            return i;
        /* All are in use or on their way back: the server may be away. */
        wait_through(NULL, WAIT_ANY, slots_moved, &dgram);
    }
}

int slot_take(struct sock *s)
{
    int i = slot_take_index(s->dgram);
    if (i < 0)
        return i;
    s->up = slot_up(s->dgram, (uint32_t)i);
    s->down = slot_down(s->dgram, (uint32_t)i);
    s->generation = s->up->generation;
    s->token = s->up->share_token;
    s->app = lib.app;
    s->epoch = lib.epoch;
    s->error_seen = load_relaxed(&s->down->error_seq);
    s->rx_told = s->up->rx_read;
    __atomic_store_n(&s->slot, (uint32_t)i, __ATOMIC_RELEASE);
    return 0;
}

void slot_release(bool dgram, uint32_t slot)
{
    struct slots *q = &slots[dgram];
    struct up_slot *u = slot_up(dgram, slot);
    shm_store_release(&u->released, u->generation);
    work_push(dgram, slot);
    if (lock_take(&lib.slots)) {
        q->queue[q->tail++ & (sizeof q->queue / sizeof q->queue[0] - 1)] = slot;
        lock_give(&lib.slots);
    }
}

void work_note(bool dgram, uint32_t slot)
{
    struct app_work *w = dgram ? &lib.up->work_udp : &lib.up->work_tcp;
    struct lock *l = dgram ? &lib.work_udp : &lib.work_tcp;
    const struct down_region *d = dgram ? lib.down_udp : lib.down_tcp;
    bool locked = lock_try(l);
    /* The holder is a few instructions from the end, unless it was preempted, or is the one that
     * this signal handler interrupted. */
    for (int spins = 0; !locked && spins < 50; spins++) {
        cpu_relax();
        locked = lock_try(l);
    }
    if (likely(locked)) {
        uint64_t tail = w->tail;
        if (likely(tail - load_acquire(&d->work_head) < WORK_SLOTS)) {
            shm_store(&w->slot[tail & (WORK_SLOTS - 1)], slot);
            shm_store_release(&w->tail, tail + 1);
        } else {
            locked = false;
        }
        lock_give(l);
    }
    if (unlikely(!locked)) {
        SHM_CRASHPOINT();
        __atomic_add_fetch(&w->scan, 1, __ATOMIC_RELEASE);
    }
}

void work_wake(bool dgram)
{
    const struct public_page *p = dgram ? lib.pub_udp : lib.pub_tcp;
    fence_full();
    if (load_relaxed(&p->asleep) != 0) {
        int saved = errno;
        /* EAGAIN: it is ringing already. */
        if (real()->write(dgram ? lib.bell_udp : lib.bell_tcp, "", 1) < 0)
            errno = saved;
    }
}

void work_push(bool dgram, uint32_t slot)
{
    work_note(dgram, slot);
    work_wake(dgram);
}

/* ---- requests ---- */

bool request_done(const struct sock *s)
{
    return load_acquire(&s->down->req_done) == load_relaxed(&s->up->req_id);
}

static bool done_ready(struct sock *s, void *arg)
{
    (void)arg;
    return request_done(s);
}

void request_wait(struct sock *s)
{
    wait_through(s, sock_key(s), done_ready, NULL);
}

void slot_request(bool dgram, uint32_t slot, const struct request *r)
{
    struct up_slot *u = slot_up(dgram, slot);
    shm_store(&u->op, r->op);
    /* A cancel may come while the server copies the request that it cancels, and has no arguments:
     * whichever of the two operations the copy shows, it shows it with the right ones. */
    if (r->op != OP_CANCEL) {
        shm_store(&u->flags, r->flags);
        shm_store(&u->tx_base, u->tx_end & OFF_MASK);
        shm_store(&u->token, r->token);
        shm_store(&u->target_slot, r->target_slot);
        shm_store(&u->target_generation, r->target_generation);
        shm_store(&u->target_app, r->target_app);
        shm_store(&u->arg0, r->arg0);
        shm_store(&u->arg1, r->arg1);
        shm_copy(&u->local, &r->local, sizeof u->local);
        shm_copy(&u->remote, &r->remote, sizeof u->remote);
    }
    /* The number last: it makes the request. */
    shm_store_release(&u->req_id, u->req_id + 1);
    work_push(dgram, slot);
}

int request_start(struct sock *s, const struct request *r)
{
    for (;;) {
        if (r->op != OP_CANCEL && !request_done(s))
            request_wait(s);
        if (!lock_take(&s->req))
            return -EAGAIN;
        if (r->op == OP_CANCEL || request_done(s))
            break;
        lock_give(&s->req);
    }
    trace("slot %s%u.%u request %u", s->dgram ? "u" : "t", s->slot, s->generation, r->op);
    slot_request(s->dgram, s->slot, r);
    lock_give(&s->req);
    return 0;
}

int request(struct sock *s, const struct request *r)
{
    int err = request_start(s, r);
    if (err != 0)
        return err;
    request_wait(s);
    int result = load_relaxed(&s->down->result);
    trace("slot %s%u.%u request %u: %d", s->dgram ? "u" : "t", s->slot, s->generation, r->op,
          result);
    return result;
}
