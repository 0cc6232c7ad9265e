/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The queue and the bell as two threads, under ThreadSanitizer and on two processors: every message
 * arrives once, in order, with its content, and nobody sleeps on work. Both sides sleep whenever
 * they can, so that every path of the wake-up protocol is taken. threads.sh compiles it together
 * with libchan.
 *
 * With SPIN nobody sleeps and no bell is rung: a system call between the two would order their
 * accesses in the eyes of ThreadSanitizer, and hide that the queue's own stores do not.
 */
#include "libchan/chan.h"
#include "libchan/edge/syscall_ctl.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MESSAGES = 200000, PATIENCE_MS = 10000 };

static const server_id ids[2] = {SERVER_ID(SERVER_SYSCALL, 0), SERVER_ID(SERVER_UDP, 0)};
static struct region region[2];
static int fd[2];
static unsigned long sleeps[2], rings[2];

static void fail(const char *what)
{
    fprintf(stderr, "threads: %s\n", what);
    exit(1);
}

static int new_bell(void)
{
#ifdef SPIN
    return -1;
#else
    const int f = eventfd(0, EFD_NONBLOCK);

    if (f < 0)
        fail("no eventfd");
    return f;
#endif
}

static struct bell bell_of(int side)
{
    return (struct bell){
        .asleep = &wiring_block(&region[side])->asleep, .fd = fd[side], .kind = BELL_EVENTFD};
}

/* The end of a turn that had nothing to do: flag, fence, last look, sleep. */
static void sleep_unless(int side, bool (*pending)(void *), void *what)
{
#ifdef SPIN
    sched_yield();
    (void)side, (void)pending, (void)what;
#else
    uint32_t *asleep = &wiring_block(&region[side])->asleep;

    shm_store(asleep, 1u);
    fence_full();
    if (!pending(what)) {
        struct pollfd p = {.fd = fd[side], .events = POLLIN};
        sleeps[side]++;
        /* Waits for the bell; the time-out only makes a lost one into a failure. */
        if (poll(&p, 1, PATIENCE_MS) == 0)
            fail(side == 0 ? "the producer sleeps although there is room"
                           : "the consumer sleeps although there is work");
        bell_drain(fd[side], BELL_EVENTFD);
    }
    shm_store(asleep, 0u);
#endif
}

static bool has_room(void *tx)
{
    return chan_tx_room(tx, 1);
}

static bool has_work(void *rx)
{
    return chan_rx_pending(rx);
}

static void *producer(void *arg)
{
    static struct chan_tx tx;
    struct bell bell = bell_of(1), *list[1] = {&bell};
    uint32_t random = 2463534242u;

    (void)arg;
    if (chan_tx_attach(&tx, &region[0], &region[1], EDGE_SYSCALL_UDP, ids[0], ids[1], 1, &bell))
        fail("cannot attach the producer");
    for (uint64_t n = 0; n < MESSAGES;) {
        random ^= random << 13, random ^= random >> 17, random ^= random << 5;
        unsigned batch = random % 8 + 1;
        bool full = false;
        for (; batch > 0 && n < MESSAGES; batch--) {
            void *slot;
            if (chan_tx_reserve(&tx, 0, n, 0, &slot) != CHAN_OK) {
                full = true;
                break;
            }
            const struct syscall_request q = {.op = (uint32_t)n, .client = n * 3, .id = ~n};
            shm_copy((uint8_t *)slot + 16, (const uint8_t *)&q + 16, sizeof q - 16);
            chan_tx_commit(&tx);
            n++;
        }
        chan_tx_publish(&tx);
        bell_flush(list, 1);
        if (full)
            sleep_unless(0, has_room, &tx);
    }
    rings[0] = bell.rings;
    return NULL;
}

static void *consumer(void *arg)
{
    static struct chan_rx rx;
    struct bell bell = bell_of(0), *list[1] = {&bell};
    uint64_t n = 0;

    (void)arg;
    if (chan_rx_attach(&rx, &region[1], &region[0], EDGE_SYSCALL_UDP, ids[1], ids[0], &bell))
        fail("cannot attach the consumer");
    while (n < MESSAGES) {
        const void *slot;
        struct syscall_request q;

        if ((slot = chan_rx_peek(&rx)) == NULL) {
            sleep_unless(1, has_work, &rx);
            continue;
        }
        for (unsigned batch = 0; batch < 64 && (slot = chan_rx_peek(&rx)) != NULL; batch++) {
            memcpy(&q, slot, sizeof q);
            if (q.head.src_index != n || q.op != (uint32_t)n || q.client != n * 3 || q.id != ~n)
                fail("a message is not the one that was sent");
            chan_rx_next(&rx);
            n++;
        }
        chan_rx_release(&rx);
        bell_flush(list, 1);
    }
    rings[1] = bell.rings;
    return NULL;
}

int main(void)
{
    static struct stack_config cfg = {.interfaces = 1,
                                      .queue_slots = 64,
                                      .udp_sockets = 1,
                                      .udp_buffers = 1,
                                      .ip_buffers = 1,
                                      .tcp_chains = 1,
                                      .tcp_connections = 1};
    pthread_t thread[2];

    cfg.interface[0].frames = 1;
    cfg.interface[0].frame_size = 4096;
    for (int i = 0; i < 2; i++) {
        const uint64_t size = wiring_region_size(&cfg, ids[i]);
        uint8_t *base = aligned_alloc(4096, size);
        if (base == NULL)
            fail("no memory");
        fd[i] = new_bell();
        memset(base, 0, size);
        region[i] = (struct region){.base = base,
                                    .size = size,
                                    .generation = 1,
                                    .id = REGION_OF_SERVER(ids[i]),
                                    .writable = true};
        wiring_format(base, &cfg, ids[i], 1);
    }
    pthread_create(&thread[0], NULL, producer, NULL);
    pthread_create(&thread[1], NULL, consumer, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    printf("%d messages; producer slept %lu times and rang %lu, consumer slept %lu and rang %lu\n",
           MESSAGES, sleeps[0], rings[0], sleeps[1], rings[1]);
    for (int i = 0; i < 2; i++) {
        free(region[i].base);
        if (fd[i] >= 0)
            close(fd[i]);
    }
    return 0;
}
