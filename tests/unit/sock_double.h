/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A double of tcp for tests of libsock: plays the server's side of an application's regions, in
 * this process, on a loopback of its own. Each step serves every slot once, so that a test decides
 * what has happened and what has not; double_run() serves in a thread.
 */
#ifndef EFT_TESTS_UNIT_SOCK_DOUBLE_H
#define EFT_TESTS_UNIT_SOCK_DOUBLE_H

#include "libsock/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { D_SLOTS = 64, D_BLOCK = 8192, D_WAITERS = 8 };

struct d_slot {
    int kind; /* 0 free, 1 bound, 2 listener, 3 claim, 4 connecting, 5 connection, 6 dead */
    int peer; /* connection: the other slot; claim: the listener */
    uint16_t port;
    uint32_t generation;
    bool closing, fin_sent, peer_gone;
    uint64_t tx_from; /* next byte to carry */
    bool grown;
};

static struct {
    struct d_slot slot[D_SLOTS];
    struct down_slot *down;
    struct down_region *down_tcp;
    struct public_page *pub;
    int ring_fd[D_WAITERS], bell_fd;
    uint32_t rung[D_WAITERS];
    uint64_t rings, requests;
    uint32_t order[D_SLOTS]; /* claims and connects that wait, oldest first */
    unsigned n_order;
    bool hold_data, away;
    pthread_t thread;
    bool stop;
} dbl;

static inline void *d_map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

/* Blocks: 8 KiB for each slot and, behind them, 16 KiB for its second block. */
static inline uint64_t d_blocks(void)
{
    return 1 << 20;
}
static inline uint64_t d_block2(unsigned i)
{
    return (2u << 20) + i * 2 * (uint64_t)D_BLOCK;
}

static inline void d_begin(void)
{
    static struct ctl_region ctl;
    const size_t size = 4u << 20;
    memset(&dbl, 0, sizeof dbl);
    if (lib_init() != 0)
        abort();
    lib.enabled = true;
    lib.up = d_map(size);
    lib.up_size = lib.down_tcp_size = lib.down_udp_size = size;
    dbl.down_tcp = d_map(size);
    lib.down_tcp = dbl.down_tcp;
    lib.down_udp = d_map(size);
    dbl.pub = d_map(4096);
    lib.pub_tcp = dbl.pub;
    lib.pub_udp = d_map(4096);
    uint64_t slots = (sizeof(struct up_region) + 4095) & ~4095ull;
    ctl = (struct ctl_region){.version = APP_VERSION,
                              .app = 3,
                              .app_generation = 1,
                              .n_tcp = D_SLOTS,
                              .n_udp = D_SLOTS,
                              .default_sndbuf = D_BLOCK,
                              .default_rcvbuf = D_BLOCK,
                              .udp_sndbuf = D_BLOCK,
                              .udp_rcvbuf = D_BLOCK,
                              .up_tcp_slots = slots,
                              .up_udp_slots = slots + D_SLOTS * sizeof(struct up_slot),
                              .down_tcp_slots = 4096,
                              .down_tcp_info = 4096 + D_SLOTS * sizeof(struct down_slot),
                              .down_udp_slots = 4096};
    lib.ctl = &ctl;
    dbl.down = (struct down_slot *)((uint8_t *)dbl.down_tcp + 4096);
    for (int i = 0; i < D_WAITERS; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0)
            abort();
        lib.waiter_fd[i] = pair[0];
        dbl.ring_fd[i] = pair[1];
    }
    int bell[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, bell) != 0)
        abort();
    lib.bell_tcp = lib.bell_udp = bell[0];
    dbl.bell_fd = bell[1];
    if (lib_adopt_regions() != 0)
        abort();
}

static inline void d_ring(uint32_t slot)
{
    fence_full();
    for (int i = 0; i < D_WAITERS; i++) {
        uint32_t armed = load_acquire(&lib.up->waiter[i].armed);
        uint32_t wants = load_relaxed(&lib.up->waiter[i].socket);
        if (!(armed & 1) || armed == dbl.rung[i] || (wants != WAIT_ANY && wants != slot))
            continue;
        dbl.rung[i] = armed;
        dbl.rings++;
        if (send(dbl.ring_fd[i], "", 1, MSG_DONTWAIT) < 0 && errno != EAGAIN)
            abort();
    }
}

static inline void d_reply(unsigned i, int result, uint32_t state)
{
    struct down_slot *d = &dbl.down[i];
    shm_store(&d->generation, dbl.slot[i].generation);
    shm_store_release(&d->state, state);
    shm_store(&d->result, result);
    shm_store_release(&d->req_done, load_acquire(&lib.up_tcp[i].req_id));
    d_ring(i);
}

