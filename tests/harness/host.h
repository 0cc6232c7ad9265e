/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A host for components in a test: what the run loop is to a process, without descriptors and in
 * virtual time. A component may be crashed at any moment: its private state is dropped, its region
 * stays, and host_start() runs a successor on it.
 */
#ifndef EFT_TESTS_HARNESS_HOST_H
#define EFT_TESTS_HARNESS_HOST_H

#include "servers/run/component.h"

/* A component over `map` (kept, not copied), not yet started. */
struct component *host_new(const struct component_ops *ops, server_id id, struct region_map *map);
/* Forgets all private state, as a SIGKILL does, and looks at the map anew: ready for host_start().
 * Applications are to be numbered from 0 without gaps. */
void host_reset(struct component *c);
/* First stores and start(), as the run loop does them. 0 or -errno. */
int host_start(struct component *c, uint64_t now, enum rs_end predecessor);
/* Tells a started component of an application whose regions are mapped. */
void host_add_app(struct component *c, unsigned app, uint32_t generation);
void host_app_gone(struct component *c, unsigned app);
/* Was app_done() called for it? */
bool host_app_done(const struct component *c, unsigned app);
/* Bytes that it said are of no use; they were overwritten. */
uint64_t host_forgotten(const struct component *c);
void host_free(struct component *c);

#endif
