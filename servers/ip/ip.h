/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The IP server as a component: what a host needs of it.
 */
#ifndef EFT_SERVERS_IP_IP_H
#define EFT_SERVERS_IP_IP_H

#include "servers/run/component.h"

extern const struct component_ops ip_ops;

#endif
