/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft: chooses the command. See cli.h and eft(8).
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"up", command_up, "[--name NAME] [--config FILE] [--shape split|fused] [--json]",
     "Starts a stack in this network namespace; returns when all its servers are ready."},
    {"down", command_down, "[--name NAME] [--json]", "Stops a stack; returns when all is gone."},
    {"run", command_run, "[--name NAME] [--] PROGRAM [ARGUMENT…]",
     "Runs an unmodified program whose sockets are the stack's."},
    {"status", command_status, "[--name NAME] [--interval MS] [--json]",
     "Says what runs: process, processor, state, restarts, uptime, load of each server."},
    {"maps", command_maps, "[--name NAME] [--json]",
     "Checks who has which memory mapped against who may; exit status 1 when somebody may not."},
    {"update", command_update, "SERVER [PROGRAM] [--wait] [--name NAME] [--json]",
     "Replaces the program of a running server, by PROGRAM or by the installed one; when the new "
     "one ends soon, the "
     "old one is back. rs: starts eft-rs again."},
    {"crash", command_crash,
     "list | CLASS SERVER… | campaign  [--seed N] [--window MS] [--after kill|restore|keep] "
     "[--mode "
     "guided|minix] [--count N] [--at PLACE] [--where any|shared|private|stack] [--again N] "
     "[--output FILE] [--classes LIST] [--servers LIST] [--runs N] [--judge COMMAND] [--pause MS] "
     "[--name NAME] [--json]",
     "Breaks running servers (tcp0, ip0, …; rs) on purpose; they come back by themselves."},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void help(FILE *f)
{
    fprintf(f, "usage: eft COMMAND [OPTION…]\n\n");
    for (unsigned i = 0; i < COMMANDS; i++)
        fprintf(f, "  eft %s %s\n      %s\n", commands[i].name, commands[i].usage,
                commands[i].help);
    fprintf(f, "\nNAME is the name of the stack; default $EFT_STACK, else eft. See eft(8).\n");
}

int main(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        help(stdout);
        return CLI_OK;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("eft %s\n", EFT_VERSION);
        return CLI_OK;
    }
    for (unsigned i = 0; argc >= 2 && i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        command_is(&commands[i]);
        return commands[i].run(argc - 1, argv + 1);
    }
    if (argc >= 2)
        fprintf(stderr, "eft: there is no command \"%s\"\n", argv[1]);
    help(stderr);
    return CLI_USAGE;
}
