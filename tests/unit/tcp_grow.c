/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rings that grow while they are in use: no byte moves, none is in two places, nobody is promised
 * what has no place, and the old block comes back.
 */
/* link: eft_tcp_cp eft_harness_cp */
#include "tcp_peer.h"

enum { FIRST = 16384, FIRST_SHIFT = 14, PIECE = 1000 };

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
}

static struct tcp *engine(void)
{
    return us->tcp->state;
}

static struct tcp_conn *mine(void)
{
    const struct tcp *t = engine();
    return &t->conn[t->app[k.app]->slot_conn[k.slot] - 1];
}

static struct stack_config *config(void)
{
    return (struct stack_config *)(void *)us->map->entry[REGION_CONFIG].base;
}

static struct tcp_app *application(void)
{
    return engine()->app[k.app];
}

/* Bytes [from, from + n) of the peer's stream. */
static void peer_sends(uint64_t from, unsigned n)
{
    uint8_t payload[PIECE];
    stream(payload, from, n);
    inject(TH_ACK, their((uint32_t)from), our((uint32_t)mine()->tx_una), payload, n);
}

static void peer_sends_up_to(uint64_t *from, uint64_t to)
{
    while (*from < to) {
        unsigned n = to - *from < PIECE ? (unsigned)(to - *from) : PIECE;
        peer_sends(*from, n);
        *from += n;
    }
}

static void app_reads(void)
{
    while (sock_step(&k))
        look();
    look();
}

/* What the peer may send up to, as it was told. */
static uint64_t told_edge(void)
{
    return mine()->rx_edge;
}

static void tell_window(void)
{
    mine()->ack_now = true;
    tcp_conn_dirty(engine(), mine());
    look();
}

static const struct ring_desc *descriptor(bool tx)
{
    const struct down_slot *d = sock_down(&k);
    return tx ? &d->tx[d->select & 1] : &d->rx[d->select >> 1 & 1];
}

static void receive_ring_grows_at(uint64_t before, bool hole, bool unread)
{
    uint64_t at = 0;
    begin(NULL);
    established_state();
    const uint64_t pages = application()->down_space.free_pages;
    while (at < before) {
        peer_sends_up_to(&at, at + PIECE < before ? at + PIECE : before);
        app_reads();
    }
    tell_window();
    k.no_read = unread;
    const uint64_t edge = told_edge();
    if (hole) /* the last bytes of the window, and some in the middle */
        for (unsigned i = 0; i < 2; i++)
            peer_sends(edge - 500 - i * 5000, 500);
    assert_int_equal(told_edge(), edge);
    if (unread && !hole)
        peer_sends_up_to(&at, edge);
    assert_true(tcp_block_grow_rx(engine(), mine(), 16));
    assert_int_equal(mine()->r.rx.switch_at, edge);
    assert_int_equal(descriptor(false)->switch_at, mine()->r.rx_base + edge);
    assert_int_equal(application()->down_space.free_pages, pages - 16);
    assert_false(tcp_block_grow_rx(engine(), mine(), 17)); /* one after the other */
    /* Now the new size is promised, counted from what was read. */
    tell_window();
    assert_int_equal(told_edge() > edge, true);
    assert_true(told_edge() <= mine()->rx_read + 65536);
    peer_sends_up_to(&at, told_edge() - 10);
    assert_int_equal(mine()->rx_nxt, at);
    k.no_read = false;
    app_reads();
    assert_int_equal(k.received, at);
    /* Passed: one block, and the first one is free. */
    assert_int_equal(descriptor(false)->block[0].size, 65536);
    assert_int_equal(descriptor(false)->block[1].size, 0);
    assert_int_equal(application()->down_space.free_pages, pages + 4 - 16);
    /* Once around the new one. */
    for (uint64_t stop = at + 70000; at < stop;) {
        peer_sends_up_to(&at, at + 3000);
        app_reads();
    }
    assert_int_equal(k.received, at);
    assert_int_equal(end(NULL), 0);
}

static void receive_ring_grows_anywhere(void **state)
{
    static const uint64_t before[] = {0, 1, 999, 4096, 9000, FIRST - 1, FIRST, FIRST + 1, 40001};
    (void)state;
    for (unsigned i = 0; i < sizeof before / sizeof before[0]; i++)
        for (unsigned how = 0; how < 4; how++)
            receive_ring_grows_at(before[i], how & 1, how & 2);
}

