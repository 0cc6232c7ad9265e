/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What happens around a socket when its owner changes or dies: inheritance, closes that race with
 * TCP's look at the slot, sockets of the dead, records that do not hold. A hook before each store
 * of TCP plays the application that runs at the same time on another processor.
 */
/* link: eft_tcp_cp eft_harness_cp */
#include "tcp_peer.h"

#include <sys/socket.h>
#include <unistd.h>

static void (*hook)(void);

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
    if (hook != NULL)
        hook();
}

static struct sock heir;

static void inherit(const struct sock *from, unsigned app)
{
    heir = (struct sock){.s = us, .app = app, .slot = 4};
    struct up_slot *up = sock_fresh(&heir);
    up->target_app = from->app;
    up->target_slot = from->slot;
    up->target_generation = from->generation;
    up->token = sock_up(from)->share_token;
    sock_request(&heir, OP_INHERIT, 0, 0);
}

static void peer_sends(uint32_t from, unsigned n)
{
    uint8_t d[1000];
    stream(d, from, n);
    inject(TH_ACK, their(from), our(0), d, n);
}

/* --- a close that comes while TCP looks at the slot --- */

static bool fired;

static void close_now(void)
{
    const struct tcp_conn *c = conn();
    if (fired || c == NULL || !conn_has_fin(c))
        return;
    fired = true;
    sock_close(&k, true);
}

static void close_that_aborts_after_shutdown(void **state)
{
    (void)state;
    established_state();
    fired = false;
    hook = close_now;
    sock_shutdown(&k);
    look();
    hook = NULL;
    assert_true(fired);
    assert_true(last.flags & TH_RST);
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
}

static void dead_before_its_abort_was_seen(void **state)
{
    (void)state;
    established_state();
    sock_close(&k, true);
    host_app_gone(us->tcp, k.app);
    look();
    assert_true(last.flags & TH_RST);
    assert_true(host_app_done(us->tcp, k.app));
}

/* --- OP_INHERIT --- */

static unsigned replies;

/* Whoever sees the reply reads at rx_base: it must be the first byte that nobody has read. */
static void base_is_right(void)
{
    const struct down_slot *d = sock_down(&heir);
    if (!sock_replied(&heir, NULL) || d->generation != heir.generation ||
        d->state != SOCK_ESTABLISHED)
        return;
    const uint8_t *down = us->map->entry[REGION_OF_APP(heir.app, APP_DOWN_TCP)].base;
    const struct ring_block *rx = &d->rx[d->select >> 1 & 1].block[0];
    replies++;
    assert_int_equal(d->rx_nxt - d->rx_base, 30);
    assert_int_equal(down[rx->off + (d->rx_base & (rx->size - 1))], pattern(0, 50));
}

static void inherited_half_read(void **state)
{
    (void)state;
    established_state();
    peer_sends(0, 50);
    sock_step(&k);
    look();
    assert_int_equal(k.received, 50);
    peer_sends(50, 30);
    replies = 0;
    inherit(&k, world_add_app(us));
    hook = base_is_right;
    look();
    world_successor(us, END_KILLED); /* publishes all of it once more */
    look();
    hook = NULL;
    assert_true(replies > 0);
    heir.received = 50; /* the stream goes on */
    sock_step(&heir);
    assert_int_equal(heir.received, 80);
}

/* As libsock does it: of small reads, and of a write in the moment before, tcp hears nothing. */
static void inherited_before_tcp_was_told(void **state)
{
    const struct tcp_conn *c;
    (void)state;
    established_state();
    peer_sends(0, 80);
    assert_int_equal(sock_down(&k)->rx_nxt, sock_down(&k)->rx_base + 80);
    sock_up(&k)->rx_read = sock_down(&k)->rx_base + 50;
    sock_up(&k)->tx_end += 20;
    inherit(&k, world_add_app(us));
    look();
    assert_false(sock_replied(&heir, NULL)); /* 20 bytes are in the old owner's ring */
    assert_int_equal(last.len, 20);
    inject(TH_ACK, their(80), our(20), NULL, 0);
    look();
    assert_true(sock_replied(&heir, NULL));
    assert_int_equal(sock_down(&heir)->rx_nxt, sock_down(&heir)->rx_base + 30);
    k = heir;
    c = conn();
    assert_non_null(c);
    assert_int_equal(c->rx_read, 50);
}

