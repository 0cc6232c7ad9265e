/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The calls of eft.h against the double of tcp: what is held stays and is not given back, what is
 * reserved is not seen; both through wraps and growth; many sockets in one call.
 */
/* link: eft_sock */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sock_double.h"

enum { BULK = 1 << 20, NOW = MSG_DONTWAIT };

struct pair {
    int fd[2]; /* 0 connected, 1 was accepted */
    struct sock *s[2];
};

static struct pair make_pair(void)
{
    struct pair p;
    d_pair(p.fd, p.s);
    return p;
}

static void end_pair(struct pair *p)
{
    d_close(p->fd[0]);
    d_close(p->fd[1]);
}

static ssize_t put(struct sock *s, const void *buf, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    return stream_send(s, &iov, 1, MSG_NOSIGNAL);
}

static ssize_t get(struct sock *s, void *buf, size_t len, int flags)
{
    struct iovec iov = {buf, len};
    return stream_recv(s, &iov, 1, flags);
}

static uint8_t pattern(uint64_t off)
{
    return (uint8_t)(off * 7 + (off >> 9));
}

static void fill(const struct eft_span *span, uint64_t at)
{
    for (unsigned i = 0; i < span->pieces; i++)
        for (size_t k = 0; k < span->piece[i].iov_len; k++)
            ((uint8_t *)span->piece[i].iov_base)[k] = pattern(at++);
}

static void check(const struct eft_span *span, uint64_t at)
{
    size_t sum = 0;
    for (unsigned i = 0; i < span->pieces; i++) {
        for (size_t k = 0; k < span->piece[i].iov_len; k++, at++)
            if (((const uint8_t *)span->piece[i].iov_base)[k] != pattern(at))
                fail_msg("byte %llu is wrong", (unsigned long long)at);
        sum += span->piece[i].iov_len;
    }
    assert_int_equal(sum, span->len);
}

static void send_pattern(struct sock *s, uint64_t at, size_t len)
{
    uint8_t buf[2 * D_BLOCK];
    assert_true(len <= sizeof buf);
    for (size_t i = 0; i < len; i++)
        buf[i] = pattern(at + i);
    assert_int_equal(put(s, buf, len), len);
}

static void await(struct sock *s, int unread)
{
    while (stream_fionread(s) < unread)
        sched_yield();
}

/* All that was sent has left the ring. */
static void await_taken(struct sock *s)
{
    while (load_acquire(&s->down->tx_free) != s->up->tx_end)
        sched_yield();
}

static void only_streams_of_the_stack(void **state)
{
    (void)state;
    struct eft_span span;
    struct eft_op op = {.fd = 0, .len = 1};
    struct pair p = make_pair();
    assert_int_equal(zerocopy_available(p.fd[0]), 1);
    assert_int_equal(zerocopy_available(0), 0);
    assert_int_equal(zerocopy_available(-1), 0);
    assert_int_equal(zerocopy_recv(0, &span, 1, 0), -EOPNOTSUPP);
    assert_int_equal(zerocopy_commit(0, 0), -EOPNOTSUPP);
    assert_int_equal(zerocopy_recv(d_lfd, &span, 1, 0), -ENOTCONN);
    assert_int_equal(zerocopy_recv(p.fd[0], &span, 0, 0), -EINVAL);
    assert_int_equal(zerocopy_recv(p.fd[0], &span, 1, MSG_PEEK), -EINVAL);
    /* This program has no libsock.so in front: as one that runs without Eft. */
    assert_int_equal(eft_available(p.fd[0]), 0);
    assert_int_equal(eft_recv(p.fd[0], &span, 1, 0), -EOPNOTSUPP);
    assert_int_equal(eft_reserve(p.fd[0], &span, 1, 0), -EOPNOTSUPP);
    assert_int_equal(eft_release(p.fd[0], 1), -EOPNOTSUPP);
    assert_int_equal(eft_commit(p.fd[0], 1), -EOPNOTSUPP);
    assert_int_equal(eft_recv_many(&op, 1) + eft_release_many(&op, 1) + eft_reserve_many(&op, 1) +
                         eft_commit_many(&op, 1),
                     0);
    assert_int_equal(op.result, -EOPNOTSUPP);
    end_pair(&p);
}

