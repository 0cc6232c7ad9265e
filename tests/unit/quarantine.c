/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who is suspected, who is condemned, what is kept.
 */
/* link: eft_run eft_harness */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libchan/quarantine.h"
#include "tests/harness/memory.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND 1000000000ull
#define NOW    (5000 * SECOND)

static struct server_block block, *b = &block;
static uint64_t life; /* of whoever dies next; ns */

static int fresh(void **state)
{
    (void)state;
    memset(b, 0, sizeof *b);
    life = 0;
    return 0;
}

static void die(uint64_t item, enum rs_end end, uint64_t at)
{
    b->epoch++;
    item_begin(b, item);
    quarantine_blame(b, end, life, at);
}

static void third_fault_condemns(void **state)
{
    const uint64_t item = item_slot(3, 17);

    (void)state;
    die(item, END_FAULT, NOW);
    assert_false(item_condemned(b, item));
    die(item, END_HANG, NOW + SECOND);
    assert_false(item_condemned(b, item));
    assert_int_equal(b->condemned, 0);
    die(item, END_FAULT, NOW + 2 * SECOND);
    assert_true(item_condemned(b, item));
    assert_int_equal(item_times(b, item), 3);
    assert_false(item_condemned(b, item_slot(3, 18)));
    assert_false(item_condemned(b, item_slot(4, 17)));
}

static void kills_say_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        die(item_slot(1, 1), END_KILLED, NOW);
        die(item_slot(1, 1), END_NONE, NOW);
    }
    assert_int_equal(item_times(b, item_slot(1, 1)), 0);
    /* and one in between does not make the count begin anew */
    die(item_slot(1, 1), END_FAULT, NOW);
    die(item_slot(1, 1), END_KILLED, NOW);
    die(item_slot(1, 1), END_FAULT, NOW);
    die(item_slot(1, 1), END_FAULT, NOW);
    assert_true(item_condemned(b, item_slot(1, 1)));
}

static void fault_without_item_blames_nobody(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        die(0, END_FAULT, NOW);
    assert_int_equal(b->condemned, 0);
    assert_int_equal(quarantine_count(b, 0), 0);
}

static void one_death_is_blamed_once(void **state)
{
    (void)state;
    die(item_slot(1, 1), END_FAULT, NOW);
    quarantine_blame(b, END_FAULT, 0, NOW); /* a successor that died before it began to work */
    quarantine_blame(b, END_FAULT, 0, NOW);
    assert_int_equal(quarantine_count(b, item_slot(1, 1)), 1);
}

static void items_that_fault_in_turn_are_all_caught(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < SERVER_SUSPECTS; i++)
            die(item_slot(1, i), END_FAULT, NOW + round * SECOND + i * 1000000ull);
    for (unsigned i = 0; i < SERVER_SUSPECTS; i++)
        assert_true(item_condemned(b, item_slot(1, i)));
    /* one more takes the place of the one that was blamed longest ago */
    die(item_slot(1, 0), END_FAULT, NOW + 10 * SECOND);
    die(item_slot(2, 0), END_FAULT, NOW + 11 * SECOND);
    assert_true(item_condemned(b, item_slot(1, 0)));
    assert_false(item_condemned(b, item_slot(1, 1)));
}

static void who_lives_on_is_trusted_again(void **state)
{
    const uint64_t record = item_numbered(ITEM_RECORD, 5, 77), slot = item_slot(3, 9);

    (void)state;
    life = QUARANTINE_TRUST_MS * 1000000ull + 1;
    for (unsigned i = 0; i < 10; i++)
        die(record, END_FAULT, NOW + i * SECOND);
    assert_int_equal(quarantine_count(b, record), 1);
    life--; /* however long nobody tried */
    die(record, END_FAULT, NOW + 100 * SECOND);
    die(record, END_FAULT, NOW + 200 * SECOND);
    assert_true(item_condemned(b, record));
    /* What is there once is suspected for as long as it is there. */
    life = 3600 * SECOND;
    for (unsigned i = 0; i < 3; i++)
        die(slot, END_FAULT, NOW + i * 3600 * SECOND);
    assert_true(item_condemned(b, slot));
}

static void copies(void **state)
{
    static struct region_map map;
    struct stack_config cfg;
    uint8_t data[QUARANTINE_BYTES + 100];
    const struct item_part part[] = {{"head", 4}, {data, sizeof data}, {NULL, 7}};

    (void)state;
    memory_config(&cfg);
    memory_create(&map, &cfg);
    memset(data, 0x5a, sizeof data);
    for (unsigned kind = SERVER_DRIVER; kind < SERVER_KINDS; kind++) {
        const struct region *r = &map.entry[REGION_OF_SERVER(SERVER_ID(kind, 0))];
        const struct quarantine *q = wiring_table(r, TABLE_QUARANTINE, NULL);

        assert_non_null(q);
        for (unsigned i = 0; i < QUARANTINE_COPIES + 2; i++) {
            quarantine_keep(r, item_slot(1, i), NOW, part, 3);
            quarantine_keep(r, item_slot(1, i), NOW, part, 3); /* by a successor */
        }
        assert_int_equal(q->taken, QUARANTINE_COPIES + 2);
        assert_int_equal(wiring_block(r)->dropped, QUARANTINE_COPIES + 2);
        const struct quarantine_copy *c = &q->copy[1];
        assert_int_equal(c->item, item_slot(1, QUARANTINE_COPIES + 1));
        assert_int_equal(c->bytes, QUARANTINE_BYTES);
        assert_int_equal(c->length, 4 + sizeof data + 7);
        assert_memory_equal(c->data, "headZZ", 6);
        assert_int_equal(c->data[QUARANTINE_BYTES - 1], 0x5a);
    }
    memory_destroy(&map);
}

static void names(void **state)
{
    static const struct {
        uint64_t item;
        const char *text;
    } cases[] = {
        {0, "nothing"},
        {ITEM_NAME(2, 82), "slot 81 of input 2"},
        {ITEM_NAME(ITEM_REQUEST, 3ull << 46 | 12ull << 32 | 7),
         "request 7 of application 3, slot 12"},
        {ITEM_NAME(ITEM_RECORD, 9ull << 32 | 0xab), "record 9 (use 000000ab)"},
        {ITEM_NAME(ITEM_CONTROL, 0x800010ull << 32 | 5), "control message 5 of process 16"},
    };
    char text[80];

    (void)state;
    assert_int_equal(cases[1].item, item_slot(2, 81));
    assert_int_equal(cases[2].item, item_request(3, 12, 7));
    assert_int_equal(cases[3].item, item_numbered(ITEM_RECORD, 9, 0xab));
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        item_print(cases[i].item, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(third_fault_condemns, fresh),
        cmocka_unit_test_setup(kills_say_nothing, fresh),
        cmocka_unit_test_setup(fault_without_item_blames_nobody, fresh),
        cmocka_unit_test_setup(one_death_is_blamed_once, fresh),
        cmocka_unit_test_setup(items_that_fault_in_turn_are_all_caught, fresh),
        cmocka_unit_test_setup(who_lives_on_is_trusted_again, fresh),
        cmocka_unit_test(copies),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
