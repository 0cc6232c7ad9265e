/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESUME_FLAG (1ull << 16)

int fault_signal(const struct target *t, enum crash_class c)
{
    int signal = c == CRASH_ABORT ? SIGABRT : c == CRASH_STOP ? SIGSTOP : SIGKILL;

    return syscall(SYS_pidfd_send_signal, t->pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

int fault_write(const struct target *t, struct fault *f)
{
    /* Not every fault can be watched: what cannot is reported as not known. */
    watch_point_set(&f->point, t->thread[0].tid, f->address);
    return target_write(t, f->address, f->after, f->len);
}

int fault_stub(struct target *t, enum crash_class c, const struct symbols *s, struct fault *f)
{
    static const uint8_t segv[] = {0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0}, /* mov rax, [8] */
        spin[] = {0xeb, 0xfe},                                          /* jmp to itself */
        end[] = {0xbf, 1, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05};     /* exit_group(1) */
    const uint8_t *code = c == CRASH_SEGV ? segv : c == CRASH_SPIN ? spin : end;
    struct user_regs_struct r;

    *f = (struct fault){.class = c, .point.fd = -1};
    f->len = c == CRASH_SEGV ? sizeof segv : c == CRASH_SPIN ? sizeof spin : sizeof end;
    int rc = target_stop(t);
    if (rc < 0)
        return rc;
    rc = target_registers(t, &r);
    if (rc == 0) {
        f->address = r.rip;
        memcpy(f->after, code, f->len);
        rc = target_read(t, f->address, f->before, f->len);
    }
    /* It is where it is: the kernel must not go back to a call that was interrupted. */
    r.orig_rax = UINT64_MAX;
    /* Between two rounds of a string instruction it would pass a breakpoint unseen once. */
    r.eflags &= ~RESUME_FLAG;
    if (rc == 0)
        rc = target_set_registers(t, &r);
    if (rc == 0)
        rc = fault_write(t, f);
    target_go(t);
    if (rc == 0 && symbols_find(s, f->address) != NULL)
        f->offset = f->address - s->base;
    return rc;
}

int fault_restore(const struct target *t, const struct fault *f)
{
    return target_write(t, f->address, f->before, f->len);
}