static inline void d_connection(unsigned i, unsigned peer)
{
    struct down_slot *d = &dbl.down[i];
    struct d_slot *s = &dbl.slot[i];
    int listener = s->kind == 3 ? s->peer : -1; /* a claim: its listener is rung, too */
    s->kind = 5;
    s->peer = (int)peer;
    s->closing = s->fin_sent = s->peer_gone = s->grown = false;
    s->tx_from = lib.up_tcp[i].tx_base;
    d->tx_una = d->tx_free = d->tx_base = s->tx_from;
    /* As tcp does it: the base is rounded up, the counter never goes back. */
    d->rx_base = ((d->rx_nxt & OFF_MASK) + D_BLOCK - 1) & ~(uint64_t)(D_BLOCK - 1);
    d->rx_nxt = d->rx_base;
    d->tx[d->select & 1] = (struct ring_desc){
        .switch_at = UINT64_MAX, .block[0] = {d_blocks() + i * (uint64_t)D_BLOCK, D_BLOCK, 0}};
    d->rx[d->select >> 1 & 1] = d->tx[d->select & 1];
    d->remote = (struct sock_name){.addr = ip_addr_v4(htonl(0x0a090001)), .port = 4000};
    d->local = (struct sock_name){.addr = ip_addr_v4(htonl(0x0a090002)), .port = s->port};
    d_reply(i, 0, SOCK_ESTABLISHED);
    if (listener >= 0)
        d_ring((uint32_t)listener);
}

/* The connection ends with an error, as after an RST. */
static inline void d_reset(unsigned i, int error)
{
    shm_store(&dbl.down[i].error, (uint32_t)error);
    shm_store_release(&dbl.down[i].error_seq, dbl.down[i].error_seq + 1);
    shm_store_release(&dbl.down[i].state, (uint32_t)SOCK_CLOSED);
    dbl.slot[i].kind = 6;
    d_ring(i);
}

/* The receive ring of slot i goes on in a second, larger block from what is in order now. */
static inline void d_grow_rx(unsigned i)
{
    struct down_slot *d = &dbl.down[i];
    unsigned sel = d->select >> 1 & 1;
    struct ring_desc r = d->rx[sel];
    r.switch_at = d->rx_nxt & OFF_MASK;
    r.block[1] = (struct ring_block){d_block2(i), 2 * D_BLOCK, 0};
    d->rx[!sel] = r;
    shm_store_release(&d->select, d->select ^ 2u);
    dbl.slot[i].grown = true;
}

static inline void d_unqueue(unsigned k)
{
    dbl.n_order--;
    memmove(&dbl.order[k], &dbl.order[k + 1], (dbl.n_order - k) * sizeof dbl.order[0]);
}

static inline void d_match(void)
{
    for (unsigned c = 0; c < dbl.n_order; c++) {
        struct d_slot *conn = &dbl.slot[dbl.order[c]];
        if (conn->kind != 4)
            continue;
        for (unsigned k = 0; k < dbl.n_order; k++) {
            struct d_slot *claim = &dbl.slot[dbl.order[k]];
            if (claim->kind != 3 || dbl.slot[claim->peer].port != conn->port)
                continue;
            unsigned a = dbl.order[c], b = dbl.order[k];
            claim->port = conn->port;
            d_unqueue(c > k ? c : k);
            d_unqueue(c > k ? k : c);
            d_connection(a, b);
            d_connection(b, a);
            d_match();
            return;
        }
    }
}

