/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What is known of an experiment, as JSON.
 */
#include "inject.h"

#include <stdio.h>
#include <string.h>

static void put(struct json_object *o, const char *key, struct json_object *value)
{
    json_object_object_add(o, key, value);
}

static struct json_object *hex(uint64_t v)
{
    char text[24];

    snprintf(text, sizeof text, "0x%llx", (unsigned long long)v);
    return json_object_new_string(text);
}

static struct json_object *code_json(const uint8_t *bytes, unsigned len, const char *name)
{
    char text[3 * FAULT_BYTES + 1] = "";
    struct json_object *o = json_object_new_object();

    for (unsigned i = 0; i < len; i++)
        snprintf(text + 3 * i, 4, "%02x ", bytes[i]);
    if (len > 0)
        text[3 * len - 1] = '\0';
    put(o, "bytes", json_object_new_string(text));
    if (name[0] != '\0')
        put(o, "text", json_object_new_string(name));
    return o;
}

/* One fault; adds to what is known of their activation. */
static struct json_object *fault_json(const struct fault *f, unsigned *activated, unsigned *unknown)
{
    struct json_object *o = json_object_new_object();
    uint64_t at = 0;

    put(o, "class", json_object_new_string(crash_kind(f->class)->name));
    put(o, "address", hex(f->address));
    if (f->offset != 0)
        put(o, "offset", hex(f->offset));
    if (f->symbol[0] != '\0')
        put(o, "symbol", json_object_new_string(f->symbol));
    put(o, "before", code_json(f->before, f->len, f->before_text));
    put(o, "after", code_json(f->after, f->len, f->after_text));
    if (f->point.fd < 0) {
        put(o, "activated", NULL);
        ++*unknown;
        return o;
    }
    bool hit = watch_point_hit(&f->point, &at);
    *activated += hit;
    put(o, "activated", json_object_new_boolean(hit));
    if (hit)
        put(o, "activated_ns", json_object_new_uint64(at));
    return o;
}

static const char *after_name(const struct injection *i)
{
    if (i->dead)
        return "none";
    if (i->after == AFTER_RESTORE)
        return i->restored ? "restored" : "kept";
    return i->after == AFTER_KILL ? "killed" : "kept";
}

static struct json_object *end_json(const struct injection *i)
{
    struct json_object *o = json_object_new_object();

    put(o, "time_ns", json_object_new_uint64(i->dead_ns));
    put(o, "after_ms", json_object_new_double((double)(i->dead_ns - i->at_ns) / 1e6));
    if (i->end.known && i->end.signalled) {
        const char *name = sigabbrev_np(i->end.number);
        char text[16];
        snprintf(text, sizeof text, "SIG%s", name != NULL ? name : "?");
        put(o, "signal", json_object_new_int(i->end.number));
        put(o, "signal_name", json_object_new_string(text));
    } else if (i->end.known) {
        put(o, "status", json_object_new_int(i->end.number));
    }
    return o;
}

static struct json_object *store_json(const struct store *s)
{
    struct json_object *o = json_object_new_object();

    put(o, "place", json_object_new_string(s->place));
    put(o, "at", hex(s->at));
    put(o, "before", code_json(s->before, s->len, ""));
    put(o, "after", code_json(s->after, s->len, ""));
    return o;
}

/* true, false, or NULL: not known. */
static struct json_object *activation(const struct injection *i, unsigned activated,
                                      unsigned unknown)
{
    bool known = true, seen = activated > 0;

    switch (crash_kind(i->class)->means) {
    case MEANS_KILL:
    case MEANS_SIGNAL:
    case MEANS_WILD: /* by being done */
        seen = i->error[0] == '\0';
        break;
    case MEANS_MESSAGE:
    case MEANS_BYZANTINE:
        seen = witness_saw(&i->witness);
        break;
    case MEANS_LIMIT: /* until it asks for more */
        known = false;
        break;
    case MEANS_STUB:
    case MEANS_MUTATE:
        known = activated > 0 || unknown == 0;
    }
    return known ? json_object_new_boolean(seen) : NULL;
}

struct json_object *inject_json(const struct injection *i)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array(),
                       *stores_list = json_object_new_array();
    const enum crash_means means = crash_kind(i->class)->means;
    unsigned activated = 0, unknown = 0;

    put(o, "class", json_object_new_string(crash_kind(i->class)->name));
    put(o, "pid", json_object_new_int(i->target.pid));
    put(o, "seed", json_object_new_uint64(i->seed));
    put(o, "time_ns", json_object_new_uint64(i->at_ns));
    put(o, "injected", json_object_new_boolean(i->error[0] == '\0'));
    if (i->error[0] != '\0')
        put(o, "error", json_object_new_string(i->error));
    for (unsigned k = 0; k < i->faults; k++)
        json_object_array_add(list, fault_json(&i->fault[k], &activated, &unknown));
    for (unsigned k = 0; k < i->stores; k++)
        json_object_array_add(stores_list, store_json(&i->store[k]));
    put(o, "activated", activation(i, activated, unknown));
    if (means == MEANS_MUTATE) {
        put(o, "mode", json_object_new_string(i->mode == MODE_GUIDED ? "guided" : "minix"));
        put(o, "executed", json_object_new_uint64(i->executed));
    }
    if (i->drawn != i->class)
        put(o, "drawn", json_object_new_string(crash_kind(i->drawn)->name));
    put(o, "faults", list);
    put(o, "stores", stores_list);
    put(o, "manifested", json_object_new_boolean(i->dead));
    put(o, "end", i->dead ? end_json(i) : NULL);
    put(o, "cleanup", json_object_new_string(after_name(i)));
    return o;
}
