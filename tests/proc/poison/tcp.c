/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A TCP server with faults in it, for the tests of what happens then. The linker puts the functions
 * below in front of the real ones (--wrap).
 *
 *   a segment whose payload begins with "EFT-POISON"       faults when it is handled
 *   a connection to port 6667 with something to send       faults whenever it sends
 */
#include "servers/tcp/tcp.h"
#include "servers/tcp/engine.h"

#include <signal.h>
#include <unistd.h>

static void fault(void)
{
    __builtin_trap(); /* SIGILL */
}

bool __real_tcp_input(struct tcp *t, const struct packet *p);
bool __wrap_tcp_input(struct tcp *t, const struct packet *p);
bool __wrap_tcp_input(struct tcp *t, const struct packet *p)
{
    static const char mark[] = "EFT-POISON";
    const uint8_t *payload = p->pieces > 0 ? region_resolve(t->c->map, &p->piece[0]) : NULL;

    if (payload != NULL && p->piece[0].len >= sizeof mark - 1 &&
        memcmp(payload, mark, sizeof mark - 1) == 0)
        fault();
    return __real_tcp_input(t, p);
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