/* The peer acknowledges all that it got so far. */
static void peer_acknowledges(uint32_t up_to)
{
    inject(TH_ACK, their((uint32_t)mine()->rx_nxt), our(up_to), NULL, 0);
}

static uint32_t written(void)
{
    return (uint32_t)(sock_up(&k)->tx_end - sock_down(&k)->tx_base);
}

static void check_sent(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (data_out[i] != pattern(k.seed_tx, i))
            fail_msg("byte %u of %u that were sent is %02x, not %02x", i, n, data_out[i],
                     pattern(k.seed_tx, i));
}

/* The application fills its ring as fast as it can; `acked` bytes were acknowledged when it grows.
 */
static void send_ring_grows_at(uint32_t acked, bool full)
{
    begin(NULL);
    established_state();
    const uint64_t pages = application()->up_space.free_pages;
    uint32_t una = 0;
    k.to_send = acked;
    while (una < acked) {
        sock_step(&k);
        look();
        peer_acknowledges(una = (uint32_t)mine()->snd_max);
    }
    k.to_send = full ? 100000 : acked + 700;
    sock_step(&k);
    look();
    assert_true(tcp_block_grow_tx(engine(), mine(), 16));
    assert_int_equal(mine()->r.tx.switch_at, acked + FIRST);
    /* At once there is room for more, behind what may have been written meanwhile. */
    k.to_send = 150000;
    sock_step(&k);
    assert_int_equal(written(), acked + 65536);
    for (unsigned i = 0; i < 400 && una < 150000; i++) {
        look();
        peer_acknowledges(una = (uint32_t)mine()->snd_max);
        sock_step(&k);
    }
    assert_int_equal(una, 150000);
    check_sent(una);
    assert_int_equal(descriptor(true)->block[0].size, 65536);
    assert_int_equal(descriptor(true)->block[1].size, 0);
    assert_int_equal(application()->up_space.free_pages, pages + 4 - 16);
    assert_int_equal(end(NULL), 0);
}

static void send_ring_grows_anywhere(void **state)
{
    static const uint32_t acked[] = {0, 1, 4097, FIRST - 1, FIRST, FIRST + 1, 30000};
    (void)state;
    for (unsigned i = 0; i < sizeof acked / sizeof acked[0]; i++)
        for (unsigned full = 0; full < 2; full++)
            send_ring_grows_at(acked[i], full);
}

/* A chain that refers to the old block keeps it, whatever is acknowledged. */
static void old_block_waits_for_chains(void **state)
{
    (void)state;
    established_state();
    const uint64_t pages = application()->up_space.free_pages;
    w.chain_delay = 1u << 30;
    k.to_send = 5000;
    sock_step(&k);
    look();
    assert_true(tcp_block_grow_tx(engine(), mine(), 15));
    k.to_send = 45000;
    for (unsigned i = 0; i < 100; i++) {
        sock_step(&k);
        look();
        peer_acknowledges((uint32_t)mine()->snd_max);
    }
    assert_int_equal(written(), 32768);
    assert_int_equal(application()->up_space.free_pages, pages - 8);
    for (unsigned i = 0; i < us->n_open; i++)
        us->chain_done[us->open[i].chain] = us->open[i].generation;
    us->n_open = 0;
    later(2 * SEC);
    assert_int_equal(application()->up_space.free_pages, pages + 4 - 8);
}

/* A sender in slow start, 20 ms away: the ring follows, up to what is allowed. */
static void receive_ring_follows_the_path(void **state)
{
    uint64_t at = 0;
    (void)state;
    config()->tcp_autotune = 1;
    config()->tcp_rmem_max = 100000; /* the block of 64 KiB is the largest that fits */
    ts_on = 1;
    syn_rcvd_state();
    w.now += 20 * MSEC;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    sock_step(&k);
    for (unsigned round = 0; round < 12; round++) {
        uint64_t stop = at + (4000u << round);
        stop = stop < told_edge() ? stop : told_edge();
        while (at < stop) {
            peer_sends(at, stop - at < PIECE ? (unsigned)(stop - at) : PIECE);
            at += stop - at < PIECE ? stop - at : PIECE;
            app_reads();
        }
        later(20 * MSEC);
    }
    assert_int_equal(ring_shift(&mine()->r.rx), 16);
    assert_int_equal(k.received, at);
    /* One more would be too much. */
    assert_int_equal(counter(TCP_C_RINGS_GROWN) <= 2, true);
}

