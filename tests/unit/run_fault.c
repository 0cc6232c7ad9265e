/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How a server ended, as its successor finds it in memory.
 */
/* link: eft_run */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "servers/run/fault.h"
#include "servers/run/sanitized.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EPOCH = 7 };
static struct server_block *block;

static int begin(void **state)
{
    (void)state;
    block = mmap(NULL, sizeof *block, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return 1;
    block->epoch = EPOCH;
    return 0;
}

static int end(void **state)
{
    (void)state;
    return munmap(block, sizeof *block);
}

static void segv(void)
{
    volatile uintptr_t nowhere = 16;
    *(volatile int *)nowhere = 1;
}

static void ill(void)
{
    __builtin_trap();
}

static void fpe(void)
{
    volatile int zero = 0;
    zero = INT32_MIN / zero;
}

/* Runs `what` in a process that catches faults; returns its status as of wait(). */
static int run(void (*what)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        fault_catch(block, __builtin_frame_address(0));
        what();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(block->fault.pid == (uint32_t)pid || SANITIZED);
    return status;
}

static void faults_are_recorded(void **state)
{
    static const struct {
        void (*what)(void);
        int signo;
        bool frame; /* keeps a frame pointer of its own */
    } table[] = {
        {segv, SIGSEGV, true}, {ill, SIGILL, false}, {fpe, SIGFPE, true}, {abort, SIGABRT, false}};

    (void)state;
    if (SANITIZED)
        skip();
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        const int status = run(table[i].what);

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), table[i].signo);
        assert_int_equal(block->fault.signo, table[i].signo);
        assert_int_equal(block->fault.epoch, EPOCH);
        if (table[i].frame) {
            assert_true(block->fault.depth >= 1);
            const uintptr_t at = (uintptr_t)table[i].what;
            assert_true(block->fault.rip >= at && block->fault.rip < at + 64);
            assert_int_equal(block->fault.regs[16], block->fault.rip); /* REG_RIP */
            const uintptr_t caller = (uintptr_t)run;
            assert_true(block->fault.frame[0] > caller && block->fault.frame[0] < caller + 1024);
        }
    }
    assert_true(block->fault.time_ns != 0);
}

static void wild_frame_pointer(void)
{
    __asm__ volatile("movq $0x1234567890, %%rbp\n\tmovl $1, 16" ::: "memory");
}

static void a_damaged_stack_is_not_followed(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    assert_int_equal(WTERMSIG(run(wild_frame_pointer)), SIGSEGV);
    assert_int_equal(block->fault.epoch, EPOCH);
    assert_int_equal(block->fault.depth, 0);
}

static void end_is_read_from_memory(void **state)
{
    static const struct {
        uint64_t epoch, fault, hung;
        enum rs_end end;
    } table[] = {
        {0, 0, 0, END_NONE},  {1, 0, 0, END_KILLED}, {2, 1, 1, END_KILLED},
        {2, 2, 0, END_FAULT}, {2, 1, 2, END_HANG},   {2, 2, 2, END_FAULT},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct rs_role role = {.hung_epoch = table[i].hung};
        block->epoch = table[i].epoch;
        block->fault.epoch = table[i].fault;
        assert_int_equal(fault_end(block, &role), table[i].end);
    }
    block->epoch = 3;
    fault_exit(block);
    assert_int_equal(fault_end(block, &(const struct rs_role){0}), END_FAULT);
    assert_int_equal(block->fault.signo, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(faults_are_recorded, begin, end),
        cmocka_unit_test_setup_teardown(a_damaged_stack_is_not_followed, begin, end),
        cmocka_unit_test_setup_teardown(end_is_read_from_memory, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
