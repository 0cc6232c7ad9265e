/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The UDP server killed before each of its stores to shared memory, recovered, and judged: every
 * datagram exactly once in both directions, every frame back once, every request with one effect.
 * Each judgement has a negative control: the same run with the record that makes it true taken away
 * must be found wrong.
 */
/* link: eft_harness_cp eft_udp_cp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "udp_world.h"

/* --- the killer --- */

static unsigned long countdown; /* 0: nobody is killed */
static unsigned long stores;
static jmp_buf killed;

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
    if (countdown == 0)
        return;
    stores++;
    if (--countdown == 0)
        longjmp(killed, 1);
}

enum wipe { WIPE_NOTHING, WIPE_JOURNAL, WIPE_MARKS };

static struct world w;
static unsigned kills;

/* What a successor would have to do without. */
static void wipe(enum wipe what)
{
    if (what == WIPE_JOURNAL) {
        struct udp_sock_shm *shm = wiring_table(server_region(&w, UDP), TABLE_UDP_SOCKS, NULL);
        for (unsigned i = 0; i < w.cfg.udp_sockets; i++) {
            memset(&shm[i].deliver, 0, sizeof shm[i].deliver);
            memset(&shm[i].error, 0, sizeof shm[i].error);
        }
    } else if (what == WIPE_MARKS) {
        const struct wiring_entry *e =
            wiring_find(server_region(&w, UDP), WIRING_OUT, EDGE_UDP_IP, IP);
        uint8_t *slots = server_region(&w, UDP)->base + e->off + sizeof(struct chan_out);
        for (unsigned i = 0; i < e->count; i++)
            memset(((struct packet *)(slots + i * e->size))->reserved2, 0, 8);
    }
}

/* One turn, during which the server is killed at store `at` (counted over all turns of a run). A
 * successor may be killed as well, `again` stores after it began. */
static unsigned long left, again;

static void risky_turn(enum wipe what)
{
    static volatile bool restarting;

    restarting = false;
    if (setjmp(killed) != 0) {
        kills++;
        left = again;
        again = 0;
        wipe(what);
        host_free(w.c);
        restarting = true;
    }
    countdown = left;
    if (restarting) {
        restarting = false;
        /* From the first store of the successor on. */
        w.c = host_new(&udp_ops, UDP, &w.map);
        if (host_start(w.c, w.now, END_KILLED) != 0)
            abort();
        host_add_app(w.c, 0, 1);
        host_add_app(w.c, 1, 1);
    }
    turn(&w);
    left = countdown;
    countdown = 0;
}

static void risky_settle(enum wipe what)
{
    for (unsigned i = 0; i < 100; i++) {
        risky_turn(what);
        if (!w.c->ops->pending(w.c))
            return;
    }
}

/* --- receive --- */

static unsigned faults; /* things found wrong in a run */

static void fault_if(bool wrong)
{
    faults += wrong;
}

enum { RECEIVED = 24 };

static void read_all(unsigned app, uint32_t slot, unsigned *got, unsigned *last)
{
    struct dgram h;
    uint8_t data[2048];
    int n;

    while ((n = app_read(&w, app, slot, &h, data, sizeof data)) >= 0) {
        uint32_t i = 0;
        memcpy(&i, data, n < 4 ? (size_t)n : 4);
        if (n < 8 || i >= RECEIVED) {
            faults++;
            continue;
        }
        for (int k = 4; k < n; k++)
            fault_if(data[k] != (uint8_t)(i + (unsigned)k));
        fault_if(*last > i); /* order */
        *last = i;
        got[i]++;
    }
}

/* The whole scenario, killed at store `at`. Returns how many things were wrong; `stores` is how far
 * a run without kills would count. */