/* While the sender doubles, the window is ahead of it by the next two rounds: what is decided after
 * a round holds until the end of the next one. */
static void receive_ring_is_ahead_of_slow_start(void **state)
{
    uint64_t at = 0;
    (void)state;
    config()->tcp_autotune = 1;
    config()->tcp_rmem_max = 1 << 17;
    ts_on = 1;
    syn_rcvd_state();
    w.now += 20 * MSEC;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    sock_step(&k);
    for (unsigned round = 2500; round <= 20000; round *= 2) {
        for (unsigned n = 0; n < round; n += 500) {
            peer_sends(at, 500);
            at += 500;
            app_reads();
        }
        later(20 * MSEC);
    }
    peer_sends(at, 500); /* the round is over: 80,000 are wanted, rounded up */
    app_reads();
    assert_int_equal(ring_shift(&mine()->r.rx), 17);
}

/* A program that reads slowly, and a peer that sends slowly, keep the first ring. */
static void slow_streams_keep_the_first_ring(void **state)
{
    uint64_t at = 0;
    (void)state;
    config()->tcp_autotune = 1;
    config()->tcp_rmem_max = config()->tcp_wmem_max = 1 << 20;
    established_state();
    for (unsigned i = 0; i < 60; i++) {
        peer_sends_up_to(&at, at + PIECE);
        app_reads();
        later(30 * MSEC);
        app_writes(1000);
        peer_acknowledges((uint32_t)mine()->snd_max);
    }
    assert_int_equal(counter(TCP_C_RINGS_GROWN), 0);
}

static void send_ring_follows_the_window(void **state)
{
    (void)state;
    config()->tcp_autotune = 1;
    config()->tcp_wmem_max = 1 << 20;
    established_state();
    k.to_send = 150000;
    for (unsigned i = 0; i < 100 && mine()->tx_una < 150000; i++) {
        sock_step(&k);
        look();
        peer_acknowledges((uint32_t)mine()->snd_max);
    }
    /* Twice the 30,000 bytes that the peer takes at once. */
    assert_int_equal(ring_shift(&mine()->r.tx), 16);
    check_sent(150000);
}

/* A size that the program asked for holds, whatever the path could use. */
static void sizes_of_the_program_hold(void **state)
{
    uint64_t at = 0;
    (void)state;
    config()->tcp_autotune = 1;
    config()->tcp_rmem_max = config()->tcp_wmem_max = 1 << 20;
    established_state();
    sock_request(&k, OP_SETOPT, OPT_SNDBUF, 8192);
    look();
    sock_request(&k, OP_SETOPT, OPT_RCVBUF, 32768);
    look();
    k.to_send = 100000;
    for (unsigned i = 0; i < 200 && mine()->tx_una < 100000; i++) {
        sock_step(&k);
        peer_sends_up_to(&at, told_edge());
        peer_acknowledges((uint32_t)mine()->snd_max);
        app_reads();
    }
    assert_int_equal(ring_shift(&mine()->r.tx), FIRST_SHIFT); /* never smaller */
    assert_int_equal(ring_shift(&mine()->r.rx), 15);
}

/* The scale in the SYN is for the largest window that can come of it. */
static void scale_is_for_the_largest_window(void **state)
{
    static const struct {
        uint32_t first, most;
        uint8_t scale;
    } table[] = {
        {16384, 0, 0}, {16384, 65535, 0}, {16384, 65536, 1}, {16384, 6 << 20, 7}, {262144, 0, 3}};
    (void)state;
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct tcp_conn c = {.r = {.kind = TCP_KIND_CONN}};
        config()->tcp_rcvbuf = table[i].first;
        config()->tcp_autotune = 1;
        config()->tcp_rmem_max = table[i].most;
        tcp_conn_start_sending(engine(), &c);
        assert_int_equal(c.r.rcv_wscale, table[i].scale);
    }
}

