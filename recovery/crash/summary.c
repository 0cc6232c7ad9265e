/* SPDX-License-Identifier: BSD-2-Clause */
#include "summary.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Chance of k or fewer of n at the rate p. */
static double at_most(unsigned k, unsigned n, double p)
{
    double sum = 0;

    for (unsigned i = 0; i <= k; i++)
        sum += exp(lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(n - i + 1.0) + i * log(p) +
                   (n - i) * log1p(-p));
    return sum;
}

double summary_bound(unsigned k, unsigned n)
{
    double low, high = 1;

    if (n == 0 || k >= n)
        return 100;
    low = (double)k / n;
    for (unsigned i = 0; i < 60; i++) {
        const double middle = (low + high) / 2;
        if (middle < 1 && at_most(k, n, middle) > 0.05)
            low = middle;
        else
            high = middle;
    }
    return 100 * high;
}

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *value = NULL;

    json_object_object_get_ex(o, key, &value);
    return value;
}

static bool is_true(struct json_object *o, const char *key)
{
    return json_object_get_boolean(member(o, key));
}

bool summary_failed(struct json_object *line)
{
    struct json_object *judge = member(line, "judge"), *recovered = member(line, "recovered");

    if (judge != NULL)
        return json_object_get_int(member(judge, "status")) != 0;
    return recovered != NULL && !json_object_get_boolean(recovered);
}

static struct tally *row_of(struct summary *s, const char *class, const char *server)
{
    for (unsigned i = 0; i < s->rows; i++)
        if (strcmp(s->row[i].class, class) == 0 && strcmp(s->row[i].server, server) == 0)
            return &s->row[i];
    if (s->rows == SUMMARY_ROWS)
        return &s->row[SUMMARY_ROWS - 1];
    struct tally *t = &s->row[s->rows++];
    snprintf(t->class, sizeof t->class, "%s", class);
    snprintf(t->server, sizeof t->server, "%s", server);
    return t;
}

static void count(struct tally *t, struct json_object *line)
{
    const bool injected = is_true(line, "injected");

    t->runs++;
    t->injected += injected;
    t->activated += injected && is_true(line, "activated");
    t->unknown += injected && member(line, "activated") == NULL;
    t->manifested += is_true(line, "manifested");
    t->back += is_true(line, "manifested") && is_true(line, "recovered");
    t->failed += summary_failed(line);
}

void summary_add(struct summary *s, struct json_object *line)
{
    struct json_object *class = member(line, "class"), *server = member(line, "server");

    count(row_of(s, class != NULL ? json_object_get_string(class) : "?",
                 server != NULL ? json_object_get_string(server) : "?"),
          line);
    count(&s->all, line);
}

static void print_row(const struct tally *t, const char *class, FILE *f)
{
    fprintf(f, "%-12s %-10s %6u %8u %9u %7u %10u %6u %6u %7.2f%%\n", class, t->server, t->runs,
            t->injected, t->activated, t->unknown, t->manifested, t->back, t->failed,
            summary_bound(t->failed, t->injected));
}

void summary_print(const struct summary *s, FILE *f)
{
    fprintf(f, "%-12s %-10s %6s %8s %9s %7s %10s %6s %6s %8s\n", "CLASS", "SERVER", "RUNS",
            "INJECTED", "ACTIVATED", "UNKNOWN", "MANIFESTED", "BACK", "FAILED", "AT MOST");
    for (unsigned i = 0; i < s->rows; i++)
        print_row(&s->row[i], s->row[i].class, f);
    print_row(&s->all, "all", f);
    fprintf(f, "At most: of the injected so many fail, with 95 %% confidence.\n");
}

static struct json_object *tally_json(const struct tally *t)
{
    struct json_object *o = json_object_new_object();
    const struct {
        const char *name;
        unsigned value;
    } numbers[] = {
        {"runs", t->runs},       {"injected", t->injected},     {"activated", t->activated},
        {"unknown", t->unknown}, {"manifested", t->manifested}, {"back", t->back},
        {"failed", t->failed}};

    if (t->class[0] != '\0') {
        json_object_object_add(o, "class", json_object_new_string(t->class));
        json_object_object_add(o, "server", json_object_new_string(t->server));
    }
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        json_object_object_add(o, numbers[i].name, json_object_new_uint64(numbers[i].value));
    json_object_object_add(o, "failed_at_most_percent",
                           json_object_new_double(summary_bound(t->failed, t->injected)));
    return o;
}

struct json_object *summary_json(const struct summary *s)
{
    struct json_object *o = tally_json(&s->all), *rows = json_object_new_array();

    for (unsigned i = 0; i < s->rows; i++)
        json_object_array_add(rows, tally_json(&s->row[i]));
    json_object_object_add(o, "rows", rows);
    return o;
}
