/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See fault.h. The handler runs on a stack of its own, calls nothing that is not async-signal-safe,
 * and stores what is certain before it follows frame pointers, which may be damaged.
 */
#include "fault.h"

#include "sanitized.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { FRAMES = sizeof((struct server_fault *)0)->frame / sizeof(uint64_t) };

#define STACK_SIZE_MAX (8ull << 20)

static struct {
    struct server_block *block;
    uint64_t top; /* of the stack */
} fault;

_Static_assert(sizeof((struct server_fault *)0)->regs == sizeof(gregset_t), "registers");

/* Frame pointers, as long as they go up and stay on the stack. Each frame is published alone: a
 * second fault in here leaves what was found. */
static void backtrace(struct server_fault *f, uint64_t sp, uint64_t fp)
{
    uint32_t n = 0;

    if (sp > fault.top || fault.top - sp > STACK_SIZE_MAX)
        return;
    while (n < FRAMES && fp >= sp && fp <= fault.top && fp % sizeof(uint64_t) == 0) {
        const uint64_t *frame = (const uint64_t *)(uintptr_t)fp;

        if (frame[1] == 0)
            break;
        shm_store(&f->frame[n], frame[1]);
        shm_store(&f->depth, ++n);
        if (frame[0] <= fp)
            break;
        fp = frame[0];
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    const ucontext_t *u = context;
    struct server_fault *f = &fault.block->fault;

    shm_store(&f->epoch, 0u);
    shm_store(&f->signo, (uint32_t)signo);
    shm_store(&f->code, info->si_code);
    shm_store(&f->addr, (uint64_t)(uintptr_t)info->si_addr);
    shm_store(&f->rip, (uint64_t)u->uc_mcontext.gregs[REG_RIP]);
    shm_copy(f->regs, u->uc_mcontext.gregs, sizeof f->regs);
    shm_store(&f->time_ns, now_ns());
    shm_store(&f->pid, (uint32_t)getpid());
    shm_store(&f->depth, 0u);
    shm_store_release(&f->epoch, load_relaxed(&fault.block->epoch));
    backtrace(f, (uint64_t)u->uc_mcontext.gregs[REG_RSP], (uint64_t)u->uc_mcontext.gregs[REG_RBP]);
    /* SA_RESETHAND and SA_NODEFER: this is the end. */
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signo);
}

void fault_catch(struct server_block *block, const void *stack_top)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
    static uint8_t stack[16384];
    const stack_t s = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction a = {.sa_sigaction = on_fault,
                          .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND | SA_NODEFER};

    fault.block = block;
    fault.top = (uint64_t)(uintptr_t)stack_top;
    if (SANITIZED || sigaltstack(&s, NULL) < 0)
        return;
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &a, NULL);
}

void fault_exit(struct server_block *block)
{
    struct server_fault *f = &block->fault;

    shm_store(&f->epoch, 0u);
    shm_store(&f->signo, 0u);
    shm_store(&f->depth, 0u);
    shm_store(&f->time_ns, now_ns());
    shm_store(&f->pid, (uint32_t)getpid());
    shm_store_release(&f->epoch, load_relaxed(&block->epoch));
}

enum rs_end fault_end(const struct server_block *block, const struct rs_role *role)
{
    const uint64_t epoch = load_relaxed(&block->epoch);

    if (epoch == 0)
        return END_NONE;
    if (load_relaxed(&block->fault.epoch) == epoch)
        return END_FAULT;
    return load_relaxed(&role->hung_epoch) == epoch ? END_HANG : END_KILLED;
}
