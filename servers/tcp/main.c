/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-tcp: the TCP server. All of it is the component tcp_ops in the loop of servers/run.
 */
#include "tcp.h"

int main(int c, char **v)
{
    static const struct component_ops *const ops[] = {&tcp_ops, NULL};
    return run_main(c, v, ops);
}