static unsigned receive_run(unsigned long at, unsigned long second, enum wipe what)
{
    unsigned got[3][RECEIVED] = {{0}}, last[3] = {0};
    uint8_t data[1500];
    struct packet p;
    unsigned unreachable = 0;

    faults = 0;
    world_make(&w, 2);
    for (uint32_t i = 0; i < 3; i++)
        open_slot(&w, i / 2, i % 2);
    do_bind(&w, 0, 0, name_v4(0, 5000), BIND_REUSEADDR);
    do_bind(&w, 0, 1, name_v4(0, 5001), 0);
    do_connect(&w, 0, 1, name_v4(PEER, 77));
    do_bind(&w, 1, 0, name_v4(0, 5000), BIND_REUSEADDR);

    left = at;
    again = second;
    stores = 0;
    for (uint32_t i = 0; i < RECEIVED; i++) {
        const uint32_t len = 8 + i * 60;
        memcpy(data, &i, 4);
        for (uint32_t k = 4; k < len; k++)
            data[k] = (uint8_t)(i + k);
        if (i % 4 == 1)
            ip_send(&w, name_v4(PEER, 9), name_v4(0x0a0000ff, 5000), data, len, SEND_BROADCAST);
        else if (i % 4 == 2)
            ip_send(&w, name_v4(PEER, 9), name_v4(OUR_ADDRESS, 6000), data, len, 0);
        else
            ip_send(&w, name_v4(PEER, 77), name_v4(OUR_ADDRESS, 5001), data, len, 0);
        if (i == 10)
            ip_icmp(&w, name_v4(OUR_ADDRESS, 5001), name_v4(PEER, 77), 3, 3);
        if (i % 3 == 2) /* batches of three */
            risky_settle(what);
        if (i == 11)
            read_all(0, 0, got[0], &last[0]);
    }
    risky_settle(what);
    left = again = 0;
    read_all(0, 0, got[0], &last[0]);
    read_all(0, 1, got[1], &last[1]);
    read_all(1, 0, got[2], &last[2]);
    for (uint32_t i = 0; i < RECEIVED; i++) {
        fault_if(got[0][i] != (i % 4 == 1));
        fault_if(got[1][i] != (i % 4 == 0 || i % 4 == 3));
        fault_if(got[2][i] != (i % 4 == 1));
    }
    fault_if(down_slot(&w, 0, 1)->error_seq != 1);
    driver_collect(&w);
    for (uint32_t f = 0; f < WORLD_FRAMES; f++)
        fault_if(w.returned[f] != (f < RECEIVED));
    while (ip_take(&w, &p, data, true))
        unreachable += (p.flags & PACKET_UNREACHABLE) != 0;
    fault_if(unreachable != RECEIVED / 4);
    world_free(&w);
    return faults;
}

static unsigned long count_stores(unsigned (*run)(unsigned long, unsigned long, enum wipe))
{
    stores = 0;
    assert_int_equal(run(1ul << 40, 0, WIPE_NOTHING), 0);
    assert_true(stores > 100);
    return stores;
}

static void exhaust(unsigned (*run)(unsigned long, unsigned long, enum wipe), enum wipe control)
{
    const unsigned long total = count_stores(run);
    unsigned long wrong = 0;

    kills = 0;
    for (unsigned long at = 1; at <= total; at++)
        assert_int_equal(run(at, 0, WIPE_NOTHING), 0);
    assert_int_equal(kills, total);
    /* A second kill while the successor recovers. */
    for (unsigned long at = 1; at <= total; at += 7)
        for (unsigned long second = 1; second < 60; second += 5)
            assert_int_equal(run(at, second, WIPE_NOTHING), 0);
    if (control == WIPE_NOTHING)
        return;
    for (unsigned long at = 1; at <= total; at++)
        wrong += run(at, 0, control) != 0;
    print_message("%lu stores, %u kills, 0 wrong; control: %lu wrong\n", total, kills, wrong);
    assert_true(wrong > 0);
}

static void test_receive_exactly_once(void **state)
{
    (void)state;
    exhaust(receive_run, WIPE_JOURNAL);
}

/* --- send --- */

enum { SENT = 30 };

static unsigned send_run(unsigned long at, unsigned long second, enum wipe what)
{
    unsigned got[2] = {0};
    uint8_t data[2000];
    struct packet p;
    struct packet held[8];
    unsigned holding = 0;

    faults = 0;
    world_make(&w, 2);
    for (unsigned a = 0; a < 2; a++) {
        open_slot(&w, a, 0);
        do_connect(&w, a, 0, name_v4(PEER, 77));
    }
    left = at;
    again = second;
    stores = 0;
    for (uint32_t i = 0; i < SENT + 10; i++) {
        for (unsigned a = 0; i < SENT && a < 2; a++) {
            const uint32_t len = 8 + i * 50;
            const uint32_t mark = i << 1 | a;
            memcpy(data, &mark, 4);
            for (uint32_t k = 4; k < len; k++)
                data[k] = (uint8_t)(mark + k);
            app_write(&w, a, 0, (struct sock_name){0}, data, len);
        }
        if (i % 3 == 2)
            risky_settle(what);
        /* IP takes some and completes them late, in another order. */
        while ((i % 4 == 3 || i >= SENT) && ip_take(&w, &p, data, false)) {
            uint32_t mark;
            memcpy(&mark, data, 4);
            const unsigned a = mark & 1;
            fault_if(p.payload_len != 8 + (mark >> 1) * 50 || got[a] != mark >> 1);
            for (uint32_t k = 4; k < p.payload_len; k++)
                fault_if(data[k] != (uint8_t)(mark + k));
            got[a] = (mark >> 1) + 1;
            held[holding++] = p;
            if (holding == 8)
                while (holding > 0) {
                    holding--;
                    w.done[held[holding].chain] = held[holding].chain_generation;
                }
        }
        if (i >= SENT)
            while (holding > 0) {
                holding--;
                w.done[held[holding].chain] = held[holding].chain_generation;
            }
    }
    left = again = 0;
    settle(&w);
    fault_if(got[0] != SENT || got[1] != SENT);
    for (unsigned a = 0; a < 2; a++) {
        fault_if(down_slot(&w, a, 0)->tx_una != up_slot(&w, a, 0)->tx_end);
        fault_if(down_slot(&w, a, 0)->tx_free != up_slot(&w, a, 0)->tx_end);
    }
    /* No buffer is lost or handed out twice. */
    const struct udp_buffer *b = wiring_table(server_region(&w, UDP), TABLE_UDP_BUFFERS, NULL);
    for (unsigned i = 0; i < w.cfg.udp_buffers; i++)
        fault_if(b[i].generation != w.done[i]);
    world_free(&w);
    return faults;
}

