/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What applications ask for: ports, claims, connections that change hands.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

static void privileged_port(void **state)
{
    int result = 0;
    (void)state;
    sock_listen(&listener, 80, 4);
    look();
    assert_true(sock_replied(&listener, &result));
    assert_int_equal(result, -EACCES);
    struct tcp *t = us->tcp->state;
    t->app_shm[listener.app].granted[80 / 64] |= 1ull << 80 % 64;
    sock_up(&listener)->released = listener.generation;
    sock_listen(&listener, 80, 4);
    look();
    assert_true(sock_replied(&listener, &result));
    assert_int_equal(result, 0);
}

static void port_in_use(void **state)
{
    int result = 0;
    (void)state;
    listen_state();
    sock_listen(&k, 8080, 4);
    look();
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -EADDRINUSE);
}

static void claim_cancelled(void **state)
{
    int result = 0;
    (void)state;
    listen_state();
    sock_claim(&k, &listener);
    look();
    assert_int_equal(sock_down(&k)->state, SOCK_CLAIM);
    sock_request(&k, OP_CANCEL, 0, 0);
    look();
    assert_true(sock_replied(&k, &result));
    assert_int_equal(result, -ECANCELED);
    assert_int_equal(sock_down(&k)->state, SOCK_FREE);
}

static void claim_with_a_wrong_token(void **state)
{
    int result = 0;
    (void)state;
    listen_state();
    struct sock other = {.s = us, .app = world_add_app(us), .slot = 2};
    look();
    sock_claim(&other, &listener);
    sock_up(&other)->token ^= 1;
    look();
    assert_true(sock_replied(&other, &result));
    assert_int_equal(result, -EBADF);
}

/* A listener shared after fork, early data, and a worker in another process. */
static void worker_claims_early_data(void **state)
{
    uint8_t d[700];
    int result = 1;
    (void)state;
    listen_state();
    struct sock worker = {.s = us, .app = world_add_app(us)}, *wk = &worker;
    struct up_slot *up = sock_fresh(wk);
    up->target_app = listener.app;
    up->target_slot = listener.slot;
    up->target_generation = listener.generation;
    up->token = sock_up(&listener)->share_token;
    sock_request(wk, OP_INHERIT, 0, 0);
    look();
    assert_true(sock_replied(wk, &result));
    assert_int_equal(result, 0);
    assert_int_equal(sock_down(wk)->state, SOCK_LISTEN);

    inject(TH_SYN, their_iss, 0, NULL, 0);
    our_iss = last.seq;
    stream(d, 0, 700);
    inject(TH_ACK, their(0), our(0), d, 300);
    inject(TH_ACK, their(500), our(0), d + 500, 200); /* out of order, moves along */
    assert_int_equal(sock_down(&listener)->pending, 1);
    assert_int_equal(sock_down(wk)->pending, 1);

    /* The first process goes; the connection stays. */
    sock_close(&listener, false);
    look();
    k = (struct sock){.s = us, .app = worker.app, .slot = 3};
    sock_claim(&k, wk);
    look();
    sock_step(&k);
    sock_step(&k);
    inject(TH_ACK, their(300), our(0), d + 300, 200);
    assert_int_equal(last.ack, their(700));
    sock_step(&k);
    assert_int_equal(k.received, 700);
}

static void inherited_connection(void **state)
{
    int result = 1;
    uint8_t d[50];
    (void)state;
    established_state();
    app_writes(100);
    struct sock heir = {.s = us, .app = world_add_app(us), .slot = 4};
    struct up_slot *up = sock_fresh(&heir);
    up->target_app = k.app;
    up->target_slot = k.slot;
    up->target_generation = k.generation;
    up->token = sock_up(&k)->share_token;
    sock_request(&heir, OP_INHERIT, 0, 0);
    look();
    assert_false(sock_replied(&heir, NULL)); /* 100 bytes are in the old owner's ring */
    inject(TH_ACK, their(0), our(100), NULL, 0);
    look();
    assert_true(sock_replied(&heir, &result));
    assert_int_equal(result, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_CLOSED);
    k = heir;
    sock_step(&k);
    stream(d, 0, 50);
    inject(TH_ACK, their(0), our(100), d, 50);
    sock_step(&k);
    assert_int_equal(k.received, 50);
    app_writes(10);
    assert_int_equal(last.seq, our(100));
    assert_int_equal(last.len, 10);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(privileged_port),          T(port_in_use),
        T(claim_cancelled),          T(claim_with_a_wrong_token),
        T(worker_claims_early_data), T(inherited_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
