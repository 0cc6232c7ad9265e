/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The UDP server as its neighbours see it: requests, sending, ends, heirs, hostile send rings.
 */
/* link: eft_harness eft_udp */
#include "udp_socket.h"

static void test_bind(void **state)
{
    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_UDP);
    assert_int_equal(down_slot(&w, 0, 0)->local.port, 5000);
    assert_int_equal(do_bind(&w, 0, 0, port(5001), 0), -EINVAL);

    open_slot(&w, 0, 1);
    assert_int_equal(do_bind(&w, 0, 1, port(5000), 0), -EADDRINUSE);
    assert_int_equal(do_bind(&w, 0, 1, ours(5000), 0), -EADDRINUSE);
    assert_int_equal(do_bind(&w, 0, 1, name_v4(0x08080808, 7000), 0), -EADDRNOTAVAIL);
    assert_int_equal(down_slot(&w, 0, 1)->state, SOCK_FREE);
    assert_int_equal(do_bind(&w, 0, 1, ours(5001), 0), 0);
    assert_int_equal(counter(&w, UDP_SOCKETS), 2);
}

static void test_bind_failed_slot_stays_with_the_application(void **state)
{
    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, name_v4(0x08080808, 1), 0), -EADDRNOTAVAIL);
    assert_int_not_equal(down_slot(&w, 0, 0)->generation, up_slot(&w, 0, 0)->generation);
    assert_int_equal(do_close(&w, 0, 0), 0);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_FREE);
    assert_int_equal(down_slot(&w, 0, 0)->generation, up_slot(&w, 0, 0)->generation);
}

static void test_bind_reuse(void **state)
{
    static const struct {
        uint32_t first, second;
        int result;
    } cases[] = {
        {0, 0, -EADDRINUSE},
        {BIND_REUSEADDR, 0, -EADDRINUSE},
        {0, BIND_REUSEADDR, -EADDRINUSE},
        {BIND_REUSEADDR, BIND_REUSEADDR, 0},
        {BIND_REUSEPORT, BIND_REUSEPORT, 0},
        {BIND_REUSEPORT, BIND_REUSEADDR, -EADDRINUSE},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_slot(&w, 0, 0);
        open_slot(&w, 1, 0);
        assert_int_equal(do_bind(&w, 0, 0, port(5000), cases[i].first), 0);
        assert_int_equal(do_bind(&w, 1, 0, port(5000), cases[i].second), cases[i].result);
        assert_int_equal(do_close(&w, 0, 0), 0);
        assert_int_equal(do_close(&w, 1, 0), 0);
        assert_int_equal(counter(&w, UDP_SOCKETS), 0);
    }
}

static void test_bind_ephemeral(void **state)
{
    (void)state;
    uint16_t seen[16];
    for (uint32_t i = 0; i < 16; i++) {
        open_slot(&w, 0, i);
        assert_int_equal(do_bind(&w, 0, i, any, BIND_REUSEADDR), 0);
        seen[i] = down_slot(&w, 0, i)->local.port;
        assert_in_range(seen[i], 32768, 60999);
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(seen[i], seen[k]);
    }
}

static void test_privileged_port_needs_a_grant(void **state)
{
    const struct syscall_request q = {
        .op = SYSCALL_GRANT_PORT, .app = 0, .port = 53, .app_generation = 1, .client = 7, .id = 9};
    void *slot;

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(53), 0), -EACCES);
    assert_int_equal(chan_tx_reserve(&w.ctl_to, 0, 1, 0, &slot), CHAN_OK);
    memcpy((uint8_t *)slot + 16, (const uint8_t *)&q + 16, sizeof q - 16);
    chan_tx_commit(&w.ctl_to);
    chan_tx_publish(&w.ctl_to);
    settle(&w);
    const struct syscall_reply *r = chan_rx_peek(&w.ctl_from);
    assert_non_null(r);
    assert_int_equal(r->result, 0);
    assert_int_equal(r->client, 7);
    assert_int_equal(r->id, 9);
    udp_restart(&w, 3); /* a grant outlives us */
    assert_int_equal(do_bind(&w, 0, 0, port(54), 0), -EACCES);
    assert_int_equal(do_bind(&w, 0, 0, port(53), 0), 0);
    open_slot(&w, 1, 0);
    assert_int_equal(do_bind(&w, 1, 0, ours(53), 0), -EACCES);
}

