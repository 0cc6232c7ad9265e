/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One x86-64 instruction in, the same with a programmer's mistake out. Pure: bytes, an address and
 * random numbers. Every proposal is decoded again (Capstone) and taken only if it has the length of
 * the original and differs from it in exactly what its class says; a flipped bit may be anything.
 */
#ifndef EFT_CRASH_MUTATE_H
#define EFT_CRASH_MUTATE_H

#include "class.h"
#include "random.h"

enum { CODE_MAX = 15, CODE_TEXT = 80, ARGUMENT_SCAN = 8, EARLY_BYTES = 160 };

struct code; /* a decoder */

/* NULL: no memory, or Capstone cannot decode x86. */
struct code *code_open(void);
void code_close(struct code *c);
/* Length of the instruction at `bytes`, of which `avail` may be read; 0: not an instruction. `text`
 * may be NULL, else CODE_TEXT bytes. */
unsigned code_decode(struct code *c, const uint8_t *bytes, size_t avail, uint64_t address,
                     char *text);

/* The function that the instruction is in, as far as it is known. */
struct code_place {
    uint64_t address;
    uint64_t in_function;  /* bytes from the function's first one */
    const uint8_t *behind; /* code that follows the instruction; for CRASH_ARGUMENT */
    size_t behind_len;
};

/* A mistake of class `c` in the instruction at `bytes` (`len` as decoded): true, with all of it in
 * `after`; false: it cannot have one. */
bool mutate(struct code *code, enum crash_class c, const uint8_t *bytes, unsigned len,
            const struct code_place *place, struct random *r, uint8_t *after);

#endif
