/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Records in two slots: the writer dies before every store, words are damaged, tables are
 * mistaken.
 */
/* link: eft_store_cp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recovery/store/store.h"

#include "libchan/atomic.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

enum { COUNT = 5, LAYOUT = 3 };
struct payload {
    uint32_t number, copy;
    uint8_t fill[100];
};

static jmp_buf dead;
static long countdown; /* stores until death; 0: immortal */

void shm_crashpoint(const char *file, int line)
{
    (void)file, (void)line;
    if (countdown != 0 && --countdown == 0)
        longjmp(dead, 1);
}

static uint8_t *memory;
static size_t size;
static struct store s;

static int begin(void **state)
{
    (void)state;
    size = store_size(COUNT, sizeof(struct payload));
    memory = aligned_alloc(64, size);
    memset(memory, 0, size);
    countdown = 0;
    store_format(&s, memory, "test", LAYOUT, COUNT, sizeof(struct payload));
    return 0;
}

static int end(void **state)
{
    (void)state;
    free(memory);
    return 0;
}

static struct payload made(uint32_t number)
{
    struct payload p = {.number = number, .copy = ~number};

    memset(p.fill, (int)number, sizeof p.fill);
    return p;
}

/* The number in a record; 0: none; -1: damaged. Anything mixed fails. */
static int read_number(uint32_t index)
{
    struct payload p, expected;

    switch (store_read(&s, index, &p)) {
    case STORE_EMPTY:
        return 0;
    case STORE_DAMAGED:
        return -1;
    case STORE_VALID:
        break;
    }
    expected = made(p.number);
    assert_memory_equal(&p, &expected, sizeof p);
    return (int)p.number;
}

static void write_number(uint32_t index, uint32_t number)
{
    struct payload p = made(number);

    store_write(&s, index, &p);
}

static void written_read_erased(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(read_number(i), 0);
    store_erase(&s, 0); /* what is not there */
    assert_int_equal(store_version(&s, 0), 0);
    for (uint32_t n = 1; n < 10; n++)
        for (uint32_t i = 0; i < COUNT; i++)
            write_number(i, n * 10 + i);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(read_number(i), (int)(90 + i));
        assert_int_equal(store_version(&s, i), 9);
    }
    store_erase(&s, 3);
    assert_int_equal(read_number(3), 0);
    assert_int_equal(read_number(2), 92);
    assert_int_equal(read_number(4), 94);
    write_number(3, 7);
    assert_int_equal(read_number(3), 7);
    assert_int_equal(store_version(&s, 3), 11);
}

enum what { WRITE, ERASE, FORMAT };

/* Does it until store `at`; whether it came to its end. */
static bool survives(enum what what, long at)
{
    countdown = at;
    if (setjmp(dead) == 0) {
        if (what == WRITE)
            write_number(1, 43);
        else if (what == ERASE)
            store_erase(&s, 1);
        else
            store_format(&s, memory, "test", LAYOUT, COUNT, sizeof(struct payload));
    }
    const bool survived = countdown > 0;
    countdown = 0;
    return survived;
}

/* What the next incarnation finds is the old one or the new one, whole, and goes on from there. */
static void killed_before_every_store(void **state)
{
    (void)state;
    long points = 0;

    for (int erase = 0; erase < 2; erase++) {
        for (long at = 1;; at++) {
            memset(memory, 0, size);
            store_format(&s, memory, "test", LAYOUT, COUNT, sizeof(struct payload));
            write_number(1, 41);
            write_number(1, 42);
            const bool survived = survives(erase ? ERASE : WRITE, at);
            assert_int_equal(
                store_attach(&s, memory, size, "test", LAYOUT, COUNT, sizeof(struct payload)), 0);
            assert_int_equal(read_number(1), survived ? (erase ? 0 : 43) : 42);
            write_number(1, 44);
            assert_int_equal(read_number(1), 44);
            assert_int_equal(read_number(0), 0);
            assert_int_equal(read_number(2), 0);
            if (survived)
                break;
            points++;
        }
    }
    assert_int_equal(points, 2 * 3);
}

