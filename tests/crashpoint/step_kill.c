/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Kills a running eft-tcp at an instruction. Waits for a turn of its loop that has a segment (or an
 * application's request) to handle, and lets it run to the first call of a function in that turn;
 * from there on it is stepped one instruction at a time, to the end of the turn and on in the next
 * such one, and after the K-th step ended by SIGKILL.
 *
 *   step_kill PID TURN segment|request FUNCTION K
 *
 * TURN, FUNCTION: addresses of component_turn (the top of a turn) and of where to begin, which may
 * be the same, hexadecimal, as nm prints them. Whoever looks for hung servers counts the processor
 * time of a step, some microseconds: K should not be above some thousands. Exit status: 0 killed; 3
 * no such turn came; 4 somebody else ended it; 77 nobody may be traced.
 */
#include "servers/tcp/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_S = 10, NO_TURN = 3, ENDED = 4, NOT_ALLOWED = 77 };

static pid_t pid;

/* An address of the other process, and what stands there. */
struct place {
    uint64_t at;
    long word;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void on_alarm(int number)
{
    static const char text[] = "no such turn came\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(1);
    _exit(NO_TURN);
}

/* The next stop. */
static int wait_stop(void)
{
    int status;
    while (waitpid(pid, &status, 0) != pid)
        if (errno != EINTR)
            die("waitpid");
    if (!WIFSTOPPED(status)) {
        puts("it ended by itself");
        exit(ENDED);
    }
    return status;
}

static void fetch(uint64_t from, void *to, size_t len)
{
    struct iovec here = {to, len}, there = {(void *)(uintptr_t)from, len};
    if (process_vm_readv(pid, &here, 1, &there, 1, 0) != (ssize_t)len)
        die("process_vm_readv");
}
#define FETCH(from, to) fetch((uint64_t)(uintptr_t)(from), &(to), sizeof(to))

/* Does the turn that begins with these registers find a segment? */
static bool has_segment(const struct tcp *t)
{
    uint64_t tail;
    FETCH(&t->rx_ip.out->tail, tail);
    return tail != t->rx_ip.head;
}

static bool has_request(const struct tcp *t)
{
    for (unsigned i = 0; i < t->apps; i++) {
        struct tcp_app a;
        uint64_t tail;
        if (t->app[i] == NULL)
            continue;
        FETCH(t->app[i], a);
        FETCH(&a.up->work_tcp.tail, tail);
        if (!a.gone && tail != a.work_head)
            return true;
    }
    return false;
}

static bool wanted(uint64_t component, bool request)
{
    static struct component c;
    static struct tcp t;
    FETCH(component, c);
    if (SERVER_ID_KIND(c.id) != SERVER_TCP)
        return false;
    FETCH(c.state, t);
    return request ? has_request(&t) : has_segment(&t);
}

static void put_word(uint64_t at, long value)
{
    if (ptrace(PTRACE_POKETEXT, pid, at, value) != 0)
        die("PTRACE_POKETEXT");
}

static struct place place(uint64_t at)
{
    errno = 0;
    struct place p = {at, ptrace(PTRACE_PEEKTEXT, pid, at, 0)};
    if (errno != 0)
        die("PTRACE_PEEKTEXT");
    return p;
}

static uint64_t base_of_program(void)
{
    char path[64];
    unsigned long from = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f, "%lx", &from) != 1)
        die(path);
    fclose(f);
    return from;
}

static struct user_regs_struct registers(void)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs) != 0)
        die("PTRACE_GETREGS");
    return regs;
}

static void single_step(void)
{
    if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) != 0)
        die("PTRACE_SINGLESTEP");
    wait_stop();
}

/* Runs to the first of n places. There the program's own code stands again. */
static struct user_regs_struct run_to(const struct place *list, unsigned n)
{
    /* Words may overlap: laid from the first to the last, taken away the other way round. */
    struct place at[2];
    for (unsigned i = 0; i < n; i++) {
        at[i] = place(list[i].at);
        put_word(at[i].at, (at[i].word & ~0xffl) | 0xcc);
    }
    struct user_regs_struct regs;
    bool there = false;
    for (int pass = 0; !there;) {
        if (ptrace(PTRACE_CONT, pid, 0, pass) != 0)
            die("PTRACE_CONT");
        const int status = wait_stop();
        const bool trap = WSTOPSIG(status) == SIGTRAP;
        regs = registers();
        pass = trap || status >> 16 != 0 ? 0 : WSTOPSIG(status);
        for (unsigned i = 0; i < n && trap; i++)
            there |= regs.rip == at[i].at + 1;
    }
    for (unsigned i = n; i-- > 0;)
        put_word(at[i].at, at[i].word);
    regs.rip--;
    if (ptrace(PTRACE_SETREGS, pid, 0, &regs) != 0)
        die("PTRACE_SETREGS");
    return regs;
}

/* To `from` in a turn of the kind that is asked for. Returns where that turn ends. */
static uint64_t run_to_begin(uint64_t top, bool request, uint64_t from)
{
    alarm(WAIT_S);
    for (;;) {
        const struct place turn = {.at = top};
        struct user_regs_struct regs = run_to(&turn, 1);
        uint64_t back;
        fetch(regs.rsp, &back, sizeof back);
        if (wanted(regs.rdi, request)) {
            const struct place either[2] = {{.at = from}, {.at = back}};
            if (from != top)
                regs = run_to(either, 2);
            if (regs.rip == from) {
                alarm(0);
                return back;
            }
        }
        single_step(); /* off the place where it may stop again */
    }
}

/* To the end of the turn, or so many instructions. Returns how many are left. */
static uint64_t step(uint64_t back, uint64_t left)
{
    while (left > 0) {
        single_step();
        left--;
        if ((uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0) == back)
            break;
    }
    return left;
}

int main(int argc, char **argv)
{
    if (argc != 6 || (strcmp(argv[3], "segment") != 0 && strcmp(argv[3], "request") != 0)) {
        fputs("usage: step_kill PID TURN segment|request FUNCTION K\n", stderr);
        return 2;
    }
    pid = atoi(argv[1]);
    const bool request = argv[3][0] == 'r';
    uint64_t left = strtoull(argv[5], NULL, 0);
    signal(SIGALRM, on_alarm);
    /* If we end before it does, it ends with us: nobody is left with a breakpoint. */
    if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL) != 0) {
        if (errno != EPERM)
            die("PTRACE_SEIZE");
        puts("nobody may be traced here");
        return NOT_ALLOWED;
    }
    if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) != 0)
        die("PTRACE_INTERRUPT");
    wait_stop();
    const uint64_t base = base_of_program(), top = base + strtoull(argv[2], NULL, 16),
                   from = base + strtoull(argv[4], NULL, 16);
    while (left > 0) {
        const uint64_t back = run_to_begin(top, request, from);
        left = step(back, left);
    }
    kill(pid, SIGKILL);
    for (int status; waitpid(pid, &status, 0) == pid && !WIFSIGNALED(status);)
        ;
    return 0;
}