static void test_send(void **state)
{
    struct packet p;
    uint8_t data[2000], got[2000];

    (void)state;
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 3);
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    for (unsigned i = 0; i < 300; i++) { /* over the end of the ring, and more than there are
                                            buffers */
        app_write(&w, 0, 0, peer(77), data, 1 + i * 5);
        settle(&w);
        assert_true(ip_take(&w, &p, got, true));
        assert_int_equal(p.payload_len, 1 + i * 5);
        assert_memory_equal(got, data, p.payload_len);
        assert_int_equal(p.src.v4, htonl(OUR_ADDRESS));
        assert_int_equal(p.dst.v4, htonl(PEER));
        assert_int_equal(p.csum, CSUM_PARTIAL);
        assert_int_equal(wire_checksum(&p, got), 0);
        assert_int_equal(p.hdr[0] << 8 | p.hdr[1], 5000);
        assert_int_equal(p.hdr[2] << 8 | p.hdr[3], 77);
        assert_int_equal(down_slot(&w, 0, 0)->tx_free, up_slot(&w, 0, 0)->tx_end);
    }
    app_write(&w, 0, 0, peer(77), "", 0);
    settle(&w);
    assert_true(ip_take(&w, &p, got, true));
    assert_int_equal(p.payload_len, 0);
    assert_int_equal(wire_checksum(&p, got), 0);
}

static void test_send_waits_for_buffers(void **state)
{
    struct packet p;
    uint8_t got[64];
    unsigned n = 0;

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_connect(&w, 0, 0, peer(77)), 0);
    for (uint32_t i = 0; i < 40; i++)
        app_write(&w, 0, 0, (struct sock_name){0}, &i, sizeof i);
    settle(&w);
    while (ip_take(&w, &p, got, false)) /* taken, and not completed */
        assert_int_equal(p.payload_len, 4), n++;
    assert_int_equal(n, w.cfg.udp_buffers);
    assert_false(w.c->ops->pending(w.c));
    assert_int_not_equal(w.c->ops->deadline(w.c), NEVER);
    assert_int_equal(w.from_udp.out->want, 1);
    for (unsigned b = 0; b < w.cfg.udp_buffers; b++)
        w.done[b]++;
    assert_true(w.c->ops->pending(w.c));
    settle(&w);
    for (; ip_take(&w, &p, got, true); settle(&w)) {
        uint32_t v;
        memcpy(&v, got, sizeof v);
        assert_int_equal(v, n++);
    }
    assert_int_equal(n, 40);
}

static void test_send_refused(void **state)
{
    struct packet p;
    uint8_t got[64];

    (void)state;
    w.cfg.routes = 1; /* not what the server sees: its copy is in the configuration's region */
    ((struct stack_config *)w.map.entry[REGION_CONFIG].base)->routes = 1;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    static const struct {
        struct sock_name to;
        uint32_t error;
    } cases[] = {
        {{.addr = {.family = 4, .word = {0x08080808}}, .port = 1}, ENETUNREACH},
        {{.addr = {.family = 4, .word = {0xffffffff}}, .port = 1}, EACCES},
        {{.addr = {.family = 6, .word = {1, 2, 3, 4}}, .port = 1}, EAFNOSUPPORT},
        {{.addr = {.family = 0}}, EDESTADDRREQ},
        {{.addr = {.family = 9}, .port = 1}, EAFNOSUPPORT},
        {{.addr = {.family = 4, .word = {0x0100000a}}, .port = 0}, EINVAL},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        app_write(&w, 0, 0, cases[i].to, "x", 1);
        settle(&w);
        assert_int_equal(down_slot(&w, 0, 0)->error, cases[i].error);
        assert_int_equal(down_slot(&w, 0, 0)->error_seq, i + 1);
        assert_false(ip_take(&w, &p, got, true));
    }
    assert_int_equal(do_setopt(&w, 0, 0, OPT_BROADCAST, 1), 0);
    app_write(&w, 0, 0, name_v4(0xffffffff, 7), "x", 1);
    settle(&w);
    assert_true(ip_take(&w, &p, got, true));
    assert_int_equal(p.src.v4, htonl(OUR_ADDRESS));
}

