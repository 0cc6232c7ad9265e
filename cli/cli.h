/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft: the operator's command. Each command is one function in one file; main.c chooses. Commands
 * print for people, or with --json one JSON object for programs. Exit status 0: done; 1: not done,
 * with the reason on standard error; 2: wrong usage; 3 to 7: why eft-rs did not start (eft(8)).
 */
#ifndef EFT_CLI_H
#define EFT_CLI_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage; /* arguments, in one line */
    const char *help;  /* what it does, in one line */
};

int command_up(int argc, char **argv);
int command_down(int argc, char **argv);
int command_run(int argc, char **argv);
int command_status(int argc, char **argv);
int command_maps(int argc, char **argv);
int command_crash(int argc, char **argv);
int command_update(int argc, char **argv);

/* Options that most commands have. */
struct options {
    const char *name;     /* --name, else $EFT_STACK, else "eft" */
    bool json;            /* --json */
    const char *config;   /* --config (up) */
    const char *shape;    /* --shape (up) */
    uint64_t interval_ms; /* --interval (status) */
    int first;            /* index of the first argument that is no option */
};
/* Which options a command takes, or'ed. */
enum { OPT_JSON = 1, OPT_UP = 2, OPT_INTERVAL = 4, OPT_PROGRAM = 8 /* stop at the first word */ };
/* Returns -1 to go on, else the exit status (help was printed, or the usage was wrong). */
int options_parse(struct options *o, int argc, char **argv, unsigned takes);
/* The same with options of this command alone; exactly one of the three places is not NULL. */
struct more_option {
    const char *name;
    const char **text;
    uint64_t *number;
    bool *flag;
};
int options_parse_more(struct options *o, int argc, char **argv, unsigned takes,
                       const struct more_option *more, unsigned n_more);
/* Remembers which command runs, for the messages about its usage. */
void command_is(const struct command *c);
/* Prints the usage of the running command; CLI_USAGE. */
int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "eft: …" on standard error; CLI_FAILED. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints a JSON object as one line and frees it. */
void print_json(struct json_object *o);

/* --- client.c: the talk with eft-rs --- */

/* Connects to the operator socket of a stack; descriptor or -errno. */
int client_connect(const char *name);
/* One request, one answer. NULL, after having complained, when there is none or it says no. */
struct json_object *client_ask(int fd, const char *name, struct json_object *request);
/* Asks {"op": op}. NULL, without a word: whoever was there is dying. */
struct json_object *client_query(int fd, const char *op);
/* Connects, asks {"op": op}, closes. */
struct json_object *client_once(const char *name, const char *op);
/* The same without a word about it, for those who try again; NULL: no answer. */
struct json_object *client_try(const char *name, const char *op);
uint64_t json_number(struct json_object *o, const char *key);
const char *json_text(struct json_object *o, const char *key);
struct json_object *json_member(struct json_object *o, const char *key);

/* The server called `name` ("tcp" means "tcp0") in an answer to status: its process's entry, which
 * is part of `status`. NULL when there is none. */
struct json_object *client_server(struct json_object *status, const char *name);

/* --- paths.c: what lies where, in the build tree and installed --- */

/* Full path of `file` beside this program, or else in one of the installed places relative to it
 * (libexec/eft, lib/eft, lib/ARCH/eft). Returns false when it is in none. */
bool path_find(const char *file, char *path, size_t size);

#endif