/* What the old owner has read is not unread for a successor that the heir has not spoken to yet. */
static void inherited_and_closed_after_a_kill(void **state)
{
    (void)state;
    established_state();
    peer_sends(0, 80);
    sock_step(&k);
    look();
    inherit(&k, world_add_app(us));
    look();
    assert_true(sock_replied(&heir, NULL));
    world_successor(us, END_KILLED);
    look();
    sock_close(&heir, false);
    look();
    assert_false(last.flags & TH_RST);
    assert_true(last.flags & TH_FIN);
    assert_int_equal(counter(TCP_C_ABORTED_UNREAD), 0);
}

/* --- who sleeps is rung --- */

/* A thread of `sk`'s application goes to sleep on it. Returns where its rings arrive. */
static int sleeps_on(const struct sock *sk)
{
    int pair[2];
    struct app *a = &us->tcp->app[sk->app];
    struct up_region *up =
        (struct up_region *)(void *)us->map->entry[REGION_OF_APP(sk->app, APP_UP)].base;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    a->waiter[0] = (struct bell){.fd = pair[0], .kind = BELL_DGRAM};
    a->waiters = 1;
    a->rung[0] = 0;
    up->waiter[0].socket = sk->slot;
    up->waiter[0].armed = 1;
    return pair[1];
}

static bool was_rung(const struct sock *sk, int fd)
{
    char byte;
    struct app *a = &us->tcp->app[sk->app];
    bool rung = recv(fd, &byte, 1, MSG_DONTWAIT) == 1;
    close(fd);
    close(a->waiter[0].fd);
    a->waiter[0].fd = -1;
    a->waiters = 0;
    return rung;
}

/* The old owner had news in the very turn in which the connection moves. */
static void heir_is_rung(void **state)
{
    uint8_t d[100] = {0};
    (void)state;
    established_state();
    inherit(&k, world_add_app(us));
    int fd = sleeps_on(&heir);
    deliver_segment(
        (struct tcp_seg){
            .flags = TH_ACK, .seq = their(0), .ack = our(0), .wnd = PEER_WINDOW, .len = 100},
        d, false);
    world_tcp_turn(us);
    assert_true(sock_replied(&heir, NULL));
    assert_true(was_rung(&heir, fd));
    look();
}

/* Whichever of several claims is served first. */
static void accept_sleeps_on_the_listener(void **state)
{
    struct sock claims[2];
    (void)state;
    listen_state();
    for (unsigned i = 0; i < 2; i++) {
        claims[i] = (struct sock){.s = us, .app = listener.app, .slot = 1 + i};
        sock_claim(&claims[i], &listener);
        look();
    }
    int fd = sleeps_on(&listener);
    inject(TH_SYN, their_iss, 0, NULL, 0);
    our_iss = last.seq;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&claims[0])->state, SOCK_ESTABLISHED);
    assert_true(was_rung(&listener, fd));
}

/* --- the parent is gone before its child asks --- */

static void listener_of_the_dead(void **state)
{
    int result = 1;
    (void)state;
    listen_state();
    sock_up(&listener)->forked = listener.generation;
    host_app_gone(us->tcp, listener.app);
    look();
    assert_false(host_app_done(us->tcp, listener.app));
    assert_true(tcp_ops.deadline(us->tcp) <= w.now + SEC);
    assert_false(tcp_ops.pending(us->tcp)); /* waits, and does not spin */
    world_successor(us, END_KILLED);
    look();
    inherit(&listener, world_add_app(us));
    look();
    assert_true(sock_replied(&heir, &result));
    assert_int_equal(result, 0);
    later(SEC + 1);
    assert_true(host_app_done(us->tcp, listener.app));
    assert_int_equal(sock_down(&heir)->state, SOCK_LISTEN);
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
}

static void listener_of_the_dead_without_heirs(void **state)
{
    (void)state;
    listen_state();
    sock_up(&listener)->forked = listener.generation;
    host_app_gone(us->tcp, listener.app);
    later(SEC - 1);
    assert_false(host_app_done(us->tcp, listener.app));
    later(SEC);
    assert_true(host_app_done(us->tcp, listener.app));
    inject(TH_SYN, their_iss, 0, NULL, 0);
    assert_int_equal(last.flags, TH_RST | TH_ACK);
}

static void port_of_the_dead(void **state)
{
    int result = 1;
    (void)state;
    listen_state();
    sock_up(&listener)->forked = listener.generation;
    host_app_gone(us->tcp, listener.app);
    look();
    struct sock other = {.s = us, .app = world_add_app(us), .slot = 2};
    sock_listen(&other, 8080, 4);
    look();
    assert_true(sock_replied(&other, &result));
    assert_int_equal(result, 0);
    inherit(&listener, other.app);
    look();
    assert_true(sock_replied(&heir, &result));
    assert_int_equal(result, -EBADF);
}

