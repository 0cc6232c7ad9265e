/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of preloaded symbols share (preload.c, preload_fd.c, preload_ready.c).
 */
#ifndef EFT_LIBSOCK_PRELOAD_H
#define EFT_LIBSOCK_PRELOAD_H

#include "sock.h"

#include <fcntl.h>
#include <unistd.h>

#define EXPORT        __attribute__((visibility("default")))
#define ALIAS(target) __attribute__((visibility("default"), alias(#target)))

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifndef __clang__
/* Headers promise what a program may break; poll() is declared to write its array only, and we
 * read the descriptors from it. */
#pragma GCC diagnostic ignored "-Wnonnull-compare"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

extern void __chk_fail(void) __attribute__((noreturn));

static inline long ret(long r)
{
    if (likely(r >= 0))
        return r;
    errno = (int)-r;
    return -1;
}

/* Runs `call` on the socket behind fd and returns, or goes on when fd is the kernel's. */
#define OURS(fd, call)                                                                             \
    do {                                                                                           \
        struct sock *s = sock_use(fd);                                                             \
        if (unlikely(s != NULL)) {                                                                 \
            long r_ = (long)(call);                                                                \
            sock_leave(s);                                                                         \
            return ret(r_);                                                                        \
        }                                                                                          \
    } while (0)

#endif
