/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Faults that are stores to memory: wild ones, wrong messages, and what a hostile application does.
 * They cannot be taken back: what was there may be old by then.
 */
#ifndef EFT_CRASH_STORES_H
#define EFT_CRASH_STORES_H

#include "class.h"
#include "random.h"
#include "shared.h"

enum { STORE_BYTES = 8, STORE_PLACE = 64, STORES = 128 };

/* One store of up to 8 bytes; of larger ones the first 8 are kept. */
struct store {
    char place[STORE_PLACE]; /* "[stack]", "tcp0 in ip-tcp", … */
    uint64_t at;             /* address in the victim, or offset in the region */
    unsigned len;
    uint8_t before[STORE_BYTES], after[STORE_BYTES];
};

/* Whether somebody has acted on a wrong message, or on what an application said. */
struct witness {
    struct region region;
    uint64_t passed;     /* offset of a 64-bit counter; 0: none */
    uint64_t beyond;     /* it was seen once the counter is larger */
    uint64_t generation; /* offset of a 32-bit generation; 0: none */
    uint32_t was;        /* it was seen once the generation is another one */
};

enum wild_where { WILD_ANY, WILD_SHARED, WILD_PRIVATE, WILD_STACK };

/* All return the number of stores (at most `max`) in `list`, or -errno. */

/* `count` stores of 1, 2, 4 or 8 bytes, aligned, to pages that are in use. */
int wild_write(const struct target *t, enum wild_where where, unsigned count, struct random *r,
               struct store *list, unsigned max);

/* A wrong message on a queue of server `id`, the victim. `peers`: process of each server_id. The
 * consumer is stopped until there is a message that it has not seen. -EAGAIN: there was none in
 * time; -EOPNOTSUPP: it is its own neighbour (fused). *c becomes what was chosen. */
int message_damage(struct target *t, server_id id, const pid_t *peers, enum crash_class *c,
                   struct random *r, struct store *list, unsigned max, struct witness *w);

/* Something wrong about one of the TCP sockets of application `app`, the victim. -ENOENT: it has
 * none. */
int byzantine_act(struct target *t, unsigned app, enum crash_class *c, struct random *r,
                  struct store *list, unsigned max, struct witness *w);

/* Did it come to pass? */
bool witness_saw(const struct witness *w);
void witness_close(struct witness *w);

#endif