static void connection_of_the_dead(void **state)
{
    int result = 1;
    (void)state;
    established_state();
    peer_sends(0, 60);
    sock_up(&k)->forked = k.generation;
    host_app_gone(us->tcp, k.app);
    look();
    assert_int_equal(sent, 0); /* neither FIN nor RST */
    inherit(&k, world_add_app(us));
    look();
    assert_true(sock_replied(&heir, &result));
    assert_int_equal(result, 0);
    later(SEC + 1);
    assert_true(host_app_done(us->tcp, k.app));
    sock_step(&heir);
    assert_int_equal(heir.received, 60);
    assert_int_equal(sock_down(&heir)->state, SOCK_ESTABLISHED);
}

static void connection_of_the_dead_without_heirs(void **state)
{
    (void)state;
    established_state();
    sock_up(&k)->forked = k.generation;
    host_app_gone(us->tcp, k.app);
    look();
    assert_int_equal(sent, 0);
    later(SEC);
    assert_true(last.flags & TH_FIN);
}

/* --- records that do not hold --- */

static struct tcp_forensic *forensic(void)
{
    return ((struct tcp *)us->tcp->state)->forensic;
}

static void counters_that_contradict(void **state)
{
    (void)state;
    established_state();
    struct tcp *t = us->tcp->state;
    uint32_t idx = conn()->idx;
    peer_sends(0, 40);
    uint64_t told = sock_down(&k)->rx_nxt;
    t->shm[idx].tx_una = 12345;
    t->shm[idx].rx_nxt = 5000;
    world_successor(us, END_KILLED);
    look();
    assert_true(last.flags & TH_RST);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNABORTED);
    assert_int_equal(counter(TCP_C_FORENSIC), 1);
    assert_int_equal(forensic()->taken, 1);
    const struct tcp_forensic_copy *c = &forensic()->copy[0];
    assert_int_equal(c->reason, TCP_FORENSIC_COUNTERS);
    assert_int_equal(c->index, idx);
    assert_int_equal(c->time_ns, w.now);
    assert_int_equal(c->found.tx_una, 12345);
    struct tcp_record r;
    assert_int_equal(tcp_record_load(&c->found, &r), 0);
    assert_int_equal(r.state, TCP_ESTABLISHED);
    assert_int_equal(r.remote.port, their_port);
    /* What the application was told stands: not a byte more of the ring is shown to it. */
    assert_int_equal(sock_down(&k)->rx_nxt, told);
    uint32_t errors = sock_down(&k)->error_seq;
    /* Reported once, whatever comes. */
    world_successor(us, END_KILLED);
    look();
    assert_int_equal(forensic()->taken, 1);
    assert_int_equal(sock_down(&k)->error_seq, errors);
    assert_int_equal(sock_down(&k)->rx_nxt, told);
}

static void record_that_is_unreadable(void **state)
{
    (void)state;
    established_state();
    struct tcp *t = us->tcp->state;
    uint32_t idx = conn()->idx;
    t->shm[idx].record[0].iss ^= 1;
    t->shm[idx].record[1].iss ^= 1;
    world_successor(us, END_KILLED);
    look();
    assert_int_equal(forensic()->taken, 1);
    assert_int_equal(forensic()->copy[0].reason, TCP_FORENSIC_NO_RECORD);
    /* Its application is not left waiting for ever. */
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNABORTED);
    assert_int_equal(sock_down(&listener)->state, SOCK_LISTEN);
    sock_close(&k, false);
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
}

static void record_of_which_one_copy_is_left(void **state)
{
    (void)state;
    established_state();
    peer_sends(0, 40);
    sock_step(&k);
    look();
    struct tcp *t = us->tcp->state;
    uint32_t idx = conn()->idx;
    uint64_t told = sock_down(&k)->rx_nxt;
    t->shm[idx].record[t->shm[idx].select & 1].iss ^= 1;
    world_successor(us, END_KILLED);
    look();
    assert_int_equal(forensic()->taken, 1);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    assert_int_equal(sock_down(&k)->error, ECONNABORTED);
    assert_true(sock_down(&k)->rx_nxt >= told);
}

static void old_copies_give_way(void **state)
{
    (void)state;
    established_state();
    forensic()->taken = TCP_FORENSIC_COPIES;
    ((struct tcp *)us->tcp->state)->shm[conn()->idx].rx_acked = 99;
    world_successor(us, END_KILLED);
    look();
    assert_int_equal(forensic()->taken, TCP_FORENSIC_COPIES + 1);
    assert_int_equal(forensic()->copy[0].found.rx_acked, 99);
}

