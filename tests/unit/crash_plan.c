/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Campaigns: the order of the runs, going on where one stopped, and what is counted.
 */
/* link: eft_crash */
#include "recovery/crash/plan.h"
#include "recovery/crash/summary.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RUNS = 40 };

static struct plan plan_of(uint64_t seed)
{
    struct plan p = {.seed = seed, .runs = RUNS};
    const char *word;

    assert_int_equal(plan_classes(&p, "kill,nop,tail", &word), 0);
    assert_int_equal(plan_servers(&p, "tcp0,ip0"), 0);
    return p;
}

static void lists_are_read(void **state)
{
    struct plan p = {0};
    const char *word;

    (void)state;
    assert_int_equal(plan_classes(&p, "kill,nothing,nop", &word), -EINVAL);
    assert_string_equal(word, "nothing,nop");
    p = (struct plan){0};
    assert_int_equal(plan_classes(&p, "", &word), -EINVAL);
    assert_int_equal(plan_servers(&p, "tcp0,,ip0"), -EINVAL);
    p = plan_of(1);
    assert_int_equal(p.classes, 3);
    assert_int_equal(p.class[2], CRASH_TAIL);
    assert_int_equal(p.servers, 2);
    assert_string_equal(p.server[1], "ip0");
}

/* Each class comes to each server once in a round; the order is another one in the next. */
static void rounds_are_whole(void **state)
{
    const struct plan p = plan_of(7);
    bool differ = false;

    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        bool seen[CRASH_CLASSES][2] = {{false}};
        for (unsigned i = 0; i < 6; i++) {
            struct plan_step s = plan_step(&p, round * 6 + i), t = plan_step(&p, i);
            bool *cell = &seen[s.class][strcmp(s.server, "ip0") == 0];
            assert_false(*cell);
            *cell = true;
            differ |= s.class != t.class || s.server != t.server;
            assert_true(round == 0 || s.seed != t.seed);
        }
    }
    assert_true(differ);
}

static void seeds_decide(void **state)
{
    const struct plan a = plan_of(7), b = plan_of(8);
    unsigned same = 0;

    (void)state;
    for (unsigned run = 0; run < RUNS; run++) {
        struct plan_step s = plan_step(&a, run), t = plan_step(&a, run), u = plan_step(&b, run);
        assert_int_equal(s.seed, t.seed);
        assert_int_equal(s.class, t.class);
        assert_ptr_equal(s.server, t.server);
        same += s.seed == u.seed;
    }
    assert_int_equal(same, 0);
}

static FILE *file_of(const struct plan *p, const char *more)
{
    FILE *f = tmpfile();
    struct json_object *first = plan_json(p);

    assert_non_null(f);
    fprintf(f, "%s\n%s", json_object_to_json_string_ext(first, JSON_C_TO_STRING_PLAIN), more);
    json_object_put(first);
    rewind(f);
    return f;
}

static void count_line(void *arg, struct json_object *line)
{
    (void)line;
    ++*(unsigned *)arg;
}

static void made_runs_are_not_made_again(void **state)
{
    const struct plan p = plan_of(7), other = plan_of(8);
    bool done[RUNS] = {false};
    unsigned lines = 0;
    long end;

    (void)state;
    /* the writer of the last line died in it; run 77 is of a longer campaign */
    FILE *f = file_of(&p, "{\"run\":0}\n{\"run\":3}\n{\"run\":77}\n{\"run\":5");
    assert_int_equal(plan_resume(&p, f, done, &end, count_line, &lines), 0);
    for (unsigned run = 0; run < RUNS; run++)
        assert_int_equal(done[run], run == 0 || run == 3);
    assert_int_equal(lines, 2);
    fseek(f, end, SEEK_SET);
    assert_int_equal(fgetc(f), '{');
    fseek(f, end, SEEK_SET);
    char rest[16] = "";
    assert_non_null(fgets(rest, sizeof rest, f));
    assert_string_equal(rest, "{\"run\":5");
    rewind(f);
    assert_int_equal(plan_resume(&other, f, done, &end, NULL, NULL), -EEXIST);
    fclose(f);
}

static void a_file_that_is_new_or_something_else(void **state)
{
    const struct plan p = plan_of(7);
    bool done[RUNS] = {false};
    FILE *f = tmpfile();
    long end = -1;

    (void)state;
    assert_int_equal(plan_resume(&p, f, done, &end, NULL, NULL), 0);
    assert_int_equal(end, 0);
    fputs("something else\n", f);
    rewind(f);
    assert_int_equal(plan_resume(&p, f, done, &end, NULL, NULL), -EPROTO);
    fclose(f);
}

static void add(struct summary *s, const char *text)
{
    struct json_object *line = json_tokener_parse(text);

    assert_non_null(line);
    summary_add(s, line);
    json_object_put(line);
}

static void what_is_counted(void **state)
{
    struct summary *s = calloc(1, sizeof *s);

    (void)state;
    assert_non_null(s);
#define LINE(c, more) "{\"class\":\"" c "\",\"server\":\"tcp0\"," more "}"
    add(s,
        LINE("nop", "\"injected\":true,\"activated\":true,\"manifested\":true,\"recovered\":true"));
    add(s, LINE("nop",
                "\"injected\":true,\"activated\":false,\"manifested\":false,\"recovered\":true"));
    add(s, LINE("nop",
                "\"injected\":true,\"activated\":null,\"manifested\":true,\"recovered\":false"));
    add(s, LINE("nop", "\"injected\":false,\"activated\":false,\"manifested\":false"));
    add(s,
        LINE("kill", "\"injected\":true,\"activated\":true,\"manifested\":true,\"recovered\":true,"
                     "\"judge\":{\"status\":1,\"outcome\":\"lost\"}"));
    assert_int_equal(s->rows, 2);
    const struct tally *t = &s->row[0];
    assert_string_equal(t->class, "nop");
    assert_int_equal(t->runs, 4);
    assert_int_equal(t->injected, 3);
    assert_int_equal(t->activated, 1);
    assert_int_equal(t->unknown, 1);
    assert_int_equal(t->manifested, 2);
    assert_int_equal(t->back, 1);
    assert_int_equal(t->failed, 1);        /* who is not back; nobody judged */
    assert_int_equal(s->row[1].failed, 1); /* the judge said so */
    assert_int_equal(s->all.runs, 5);
    assert_int_equal(s->all.failed, 2);
    free(s);
}

static void bounds(void **state)
{
    static const struct {
        unsigned k, n;
        double percent;
    } known[] = {
        {0, 1000, 0.2991}, {0, 100, 2.951}, {0, 1, 95.0}, {1, 100, 4.656},
        {5, 100, 10.225},  {3, 3, 100},     {0, 0, 100},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        if (fabs(summary_bound(known[i].k, known[i].n) - known[i].percent) > 0.005)
            fail_msg("%u of %u: %f, expected %f", known[i].k, known[i].n,
                     summary_bound(known[i].k, known[i].n), known[i].percent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(rounds_are_whole),
        cmocka_unit_test(seeds_decide),
        cmocka_unit_test(made_runs_are_not_made_again),
        cmocka_unit_test(a_file_that_is_new_or_something_else),
        cmocka_unit_test(what_is_counted),
        cmocka_unit_test(bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
