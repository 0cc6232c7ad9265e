/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EFT_RS_REQUIRE_H
#define EFT_RS_REQUIRE_H

#include "rs.h"

/* Are the privileges and kernel features there that this configuration needs? Says which one is
 * missing and what to do about it. 0, EXIT_PRIVILEGE or EXIT_KERNEL. */
int require_all(const struct stack_config *cfg);
/* Raises the limits that rs itself needs, as far as it may (and says what it may not, unless that
 * was `told`); empties the capability bounding set. */
void require_limits(bool told);

#endif
