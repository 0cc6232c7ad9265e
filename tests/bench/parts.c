/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What single parts cost, in cycles of the time-stamp counter. Used by tests/bench/parts.
 *
 *   bench_parts queue               a message through a queue between servers: both ends in one
 * thread, and each on its processor, by how many are published at once bench_parts calls ADDRESS
 * PORT  calls on a connected socket that has nothing: libsock's, or the kernel's, as it is run
 *
 * Each figure is the median of many short runs, so that what else the machine does spoils few of
 * them. Prints JSON.
 */
#include "libchan/edge/driver_ip.h"
#include "tests/harness/memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum { ROUNDS = 301, MESSAGES = 4000, CALLS = 500, FRAMES = 512 };
#define DRIVER SERVER_ID(SERVER_DRIVER, 0)
#define IP     SERVER_ID(SERVER_IP, 0)

static void die(const char *what)
{
    fprintf(stderr, "parts: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t cycles(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *value)
{
    qsort(value, ROUNDS, sizeof value[0], by_value);
    return value[ROUNDS / 2];
}

/* ---- a queue: driver to ip, 64 bytes a message ---- */

static struct chan_tx tx;
static struct chan_rx rx;
static uint64_t sent, received;

/* Publishes n more, or fewer when the queue is full. How many. */
static unsigned produce(unsigned n)
{
    struct driver_rx *slot;
    unsigned made = 0;
    for (; made < n && chan_tx_reserve(&tx, 0, sent, 0, (void **)&slot) == CHAN_OK; made++) {
        const struct driver_rx m = {.frame = (uint32_t)sent++, .len = 1514};
        shm_copy((struct slot_head *)slot + 1, (const struct slot_head *)&m + 1,
                 sizeof m - sizeof m.head);
        chan_tx_commit(&tx);
    }
    chan_tx_publish(&tx);
    return made;
}

static void consume(void)
{
    const struct driver_rx *slot;
    while ((slot = chan_rx_peek(&rx)) != NULL) {
        struct driver_rx m = *slot;
        if (m.frame != (uint32_t)received++) {
            fprintf(stderr, "parts: another message than was sent\n");
            exit(1);
        }
        chan_rx_next(&rx);
    }
    chan_rx_release(&rx);
}

static double in_one_thread(unsigned batch)
{
    uint64_t start = cycles(), end = sent + MESSAGES;
    while (sent < end) {
        produce(batch);
        consume();
    }
    return (double)(cycles() - start) / MESSAGES;
}

/* Whoever has nothing to do spins; it yields now and then in case the other waits for the same
 * processor. */
static void idle(unsigned *spins)
{
    cpu_relax();
    if (++*spins % 1024 == 0)
        sched_yield();
}

static uint64_t last; /* message of a run */

static void *consumer(void *arg)
{
    unsigned spins = 0;
    (void)arg;
    while (received < load_acquire(&last)) {
        if (chan_rx_pending(&rx))
            consume();
        else
            idle(&spins);
    }
    return NULL;
}

static double in_two_threads(unsigned batch, const int cpu[2])
{
    pthread_t t;
    pthread_attr_t attr;
    unsigned spins = 0;
    cpu_set_t set;
    uint64_t first = sent;
    __atomic_store_n(&last, sent + MESSAGES, __ATOMIC_RELEASE);
    CPU_ZERO(&set);
    CPU_SET(cpu[1], &set);
    pthread_attr_init(&attr);
    pthread_attr_setaffinity_np(&attr, sizeof set, &set);
    if (pthread_create(&t, &attr, consumer, NULL) != 0)
        die("thread");
    pthread_attr_destroy(&attr);
    /* Not what it costs to start a thread: time begins when it has taken something. */
    while (sent == first || chan_tx_consumed(&tx) < sent)
        if (sent != first || produce(1) == 0)
            idle(&spins);
    uint64_t from = sent, start = cycles();
    while (sent < last) {
        uint64_t n = last - sent < batch ? last - sent : batch;
        if (produce((unsigned)n) == 0)
            idle(&spins);
    }
    while (chan_tx_consumed(&tx) < sent)
        idle(&spins);
    double each = (double)(cycles() - start) / (double)(sent - from);
    pthread_join(t, NULL);
    return each;
}

static void queue(void)
{
    static const unsigned batch[] = {1, 8, 32};
    static struct region_map map;
    struct stack_config cfg;
    cpu_set_t set;
    int cpu[2], n = 0;
    memory_config(&cfg);
    cfg.interface[0].frames = FRAMES;
    memory_create(&map, &cfg);
    const struct region *driver = &map.entry[REGION_OF_SERVER(DRIVER)];
    const struct region *ip = &map.entry[REGION_OF_SERVER(IP)];
    if (chan_tx_attach(&tx, driver, ip, EDGE_DRIVER_IP, DRIVER, IP, 1, NULL) != 0 ||
        chan_rx_attach(&rx, ip, driver, EDGE_DRIVER_IP, IP, DRIVER, NULL) != 0)
        die("queue");
    sched_getaffinity(0, sizeof set, &set);
    for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, &set))
            cpu[n++] = i;
    printf("{");
    for (unsigned b = 0; b < 3; b++) {
        double value[ROUNDS];
        for (unsigned i = 0; i < ROUNDS; i++)
            value[i] = in_one_thread(batch[b]);
        printf("%s\"same core, batch %u\": %.1f", b > 0 ? ", " : "", batch[b], median(value));
    }
    if (n == 2) {
        CPU_ZERO(&set);
        CPU_SET(cpu[0], &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    for (unsigned b = 0; n == 2 && b < 3; b++) {
        double value[ROUNDS];
        for (unsigned i = 0; i < ROUNDS; i++)
            value[i] = in_two_threads(batch[b], cpu);
        printf(", \"two cores, batch %u\": %.1f", batch[b], median(value));
    }
    printf("}\n");
    memory_destroy(&map);
}

/* ---- calls that find nothing ---- */

static int fd;

static bool empty_recv(void)
{
    char c;
    return recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static bool empty_poll(void)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

static double call(bool (*f)(void))
{
    double value[ROUNDS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool good = true;
        uint64_t start = cycles();
        for (unsigned k = 0; k < CALLS; k++)
            good &= f();
        value[i] = (double)(cycles() - start) / CALLS;
        if (!good)
            die("a call found something");
    }
    return median(value);
}

static void calls(const char *address, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    printf("{\"empty recv\": %.0f", call(empty_recv));
    printf(", \"empty poll\": %.0f}\n", call(empty_poll));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "queue") == 0)
        queue();
    else if (argc == 4 && strcmp(argv[1], "calls") == 0)
        calls(argv[2], argv[3]);
    else
        return 2;
    return 0;
}
