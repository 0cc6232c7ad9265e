/* SPDX-License-Identifier: BSD-2-Clause */
#include "config.h"

#include "libchan/wiring.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <ini.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

enum { SERVERS_MAX = SERVER_KINDS * SERVER_INSTANCES, CPU_DEFAULT = -2 };

int config_fail(struct config_parser *p, const char *fmt, ...)
{
    va_list ap;

    if (p->error[0] != '\0')
        return -1;
    int n = snprintf(p->error, CONFIG_ERROR_MAX, "%s:%d: ", p->filename, p->line);
    if (n < 0 || n >= CONFIG_ERROR_MAX)
        return -1;
    va_start(ap, fmt);
    vsnprintf(p->error + n, (size_t)(CONFIG_ERROR_MAX - n), fmt, ap);
    va_end(ap);
    return -1;
}

bool config_name_valid(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len >= sizeof((struct stack_config *)0)->name || name[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '-' && name[i] != '_')
            return false;
    return true;
}

/* ---- numbers: one table for all keys that are a plain number ---- */

enum width { U8, U16, U32, U64 };

struct number_key {
    const char *section, *key;
    size_t offset;
    enum width width;
    bool power_of_two;
    uint64_t lo, hi;
};

#define FIELD(f, w) offsetof(struct stack_config, f), w
static const struct number_key number_keys[] = {
    {"stack", "spin_us", FIELD(spin_us, U32), false, 0, 100000},
    {"stack", "queue_slots", FIELD(queue_slots, U32), true, 64, 65536},
    {"stack", "connections", FIELD(tcp_connections, U32), false, 16, 4194304},
    {"stack", "tcp_chains", FIELD(tcp_chains, U32), true, 64, 1048576},
    {"stack", "udp_sockets", FIELD(udp_sockets, U32), false, 16, 1048576},
    {"stack", "udp_buffers", FIELD(udp_buffers, U32), true, 16, 65536},
    {"stack", "ip_buffers", FIELD(ip_buffers, U32), false, 16, 65536},
    {"stack", "app_tcp_slots", FIELD(app_tcp_slots, U32), false, 16, 1048576},
    {"stack", "app_udp_slots", FIELD(app_udp_slots, U32), false, 16, 1048576},
    {"stack", "app_up_size", FIELD(app_up_size, U64), true, 16ull << 20, 64ull << 30},
    {"stack", "app_down_tcp_size", FIELD(app_down_tcp_size, U64), true, 16ull << 20, 64ull << 30},
    {"stack", "app_down_udp_size", FIELD(app_down_udp_size, U64), true, 16ull << 20, 64ull << 30},
#define X(name, value, least, most)                                                                \
    {"tcp", &#name[sizeof "tcp"], FIELD(name, U32), true, least, most},
    CONFIG_TCP_RINGS(X)
#undef X
#define X(name, value, least, most)                                                                \
    {"tcp", &#name[sizeof "tcp"], FIELD(name, U32), false, least, most},
        CONFIG_TCP_NUMBERS(X)
#undef X
            {"recovery", "spares", FIELD(spares, U8), false, 0, SPARES_MAX},
    {"recovery", "trial_s", FIELD(trial_s, U16), false, 0, 3600},
    {"udp", "sndbuf", FIELD(udp_sndbuf, U32), true, 4096, 16u << 20},
    {"udp", "rcvbuf", FIELD(udp_rcvbuf, U32), true, 4096, 16u << 20},
};

static int store_number(struct config_parser *p, const struct number_key *k, const char *value)
{
    uint64_t v;

    if (config_number(value, k->lo, k->hi, &v) != 0 || (k->power_of_two && (v & (v - 1)) != 0))
        return config_fail(p, "%s: found \"%s\", expected a %s from %llu to %llu", k->key, value,
                           k->power_of_two ? "power of two" : "number", (unsigned long long)k->lo,
                           (unsigned long long)k->hi);
    void *at = (uint8_t *)p->cfg + k->offset;
    switch (k->width) {
    case U8:
        *(uint8_t *)at = (uint8_t)v;
        break;
    case U16:
        *(uint16_t *)at = (uint16_t)v;
        break;
    case U32:
        *(uint32_t *)at = (uint32_t)v;
        break;
    case U64:
        *(uint64_t *)at = v;
        break;
    }
    return 0;
}

/* ---- [stack] ---- */

static int add_user(struct config_parser *p, uint32_t uid)
{
    struct stack_config *cfg = p->cfg;

    for (uint32_t i = 0; i < cfg->users; i++)
        if (cfg->user[i] == uid)
            return 0;
    if (cfg->users == CONFIG_USERS)
        return config_fail(p, "users: more than %d", CONFIG_USERS);
    cfg->user[cfg->users++] = uid;
    return 0;
}

static int users(struct config_parser *p, const char *value)
{
    char text[1024], *save = NULL;

    p->users_given = true;
    p->cfg->users = 0;
    if (strcmp(value, "*") == 0)
        return 0;
    if (strlen(value) >= sizeof text)
        return config_fail(p, "users: the list is too long");
    strcpy(text, value);
    for (char *s = strtok_r(text, ", \t", &save); s != NULL; s = strtok_r(NULL, ", \t", &save)) {
        uint64_t uid;
        struct passwd *pw = NULL;
        if (config_number(s, 0, UINT32_MAX - 1, &uid) != 0) {
            pw = getpwnam(s);
            if (pw == NULL)
                return config_fail(p, "users: found \"%s\", expected the name or number of a user",
                                   s);
            uid = pw->pw_uid;
        }
        if (add_user(p, (uint32_t)uid) != 0)
            return -1;
    }
    /* an empty list would mean everybody */
    if (p->cfg->users == 0)
        return config_fail(p, "users: found an empty list, expected * or users");
    return 0;
}

/* Without `users`: root, and the members of group eft if there is such a group. */
static int default_users(struct config_parser *p)
{
    if (add_user(p, 0) != 0)
        return -1;
    struct group *g = getgrnam("eft");
    for (char **m = g != NULL ? g->gr_mem : NULL; m != NULL && *m != NULL; m++) {
        struct passwd *pw = getpwnam(*m);
        if (pw != NULL && add_user(p, pw->pw_uid) != 0)
            return -1;
    }
    return 0;
}

static int ports(struct config_parser *p, const char *value)
{
    char first[16];
    uint64_t a, b;
    const char *dash = strchr(value, '-');
    size_t len = dash != NULL ? (size_t)(dash - value) : sizeof first;

    if (len < sizeof first) {
        memcpy(first, value, len);
        first[len] = '\0';
        if (config_number(first, 1024, 65535, &a) == 0 &&
            config_number(dash + 1, a, 65535, &b) == 0) {
            p->cfg->port_first = (uint16_t)a;
            p->cfg->port_last = (uint16_t)b;
            return 0;
        }
    }
    return config_fail(p, "ports: found \"%s\", expected a range as 32768-60999", value);
}

static int key_stack(struct config_parser *p, const char *key, const char *value)
{
    if (strcmp(key, "shape") == 0) {
        if (strcmp(value, "split") == 0)
            p->cfg->shape = SHAPE_SPLIT;
        else if (strcmp(value, "fused") == 0)
            p->cfg->shape = SHAPE_FUSED;
        else
            return config_fail(p, "shape: found \"%s\", expected split or fused", value);
        return 0;
    }
    if (strcmp(key, "users") == 0)
        return users(p, value);
    if (strcmp(key, "ports") == 0)
        return ports(p, value);
    return 1;
}

/* ---- [cpu] ---- */

static int key_cpu(struct config_parser *p, const char *key, const char *value)
{
    int16_t cpu = -1;
    uint64_t v;
    server_id id;
    cpu_set_t set;

    if (strcmp(value, "none") != 0) {
        CPU_ZERO(&set);
        sched_getaffinity(0, sizeof set, &set);
        if (config_number(value, 0, CPU_SETSIZE - 1, &v) != 0 || !CPU_ISSET(v, &set))
            return config_fail(p,
                               "%s: found \"%s\", expected none or the number of a processor "
                               "that this process may use",
                               key, value);
        cpu = (int16_t)v;
    }
    if (strcmp(key, "all") == 0) {
        for (unsigned i = 0; i < 256; i++)
            p->cfg->cpu[i] = cpu;
        return 0;
    }
    if (server_id_parse(key, &id) != 0 || SERVER_ID_KIND(id) == SERVER_RS)
        return config_fail(p, "found \"%s\", expected all or a server, as tcp0", key);
    p->cfg->cpu[id] = cpu;
    return 0;
}

/* A wake-up on the same processor costs a tenth of one across two: with one or two processors all
 * servers share the first. Else they spread, in flow direction. */
static void default_cpus(struct stack_config *cfg)
{
    cpu_set_t set;
    int16_t list[256];
    int n = 0;
    server_id ids[SERVERS_MAX];

    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    for (int i = 0; i < CPU_SETSIZE && n < 256; i++)
        if (CPU_ISSET(i, &set))
            list[n++] = (int16_t)i;
    unsigned count = wiring_servers(cfg, ids, SERVERS_MAX);
    for (unsigned i = 0; i < count && n > 0; i++)
        if (cfg->cpu[ids[i]] == CPU_DEFAULT)
            cfg->cpu[ids[i]] = n <= 2 ? list[0] : list[i % (unsigned)n];
    for (unsigned i = 0; i < 256; i++)
        if (cfg->cpu[i] == CPU_DEFAULT)
            cfg->cpu[i] = -1;
}

/* ---- [tcp] ---- */

static const struct {
    const char *key;
    size_t offset;
} tcp_switches[] = {
#define X(name, value) {&#name[sizeof "tcp"], offsetof(struct stack_config, name)},
    CONFIG_TCP_SWITCHES(X)
#undef X
};

/* A word is stored as its place in the list. */
static const struct {
    const char *key;
    size_t offset;
    const char *word[3];
    const char *expected;
} tcp_words[] = {
    {"congestion",
     offsetof(struct stack_config, tcp_congestion),
     {"newreno", "cubic"},
     "newreno or cubic"},
    {"ecn", offsetof(struct stack_config, tcp_ecn), {"off", "passive", "on"}, "off, passive or on"},
    {"syncookies",
     offsetof(struct stack_config, tcp_syncookies),
     {"off", "on", "always"},
     "off, on or always"},
    {"mtu_probing",
     offsetof(struct stack_config, tcp_mtu_probing),
     {"off", "blackhole"},
     "off or blackhole"},
};

static int key_tcp(struct config_parser *p, const char *key, const char *value)
{
    uint8_t *cfg = (uint8_t *)p->cfg;

    for (unsigned i = 0; i < sizeof tcp_switches / sizeof tcp_switches[0]; i++)
        if (strcmp(key, tcp_switches[i].key) == 0)
            return config_bool(p, key, value, cfg + tcp_switches[i].offset);
    for (unsigned i = 0; i < sizeof tcp_words / sizeof tcp_words[0]; i++) {
        if (strcmp(key, tcp_words[i].key) != 0)
            continue;
        for (uint8_t w = 0; w < 3 && tcp_words[i].word[w] != NULL; w++)
            if (strcmp(value, tcp_words[i].word[w]) == 0) {
                cfg[tcp_words[i].offset] = w;
                return 0;
            }
        return config_fail(p, "%s: found \"%s\", expected %s", key, value, tcp_words[i].expected);
    }
    return 1;
}

static int key_filter(struct config_parser *p, const char *key, const char *value)
{
    return strcmp(key, "rule") == 0 ? config_rule(p, value) : 1;
}

static int key_none(struct config_parser *p, const char *key, const char *value)
{
    (void)p, (void)key, (void)value;
    return 1;
}

/* ---- the parser ---- */

static const struct {
    const char *name;
    int (*key)(struct config_parser *p, const char *key, const char *value); /* 1: unknown */
} sections[] = {
    {"stack", key_stack},        {"cpu", key_cpu},       {"interface", config_key_interface},
    {"route", config_key_route}, {"tcp", key_tcp},       {"filter", key_filter},
    {"udp", key_none},           {"recovery", key_none},
};

static int handler(void *user, const char *section, const char *key, const char *value)
{
    struct config_parser *p = user;

    if (p->error[0] != '\0')
        return 1;
    if (value == NULL) {
        config_fail(p, "found \"%s\", expected KEY = VALUE", key);
        return 1;
    }
    if (section[0] == '\0') {
        config_fail(p, "found \"%s\" before any section, expected [stack] or another section", key);
        return 1;
    }
    for (unsigned i = 0; i < sizeof number_keys / sizeof number_keys[0]; i++) {
        const struct number_key *k = &number_keys[i];
        if (strcmp(section, k->section) == 0 && strcmp(key, k->key) == 0) {
            store_number(p, k, value);
            return 1;
        }
    }
    size_t len = strcspn(section, " \t");
    for (unsigned i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (strlen(sections[i].name) != len || strncmp(section, sections[i].name, len) != 0)
            continue;
        if (sections[i].key(p, key, value) == 1)
            config_fail(p, "found key \"%s\", which section [%s] does not have", key, section);
        return 1;
    }
    return 1; /* the section was reported when its line was read */
}

/* inih calls the handler per key only, and does not tell lines: sections and line numbers are
 * looked at here. */
static void section_line(struct config_parser *p, const char *line)
{
    char name[64];
    size_t n = 0;

    for (line++; strchr("]\r\n", *line) == NULL && n < sizeof name - 1; line++)
        name[n++] = *line;
    name[n] = '\0';
    if (*line != ']') {
        config_fail(p, "found \"[%s\", expected ] at the end of the section's name", name);
        return;
    }
    p->interface = -1;
    if (strncmp(name, "interface", 9) == 0 && (name[9] == ' ' || name[9] == '\t')) {
        config_new_interface(p, name + 9 + strspn(name + 9, " \t"));
        return;
    }
    for (unsigned i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (strcmp(name, sections[i].name) == 0 && sections[i].key != config_key_interface)
            return;
    config_fail(
        p,
        "found section [%s], expected stack, cpu, interface NAME, route, filter, tcp, recovery or "
        "udp",
        name);
}

static char *reader(char *str, int num, void *stream)
{
    struct config_parser *p = stream;
    char line[1024];

    if (p->error[0] != '\0' || fgets(line, sizeof line, p->file) == NULL)
        return NULL;
    p->line++;
    size_t len = strcspn(line, "\r\n");
    if (line[len] == '\0' && len == sizeof line - 1) {
        config_fail(p, "the line is longer than %zu characters", sizeof line - 2);
        return NULL;
    }
    /* A leading blank would make the line a continuation of the one before: inih's habit, not
     * ours. */
    const char *text = line + strspn(line, " \t");
    if (*text == '[')
        section_line(p, text);
    snprintf(str, (size_t)num, "%s", text);
    return str;
}

static void config_clear(struct stack_config *cfg, const char *name)
{
    memset(cfg, 0, sizeof *cfg);
    snprintf(cfg->name, sizeof cfg->name, "%s", name);
    for (unsigned i = 0; i < 256; i++)
        cfg->cpu[i] = CPU_DEFAULT;
    cfg->rules_generation = 1;
    cfg->queue_slots = 512;
    cfg->spares = SPARES_DEFAULT;
    cfg->trial_s = 10;
    cfg->tcp_connections = 131072;
    cfg->tcp_chains = 16384;
    cfg->udp_sockets = 4096;
    cfg->udp_buffers = 256;
    cfg->ip_buffers = 256;
    cfg->app_tcp_slots = 16384;
    cfg->app_udp_slots = 1024;
    cfg->app_up_size = 1ull << 30;
    cfg->app_down_tcp_size = 1ull << 30;
    cfg->app_down_udp_size = 512ull << 20;
    config_tcp_defaults(cfg);
    cfg->udp_sndbuf = 256 << 10;
    cfg->udp_rcvbuf = 256 << 10;
    cfg->port_first = 32768;
    cfg->port_last = 60999;
}

static int longer_prefix(const void *a, const void *b)
{
    return (int)((const struct config_route *)b)->prefix -
           (int)((const struct config_route *)a)->prefix;
}

/* What depends on the whole: defaults of interfaces, routes, processors. */
static int config_finish(struct config_parser *p)
{
    struct stack_config *cfg = p->cfg;

    if (cfg->interfaces == 0)
        return config_fail(p, "no interface; expected a section [interface NAME]");
    for (int i = 0; i < cfg->interfaces; i++)
        if (config_finish_interface(p, i) != 0)
            return -1;
    /* glibc's qsort of this size is a stable merge: the first of two equal routes stays first */
    qsort(cfg->route, cfg->routes, sizeof cfg->route[0], longer_prefix);
    default_cpus(cfg);
    return p->users_given ? 0 : default_users(p);
}

static char inline_comments[] = ";#";

int config_parse(struct stack_config *cfg, const char *name, FILE *file, const char *filename,
                 char *error)
{
    struct config_parser p = {
        .cfg = cfg, .file = file, .filename = filename, .error = error, .interface = -1};

    error[0] = '\0';
    config_clear(cfg, name);
    ini_use_stack = false;
    ini_max_line = 1024;
    ini_initial_alloc = 1024;
    ini_allow_no_value = true;
    ini_inline_comment_prefixes = inline_comments;
    int rc = ini_parse_stream(reader, &p, handler, &p);
    if (rc < 0)
        config_fail(&p, "out of memory");
    else if (rc > 0)
        p.line = rc, config_fail(&p, "expected [SECTION] or KEY = VALUE");
    if (error[0] == '\0')
        config_finish(&p);
    return error[0] == '\0' ? 0 : -EINVAL;
}

void config_default(struct stack_config *cfg, const char *name)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config_parser p = {.cfg = cfg, .filename = "(default)", .error = error, .interface = -1};

    config_clear(cfg, name);
    config_new_interface(&p, "eft0");
    config_key_interface(&p, "address", "10.97.0.2/24");
    config_key_interface(&p, "gateway", "10.97.0.1");
    config_finish(&p);
}

int config_load(struct stack_config *cfg, const char *name, const char *path, char *error)
{
    char standard[128];

    snprintf(standard, sizeof standard, "/etc/eft/%s.conf", name);
    const char *filename = path != NULL ? path : standard;
    FILE *file = fopen(filename, "re");
    if (file == NULL) {
        int e = errno;
        if (path == NULL && e == ENOENT) {
            config_default(cfg, name);
            return 0;
        }
        snprintf(error, CONFIG_ERROR_MAX, "%s: %s", filename, strerror(e));
        return -e;
    }
    int rc = config_parse(cfg, name, file, filename, error);
    fclose(file);
    return rc;
}