static void test_hostile_send_ring(void **state)
{
    struct packet p;
    uint8_t got[64];
    struct up_slot *up;

    (void)state;
    up = open_slot(&w, 0, 0);
    assert_int_equal(do_connect(&w, 0, 0, peer(77)), 0);
    static const uint64_t jumps[] = {1, 63, 64, 1 << 20, 1ull << 40, OFF_MASK};
    for (unsigned i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        const struct down_slot *d = down_slot(&w, 0, 0);
        memset(app_ring((uint8_t *)up_region(&w, 0), &d->tx[d->select & 1], up->tx_end), 0xff, 64);
        const uint64_t una = down_slot(&w, 0, 0)->tx_una;
        up->tx_end = i + 1 < sizeof jumps / sizeof jumps[0] ? una + jumps[i] : OFF_MASK;
        push(&w, 0, 0);
        settle(&w);
        assert_false(ip_take(&w, &p, got, true));
        assert_true(down_slot(&w, 0, 0)->tx_una >= una);
        assert_int_equal(down_slot(&w, 0, 0)->error, EPROTO);
    }
    /* Backwards: ignored. And the work queue's indices: looked at all, gone on. */
    up->tx_end = 0;
    up_region(&w, 0)->work_udp.tail += 1ull << 33;
    settle(&w);
    up_region(&w, 0)->work_udp.slot[up_region(&w, 0)->work_udp.tail++ % WORK_SLOTS] = 0xfffffff0;
    settle(&w);
    /* Nobody else is hurt. */
    open_slot(&w, 1, 0);
    assert_int_equal(do_connect(&w, 1, 0, peer(77)), 0);
    app_write(&w, 1, 0, (struct sock_name){0}, "fine", 4);
    settle(&w);
    assert_true(ip_take(&w, &p, got, true));
    assert_memory_equal(got, "fine", 4);
}

static void test_close_sends_what_was_sent(void **state)
{
    struct packet p;
    uint8_t got[64];

    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_connect(&w, 0, 0, peer(77)), 0);
    for (unsigned b = 0; b < w.cfg.udp_buffers; b++)
        w.done[b]--; /* none is free */
    app_write(&w, 0, 0, (struct sock_name){0}, "last words", 10);
    assert_int_equal(do_close(&w, 0, 0), 0);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_CLOSED);
    ip_send(&w, peer(77), ours(down_slot(&w, 0, 0)->local.port), "late", 4, 0);
    for (unsigned b = 0; b < w.cfg.udp_buffers; b++)
        w.done[b]++;
    settle(&w);
    assert_true(ip_take(&w, &p, got, true));
    while ((p.flags & PACKET_UNREACHABLE) != 0)
        assert_true(ip_take(&w, &p, got, true));
    assert_memory_equal(got, "last words", 10);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_FREE);
    assert_int_equal(counter(&w, UDP_SOCKETS), 0);
}

static void test_close_waits_for_release(void **state)
{
    (void)state;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    ask(&w, 0, 0, OP_CLOSE);
    assert_int_equal(asked(&w, 0, 0), 0);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_CLOSED);
    open_slot(&w, 1, 0);
    assert_int_equal(do_bind(&w, 1, 0, port(5000), 0), 0); /* the port is free at once */
    up_slot(&w, 0, 0)->released = up_slot(&w, 0, 0)->generation;
    push(&w, 0, 0);
    settle(&w);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_FREE);
}

static void test_app_gone_sends_and_lets_go(void **state)
{
    struct packet p;
    uint8_t got[64];

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        open_slot(&w, 1, i);
        assert_int_equal(do_connect(&w, 1, i, peer(77)), 0);
        app_write(&w, 1, i, (struct sock_name){0}, "bye", 3);
    }
    turn(&w);
    for (uint32_t i = 0; i < 4; i++)
        app_write(&w, 1, i, (struct sock_name){0}, "end", 3);
    host_app_gone(w.c, 1);
    settle(&w);
    assert_true(host_app_done(w.c, 1));
    assert_int_equal(counter(&w, UDP_SOCKETS), 0);
    unsigned n = 0;
    while (ip_take(&w, &p, got, true))
        n++;
    assert_int_equal(n, 8);
}

