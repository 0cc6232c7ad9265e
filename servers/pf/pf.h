/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The packet filter as a component: what a host needs of it.
 */
#ifndef EFT_SERVERS_PF_PF_H
#define EFT_SERVERS_PF_PF_H

#include "servers/run/component.h"

extern const struct component_ops pf_ops;

#endif
