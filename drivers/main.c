/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft-driver: one network device. Started by eft-rs.
 */
#include "driver.h"

int main(int argc, char **argv)
{
    static const struct component_ops *const ops[] = {&driver_ops, NULL};

    return run_main(argc, argv, ops);
}
