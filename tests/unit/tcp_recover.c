/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a successor makes of a record that holds in itself and says what no server of ours writes:
 * its connection ends alone, with an error for the application and a copy for whoever looks.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

/* A valid record, with one field changed. */
static const struct odd {
    size_t at, len;
    uint32_t value;
} odd[] = {
#define ODD(field, v)                                                                              \
    {                                                                                              \
        offsetof(struct tcp_record, field), sizeof((struct tcp_record *)0)->field, v               \
    }
    ODD(kind, TCP_KIND_DEAD + 1),
    ODD(state, TCP_STATES),
    ODD(snd_wscale, 15),
    ODD(rcv_wscale, 255),
    ODD(sndbuf_shift, 31),
    ODD(rcvbuf_shift, 64),
    ODD(mss, 63),
    ODD(maxseg, 11),
    ODD(slot, 1u << 20),
    ODD(rx.shift[0], 63),
    ODD(tx.shift[1], 3),
    ODD(rx.page[0], 0x7fffffff),
};

static void successor(void)
{
    world_successor(us, END_KILLED);
    look();
}

static void odd_records_end_alone(void **state)
{
    for (unsigned i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        begin(state);
        established_state();
        struct tcp *t = us->tcp->state;
        struct tcp_conn *c = &t->conn[t->app[k.app]->slot_conn[k.slot] - 1];
        memcpy((uint8_t *)&c->r + odd[i].at, &odd[i].value, odd[i].len);
        tcp_record_commit(t, c);
        w.resets = true; /* the peer may hear of it */
        successor();
        if (counter(TCP_C_RECOVERY_RESETS) != 1)
            fail_msg("field %u was taken as it was", i);
        /* The listener goes on: a connection of somebody else. */
        k = (struct sock){.s = us, .app = listener.app, .slot = 2};
        their_port = 6666;
        sock_claim(&k, &listener);
        inject(TH_SYN, their_iss, 0, NULL, 0);
        our_iss = last.seq;
        inject(TH_ACK, their(0), our(0), NULL, 0);
        assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
        assert_int_equal(end(state), 0);
    }
}

static void records_as_written_go_on(void **state)
{
    begin(state);
    established_state();
    successor();
    assert_int_equal(counter(TCP_C_RECOVERY_RESETS), 0);
    app_writes(100);
    assert_int_equal(last.len, 100);
    assert_int_equal(end(state), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_records_end_alone),
        cmocka_unit_test(records_as_written_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
