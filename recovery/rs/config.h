/* SPDX-License-Identifier: BSD-2-Clause
 *
 * /etc/eft/NAME.conf to struct stack_config. The only parser of configuration in the project: the
 * servers see the typed struct in REGION_CONFIG. The text format is documented in eft.conf(5).
 *
 * All or nothing: after an error nothing of the result is used. An error says file, line, what was
 * found and what was expected. Unknown sections and keys are errors: a misspelt filter must not be
 * a filter that is not there.
 *
 * Does not do: look whether devices or namespaces exist (drivers/device.c does when it opens them).
 */
#ifndef EFT_RS_CONFIG_H
#define EFT_RS_CONFIG_H

#include "libchan/config.h"
#include <stdio.h>

enum { CONFIG_ERROR_MAX = 512 };

/* Is this a name for a stack: letters, digits, '-', '_', at most 31, no leading '-'? */
bool config_name_valid(const char *name);

/* The embedded default: one TAP eft0 with 10.97.0.2/24, gateway 10.97.0.1. */
void config_default(struct stack_config *cfg, const char *name);

/* Parses `file`, called `filename` in messages. Returns 0 or -EINVAL with the reason in
 * `error` (CONFIG_ERROR_MAX bytes). */
int config_parse(struct stack_config *cfg, const char *name, FILE *file, const char *filename,
                 char *error);

/* What eft-rs does: `path` if given, else /etc/eft/NAME.conf if it exists, else the default.
 * Returns 0, -EINVAL, or -errno of opening the file; the reason is in `error`. */
int config_load(struct stack_config *cfg, const char *name, const char *path, char *error);

/* --- shared by the files of the parser --- */

struct config_parser {
    struct stack_config *cfg;
    FILE *file;
    const char *filename;
    char *error; /* "" until something is wrong: the first error counts */
    int line;
    int interface; /* index of the section that we are in; -1: none */
    struct ip_addr gateway[CONFIG_INTERFACES];
    bool mac_given[CONFIG_INTERFACES];
    bool users_given;
};

/* Records the first error with file and line; always returns -1. */
int config_fail(struct config_parser *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* One `rule = …` of [filter], in config_rule.c. */
int config_rule(struct config_parser *p, const char *value);
/* The sections of config_interface.c; keys return 1 when unknown. */
int config_new_interface(struct config_parser *p, const char *name);
int config_key_interface(struct config_parser *p, const char *key, const char *value);
int config_key_route(struct config_parser *p, const char *key, const char *value);
int config_finish_interface(struct config_parser *p, int i);
int config_bool(struct config_parser *p, const char *key, const char *value, uint8_t *at);
/* "10.9.0.2/24"; a missing length means 32 when `whole` is allowed. -1: not one. */
int config_prefix(const char *text, struct ip_addr *addr, uint8_t *prefix, bool whole);
int config_addr(const char *text, struct ip_addr *addr);
/* An unsigned number with an optional K, M, G (powers of 1024). -1: not one, or out of range. */
int config_number(const char *text, uint64_t lo, uint64_t hi, uint64_t *value);
/* Length of the prefix as a mask in network byte order. */
uint32_t config_mask(uint8_t prefix);

#endif