static void held_bytes_are_unread_to_tcp_and_read_to_the_program(void **state)
{
    (void)state;
    struct eft_span a, b;
    char c;
    struct pair p = make_pair();
    const struct up_slot *up = p.s[1]->up;
    uint64_t base = up->rx_read;
    send_pattern(p.s[0], 0, 1000);
    await(p.s[1], 1000);
    assert_int_equal(zerocopy_recv(p.fd[1], &a, 600, 0), 600);
    check(&a, 0);
    assert_int_equal(up->rx_read, base);
    assert_int_equal(stream_fionread(p.s[1]), 400);
    assert_int_equal(get(p.s[1], &c, 1, NOW), -EBUSY);
    assert_int_equal(get(p.s[1], &c, 1, NOW | MSG_PEEK), 1);
    assert_int_equal((uint8_t)c, pattern(600));
    assert_int_equal(zerocopy_recv(p.fd[1], &b, SIZE_MAX, 0), 400);
    check(&b, 600);
    assert_int_equal(stream_ready(p.s[1]) & POLLIN, 0);
    assert_int_equal(zerocopy_recv(p.fd[1], &a, 1, NOW), -EAGAIN);
    /* In the order of the stream, not of the pieces. */
    assert_int_equal(zerocopy_release(p.fd[1], 1001), -EINVAL);
    assert_int_equal(zerocopy_release(p.fd[1], 700), 0);
    assert_int_equal(up->rx_read, base + 700);
    assert_int_equal(zerocopy_release(p.fd[1], 300), 0);
    assert_int_equal(zerocopy_release(p.fd[1], 1), -EINVAL);
    send_pattern(p.s[0], 1000, 1);
    assert_int_equal(get(p.s[1], &c, 1, 0), 1);
    assert_int_equal(up->rx_read, base + 1001);
    end_pair(&p);
}

static void held_bytes_stay_while_the_peer_fills_the_ring(void **state)
{
    (void)state;
    struct eft_span first, rest;
    struct pair p = make_pair();
    /* Begin where the ring wraps. */
    uint8_t skip[D_BLOCK - 100];
    send_pattern(p.s[0], 0, sizeof skip);
    assert_int_equal(get(p.s[1], skip, sizeof skip, MSG_WAITALL), sizeof skip);
    send_pattern(p.s[0], 0, 3000);
    await(p.s[1], 3000);
    assert_int_equal(zerocopy_recv(p.fd[1], &first, 3000, 0), 3000);
    assert_int_equal(first.pieces, 2);
    /* More than there is room for: what does not fit waits in the sender's ring. */
    send_pattern(p.s[0], 3000, D_BLOCK);
    await(p.s[1], D_BLOCK - 3000);
    check(&first, 0);
    assert_int_equal(zerocopy_recv(p.fd[1], &rest, SIZE_MAX, 0), D_BLOCK - 3000);
    check(&rest, 3000);
    check(&first, 0);
    /* Who holds it all waits for nothing. */
    struct eft_span none;
    assert_int_equal(zerocopy_recv(p.fd[1], &none, 1, 0), -ENOBUFS);
    assert_int_equal(zerocopy_release(p.fd[1], 3000), 0);
    await(p.s[1], 3000);
    check(&rest, 3000);
    assert_int_equal(zerocopy_recv(p.fd[1], &none, 1, 0), 1);
    check(&none, D_BLOCK);
    end_pair(&p);
}

