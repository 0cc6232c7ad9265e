/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-pf: all of it is the component pf_ops in the loop of servers/run.
 */
#include "pf.h"

int main(int argc, char **argv)
{
    static const struct component_ops *const ops[] = {&pf_ops, NULL};
    return run_main(argc, argv, ops);
}