static void test_inherit_moves_with_what_waits(void **state)
{
    (void)state;
    open_slot(&w, 0, 0)->share_token = 4711;
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    ip_send(&w, peer(9), ours(5000), "read", 4, 0);
    ip_send(&w, peer(9), ours(5000), "one", 3, 0);
    ip_send(&w, peer(9), ours(5000), "two", 3, 0);
    settle(&w);
    expect(0, 0, 9, "read");

    struct up_slot *up = open_slot(&w, 1, 3);
    up->target_app = 0;
    up->target_slot = 0;
    up->target_generation = up_slot(&w, 0, 0)->generation;
    up->token = 4712;
    ask(&w, 1, 3, OP_INHERIT);
    assert_int_equal(asked(&w, 1, 3), -EACCES);
    up->token = 4711;
    ask(&w, 1, 3, OP_INHERIT);
    assert_int_equal(asked(&w, 1, 3), 0);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_CLOSED);
    assert_int_equal(down_slot(&w, 1, 3)->state, SOCK_UDP);
    ip_send(&w, peer(9), ours(5000), "three", 5, 0);
    settle(&w);
    expect(1, 3, 9, "one");
    expect(1, 3, 9, "two");
    expect(1, 3, 9, "three");
    udp_restart(&w, 3);
    settle(&w);
    ip_send(&w, peer(9), ours(5000), "four", 4, 0);
    settle(&w);
    expect(1, 3, 9, "four");
    assert_int_equal(do_close(&w, 0, 0), 0);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_FREE);
    assert_int_equal(do_close(&w, 1, 3), 0);
    assert_int_equal(counter(&w, UDP_SOCKETS), 0);
}

static void test_inherit_waits_for_what_is_to_be_sent(void **state)
{
    struct packet p;
    uint8_t got[64];

    (void)state;
    open_slot(&w, 0, 0)->share_token = 4711;
    assert_int_equal(do_connect(&w, 0, 0, peer(77)), 0);
    for (unsigned b = 0; b < w.cfg.udp_buffers; b++)
        w.done[b]--; /* none is free */
    app_write(&w, 0, 0, (struct sock_name){0}, "before", 6);
    settle(&w);
    struct up_slot *up = open_slot(&w, 1, 3);
    up->target_app = 0;
    up->target_slot = 0;
    up->target_generation = up_slot(&w, 0, 0)->generation;
    up->token = 4711;
    ask(&w, 1, 3, OP_INHERIT);
    assert_int_equal(asked(&w, 1, 3), -EINPROGRESS);
    udp_restart(&w, 3);
    assert_int_equal(asked(&w, 1, 3), -EINPROGRESS);
    for (unsigned b = 0; b < w.cfg.udp_buffers; b++)
        w.done[b]++;
    assert_int_equal(asked(&w, 1, 3), 0);
    assert_true(ip_take(&w, &p, got, true));
    assert_memory_equal(got, "before", 6);
    app_write(&w, 1, 3, (struct sock_name){0}, "after", 5);
    settle(&w);
    assert_true(ip_take(&w, &p, got, true));
    assert_memory_equal(got, "after", 5);
}

/* A program that gives up on a refused slot releases it, and need not ask for anything. */
static void test_released_slot_without_socket_is_free(void **state)
{
    (void)state;
    struct up_slot *up = open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, name_v4(0x08080808, 1), 0), -EADDRNOTAVAIL);
    up->released = up->generation;
    push(&w, 0, 0);
    settle(&w);
    assert_int_equal(down_slot(&w, 0, 0)->state, SOCK_FREE);
    assert_int_equal(down_slot(&w, 0, 0)->generation, up->generation);
}

static void test_sender_is_woken(void **state)
{
    uint8_t data[1000] = {0};
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    w.c->app[0].waiter[0] = (struct bell){.fd = pair[0], .kind = BELL_DGRAM};
    w.c->app[0].waiters = 1;
    open_slot(&w, 0, 0);
    assert_int_equal(do_connect(&w, 0, 0, peer(77)), 0);
    struct app_waiter *me = &up_region(&w, 0)->waiter[0];
    me->socket = 0 | WAIT_UDP;
    /* A reader is not disturbed by its own little datagram. */
    me->armed = 1;
    app_write(&w, 0, 0, (struct sock_name){0}, data, 10);
    settle(&w);
    assert_int_equal(recv(pair[1], data, 8, 0), -1);
    /* One who waits for room is woken. */
    for (unsigned i = 0; i < 70; i++)
        app_write(&w, 0, 0, (struct sock_name){0}, data, sizeof data);
    turn(&w);
    assert_int_equal(recv(pair[1], data, 8, 0), 1);
    turn(&w);
    assert_int_equal(recv(pair[1], data, 8, 0), -1); /* once per value of armed */
    close(pair[0]);
    close(pair[1]);
}

