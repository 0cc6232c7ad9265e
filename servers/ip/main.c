/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-ip: all of it is the component ip_ops in the loop of servers/run.
 */
#include "ip.h"

int main(int argc, char **argv)
{
    static const struct component_ops *const ops[] = {&ip_ops, NULL};
    return run_main(argc, argv, ops);
}
