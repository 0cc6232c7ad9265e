/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The regions of a whole stack in ordinary memory, for tests that run components in one process.
 */
#ifndef EFT_TESTS_HARNESS_MEMORY_H
#define EFT_TESTS_HARNESS_MEMORY_H

#include "libchan/chan.h"
#include "libchan/edge/app.h"

/* A small configuration with one TAP interface, 10.0.0.2/24, gateway 10.0.0.1, everybody allowed.
 */
void memory_config(struct stack_config *cfg);
/* Makes the regions of all servers, the public pages and the configuration, zeroed and formatted.
 * Every region is mapped writable: tests that must prove otherwise use processes. */
void memory_create(struct region_map *map, const struct stack_config *cfg);
/* Makes the four regions of an application. */
void memory_add_app(struct region_map *map, const struct stack_config *cfg, unsigned app,
                    uint32_t generation);
void memory_destroy(struct region_map *map);

#endif
