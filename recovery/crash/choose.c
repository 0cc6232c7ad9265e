/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Which instruction is to be broken: one that was seen to execute, or any.
 */
#include "fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BEHIND = 64, TRIES = 4000 };

/* A random instruction of a random function, functions by their size: decoded from the function's
 * beginning, as only from there instructions are found for sure. 0: none. */
static uint64_t any_instruction(const struct target *t, const struct symbols *s, struct code *code,
                                struct random *r)
{
    uint64_t byte = random_below(r, s->bytes);
    unsigned k = 0;

    while (byte >= s->function[k].size)
        byte -= s->function[k++].size;
    const struct function *f = &s->function[k];
    uint8_t *bytes = malloc(f->size);
    uint64_t at = 0, found = 0;
    if (bytes != NULL && target_read(t, f->start, bytes, f->size) == 0) {
        while (at < f->size) {
            unsigned len = code_decode(code, bytes + at, f->size - at, f->start + at, NULL);
            if (len == 0) {
                at++; /* padding, or data between functions of a stripped program */
                continue;
            }
            if (at + len > byte) {
                found = f->start + at;
                break;
            }
            at += len;
        }
    }
    free(bytes);
    return found;
}

static bool is_chosen(const struct fault *list, unsigned n, uint64_t address)
{
    for (unsigned i = 0; i < n; i++)
        if (address < list[i].address + list[i].len && address + CODE_MAX > list[i].address)
            return true;
    return false;
}

/* A fault of the class at this place, if it can have one. */
static bool try_at(const struct target *t, const struct symbols *s, struct code *code,
                   enum crash_class class, uint64_t address, struct random *r, struct fault *f)
{
    uint8_t bytes[CODE_MAX + BEHIND];
    const struct function *in = symbols_find(s, address);

    if (in == NULL)
        return false;
    size_t avail = in->start + in->size - address;
    if (avail > sizeof bytes)
        avail = sizeof bytes;
    if (target_read(t, address, bytes, avail) < 0)
        return false;
    const unsigned len = code_decode(code, bytes, avail, address, NULL);
    if (len == 0)
        return false;
    const struct code_place place = {.address = address,
                                     .in_function = address - in->start,
                                     .behind = bytes + len,
                                     .behind_len = avail - len};
    const enum crash_class c = crash_class_draw(class, r);
    *f = (struct fault){
        .class = c, .address = address, .offset = address - s->base, .len = len, .point.fd = -1};
    memcpy(f->before, bytes, len);
    return mutate(code, c, bytes, len, &place, r, f->after);
}

int fault_choose(const struct target *t, const struct symbols *s, const struct fault_plan *plan,
                 struct random *r, struct fault *list)
{
    struct code *code = code_open();
    unsigned n = 0;

    if (code == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < TRIES && n < plan->count; i++) {
        uint64_t address = plan->at;
        if (address == 0 && plan->trace == NULL)
            address = any_instruction(t, s, code, r);
        else if (address == 0 && plan->trace->n > 0)
            address = plan->trace->address[random_below(r, plan->trace->n)];
        if (address == 0 || is_chosen(list, n, address) ||
            !try_at(t, s, code, plan->class, address, r, &list[n]))
            continue;
        n++;
    }
    for (unsigned i = 0; i < n; i++)
        fault_describe(code, s, &list[i]);
    code_close(code);
    return (int)n;
}

void fault_describe(struct code *code, const struct symbols *s, struct fault *f)
{
    const struct function *in = symbols_find(s, f->address);

    if (in != NULL && in->name[0] != '\0')
        snprintf(f->symbol, sizeof f->symbol, "%s+0x%llx", in->name,
                 (unsigned long long)(f->address - in->start));
    if (code_decode(code, f->before, f->len, f->address, f->before_text) == 0)
        snprintf(f->before_text, sizeof f->before_text, "?");
    if (code_decode(code, f->after, f->len, f->address, f->after_text) == 0)
        snprintf(f->after_text, sizeof f->after_text, "?");
}
