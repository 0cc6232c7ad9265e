/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-syscall: the syscall server. All of it is the component syscall_ops in the loop of
 * servers/run.
 */
#include "syscall.h"

int main(int argc, char **argv)
{
    static const struct component_ops *const ops[] = {&syscall_ops, NULL};

    return run_main(argc, argv, ops);
}