static void a_reader_who_holds_tells_tcp_of_the_rest(void **state)
{
    (void)state;
    struct eft_span span;
    struct pair p = make_pair();
    send_pattern(p.s[0], 0, 3000);
    await(p.s[1], 3000);
    assert_int_equal(zerocopy_recv(p.fd[1], &span, 3000, 0), 3000);
    uint64_t tail = lib.up->work_tcp.tail;
    /* Less than a quarter of the ring: nobody is told … */
    assert_int_equal(zerocopy_release(p.fd[1], 1000), 0);
    assert_int_equal(lib.up->work_tcp.tail, tail);
    /* … until nothing more is there, and then once. */
    assert_int_equal(zerocopy_recv(p.fd[1], &span, 1, NOW), -EAGAIN);
    assert_int_equal(lib.up->work_tcp.tail, tail + 1);
    assert_int_equal(zerocopy_recv(p.fd[1], &span, 1, NOW), -EAGAIN);
    assert_int_equal(lib.up->work_tcp.tail, tail + 1);
    end_pair(&p);
}

static void references_survive_growth_of_the_ring(void **state)
{
    (void)state;
    struct eft_span old, both, more;
    struct pair p = make_pair();
    uint8_t skip[D_BLOCK - 1000];
    send_pattern(p.s[0], 0, sizeof skip);
    assert_int_equal(get(p.s[1], skip, sizeof skip, MSG_WAITALL), sizeof skip);
    send_pattern(p.s[0], 0, 5000);
    await(p.s[1], 5000);
    assert_int_equal(zerocopy_recv(p.fd[1], &old, 500, 0), 500);
    d_meanwhile(d_grow_rx, p.s[1]->slot);
    send_pattern(p.s[0], 5000, D_BLOCK);
    await(p.s[1], 4500 + D_BLOCK);
    /* The old block and its end, the new one and its end. */
    assert_int_equal(zerocopy_recv(p.fd[1], &both, SIZE_MAX, 0), 4500 + D_BLOCK);
    assert_in_range(both.pieces, 3, 4);
    check(&both, 500);
    check(&old, 0);
    assert_int_equal(zerocopy_release(p.fd[1], 5000 + D_BLOCK), 0);
    send_pattern(p.s[0], 0, 100);
    assert_int_equal(zerocopy_recv(p.fd[1], &more, 100, 0), 100);
    check(&more, 0);
    end_pair(&p);
}

static void reset(unsigned slot)
{
    d_reset(slot, ECONNRESET);
}

static void the_end_and_errors_come_behind_the_data(void **state)
{
    (void)state;
    struct eft_span span;
    struct pair p = make_pair();
    send_pattern(p.s[0], 0, 10);
    assert_int_equal(conn_shutdown(p.s[0], SHUT_WR), 0);
    assert_int_equal(zerocopy_recv(p.fd[1], &span, SIZE_MAX, 0), 10);
    assert_int_equal(zerocopy_recv(p.fd[1], &span, SIZE_MAX, 0), 0);
    assert_int_equal(zerocopy_reserve(p.fd[1], &span, 10, 0), 10);
    d_meanwhile(reset, p.s[1]->slot);
    assert_int_equal(zerocopy_commit(p.fd[1], 10), -ECONNRESET);
    assert_int_equal(zerocopy_commit(p.fd[1], 10), -EPIPE);
    assert_int_equal(zerocopy_reserve(p.fd[1], &span, 10, 0), -EPIPE);
    assert_int_equal(zerocopy_release(p.fd[1], 10), 0);
    end_pair(&p);
}

