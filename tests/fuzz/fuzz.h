/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a fuzz target is. It is built in two ways: with libFuzzer (EFT_FUZZ=ON, clang), and in every
 * other build with replay.c, which runs the target's seeds and a fixed number of mutations of them.
 *
 * A target aborts when an invariant is broken.
 */
#ifndef EFT_TESTS_FUZZ_H
#define EFT_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

enum { FUZZ_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Writes valid input number n to buf (FUZZ_MAX bytes); returns its length, 0: there is none. */
size_t fuzz_seed(unsigned n, uint8_t *buf);
/* Changes buf; returns the new length. Used by both drivers. */
size_t fuzz_mutate(uint8_t *buf, size_t len, size_t max, uint32_t seed);

/* Input as a stream: zeroes when it is used up. */
struct fuzz_in {
    const uint8_t *p, *end;
};
static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
    return in->p < in->end ? *in->p++ : 0;
}
static inline uint64_t fuzz_uint(struct fuzz_in *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)fuzz_u8(in) << (8 * i);
    return v;
}

#endif
