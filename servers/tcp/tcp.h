/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The TCP server as a component: what a host needs of it.
 */
#ifndef EFT_SERVERS_TCP_TCP_H
#define EFT_SERVERS_TCP_TCP_H

#include "servers/run/component.h"

extern const struct component_ops tcp_ops;

/* Gives back the private memory of a component that will not run again. For hosts that outlive
 * their components (simulator, tests); a process just ends. */
void tcp_dispose(struct component *c);

#endif