static void reserved_bytes_are_not_sent_before_commit(void **state)
{
    (void)state;
    struct eft_span span, again, got;
    struct pair p = make_pair();
    const struct up_slot *up = p.s[0]->up;
    uint64_t end = up->tx_end;
    assert_int_equal(zerocopy_reserve(p.fd[0], &span, 500, 0), 500);
    fill(&span, 0);
    assert_int_equal(up->tx_end, end);
    assert_int_equal(put(p.s[0], "x", 1), -EBUSY);
    assert_int_equal(zerocopy_commit(p.fd[0], 501), -EINVAL);
    /* A second reservation begins where the first did. */
    assert_int_equal(zerocopy_reserve(p.fd[0], &again, SIZE_MAX, 0), D_BLOCK);
    assert_ptr_equal(again.piece[0].iov_base, span.piece[0].iov_base);
    assert_int_equal(zerocopy_commit(p.fd[0], 300), 0);
    assert_int_equal(up->tx_end, end + 300);
    assert_int_equal(zerocopy_commit(p.fd[0], 1), -EINVAL);
    send_pattern(p.s[0], 300, 50);
    await(p.s[1], 350);
    assert_int_equal(zerocopy_recv(p.fd[1], &got, SIZE_MAX, 0), 350);
    check(&got, 0);
    /* Taken back, and ended by shutdown. */
    assert_int_equal(zerocopy_reserve(p.fd[0], &span, 5, 0), 5);
    assert_int_equal(zerocopy_commit(p.fd[0], 0), 0);
    assert_int_equal(zerocopy_reserve(p.fd[0], &span, 5, 0), 5);
    assert_int_equal(conn_shutdown(p.s[0], SHUT_WR), 0);
    assert_int_equal(zerocopy_commit(p.fd[0], 5), -EPIPE);
    assert_int_equal(up->tx_end & OFF_MASK, end + 350);
    end_pair(&p);
}

/* As tcp does it: the second block takes over where the first one may be written to by now. */
static void grow_tx(unsigned i)
{
    struct down_slot *d = &dbl.down[i];
    struct ring_desc r = d->tx[d->select & 1];
    r.switch_at = d->tx_free + r.block[0].size;
    r.block[1] = (struct ring_block){d_block2(i), 2 * D_BLOCK, 0};
    d->tx[!(d->select & 1)] = r;
    shm_store_release(&d->select, ring_select_next(d->select, 0));
}

/* To this place in either block: a slot that was in use before goes on where it was. */
static void advance_to(const struct pair *p, uint64_t place)
{
    uint8_t skip[4000];
    for (uint64_t n; (n = (place - p->s[0]->up->tx_end) % (2 * D_BLOCK)) != 0;) {
        n = n < sizeof skip ? n : sizeof skip;
        send_pattern(p->s[0], 0, n);
        assert_int_equal(get(p->s[1], skip, n, MSG_WAITALL), n);
    }
    await_taken(p->s[0]);
}

static void a_reservation_survives_growth_of_the_ring(void **state)
{
    (void)state;
    struct eft_span span, next, got;
    uint64_t at = 0;
    struct pair p = make_pair();
    advance_to(&p, 5000);
    assert_int_equal(zerocopy_reserve(p.fd[0], &span, SIZE_MAX, 0), D_BLOCK);
    assert_int_equal(span.pieces, 2);
    d_meanwhile(grow_tx, p.s[0]->slot);
    fill(&span, 0);
    assert_int_equal(zerocopy_commit(p.fd[0], 6000), 0);
    /* What is left of the old block, and the new one. */
    await_taken(p.s[0]);
    assert_int_equal(zerocopy_reserve(p.fd[0], &next, 4000, 0), 4000);
    assert_int_equal(next.pieces, 2);
    fill(&next, 6000);
    assert_int_equal(zerocopy_commit(p.fd[0], 4000), 0);
    while (at < 10000) {
        ssize_t n = zerocopy_recv(p.fd[1], &got, SIZE_MAX, 0);
        assert_true(n > 0);
        check(&got, at);
        at += (uint64_t)n;
        assert_int_equal(zerocopy_release(p.fd[1], (size_t)n), 0);
    }
    end_pair(&p);
}

static void *reserving_sender(void *arg)
{
    const struct pair *p = arg;
    struct eft_span span;
    for (uint64_t at = 0; at < BULK;) {
        ssize_t n = zerocopy_reserve(p->fd[0], &span, 1 + at % 5000, 0);
        if (n <= 0)
            return NULL;
        size_t use = (size_t)n - (n > 7 ? (size_t)n % 7 : 0);
        if (use > BULK - at)
            use = BULK - at;
        fill(&span, at);
        if (zerocopy_commit(p->fd[0], use) != 0)
            return NULL;
        at += use;
    }
    return conn_shutdown(p->s[0], SHUT_WR) == 0 ? arg : NULL;
}