/* Half a table is none. */
static void killed_while_it_is_made(void **state)
{
    (void)state;
    for (long at = 1;; at++) {
        memset(memory, 0, size);
        const bool survived = survives(FORMAT, at);
        assert_int_equal(
            store_attach(&s, memory, size, "test", LAYOUT, COUNT, sizeof(struct payload)),
            survived ? 0 : -EPROTO);
        if (survived)
            break;
    }
}

/* Any byte of a record that is changed is seen, or does not count; the writer goes on; the record
 * beside it is not concerned. */
static void damaged_bytes_are_seen(void **state)
{
    (void)state;
    const size_t record = (size - sizeof(struct store_header)) / COUNT;
    uint8_t *whole = malloc(size);
    unsigned seen = 0;

    for (unsigned n = 1; n < 4; n++)
        write_number(1, 40 + n), write_number(2, 60 + n);
    memcpy(whole, memory, size);
    for (size_t i = 0; i < record; i++) {
        memory[sizeof(struct store_header) + record + i] ^= 0x10;
        const int found = read_number(1);
        assert_true(found == 43 || found == -1);
        seen += found == -1;
        assert_int_equal(read_number(2), 63);
        write_number(1, 50);
        assert_int_equal(read_number(1), 50);
        memcpy(memory, whole, size);
    }
    /* the word that says which copy counts, and that copy */
    assert_int_equal(seen, sizeof(uint64_t) + 20 + sizeof(struct payload));
    free(whole);
}

static void damaged_record_stays_for_inspection(void **state)
{
    struct store_slot head;
    struct payload p;

    (void)state;
    write_number(4, 1);
    write_number(4, 2);
    uint8_t *at =
        memory + sizeof(struct store_header) + 4 * ((size - sizeof(struct store_header)) / COUNT);
    at[64 + 24 + 9] ^= 1; /* the payload in slot 0, which is version 2 */
    assert_int_equal(read_number(4), -1);
    assert_int_equal(store_copy(&s, 4, 0, &head, &p), STORE_DAMAGED);
    assert_int_equal(head.version, 2);
    assert_int_equal(p.number, 2);
    assert_int_equal(store_copy(&s, 4, 1, &head, &p), STORE_VALID);
    assert_int_equal(p.number, 1);
    assert_int_equal(store_copy(&s, 3, 0, &head, &p), STORE_EMPTY);
}

static void others_tables_are_refused(void **state)
{
    const uint32_t length = sizeof(struct payload);
    struct store_header h;
    struct store other;

    (void)state;
    assert_int_equal(store_attach(&other, memory, size, "tes", LAYOUT, COUNT, length), -EPROTO);
    assert_int_equal(store_attach(&other, memory, size, "test", LAYOUT + 1, COUNT, length),
                     -EPROTO);
    assert_int_equal(store_attach(&other, memory, size, "test", LAYOUT, COUNT - 1, length),
                     -EPROTO);
    assert_int_equal(store_attach(&other, memory, size, "test", LAYOUT, COUNT, length - 1),
                     -EPROTO);
    assert_int_equal(store_attach(&other, memory, size - 1, "test", LAYOUT, COUNT, length),
                     -EPROTO);
    assert_int_equal(store_inspect(&other, memory, size, &h), 0);
    assert_string_equal(h.name, "test");
    assert_int_equal(h.count, COUNT);
    assert_int_equal(h.length, length);
    assert_int_equal(store_inspect(&other, memory, size - 1, &h), -EPROTO);
    for (size_t i = 0; i < offsetof(struct store_header, reserved); i++) {
        memory[i] ^= 0x80;
        assert_int_equal(store_inspect(&other, memory, size, &h), -EPROTO);
        assert_int_equal(store_attach(&other, memory, size, "test", LAYOUT, COUNT, length),
                         -EPROTO);
        memory[i] ^= 0x80;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_read_erased, begin, end),
        cmocka_unit_test_setup_teardown(killed_before_every_store, begin, end),
        cmocka_unit_test_setup_teardown(killed_while_it_is_made, begin, end),
        cmocka_unit_test_setup_teardown(damaged_bytes_are_seen, begin, end),
        cmocka_unit_test_setup_teardown(damaged_record_stays_for_inspection, begin, end),
        cmocka_unit_test_setup_teardown(others_tables_are_refused, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