static inline void d_request(unsigned i)
{
    const struct up_slot *u = &lib.up_tcp[i];
    struct d_slot *s = &dbl.slot[i];
    dbl.requests++;
    s->generation = u->generation;
    switch (load_relaxed(&u->op)) {
    case OP_BIND:
    case OP_LISTEN:
        if (s->kind == 0)
            s->port = u->local.port ? u->local.port : (uint16_t)(30000 + i);
        s->kind = u->op == OP_BIND ? 1 : 2;
        dbl.down[i].local = (struct sock_name){.addr = u->local.addr, .port = s->port};
        d_reply(i, 0, u->op == OP_BIND ? SOCK_BOUND : SOCK_LISTEN);
        return;
    case OP_CONNECT: {
        bool found = false;
        for (unsigned k = 0; k < D_SLOTS; k++)
            found |= dbl.slot[k].kind == 2 && dbl.slot[k].port == u->remote.port;
        s->port = u->remote.port;
        if (!found) {
            s->kind = 6;
            shm_store(&dbl.down[i].error, (uint32_t)ECONNREFUSED);
            shm_store(&dbl.down[i].error_seq, dbl.down[i].error_seq + 1);
            d_reply(i, -ECONNREFUSED, SOCK_CLOSED);
            return;
        }
        s->kind = 4;
        shm_store(&dbl.down[i].generation, s->generation);
        shm_store_release(&dbl.down[i].state, (uint32_t)SOCK_CONNECTING);
        dbl.order[dbl.n_order++] = i;
        return;
    }
    case OP_ACCEPT:
        s->kind = 3;
        s->peer = (int)u->target_slot;
        shm_store(&dbl.down[i].generation, s->generation);
        shm_store_release(&dbl.down[i].state, (uint32_t)SOCK_CLAIM);
        dbl.order[dbl.n_order++] = i;
        return;
    case OP_CANCEL:
        for (unsigned k = 0; k < dbl.n_order; k++)
            if (dbl.order[k] == i) {
                d_unqueue(k);
                s->kind = 0;
                d_reply(i, -ECANCELED, SOCK_FREE);
                return;
            }
        d_reply(i, 0, dbl.down[i].state);
        return;
    case OP_CLOSE:
        s->closing = true;
        if (u->arg0 != 0 && s->kind == 5)
            d_reset((unsigned)s->peer, ECONNRESET);
        if (s->kind != 5)
            s->kind = 6;
        d_reply(i, 0, s->kind == 5 ? dbl.down[i].state : (uint32_t)SOCK_CLOSED);
        return;
    default:
        d_reply(i, 0, dbl.down[i].state);
    }
}

static inline void d_carry(unsigned i)
{
    struct d_slot *s = &dbl.slot[i];
    if (s->kind != 5 || dbl.hold_data)
        return;
    const struct up_slot *u = &lib.up_tcp[i];
    struct down_slot *d = &dbl.down[i], *pd = &dbl.down[s->peer];
    struct ring tx, rx;
    uint64_t end = load_acquire(&u->tx_end);
    uint64_t nxt = pd->rx_nxt & OFF_MASK;
    bool peer = dbl.slot[s->peer].kind == 5 && dbl.slot[s->peer].peer == (int)i;
    if (!ring_get(&tx, d, true, false))
        abort();
    bool moved = false;
    while (s->tx_from < (end & OFF_MASK)) {
        uint64_t n = 1, room = 0;
        const uint8_t *from = ring_piece(&tx, s->tx_from, &n);
        if (n > (end & OFF_MASK) - s->tx_from)
            n = (end & OFF_MASK) - s->tx_from;
        if (peer) {
            if (!ring_get(&rx, pd, false, false))
                abort();
            uint64_t read = load_acquire(&lib.up_tcp[s->peer].rx_read);
            if (rx.d.block[1].size && read < rx.d.switch_at)
                read = rx.d.switch_at;
            room = ring_size(&rx) - (nxt - read);
            if (n > room)
                n = room;
            if (n == 0)
                break;
            ring_write(&rx, nxt, from, n);
            nxt += n;
            shm_store_release(&pd->rx_nxt, nxt);
        }
        s->tx_from += n;
        moved = true;
    }
    if (moved) {
        shm_store_release(&d->tx_una, s->tx_from);
        shm_store_release(&d->tx_free, s->tx_from);
        d_ring(i);
    }
    bool fin = (end & OFF_MARK || s->closing) && s->tx_from == (end & OFF_MASK) && !s->fin_sent;
    if (fin) {
        s->fin_sent = true;
        if (peer)
            shm_store_release(&pd->rx_nxt, nxt | OFF_MARK);
    }
    if ((moved || fin) && peer)
        d_ring((uint32_t)s->peer);
}

