/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Kills a process before its N-th system call from now on.
 *
 *   rs_step PID N     prints "ready" when it counts; "killed" when it has; at SIGTERM, if it was
 * not that many, lets the process go on and prints how many there were
 *
 * What a program leaves behind changes by system calls and by stores to shared memory; the latter
 * are few in rs, and tested by themselves (tests/unit/store.c).
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t enough;

static void on_term(int number)
{
    (void)number;
    enough = 1;
}

static void say(const char *what, long n)
{
    printf("%s %ld\n", what, n);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const struct sigaction act = {.sa_handler = on_term}; /* interrupts waitpid() */
    long n = 0;
    int status;

    if (argc != 3)
        return 2;
    const pid_t pid = atoi(argv[1]);
    const long at = atol(argv[2]);
    sigaction(SIGTERM, &act, NULL);
    if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) < 0 ||
        ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, &status, 0) < 0) {
        perror("rs_step");
        return 1;
    }
    say("ready", 0);
    bool stopped = true; /* else it runs, until waitpid() has said that it does not */
    for (bool entering = true; !enough;) {
        if (stopped && ptrace(PTRACE_SYSCALL, pid, 0, 0) < 0)
            break;
        stopped = waitpid(pid, &status, 0) == pid;
        if (!stopped)
            continue; /* SIGTERM */
        if (!WIFSTOPPED(status))
            break; /* it has ended by itself */
        if (WSTOPSIG(status) != (SIGTRAP | 0x80))
            continue;
        if (entering && ++n == at) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            say("killed", n);
            return 0;
        }
        entering = !entering;
    }
    /* to be let go it must be stopped */
    if (!stopped && (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, &status, 0) < 0))
        perror("rs_step");
    ptrace(PTRACE_DETACH, pid, 0, 0);
    say("survived", n);
    return 0;
}
