/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Mutations, and the hook by which libFuzzer gets the seeds of a target.
 */
#include "fuzz.h"

#include <string.h>

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

size_t fuzz_mutate(uint8_t *buf, size_t len, size_t max, uint32_t seed)
{
    static const uint8_t edge[] = {0, 1, 4, 7, 8, 15, 16, 127, 128, 254, 255};
    const unsigned times = 1 + next(&seed) % 4;

    for (unsigned i = 0; i < times && len > 0; i++) {
        const size_t at = next(&seed) % len;

        switch (next(&seed) % 8) {
        case 0:
            buf[at] ^= (uint8_t)(1u << next(&seed) % 8);
            break;
        case 1:
            buf[at] = edge[next(&seed) % sizeof edge];
            break;
        case 2:
            buf[at] = (uint8_t)next(&seed);
            break;
        case 3: /* cut */
            len = at + 1;
            break;
        case 4: { /* repeat a part */
            size_t n = 1 + next(&seed) % 64;
            if (n > len - at)
                n = len - at;
            if (len + n > max)
                break;
            memmove(buf + at + n, buf + at, len - at);
            len += n;
            break;
        }
        case 5: { /* take a part out */
            size_t n = 1 + next(&seed) % 16;
            if (n >= len - at)
                break;
            memmove(buf + at, buf + at + n, len - at - n);
            len -= n;
            break;
        }
        case 6: /* a 16-bit number, a little more or less */
            if (at + 1 < len)
                buf[at + 1] = (uint8_t)(buf[at + 1] + next(&seed) % 9 - 4);
            break;
        default: { /* a copy from elsewhere */
            size_t from = next(&seed) % len, n = 1 + next(&seed) % 32;
            const size_t end = from > at ? from : at;
            if (n > len - end)
                n = len - end;
            memmove(buf + at, buf + from, n);
        }
        }
    }
    return len;
}

/* For a target without seeds of its own: noise, with many small numbers in it. */
__attribute__((weak)) size_t fuzz_seed(unsigned n, uint8_t *buf)
{
    uint32_t x = n * 2654435761u + 1;

    if (n >= 16)
        return 0;
    for (unsigned i = 0; i < 64u * (n + 1); i++) {
        const uint32_t r = next(&x);
        buf[i] = (uint8_t)(r >> 20 & 1 ? r & 7 : r >> 8);
    }
    return 64u * (n + 1);
}

#ifdef EFT_LIBFUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    if (size < 4 || seed % 64 == 0) {
        static uint8_t buf[FUZZ_MAX];
        size_t n = fuzz_seed(seed / 64 % 64, buf);

        if (n > 0 && n <= max) {
            memcpy(data, buf, n);
            return n;
        }
    }
    return seed % 2 == 0 ? LLVMFuzzerMutate(data, size, max) : fuzz_mutate(data, size, max, seed);
}
#endif
