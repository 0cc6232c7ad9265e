/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Messages with descriptors over a unix seqpacket socket; used by rs and by servers.
 */
#ifndef EFT_SERVERS_RUN_CHANNEL_H
#define EFT_SERVERS_RUN_CHANNEL_H

#include "libchan/edge/rs.h"

/* Sends one message with up to RS_FDS descriptors; sets m's nfds. Returns 0 or -errno (-EAGAIN on a
 * non-blocking socket that is full). The descriptors stay the caller's. */
int channel_send(int fd, const struct rs_message *m, const int *fds, unsigned nfds);
/* Receives one message. Returns 1, 0 at the end of the other side, -EAGAIN when there is none (with
 * `flags` MSG_DONTWAIT), -EPROTO for one that is no struct rs_message of our version (its
 * descriptors are closed), or -errno. Descriptors are close-on-exec and the caller's; unused places
 * hold -1. With MSG_PEEK it stays there until channel_consume(). */
int channel_receive(int fd, struct rs_message *m, int fds[RS_FDS], int flags);
/* Takes away the message that was peeked at. */
void channel_consume(int fd);

#endif
