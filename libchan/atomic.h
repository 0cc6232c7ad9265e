/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Every memory order of the project, and every store to shared memory.
 *
 * Two different observers read shared memory:
 *
 *   a living neighbour   runs on another processor at the same time. It needs release on our
 *                        side and acquire on its own, and a full fence around the asleep flag.
 *   a successor          runs after we were killed. SIGKILL is a precise point in program order,
 *                        so that for it the order of the stores in the program text is enough,
 *                        provided that the compiler keeps it. Release stores and
 *                        shm_store() (volatile) do keep it among themselves.
 *
 * All stores to shared memory go through the shm_ functions. With EFT_CRASHPOINT each of them
 * first calls shm_crashpoint(), so that a test can stop the writer before any one store and let a
 * successor recover (tests/crashpoint). Without it they compile to plain stores.
 *
 * Pairs:
 *   chan_tx tail  shm_store_release  <->  load_acquire   chan_rx
 *   chan_rx head  shm_store_release  <->  load_acquire   chan_tx (slot reuse)
 *   counters of socket rings         shm_store_release <-> load_acquire on the other side
 *   asleep, want  fence_full between publish and look, and between flag and re-check (wake.h)
 */
#ifndef EFT_LIBCHAN_ATOMIC_H
#define EFT_LIBCHAN_ATOMIC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef EFT_CRASHPOINT
/* Called before each store to shared memory; the test may longjmp out of it. */
void shm_crashpoint(const char *file, int line);
#define SHM_CRASHPOINT() shm_crashpoint(__FILE__, __LINE__)
#else
#define SHM_CRASHPOINT() ((void)0)
#endif

#define load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)

/* A store whose order for a living observer does not matter, but which a successor must find in
 * program order relative to the other shm_ stores. */
#define shm_store(p, v)                                                                            \
    do {                                                                                           \
        SHM_CRASHPOINT();                                                                          \
        __atomic_store_n((p), (v), __ATOMIC_RELAXED);                                              \
        __atomic_signal_fence(__ATOMIC_SEQ_CST);                                                   \
    } while (0)

/* Publishes all that was stored before it. */
#define shm_store_release(p, v)                                                                    \
    do {                                                                                           \
        SHM_CRASHPOINT();                                                                          \
        __atomic_store_n((p), (v), __ATOMIC_RELEASE);                                              \
        __atomic_signal_fence(__ATOMIC_SEQ_CST);                                                   \
    } while (0)

/* Bulk copy into shared memory. A crash may leave any prefix, or garbage: nothing may refer to
 * the destination until a later shm_store_release() names it. */
static inline void shm_copy(void *dst, const void *src, size_t len)
{
    SHM_CRASHPOINT();
    memcpy(dst, src, len);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void shm_zero(void *dst, size_t len)
{
    SHM_CRASHPOINT();
    memset(dst, 0, len);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Stores that nobody but a successor reads. A build without recovery (EFT_RECOVERY=OFF) has none of
 * them: it is there to measure what they cost (tests/bench/price), and its servers cannot be
 * restarted. */
#ifdef EFT_NO_RECOVERY
enum { SHM_KEEP = 0 };
#else
enum { SHM_KEEP = 1 };
#endif
#define shm_keep(p, v)                                                                             \
    do {                                                                                           \
        if (SHM_KEEP)                                                                              \
            shm_store(p, v);                                                                       \
    } while (0)
#define shm_keep_release(p, v)                                                                     \
    do {                                                                                           \
        if (SHM_KEEP)                                                                              \
            shm_store_release(p, v);                                                               \
    } while (0)

/* Between publishing something and looking whether its reader sleeps, and between saying that we
 * sleep and looking once more for work. Either side without it loses a wake-up. */
static inline void fence_full(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void compiler_barrier(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

#define CACHE_LINE    64
#define cache_aligned __attribute__((aligned(CACHE_LINE)))

#endif
