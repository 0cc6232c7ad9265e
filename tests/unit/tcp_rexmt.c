/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a connection does when nobody answers: retransmission, keepalive, the user timeout.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

static void established_retransmits(void **state)
{
    (void)state;
    established_state();
    app_writes(100);
    assert_int_equal(last.len, 100);
    uint64_t wait = 0, before = 0;
    for (unsigned i = 0; i < 4; i++) { /* doubling */
        for (wait = 0; wait < 100; wait++) {
            later(100 * MSEC);
            if (sent)
                break;
        }
        assert_int_equal(last.seq, our(0));
        assert_int_equal(last.len, 100);
        if (before)
            assert_in_range(wait, 2 * before - 2, 2 * before + 3);
        before = wait;
    }
    inject(TH_ACK, their(0), our(100), NULL, 0);
    assert_int_equal(sock_down(&k)->tx_una, sock_up(&k)->tx_end);
    assert_int_equal(sock_down(&k)->tx_free, sock_up(&k)->tx_end);
}

static void established_gives_up(void **state)
{
    (void)state;
    established_state();
    app_writes(100);
    for (unsigned i = 0; i < 3000 && sock_down(&k)->state != SOCK_CLOSED; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
}

static void established_user_timeout(void **state)
{
    (void)state;
    established_state();
    sock_request(&k, OP_SETOPT, OPT_USER_TIMEOUT, 5000);
    look();
    app_writes(100);
    unsigned s = 0;
    for (; s < 60 && sock_down(&k)->state != SOCK_CLOSED; s++)
        later(SEC);
    assert_in_range(s, 5, 10);
}

static void established_keepalive(void **state)
{
    (void)state;
    established_state();
    sock_request(&k, OP_SETOPT, OPT_KEEPIDLE, 10);
    look();
    sock_request(&k, OP_SETOPT, OPT_KEEPINTVL, 2);
    look();
    sock_request(&k, OP_SETOPT, OPT_KEEPCNT, 3);
    look();
    sock_request(&k, OP_SETOPT, OPT_KEEPALIVE, 1);
    look();
    later(9 * SEC);
    assert_int_equal(sent, 0);
    later(2 * SEC);
    assert_int_equal(sent, 1);
    assert_int_equal(last.seq, our(0) - 1);
    for (unsigned i = 0; i < 10; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
}

/* With a user timeout it is time that counts, not probes (as Linux). */
static void established_keepalive_user_timeout(void **state)
{
    (void)state;
    established_state();
    static const uint32_t opt[][2] = {{OPT_KEEPIDLE, 10},
                                      {OPT_KEEPINTVL, 2},
                                      {OPT_KEEPCNT, 3},
                                      {OPT_USER_TIMEOUT, 30000},
                                      {OPT_KEEPALIVE, 1}};
    for (unsigned i = 0; i < 5; i++) {
        sock_request(&k, OP_SETOPT, opt[i][0], opt[i][1]);
        look();
    }
    for (unsigned i = 0; i < 28; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_in_range(counter(TCP_C_KEEPALIVES), 9, 10);
    for (unsigned i = 0; i < 5; i++)
        later(SEC);
    assert_int_equal(sock_down(&k)->error, ETIMEDOUT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(established_retransmits),
        T(established_gives_up),
        T(established_user_timeout),
        T(established_keepalive),
        T(established_keepalive_user_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