/* Serves every slot once. */
static inline void d_step(void)
{
    uint64_t tail = load_acquire(&lib.up->work_tcp.tail);
    uint64_t scan = load_acquire(&lib.up->work_tcp.scan);
    if (dbl.away)
        return;
    /* In the order of the queue, as tcp does. */
    for (uint64_t n = dbl.down_tcp->work_head; n < tail; n++) {
        uint32_t i = lib.up->work_tcp.slot[n & (WORK_SLOTS - 1)];
        if (load_acquire(&lib.up_tcp[i].req_id) != dbl.down[i].req_done && dbl.slot[i].kind != 3 &&
            dbl.slot[i].kind != 4)
            d_request(i);
        else if (load_acquire(&lib.up_tcp[i].req_id) != dbl.down[i].req_done &&
                 load_relaxed(&lib.up_tcp[i].op) == OP_CANCEL)
            d_request(i);
    }
    shm_store_release(&dbl.down_tcp->work_head, tail);
    d_match();
    for (unsigned i = 0; i < D_SLOTS; i++) {
        if (load_acquire(&lib.up_tcp[i].req_id) != dbl.down[i].req_done &&
            scan != dbl.down_tcp->scan_done && dbl.slot[i].kind != 3 && dbl.slot[i].kind != 4)
            d_request(i);
        d_carry(i);
        struct d_slot *s = &dbl.slot[i];
        if (s->kind != 0 && load_acquire(&lib.up_tcp[i].released) == s->generation &&
            s->generation != 0 && dbl.down[i].state != SOCK_FREE && (s->kind != 5 || s->fin_sent)) {
            s->kind = 0;
            shm_store(&dbl.down[i].generation, s->generation);
            shm_store_release(&dbl.down[i].state, (uint32_t)SOCK_FREE);
            d_ring(i);
        }
    }
    shm_store_release(&dbl.down_tcp->scan_done, scan);
}

/* A thread that serves until double_stop(): sleeps on the bell, as a server does. */
static inline void *d_loop(void *arg)
{
    (void)arg;
    while (!load_acquire(&dbl.stop)) {
        d_step();
        shm_store(&dbl.pub->asleep, 1u);
        fence_full();
        struct pollfd p = {.fd = dbl.bell_fd, .events = POLLIN};
        if (load_acquire(&lib.up->work_tcp.tail) == dbl.down_tcp->work_head &&
            load_acquire(&lib.up->work_tcp.scan) == dbl.down_tcp->scan_done)
            poll(&p, 1, 1000);
        shm_store(&dbl.pub->asleep, 0u);
        char byte[64];
        while (recv(dbl.bell_fd, byte, sizeof byte, MSG_DONTWAIT) > 0)
            ;
    }
    return NULL;
}

static inline void d_run(void)
{
    if (pthread_create(&dbl.thread, NULL, d_loop, NULL) != 0)
        abort();
}

static inline void d_stop(void)
{
    shm_store_release(&dbl.stop, true);
    if (write(lib.bell_tcp, "", 1) < 0)
        dbl.rings++;
    pthread_join(dbl.thread, NULL);
}

/* ---- sockets without the symbols ---- */

static inline struct sock *d_socket(int *fd)
{
    int n = fd_placeholder(AF_INET, false, SOCK_CLOEXEC);
    struct sock *s = sock_new(false, AF_INET);
    if (n < 0 || s == NULL)
        abort();
    fd_install(n, s);
    *fd = n;
    return s;
}

static inline void d_close(int fd)
{
    fd_forget(fd);
    close(fd);
}

static inline struct sockaddr_in d_addr(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x0a090002)};
}

/* ---- a double that serves, with a listener: for the groups of tests that need connections ---- */

enum { D_PORT = 8080 };
static int d_lfd;
static struct sock *d_listener;

static inline int d_setup(void **state)
{
    (void)state;
    d_begin();
    d_run();
    d_listener = d_socket(&d_lfd);
    struct sockaddr_in sa = d_addr(D_PORT);
    if (conn_bind(d_lfd, d_listener, (struct sockaddr *)&sa, sizeof sa) != 0)
        return -1;
    return conn_listen(d_listener, 64);
}

static inline int d_teardown(void **state)
{
    (void)state;
    d_close(d_lfd);
    d_stop();
    return 0;
}

/* A connection: [0] has connected, [1] was accepted. */
static inline void d_pair(int fd[2], struct sock *s[2])
{
    struct sockaddr_in sa = d_addr(D_PORT);
    s[0] = d_socket(&fd[0]);
    s[0]->nonblock = 1;
    if (conn_connect(fd[0], s[0], (struct sockaddr *)&sa, sizeof sa) != -EINPROGRESS)
        abort();
    fd[1] = conn_accept(d_listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd[1] < 0)
        abort();
    s[1] = sock_enter(fd[1]);
    sock_leave(s[1]);
    s[0]->nonblock = 0;
    if (conn_connect(fd[0], s[0], (struct sockaddr *)&sa, sizeof sa) != 0)
        abort();
}

/* Calls f(slot) while the double does nothing. */
static inline void d_meanwhile(void (*f)(unsigned slot), unsigned slot)
{
    d_stop();
    f(slot);
    shm_store(&dbl.stop, false);
    d_run();
}

#endif
