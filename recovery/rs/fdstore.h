/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Descriptors that outlive this process, by name: in systemd's descriptor store, or with
 * eft-keeper, which speaks the same protocol (sd_notify(3), sd_listen_fds(3)). Used when the stack
 * starts, and a little when applications come; what comes and goes often is parked (park.h).
 *
 * What is put is kept from fdstore_sync() on, until it is dropped by name. Not promised: that there
 * is a store. Without one put and drop do nothing, and the servers end with rs.
 */
#ifndef EFT_RS_FDSTORE_H
#define EFT_RS_FDSTORE_H

#include <stdbool.h>

/* Takes note of what a predecessor has left. Once, before anything else here. */
void fdstore_open(void);
/* Is there somebody who keeps descriptors? */
bool fdstore_there(void);
/* The descriptor of this name that a predecessor has left, or -1. It is the caller's (but stays in
 * the store), close-on-exec, and is found once. */
int fdstore_take(const char *name);
/* Puts a descriptor into the store; it stays the caller's. 0 or -errno. */
int fdstore_put(const char *name, int fd);
/* Waits until all that was put is kept. 0 or -errno. */
int fdstore_sync(void);
/* Drops everything from the store and closes what was not taken. */
void fdstore_clear(void);

#endif
