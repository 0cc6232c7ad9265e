/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The syscall server as a component: the control plane for applications. It never touches data and
 * never holds an application's writable memory.
 *
 * A restart keeps every client that is attached: rs has the server's end of its socket and sends it
 * again. A request stays in its socket until it was acted upon (looked at with MSG_PEEK, consumed
 * last), so that a crash repeats it; every request may be repeated. A restart loses connections
 * that have not asked to attach yet: their callers see the end of the connection, and connect
 * again. A reply may come twice, with the same id.
 *
 * Not promised: service to a client that does not read its replies. It is dropped; its sockets
 * live on, they need no control connection.
 */
#ifndef EFT_SYSCALL_SYSCALL_H
#define EFT_SYSCALL_SYSCALL_H

#include "counters.h"
#include "servers/run/component.h"

extern const struct component_ops syscall_ops;

#endif
