/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The system calls a server may make. See sandbox.h.
 */
#include "sandbox.h"

#include "sanitized.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

/* The loop, its descriptors, memory, and what abort() and libc need to die properly. */
static const int everybody[] = {
    SCMP_SYS(read),         SCMP_SYS(write),          SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),      SCMP_SYS(recvfrom),       SCMP_SYS(sendto),
    SCMP_SYS(epoll_wait),   SCMP_SYS(epoll_pwait),    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_ctl),    SCMP_SYS(close),          SCMP_SYS(munmap),
    SCMP_SYS(mlock2),       SCMP_SYS(madvise),        SCMP_SYS(brk),
    SCMP_SYS(futex),        SCMP_SYS(clock_gettime),  SCMP_SYS(exit_group),
    SCMP_SYS(exit),         SCMP_SYS(rt_sigreturn),   SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(getpid),
    SCMP_SYS(gettid),       SCMP_SYS(fstat),          SCMP_SYS(newfstatat),
    SCMP_SYS(pread64),      SCMP_SYS(getrandom),      SCMP_SYS(gettimeofday),
    SCMP_SYS(sched_yield),  SCMP_SYS(munlock),        SCMP_SYS(futex_waitv),
};
static const int drivers[] = {SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(poll), SCMP_SYS(ppoll),
                              SCMP_SYS(getsockopt)};
static const int syscalls[] = {SCMP_SYS(accept4), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt)};

static int allow(scmp_filter_ctx ctx, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
        if (rc < 0 && rc != -EEXIST)
            return rc;
    }
    return 0;
}
#define ALLOW(ctx, list) allow(ctx, list, sizeof(list) / sizeof((list)[0]))

int sandbox_enter(unsigned kinds)
{
    int rc;

    if (SANITIZED)
        return 0;
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
    if (ctx == NULL)
        return -ENOMEM;
    rc = ALLOW(ctx, everybody);
    if (rc == 0 && (kinds & 1u << SERVER_DRIVER))
        rc = ALLOW(ctx, drivers);
    if (rc == 0 && (kinds & 1u << SERVER_SYSCALL))
        rc = ALLOW(ctx, syscalls);
    /* A spare ends its predecessor, of which rs gave it a pidfd. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(pidfd_send_signal), 1,
                              SCMP_A1(SCMP_CMP_EQ, SIGKILL, 0));
    /* abort() signals itself; servers of another stack have the same user. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    /* Memory, never code; descriptor flags may be read, never set. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                              SCMP_A1(SCMP_CMP_EQ, F_GETFL, 0));
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    return rc;
}
