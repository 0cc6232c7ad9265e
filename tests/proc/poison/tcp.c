/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A TCP server with faults in it, for the tests of what happens then. The linker puts the functions
 * below in front of the real ones (--wrap).
 *
 *   a segment that begins with EFT-POISON       faults when it is handled
 *   a connection to port 6667 that has data     faults whenever it sends
 *   a segment that begins with EFT-LIVELOCK     from then on there are turns, but no segment is
 * taken a segment that begins with EFT-SILENCE      the next bell is not rung, whatever was
 * published the file fault-at-start                     which starts fault: see
 * read_fault_at_start()
 */
#include "servers/tcp/tcp.h"
#include "servers/tcp/engine.h"

#include <fcntl.h>
#include <unistd.h>

static void fault(void)
{
    __builtin_trap(); /* SIGILL */
}

static bool livelock;
static unsigned silent; /* flushes of bells that are left out */

static bool begins(const struct packet *p, const uint8_t *payload, const char *mark)
{
    return payload != NULL && p->piece[0].len >= strlen(mark) &&
           memcmp(payload, mark, strlen(mark)) == 0;
}

bool __real_tcp_input(struct tcp *t, const struct packet *p);
bool __wrap_tcp_input(struct tcp *t, const struct packet *p);
bool __wrap_tcp_input(struct tcp *t, const struct packet *p)
{
    const uint8_t *payload = p->pieces > 0 ? region_resolve(t->c->map, &p->piece[0]) : NULL;

    if (begins(p, payload, "EFT-POISON"))
        fault();
    /* Once for each: a successor handles the same segment. A counter that nobody uses remembers. */
    uint64_t *last = &t->c->block->counter[191];
    const uint64_t index = chan_rx_index(&t->rx_ip) + 1;
    if (begins(p, payload, "EFT-LIVELOCK") && *last != index) {
        *last = index;
        livelock = true;
    }
    if (begins(p, payload, "EFT-SILENCE"))
        silent = 1;
    if (livelock)
        return false;
    return __real_tcp_input(t, p);
}

/* The file `fault-at-start` beside the program says which starts fault: "frugal" all before that
 * step, "cold" all before that one. Read by the constructor, as a spare starts behind its sandbox.
 */
static char fault_at_start[16];

__attribute__((constructor)) static void read_fault_at_start(void)
{
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);

    if (n <= 0)
        return;
    path[n] = '\0';
    strcpy(strrchr(path, '/') + 1, "fault-at-start");
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, fault_at_start, sizeof fault_at_start - 1) < 0)
        fault_at_start[0] = '\0';
    close(fd);
}

void __real_tcp_recover_begin(struct tcp *t);
void __wrap_tcp_recover_begin(struct tcp *t);
void __wrap_tcp_recover_begin(struct tcp *t)
{
    if ((strncmp(fault_at_start, "frugal", 6) == 0 && !(t->c->start & START_FRUGAL)) ||
        (strncmp(fault_at_start, "cold", 4) == 0 && !(t->c->start & START_COLD)))
        fault();
    __real_tcp_recover_begin(t);
}

void __real_bell_flush(struct bell *const *bells, unsigned n);
void __wrap_bell_flush(struct bell *const *bells, unsigned n);
void __wrap_bell_flush(struct bell *const *bells, unsigned n)
{
    bool any = false;

    for (unsigned i = 0; i < n && silent > 0; i++) {
        any |= bells[i]->due;
        bells[i]->due = false;
    }
    if (any)
        silent--;
    else
        __real_bell_flush(bells, n);
}

void __real_tcp_output(struct tcp *t, struct tcp_conn *k);
void __wrap_tcp_output(struct tcp *t, struct tcp_conn *k);
void __wrap_tcp_output(struct tcp *t, struct tcp_conn *k)
{
    if (k->ready && k->r.local.port == 6667 && k->tx_end > k->snd_max)
        fault();
    __real_tcp_output(t, k);
}

static const struct component_ops *const ops[] = {&tcp_ops, NULL};

int main(int argc, char **argv)
{
    return run_main(argc, argv, ops);
}