static void test_no_leak_over_many_uses(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        const uint32_t slot = round % 16;
        const unsigned app = round % 3;
        open_slot(&w, app, slot);
        assert_int_equal(do_bind(&w, app, slot, port((uint16_t)(2000 + round)), 0), 0);
        if (round % 7 == 0)
            udp_restart(&w, 3);
        assert_int_equal(do_close(&w, app, slot), 0);
        assert_int_equal(down_slot(&w, app, slot)->state, SOCK_FREE);
    }
    /* All slots of an application at once: every block and record is still there. */
    for (uint32_t i = 0; i < 16; i++) {
        open_slot(&w, 0, i);
        assert_int_equal(do_bind(&w, 0, i, any, 0), 0);
    }
}

static void test_broken_record_costs_one_socket(void **state)
{
    struct udp_sock_shm *shm = wiring_table(server_region(&w, UDP), TABLE_UDP_SOCKS, NULL);

    (void)state;
    open_slot(&w, 0, 0);
    open_slot(&w, 0, 1);
    assert_int_equal(do_bind(&w, 0, 0, port(5000), 0), 0);
    assert_int_equal(do_bind(&w, 0, 1, port(5001), 0), 0);
    for (unsigned i = 0; i < 2; i++)
        if (shm[i].copy[shm[i].select & 1].local.port == 5000)
            shm[i].copy[shm[i].select & 1].rx.block[0].off ^= 1 << 20;
    udp_restart(&w, 3);
    ip_send(&w, peer(9), ours(5001), "alive", 5, 0);
    settle(&w);
    expect(0, 1, 9, "alive");
    assert_int_equal(counter(&w, UDP_RECORDS_BAD), 1);
}

static void test_ipv6(void **state)
{
    const struct sock_name any6 = {.addr = {.family = 6}, .port = 5000};
    struct stack_config *cfg = (struct stack_config *)w.map.entry[REGION_CONFIG].base;
    const struct ip_addr us = {.family = 6, .word = {0x0120, 0, 0, 2}};
    const struct sock_name them = {.addr = {.family = 6, .word = {0x0120, 0, 0, 1}}, .port = 9};
    const struct sock_name to = {.addr = us, .port = 5000};
    struct dgram h;
    char b[64];

    (void)state;
    cfg->interfaces = 2;
    cfg->interface[1].addr = us;
    open_slot(&w, 0, 0);
    assert_int_equal(do_bind(&w, 0, 0, any6, 0), 0);
    ip_send(&w, them, to, "six", 3, 0);
    ip_send(&w, them, to, "zero", 4, SEND_NO_SUM);  /* RFC 8200 8.1: not over IPv6 */
    ip_send(&w, peer(9), ours(5000), "four", 4, 0); /* dual stack */
    settle(&w);
    assert_int_equal(app_read(&w, 0, 0, &h, b, sizeof b), 3);
    assert_int_equal(h.remote.addr.family, 6);
    assert_int_equal(app_read(&w, 0, 0, &h, b, sizeof b), 4);
    assert_memory_equal(b, "four", 4);
    assert_int_equal(app_read(&w, 0, 0, &h, b, sizeof b), -EAGAIN);
    cfg->interfaces = 1;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_bind),
        T(test_bind_failed_slot_stays_with_the_application),
        T(test_bind_reuse),
        T(test_bind_ephemeral),
        T(test_privileged_port_needs_a_grant),
        T(test_send),
        T(test_send_waits_for_buffers),
        T(test_send_refused),
        T(test_hostile_send_ring),
        T(test_close_sends_what_was_sent),
        T(test_close_waits_for_release),
        T(test_app_gone_sends_and_lets_go),
        T(test_inherit_moves_with_what_waits),
        T(test_inherit_waits_for_what_is_to_be_sent),
        T(test_released_slot_without_socket_is_free),
        T(test_sender_is_woken),
        T(test_no_leak_over_many_uses),
        T(test_broken_record_costs_one_socket),
        T(test_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
