/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Options and messages that the commands share.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command *running;

void command_is(const struct command *c)
{
    running = c;
}

static void print_usage(FILE *f)
{
    fprintf(f, "usage: eft %s %s\n", running->name, running->usage);
}

int usage_error(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "eft %s: ", running->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    print_usage(stderr);
    return CLI_USAGE;
}

int complain(const char *fmt, ...)
{
    va_list ap;

    fputs("eft: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return CLI_FAILED;
}

void print_json(struct json_object *o)
{
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
    json_object_put(o);
}

static bool name_is_valid(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

    return n > 0 && n < 32 && s[n] == '\0' && s[0] != '-';
}

/* An option of one command: where its value goes says what it is. 0, or the exit status. */
static int take(const struct more_option *m, const char *text)
{
    char *end;

    if (m->flag != NULL)
        *m->flag = true;
    else if (m->text != NULL)
        *m->text = text;
    else {
        errno = 0;
        *m->number = strtoull(text, &end, 0);
        if (*end != '\0' || end == text || errno != 0 || strchr(text, '-') != NULL)
            return usage_error("--%s: found \"%s\", expected a number", m->name, text);
    }
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, unsigned takes)
{
    return options_parse_more(o, argc, argv, takes, NULL, 0);
}

int options_parse_more(struct options *o, int argc, char **argv, unsigned takes,
                       const struct more_option *more, unsigned n_more)
{
    enum { MORE = 256, MORE_MAX = 32 };
    static const struct {
        struct option option;
        unsigned needs;
    } all[] = {
        {{"help", no_argument, NULL, 'h'}, 0},
        {{"name", required_argument, NULL, 'n'}, 0},
        {{"json", no_argument, NULL, 'j'}, OPT_JSON},
        {{"config", required_argument, NULL, 'c'}, OPT_UP},
        {{"shape", required_argument, NULL, 's'}, OPT_UP},
        {{"interval", required_argument, NULL, 'i'}, OPT_INTERVAL},
    };
    struct option list[sizeof all / sizeof all[0] + MORE_MAX + 1] = {{0}};
    const char *stack = getenv("EFT_STACK");
    unsigned n = 0;

    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        if ((all[i].needs & ~takes) == 0)
            list[n++] = all[i].option;
    for (unsigned i = 0; i < n_more && i < MORE_MAX; i++)
        list[n++] =
            (struct option){.name = more[i].name,
                            .has_arg = more[i].flag != NULL ? no_argument : required_argument,
                            .val = MORE + (int)i};
    *o = (struct options){.name = stack != NULL && stack[0] != '\0' ? stack : "eft",
                          .interval_ms = 200};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, takes & OPT_PROGRAM ? "+" : "", list, NULL)) != -1;) {
        char *end;
        switch (c) {
        case 'h':
            print_usage(stdout);
            printf("%s\n", running->help);
            return CLI_OK;
        case 'n':
            o->name = optarg;
            break;
        case 'j':
            o->json = true;
            break;
        case 'c':
            o->config = optarg;
            break;
        case 's':
            o->shape = optarg;
            break;
        case 'i':
            o->interval_ms = strtoull(optarg, &end, 10);
            if (*end != '\0' || end == optarg || o->interval_ms > 60000)
                return usage_error("--interval: found \"%s\", expected milliseconds up to 60000",
                                   optarg);
            break;
        default:
            if (c < MORE)
                return usage_error("unknown option %s", argv[optind - 1]);
            if (take(&more[c - MORE], optarg) != 0)
                return CLI_USAGE;
            break;
        }
    }
    if (!name_is_valid(o->name))
        return usage_error("\"%s\" cannot be the name of a stack", o->name);
    o->first = optind;
    return -1;
}