static void test_send_exactly_once(void **state)
{
    (void)state;
    exhaust(send_run, WIPE_MARKS);
}

/* --- requests --- */

/* The application asks once and waits; whatever happens to the server, there is one answer. */
static int risky_asked(unsigned app, uint32_t slot)
{
    risky_settle(WIPE_NOTHING);
    const struct down_slot *d = down_slot(&w, app, slot);
    if (d->req_done != up_slot(&w, app, slot)->req_id) {
        faults++;
        return -EINPROGRESS;
    }
    return d->result;
}

static unsigned request_run(unsigned long at, unsigned long second, enum wipe what)
{
    uint8_t data[64];
    struct dgram h;

    (void)what;
    faults = 0;
    world_make(&w, 2);
    left = at;
    again = second;
    stores = 0;
    for (unsigned round = 0; round < 3; round++) {
        struct up_slot *up = open_slot(&w, 0, 0);
        up->share_token = 99;
        up->local = name_v4(0, 5000);
        up->flags = 0;
        ask(&w, 0, 0, OP_BIND);
        fault_if(risky_asked(0, 0) != 0);
        up->remote = name_v4(PEER, 77);
        ask(&w, 0, 0, OP_CONNECT_UDP);
        fault_if(risky_asked(0, 0) != 0);
        fault_if(down_slot(&w, 0, 0)->local.addr.v4 != htonl(OUR_ADDRESS));
        up->arg0 = OPT_RCVBUF;
        up->arg1 = 131072;
        ask(&w, 0, 0, OP_SETOPT);
        fault_if(risky_asked(0, 0) != 0);
        /* Another process may not have the port, whoever looks when. */
        struct up_slot *other = open_slot(&w, 1, 0);
        other->local = name_v4(0, 5000);
        ask(&w, 1, 0, OP_BIND);
        fault_if(risky_asked(1, 0) != -EADDRINUSE);

        ip_send(&w, name_v4(PEER, 77), name_v4(OUR_ADDRESS, 5000), "moves", 5, 0);
        risky_settle(WIPE_NOTHING);
        other->target_app = 0;
        other->target_slot = 0;
        other->target_generation = up->generation;
        other->token = 99;
        ask(&w, 1, 0, OP_INHERIT);
        fault_if(risky_asked(1, 0) != 0);
        fault_if(down_slot(&w, 0, 0)->state != SOCK_CLOSED);
        fault_if(app_read(&w, 1, 0, &h, data, sizeof data) != 5 || memcmp(data, "moves", 5) != 0);
        fault_if(app_read(&w, 1, 0, &h, data, sizeof data) != -EAGAIN);
        up->released = up->generation;
        ask(&w, 0, 0, OP_CLOSE);
        fault_if(risky_asked(0, 0) != 0);
        fault_if(down_slot(&w, 0, 0)->state != SOCK_FREE);
        other->released = other->generation;
        ask(&w, 1, 0, OP_CLOSE);
        fault_if(risky_asked(1, 0) != 0);
        risky_settle(WIPE_NOTHING);
        fault_if(down_slot(&w, 1, 0)->state != SOCK_FREE);
        driver_collect(&w);
    }
    left = again = 0;
    /* Nothing leaked: every slot of both applications finds a record and two rings. */
    for (unsigned a = 0; a < 2; a++)
        for (uint32_t i = 0; i < 16; i++) {
            open_slot(&w, a, i);
            fault_if(do_bind(&w, a, i, (struct sock_name){.addr = {.family = 4}}, 0) != 0);
        }
    fault_if(counter(&w, UDP_SOCKETS) != 32);
    world_free(&w);
    return faults;
}

static void test_requests_exactly_once(void **state)
{
    (void)state;
    exhaust(request_run, WIPE_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_receive_exactly_once),
        cmocka_unit_test(test_send_exactly_once),
        cmocka_unit_test(test_requests_exactly_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
