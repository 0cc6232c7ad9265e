/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Bells. See wake.h for the protocol.
 */
#include "wake.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BELL_DRAIN = 16 };

void bell_ring(struct bell *b)
{
    const uint64_t one = 1;
    ssize_t n = 0;

    b->due = false;
    if (b->fd < 0)
        return;
    b->rings++;
    /* EAGAIN: the counter or the socket's queue is full: it is ringing already. A reader that is
     * dead (EPIPE, ECONNREFUSED) has a successor that looks for work before it sleeps. */
    if (b->kind == BELL_EVENTFD)
        n = write(b->fd, &one, sizeof one);
    else if (b->kind == BELL_DGRAM)
        n = send(b->fd, &one, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)n;
}

void bell_flush(struct bell *const *bells, unsigned n)
{
    bool fenced = false;

    for (unsigned i = 0; i < n; i++) {
        struct bell *b = bells[i];

        if (!b->due)
            continue;
        if (!fenced)
            fence_full();
        fenced = true;
        b->due = false;
        if (b->asleep == NULL || load_relaxed(b->asleep) != 0)
            bell_ring(b);
    }
}

void bell_drain(int fd, enum bell_kind kind)
{
    uint64_t sink[8];

    if (kind == BELL_EVENTFD) {
        if (read(fd, sink, sizeof sink[0]) < 0)
            return; /* EAGAIN: another turn has emptied it */
        return;
    }
    /* The writer is an application and may never stop: what is left is seen at the next look, which
     * is level-triggered. */
    for (unsigned n = 0; n < BELL_DRAIN; n++)
        if (recv(fd, sink, sizeof sink, MSG_DONTWAIT) <= 0)
            return;
}
