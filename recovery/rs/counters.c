/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See counters.h. The lists are the servers' own.
 */
#include "counters.h"

#include "drivers/counters.h"
#include "servers/ip/counters.h"
#include "servers/pf/counters.h"
#include "servers/syscall/counters.h"
#include "servers/tcp/counters.h"
#include "servers/udp/counters.h"

#define X(id, name) name,
static const char *const driver[] = {DRIVER_COUNTER_LIST(X)};
static const char *const ip[] = {IP_COUNTERS(X)};
static const char *const pf[] = {PF_COUNTERS(X)};
static const char *const tcp[] = {TCP_COUNTER_LIST(X)};
static const char *const udp[] = {UDP_COUNTER_LIST(X)};
static const char *const sys[] = {SYSCALL_COUNTER_LIST(X)};
#undef X

#define GIVE(list) (*names = (list), (unsigned)(sizeof(list) / sizeof(list)[0]))

unsigned counter_names(enum server_kind kind, const char *const **names)
{
    switch (kind) {
    case SERVER_DRIVER:
        return GIVE(driver);
    case SERVER_IP:
        return GIVE(ip);
    case SERVER_PF:
        return GIVE(pf);
    case SERVER_TCP:
        return GIVE(tcp);
    case SERVER_UDP:
        return GIVE(udp);
    case SERVER_SYSCALL:
        return GIVE(sys);
    default:
        *names = NULL;
        return 0;
    }
}