/* Rings stop to grow when half of the space is taken: what is left is for new connections. */
static void growth_leaves_space_for_others(void **state)
{
    (void)state;
    established_state();
    struct ring_space *s = &application()->down_space;
    int64_t page[512];
    unsigned n = 0;
    while (s->free_pages > (s->end - s->first) / 2 + 8)
        page[n++] = tcp_ring_alloc(s, 12);
    assert_false(tcp_block_grow_rx(engine(), mine(), 14)); /* no larger than it is */
    assert_true(tcp_block_grow_rx(engine(), mine(), 18));  /* less than what it asked for */
    assert_int_equal(ring_shift(&mine()->r.rx), 15);
    k.slot = 2;
    our_port = 8080;
    their_port++;
    sock_claim(&k, &listener);
    inject(TH_SYN, their_iss, 0, NULL, 0);
    our_iss = last.seq;
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
    assert_false(tcp_block_grow_rx(engine(), mine(), 15));
    assert_int_equal(counter(TCP_C_GROWTH_REFUSED), 1);
    while (n > 0)
        tcp_ring_release(s, (uint32_t)page[--n], 12);
}

/* A page for each direction is enough to live on. */
static void a_page_is_enough(void **state)
{
    uint64_t at = 0;
    (void)state;
    config()->tcp_autotune = 1;
    config()->tcp_rmem_max = 6 << 20; /* the scale of a large window with a tiny one */
    config()->tcp_rcvbuf = config()->tcp_sndbuf = 4096;
    established_state();
    mine()->r.rcvbuf_shift = mine()->r.sndbuf_shift = 12;
    k.to_send = 20000;
    for (unsigned i = 0; i < 200 && (mine()->tx_una < 20000 || at < 20000); i++) {
        sock_step(&k);
        uint64_t stop = told_edge() < 20000 ? told_edge() : 20000;
        assert_true(stop <= mine()->rx_read + 4096);
        peer_sends_up_to(&at, stop);
        peer_acknowledges((uint32_t)mine()->snd_max);
        app_reads();
        if (i % 4 == 3)
            later(SEC);
    }
    assert_int_equal(k.received, 20000);
    check_sent(20000);
    assert_int_equal(counter(TCP_C_RINGS_GROWN), 0);
}

static unsigned take_all(struct ring_space *s, int64_t *page)
{
    unsigned n = 0;
    while ((page[n] = tcp_ring_alloc(s, 12)) >= 0)
        n++;
    return n;
}

/* Space that is used up fails what needs it, alone and for as long as that is so. */
static void without_space_a_connect_fails_alone(void **state)
{
    int64_t page[512];
    int result = 0;
    (void)state;
    look();
    struct ring_space *s = &application()->up_space;
    for (unsigned up = 2; up-- > 0; s = &application()->down_space) {
        unsigned n = take_all(s, page);
        sock_connect(&k, &w.side[1], 5555);
        look();
        assert_true(sock_replied(&k, &result));
        assert_int_equal(result, -ENOBUFS);
        assert_int_equal(sent, 0);
        while (n > 0)
            tcp_ring_release(s, (uint32_t)page[--n], 12);
        k.slot++;
    }
    const uint64_t pages = application()->up_space.free_pages;
    sock_connect(&k, &w.side[1], 5555);
    look();
    assert_int_equal(sent, 1);
    assert_int_equal(last.flags, TH_SYN);
    assert_int_equal(application()->up_space.free_pages, pages - 4);
}

static void without_space_a_handshake_waits(void **state)
{
    int64_t page[512];
    (void)state;
    syn_rcvd_state();
    struct ring_space *s = &application()->down_space;
    unsigned n = take_all(s, page);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(counter(TCP_C_DROP_NO_BLOCK), 1);
    assert_int_equal(sent, 0); /* as if the ACK had been lost */
    while (n > 0)
        tcp_ring_release(s, (uint32_t)page[--n], 12);
    later(2 * SEC);
    assert_int_equal(last.flags, TH_SYN | TH_ACK);
    inject(TH_ACK, their(0), our(0), NULL, 0);
    assert_int_equal(sock_down(&k)->state, SOCK_ESTABLISHED);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receive_ring_grows_anywhere),
        cmocka_unit_test(send_ring_grows_anywhere),
        T(old_block_waits_for_chains),
        T(receive_ring_follows_the_path),
        T(receive_ring_is_ahead_of_slow_start),
        T(slow_streams_keep_the_first_ring),
        T(send_ring_follows_the_window),
        T(sizes_of_the_program_hold),
        T(scale_is_for_the_largest_window),
        T(growth_leaves_space_for_others),
        T(a_page_is_enough),
        T(without_space_a_connect_fails_alone),
        T(without_space_a_handshake_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
