/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-fused: several components in one process. A hand-over between them costs tens of cycles
 * instead of a wake-up; isolation between them is traded, recovery is not: each keeps its region,
 * its epoch and its records, and after a crash all of them recover from those.
 */
#include "drivers/driver.h"
#include "servers/ip/ip.h"
#include "servers/pf/pf.h"
#include "servers/syscall/syscall.h"
#include "servers/tcp/tcp.h"
#include "servers/udp/udp.h"

int main(int argc, char **argv)
{
    static const struct component_ops *const ops[] = {&driver_ops, &ip_ops,      &pf_ops, &tcp_ops,
                                                      &udp_ops,    &syscall_ops, NULL};

    return run_main(argc, argv, ops);
}
