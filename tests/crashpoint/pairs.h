/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connections between the two sides of a world that go their way by themselves: each end writes its
 * stream, checks what it reads, and closes behind both. For tests that disturb TCP meanwhile; so
 * errors are noted (sock.failed), not judged.
 */
#ifndef EFT_TESTS_CRASHPOINT_PAIRS_H
#define EFT_TESTS_CRASHPOINT_PAIRS_H

#include "world.h"

enum { PAIRS = 3 };

/* One end, of a connection with so many bytes each way; side 0 is the victim's. */
struct sock pair_socket(struct side *s, unsigned app, uint32_t slot, uint64_t bytes);
/* What it can do now. True: something moved. */
bool pair_move(struct sock *k);
/* Both servers and the wire. */
void pairs_step(struct world *w, bool busy);
/* A listener on `port` in slot l of side 0, and n <= PAIRS connections to it in slots from, from +
 * step_by, … of either side, from nothing to the end. Are they whole? */
bool pairs_exchange(struct world *w, unsigned app, unsigned peers_app, uint16_t port, uint32_t l,
                    uint32_t from, int step_by, unsigned n, uint64_t bytes);

#endif
