/* SPDX-License-Identifier: BSD-2-Clause */
#include "plan.h"

#include "random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int plan_classes(struct plan *p, const char *list, const char **word)
{
    char name[24];

    for (*word = list; **word != '\0';) {
        const size_t len = strcspn(*word, ",");
        if (len == 0 || len >= sizeof name || p->classes == PLAN_CLASSES)
            return -EINVAL;
        memcpy(name, *word, len);
        name[len] = '\0';
        if (crash_class_parse(name, &p->class[p->classes]) < 0)
            return -EINVAL;
        p->classes++;
        *word += len + ((*word)[len] == ',');
    }
    return p->classes > 0 ? 0 : -EINVAL;
}

int plan_servers(struct plan *p, const char *list)
{
    while (*list != '\0') {
        const size_t len = strcspn(list, ",");
        if (len == 0 || len >= sizeof p->server[0] || p->servers == PLAN_SERVERS)
            return -EINVAL;
        memcpy(p->server[p->servers], list, len);
        p->server[p->servers++][len] = '\0';
        list += len + (list[len] == ',');
    }
    return p->servers > 0 ? 0 : -EINVAL;
}

struct plan_step plan_step(const struct plan *p, uint64_t run)
{
    const unsigned n = p->classes * p->servers;
    struct random round = {.state = p->seed + run / n}, own = {.state = p->seed ^ run << 32};
    unsigned order[PLAN_CLASSES * PLAN_SERVERS];

    for (unsigned i = 0; i < n; i++) {
        const unsigned k = (unsigned)random_below(&round, i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    const unsigned chosen = order[run % n];
    return (struct plan_step){.seed = random_next(&own) >> 32,
                              .class = p->class[chosen % p->classes],
                              .server = p->server[chosen / p->classes]};
}

struct json_object *plan_json(const struct plan *p)
{
    struct json_object *o = json_object_new_object(), *c = json_object_new_object(),
                       *classes = json_object_new_array(), *servers = json_object_new_array();

    for (unsigned i = 0; i < p->classes; i++)
        json_object_array_add(classes, json_object_new_string(crash_kind(p->class[i])->name));
    for (unsigned i = 0; i < p->servers; i++)
        json_object_array_add(servers, json_object_new_string(p->server[i]));
    json_object_object_add(c, "seed", json_object_new_uint64(p->seed));
    json_object_object_add(c, "classes", classes);
    json_object_object_add(c, "servers", servers);
    json_object_object_add(o, "campaign", c);
    return o;
}

/* A line of the results, read to its end. NULL: there is none, or it is no object. */
static struct json_object *parse(const char *line, ssize_t len)
{
    struct json_object *o;

    if (len <= 0 || line[len - 1] != '\n')
        return NULL;
    o = json_tokener_parse(line);
    if (o != NULL && !json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        return NULL;
    }
    return o;
}

static int check_first(const struct plan *p, const char *line, ssize_t len)
{
    struct json_object *is = parse(line, len), *must = plan_json(p);
    int rc = 0;

    if (is == NULL || !json_object_object_get_ex(is, "campaign", NULL))
        rc = -EPROTO;
    else if (!json_object_equal(is, must))
        rc = -EEXIST;
    json_object_put(is);
    json_object_put(must);
    return rc;
}

int plan_resume(const struct plan *p, FILE *f, bool *done, long *end,
                void (*each)(void *arg, struct json_object *line), void *arg)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len = getline(&line, &size, f);
    int rc = len <= 0 ? 0 : check_first(p, line, len);

    *end = 0;
    while (rc == 0 && len > 0) {
        if (line[len - 1] != '\n')
            break;
        *end = ftell(f);
        len = getline(&line, &size, f);
        struct json_object *o = parse(line, len), *run;
        if (o != NULL && json_object_object_get_ex(o, "run", &run) &&
            json_object_get_uint64(run) < p->runs) {
            done[json_object_get_uint64(run)] = true;
            if (each != NULL)
                each(arg, o);
        }
        json_object_put(o);
    }
    free(line);
    return rc;
}
