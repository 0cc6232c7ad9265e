/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The functions of a running program, by address: from its symbol table, or from its separate debug
 * information where the file was stripped. Where neither is there, all its code is one function
 * without a name.
 */
#ifndef EFT_CRASH_SYMBOL_H
#define EFT_CRASH_SYMBOL_H

#include "target.h"

struct function {
    uint64_t start, size;
    const char *name; /* may be "" */
};

struct symbols {
    struct function *function; /* by address */
    unsigned n;
    uint64_t bytes; /* of all together */
    uint64_t base;  /* of the program's first byte */
    void *dwfl;     /* keeps the names */
};

/* 0 or -errno. */
int symbols_read(struct symbols *s, const struct target *t);
/* The function that `address` is in, or NULL. */
const struct function *symbols_find(const struct symbols *s, uint64_t address);
/* "function+0x12", "function", or "0x12" from the program's first byte. 0: there is no such place.
 */
uint64_t symbols_place(const struct symbols *s, const char *text);
void symbols_free(struct symbols *s);

#endif
