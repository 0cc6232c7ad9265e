/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Listeners take connections by claims: free slots with OP_ACCEPT outstanding. They are posted
 * when the program first shows that it wants to accept (a process that only keeps the listener, as
 * nginx's master does, must not draw connections), and the oldest that is established is the next
 * connection. Which claim is served first is tcp's business: it sees them in the order of the work
 * queue, but always as they are by then, and a restart changes the order. So accept() looks at all
 * of them, and sleeps on the listener, whose waiters tcp rings for each claim that it serves.
 */
#include "sock.h"

/* Under s->rx. */
static void claims_post(struct sock *s)
{
    uint32_t want = s->backlog < 1 ? 1 : s->backlog;
    if (want > CLAIMS_MAX)
        want = CLAIMS_MAX;
    if (want > lib.n_tcp / 16)
        want = lib.n_tcp / 16 + 1;
    while (s->n_claims < want && !load_relaxed(&s->closing)) {
        int i = slot_take_index(false);
        if (i < 0)
            return;
        struct request r = {.op = OP_ACCEPT,
                            .target_app = lib.app,
                            .target_slot = s->slot,
                            .target_generation = s->generation,
                            .token = s->token};
        uint32_t seen = load_relaxed(&slot_down(false, (uint32_t)i)->error_seq);
        slot_request(false, (uint32_t)i, &r);
        s->claim[s->n_claims++] = (struct claim){
            .slot = (uint32_t)i, .req_id = slot_up(false, (uint32_t)i)->req_id, .error_seen = seen};
    }
}

static bool claim_done(const struct claim *c)
{
    return load_acquire(&slot_down(false, c->slot)->req_done) == c->req_id;
}

static int claim_first(const struct sock *s)
{
    for (uint32_t i = 0; i < s->n_claims; i++)
        if (claim_done(&s->claim[i]))
            return (int)i;
    return -1;
}

static struct claim claim_remove(struct sock *s, int i)
{
    struct claim c = s->claim[i];
    s->n_claims--;
    memmove(&s->claim[i], &s->claim[i + 1], (s->n_claims - (uint32_t)i) * sizeof c);
    return c;
}

bool conn_claim_ready(struct sock *s)
{
    bool ready = false;
    if (!lock_take(&s->rx))
        return false;
    if (s->phase == PH_LISTEN && !conn_foreign(s)) {
        claims_post(s);
        ready = claim_first(s) >= 0;
    }
    lock_give(&s->rx);
    return ready;
}

static bool accept_ready(struct sock *s, void *arg)
{
    (void)arg;
    return conn_claim_ready(s) || s->phase != PH_LISTEN || load_relaxed(&s->closing);
}

static int accept_try(struct sock *s, struct sockaddr *sa, socklen_t *len, int flags)
{
    if (!lock_take(&s->rx))
        return -EAGAIN;
    int result = -EAGAIN;
    if (s->phase != PH_LISTEN || load_relaxed(&s->shut_rd)) {
        result = -EINVAL;
        goto out;
    }
    claims_post(s);
    if (s->n_claims == 0) {
        result = -ENOBUFS;
        goto out;
    }
    int i = claim_first(s);
    if (i < 0)
        goto out;
    const struct down_slot *d = slot_down(false, s->claim[i].slot);
    int failed = load_relaxed(&d->result);
    if (failed != 0) {
        struct claim c = claim_remove(s, i);
        slot_release(false, c.slot);
        result = failed == -ECANCELED ? -EAGAIN : failed;
        trace("claim of slot t%u: %d", c.slot, failed);
        goto out;
    }
    /* The descriptor first: without one the connection stays where it is. */
    int fd = fd_placeholder(s->family, false, flags & SOCK_CLOEXEC);
    if (fd < 0) {
        result = fd;
        goto out;
    }
    struct sock *n = sock_new(false, s->family);
    if (n == NULL) {
        real()->close(fd);
        result = -ENFILE;
        goto out;
    }
    struct claim c = claim_remove(s, i);
    s->accepted++;
    n->slot = c.slot;
    n->up = slot_up(false, c.slot);
    n->down = d;
    n->generation = n->up->generation;
    n->token = n->up->share_token;
    n->error_seen = c.error_seen;
    n->app = lib.app;
    n->epoch = lib.epoch;
    n->nonblock = (flags & SOCK_NONBLOCK) != 0;
    n->remote = d->remote;
    n->remote.reserved = 0;
    option_inherit(n, s);
    conn_became_active(n);
    /* From here on tcp must not give the connection to another claim. */
    shm_store_release(&n->up->accepted, n->generation);
    name_to(&n->remote, s->family, sa, len);
    fd_install(fd, n);
    claims_post(s);
    option_flush(n);
    result = fd;
out:
    lock_give(&s->rx);
    return result;
}

int conn_accept(struct sock *s, struct sockaddr *sa, socklen_t *len, int flags)
{
    if (s->dgram)
        return -EOPNOTSUPP;
    if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0)
        return -EINVAL;
    struct deadline dl = deadline_in(s->rcvtimeo_ns);
    for (;;) {
        int fd = accept_try(s, sa, len, flags);
        if (fd != -EAGAIN || s->nonblock)
            return fd;
        if (load_relaxed(&s->closing))
            return -EBADF;
        int err = wait_for(s, sock_key(s), &dl, accept_ready, NULL);
        if (err != 0 && !accept_ready(s, NULL))
            return err;
    }
}

/* Withdraws the claims of a listener. What was established meanwhile is reset, as Linux does with
 * connections that nobody accepted. */
void conn_cancel_claims(struct sock *s)
{
    struct claim c[CLAIMS_MAX];
    if (!lock_take(&s->rx))
        return;
    uint32_t n = s->n_claims;
    memcpy(c, s->claim, sizeof c);
    s->n_claims = 0;
    lock_give(&s->rx);
    struct request cancel = {.op = OP_CANCEL}, close = {.op = OP_CLOSE, .arg0 = 1};
    for (uint32_t i = 0; i < n; i++)
        slot_request(false, c[i].slot, &cancel);
    for (uint32_t i = 0; i < n; i++) {
        struct sock bare = {.slot = c[i].slot,
                            .up = slot_up(false, c[i].slot),
                            .down = slot_down(false, c[i].slot)};
        request_wait(&bare);
        if (load_relaxed(&bare.down->result) != -ECANCELED)
            slot_request(false, c[i].slot, &close);
        slot_release(false, c[i].slot);
    }
}

/* Before fork(): claims that are not served yet are withdrawn, and posted again when this process
 * next looks at the listener. Else connections would come to a parent that leaves accepting to its
 * children. What was served in the meantime is kept. */
void conn_park_claims(struct sock *s)
{
    struct request cancel = {.op = OP_CANCEL};
    bool asked[CLAIMS_MAX] = {false};
    if (!lock_take(&s->rx))
        return;
    for (uint32_t i = 0; i < s->n_claims; i++) {
        asked[i] = !claim_done(&s->claim[i]);
        if (asked[i])
            slot_request(false, s->claim[i].slot, &cancel);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_claims; i++) {
        struct claim c = s->claim[i];
        if (asked[i]) {
            struct sock bare = {
                .slot = c.slot, .up = slot_up(false, c.slot), .down = slot_down(false, c.slot)};
            request_wait(&bare);
            c.req_id = bare.up->req_id;
            if (load_relaxed(&bare.down->result) == -ECANCELED) {
                slot_release(false, c.slot);
                continue;
            }
        }
        s->claim[kept++] = c;
    }
    s->n_claims = kept;
    lock_give(&s->rx);
}
