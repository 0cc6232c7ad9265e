/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-udp: the UDP server. All of it is the component udp_ops in the loop of servers/run.
 */
#include "udp.h"

int main(int argc, char **argv)
{
    static const struct component_ops *const ops[] = {&udp_ops, NULL};

    return run_main(argc, argv, ops);
}