static void bulk_between_blocking_threads(void **state)
{
    (void)state;
    enum { DEPTH = 5 };
    struct eft_span held[DEPTH];
    uint64_t at[DEPTH], end = 0;
    unsigned first = 0, last = 0;
    void *ok;
    pthread_t t;
    struct pair p = make_pair();
    pthread_create(&t, NULL, reserving_sender, &p);
    for (;;) {
        /* Five references at most, each looked at when it is given back. */
        if (last - first == DEPTH) {
            check(&held[first % DEPTH], at[first % DEPTH]);
            assert_int_equal(zerocopy_release(p.fd[1], held[first++ % DEPTH].len), 0);
        }
        ssize_t n = zerocopy_recv(p.fd[1], &held[last % DEPTH], 1 + end % 800, 0);
        assert_true(n >= 0);
        if (n == 0)
            break;
        at[last++ % DEPTH] = end;
        end += (uint64_t)n;
    }
    assert_int_equal(end, BULK);
    pthread_join(t, &ok);
    assert_non_null(ok);
    end_pair(&p);
}

static void many_sockets_one_wake(void **state)
{
    (void)state;
    enum { N = 4 };
    struct pair p[N];
    struct eft_op op[N + 1];
    char byte[16];
    int rung = 0;
    for (unsigned i = 0; i < N; i++) {
        p[i] = make_pair();
        op[i] = (struct eft_op){.fd = p[i].fd[0], .len = 100 + i};
    }
    op[N] = (struct eft_op){.fd = 0, .len = 1};
    assert_int_equal(eft_reserve_many(op, 0), 0);
    assert_int_equal(zerocopy_reserve_many(op, N + 1), N);
    assert_int_equal(op[N].result, -EOPNOTSUPP);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(op[i].result, 100 + i);
        fill(&op[i].span, i);
    }
    d_stop();
    while (recv(dbl.bell_fd, byte, sizeof byte, MSG_DONTWAIT) > 0)
        ;
    shm_store(&dbl.pub->asleep, 1u);
    uint64_t tail = lib.up->work_tcp.tail;
    assert_int_equal(zerocopy_commit_many(op, N + 1), N);
    assert_int_equal(lib.up->work_tcp.tail, tail + N);
    while (recv(dbl.bell_fd, byte, sizeof byte, MSG_DONTWAIT) > 0)
        rung++;
    assert_int_equal(rung, 1);
    shm_store(&dbl.pub->asleep, 0u);
    shm_store(&dbl.stop, false);
    d_run();
    for (unsigned i = 0; i < N; i++) {
        await(p[i].s[1], 100 + (int)i);
        op[i] = (struct eft_op){.fd = p[i].fd[1], .len = SIZE_MAX};
    }
    assert_int_equal(zerocopy_recv_many(op, N), N);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(op[i].result, 100 + i);
        check(&op[i].span, i);
        op[i].len = op[i].span.len;
    }
    assert_int_equal(zerocopy_release_many(op, N), N);
    assert_int_equal(zerocopy_recv_many(op, N), 0);
    assert_int_equal(op[0].result, -EAGAIN);
    for (unsigned i = 0; i < N; i++)
        end_pair(&p[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_streams_of_the_stack),
        cmocka_unit_test(held_bytes_are_unread_to_tcp_and_read_to_the_program),
        cmocka_unit_test(held_bytes_stay_while_the_peer_fills_the_ring),
        cmocka_unit_test(a_reader_who_holds_tells_tcp_of_the_rest),
        cmocka_unit_test(references_survive_growth_of_the_ring),
        cmocka_unit_test(the_end_and_errors_come_behind_the_data),
        cmocka_unit_test(reserved_bytes_are_not_sent_before_commit),
        cmocka_unit_test(a_reservation_survives_growth_of_the_ring),
        cmocka_unit_test(bulk_between_blocking_threads),
        cmocka_unit_test(many_sockets_one_wake),
    };
    return cmocka_run_group_tests(tests, d_setup, d_teardown);
}