/* --- what a successor sends at once --- */

/* More than one segment, or the peer's delayed ACK keeps everybody waiting. */
static void window_of_the_peer(void **state)
{
    (void)state;
    established_state();
    app_writes(3000);
    inject(TH_ACK, their(0), our(3000), NULL, 0);
    world_successor(us, END_KILLED);
    look();
    assert_int_equal(sent, 0);
    app_writes(5000);
    assert_true(sent >= 5);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
}

static void window_that_is_closed(void **state)
{
    struct tcp_seg s = {.flags = TH_ACK};
    (void)state;
    established_state();
    app_writes(3000);
    s.seq = their(0);
    s.ack = our(3000);
    deliver_segment(s, NULL, false);
    look();
    app_writes(3000);
    world_successor(us, END_KILLED);
    look();
    assert_int_equal(sent, 0);
    s.wnd = PEER_WINDOW; /* it opens, and says so once */
    deliver_segment(s, NULL, false);
    look();
    assert_true(sent >= 3);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
}

/* The end of what had been sent was stored; not a segment of it had left. */
static jmp_buf dead;

static void die_before_publishing(void)
{
    const struct tcp *t = us->tcp->state;
    if (conn() != NULL && t->shm[conn()->idx].snd_max > 1000)
        longjmp(dead, 1);
}

static void killed_before_anything_left(void **state)
{
    (void)state;
    established_state();
    hook = die_before_publishing;
    if (setjmp(dead) == 0) {
        app_writes(5000);
        fail();
    }
    hook = NULL;
    world_successor(us, END_KILLED);
    look();
    assert_true(sent >= 5);
}

/* What had been published is under way: its successor waits for the ACK, and takes any of them. */
static void killed_after_all_had_left(void **state)
{
    (void)state;
    established_state();
    app_writes(3000);
    assert_int_equal(sent, 3);
    inject(TH_ACK, their(0), our(1000), NULL, 0);
    world_successor(us, END_KILLED);
    look();
    assert_int_equal(sent, 0);
    app_writes(1000); /* goes on behind it */
    assert_int_equal(sent, 1);
    assert_int_equal(counter(TCP_C_RETRANS), 0);
    inject(TH_ACK, their(0), our(4000), NULL, 0);
    assert_int_equal(conn()->tx_una, 4000);
    app_writes(1000);
    world_successor(us, END_KILLED);
    look();
    later(2 * SEC); /* it was lost after all */
    assert_true(counter(TCP_C_RETRANS) > 0);
}

/* --- bytes are counted once, over restarts --- */

static void payload_counters(void **state)
{
    uint8_t d[300];
    (void)state;
    established_state();
    stream(d, 0, 300);
    inject(TH_ACK, their(200), our(0), d + 200, 100); /* out of order */
    assert_int_equal(counter(TCP_C_BYTES_RECEIVED), 0);
    inject(TH_ACK, their(0), our(0), d, 200);
    inject(TH_ACK, their(100), our(0), d + 100, 200); /* a duplicate */
    assert_int_equal(counter(TCP_C_BYTES_RECEIVED), 300);
    app_writes(500);
    later(2 * SEC); /* retransmitted */
    assert_true(counter(TCP_C_RETRANS) > 0);
    assert_int_equal(counter(TCP_C_BYTES_SENT), 500);
    world_successor(us, END_KILLED);
    look();
    inject(TH_ACK, their(300), our(500), NULL, 0);
    app_writes(7);
    sock_step(&k);
    sock_close(&k, false); /* a FIN is no byte */
    look();
    assert_int_equal(counter(TCP_C_BYTES_RECEIVED), 300);
    assert_int_equal(counter(TCP_C_BYTES_SENT), 507);
    assert_int_equal(us->tcp->block->counter[TCP_C_BYTES_SENT], 507);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(close_that_aborts_after_shutdown),
        T(dead_before_its_abort_was_seen),
        T(inherited_half_read),
        T(inherited_before_tcp_was_told),
        T(inherited_and_closed_after_a_kill),
        T(heir_is_rung),
        T(accept_sleeps_on_the_listener),
        T(listener_of_the_dead),
        T(listener_of_the_dead_without_heirs),
        T(port_of_the_dead),
        T(connection_of_the_dead),
        T(connection_of_the_dead_without_heirs),
        T(counters_that_contradict),
        T(record_that_is_unreadable),
        T(record_of_which_one_copy_is_left),
        T(old_copies_give_way),
        T(window_of_the_peer),
        T(window_that_is_closed),
        T(killed_before_anything_left),
        T(killed_after_all_had_left),
        T(payload_counters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
