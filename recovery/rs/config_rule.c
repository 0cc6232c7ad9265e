/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The language of [filter]:
 *
 *   rule = pass|block [in|out] [on NAME] [proto tcp|udp|icmp|NUMBER]
 *          [from ADDR[/LEN] [port N[-M]]] [to ADDR[/LEN] [port N[-M]]]
 *
 * ADDR may be `any`. First match wins. Pure, apart from the message of an error.
 */
#include "config.h"

#include <errno.h>

struct words {
    char text[512];
    char *word[32];
    unsigned count, next;
};

static const char *peek(const struct words *w)
{
    return w->next < w->count ? w->word[w->next] : "";
}

static bool take(struct words *w, const char *keyword)
{
    if (w->next >= w->count || strcmp(w->word[w->next], keyword) != 0)
        return false;
    w->next++;
    return true;
}

static const char *found(const struct words *w)
{
    return w->next < w->count ? w->word[w->next] : "the end of the rule";
}

static int split(struct config_parser *p, struct words *w, const char *value)
{
    if (strlen(value) >= sizeof w->text)
        return config_fail(p, "the rule is too long");
    strcpy(w->text, value);
    for (char *save = NULL, *s = strtok_r(w->text, " \t", &save); s != NULL;
         s = strtok_r(NULL, " \t", &save)) {
        if (w->count == sizeof w->word / sizeof w->word[0])
            return config_fail(p, "the rule has too many words");
        w->word[w->count++] = s;
    }
    return 0;
}

static int rule_interface(struct config_parser *p, struct words *w, struct config_rule *rule)
{
    const struct stack_config *cfg = p->cfg;

    for (unsigned i = 0; i < cfg->interfaces; i++) {
        if (take(w, cfg->interface[i].device)) {
            rule->interface = (uint8_t)i;
            return 0;
        }
    }
    return config_fail(
        p, "found \"%s\", expected the device of an interface that is declared above", found(w));
}

static int rule_protocol(struct config_parser *p, struct words *w, struct config_rule *rule)
{
    uint64_t number;

    if (take(w, "tcp")) {
        rule->protocol = 6;
    } else if (take(w, "udp")) {
        rule->protocol = 17;
    } else if (take(w, "icmp")) {
        rule->protocol = 1;
    } else if (config_number(peek(w), 1, 255, &number) == 0) {
        rule->protocol = (uint8_t)number;
        w->next++;
    } else {
        return config_fail(p, "found \"%s\", expected tcp, udp, icmp or a protocol from 1 to 255",
                           found(w));
    }
    return 0;
}

static int rule_ports(struct config_parser *p, struct words *w, uint16_t *lo, uint16_t *hi)
{
    char first[16];
    uint64_t a, b;
    const char *text = peek(w);
    const char *dash = strchr(text, '-');
    size_t len = dash != NULL ? (size_t)(dash - text) : strlen(text);

    if (len < sizeof first) {
        memcpy(first, text, len);
        first[len] = '\0';
        if (config_number(first, 0, 65535, &a) == 0 &&
            config_number(dash != NULL ? dash + 1 : first, a, 65535, &b) == 0) {
            *lo = (uint16_t)a;
            *hi = (uint16_t)b;
            w->next++;
            return 0;
        }
    }
    return config_fail(p, "found \"%s\", expected a port N or a range N-M from 0 to 65535",
                       found(w));
}

static int rule_end(struct config_parser *p, struct words *w, struct ip_addr *addr, uint8_t *prefix,
                    uint16_t *lo, uint16_t *hi)
{
    if (!take(w, "any") && strcmp(peek(w), "port") != 0) {
        if (config_prefix(peek(w), addr, prefix, true) != 0)
            return config_fail(p, "found \"%s\", expected any or an address as 10.0.0.0/8",
                               found(w));
        if (addr->v4 & ~config_mask(*prefix))
            return config_fail(p, "found \"%s\", which has bits set behind its prefix", found(w));
        w->next++;
        if (*prefix == 0)
            *addr = (struct ip_addr){0};
    }
    if (take(w, "port"))
        return rule_ports(p, w, lo, hi);
    return 0;
}

int config_rule(struct config_parser *p, const char *value)
{
    struct stack_config *cfg = p->cfg;
    struct config_rule rule = {
        .interface = 255, .src_port_hi = 65535, .dst_port_hi = 65535, .direction = RULE_BOTH};
    struct words w = {.count = 0};

    if (cfg->rules == CONFIG_RULES)
        return config_fail(p, "there are more than %d rules", CONFIG_RULES);
    if (split(p, &w, value) != 0)
        return -1;
    if (take(&w, "block"))
        rule.action = RULE_BLOCK;
    else if (!take(&w, "pass"))
        return config_fail(p, "found \"%s\", expected pass or block", found(&w));
    if (take(&w, "in"))
        rule.direction = RULE_IN;
    else if (take(&w, "out"))
        rule.direction = RULE_OUT;
    if (take(&w, "on") && rule_interface(p, &w, &rule) != 0)
        return -1;
    if (take(&w, "proto") && rule_protocol(p, &w, &rule) != 0)
        return -1;
    if (take(&w, "from") &&
        rule_end(p, &w, &rule.src, &rule.src_prefix, &rule.src_port_lo, &rule.src_port_hi) != 0)
        return -1;
    if (take(&w, "to") &&
        rule_end(p, &w, &rule.dst, &rule.dst_prefix, &rule.dst_port_lo, &rule.dst_port_hi) != 0)
        return -1;
    if (w.next != w.count)
        return config_fail(p,
                           "found \"%s\", expected in, out, on, proto, from, to or the end, in "
                           "this order",
                           found(&w));
    bool ports = rule.src_port_lo != 0 || rule.dst_port_lo != 0 || rule.src_port_hi != 65535 ||
                 rule.dst_port_hi != 65535;
    if (ports && rule.protocol != 6 && rule.protocol != 17)
        return config_fail(p, "the rule names a port; expected proto tcp or proto udp before it");
    cfg->rule[cfg->rules++] = rule;
    return 0;
}
