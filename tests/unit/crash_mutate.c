/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Mistakes in instructions: what goes in, what may come out, and what cannot have such a mistake.
 */
/* link: eft_crash */
#include "recovery/crash/mutate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 400, OUTCOMES = 64 };
#define HERE 0x401000ull

struct row {
    enum crash_class class;
    const char *bytes;
    unsigned len;
    const char *before;
    const char *starts, *ends; /* of what comes out; NULL: nothing may */
    unsigned outcomes;         /* how many different ones there are, at least */
    /* where it is */
    uint64_t in_function;
    const char *behind;
    unsigned behind_len;
};
#define ROW(c, code, text, ...)                                                                    \
    {                                                                                              \
        .class = CRASH_##c, .bytes = (code), .len = sizeof(code) - 1, .before = (text),            \
        __VA_ARGS__                                                                                \
    }
/* what comes out begins and ends so */
#define BECOMES(c, code, text, begin, end, ...)                                                    \
    ROW(c, code, text, .starts = (begin), .ends = (end), __VA_ARGS__)
/* cannot have this mistake */
#define NEVER(c, code, text, ...) ROW(c, code, text, __VA_ARGS__)

static const struct row rows[] = {
    NEVER(NOP, "\x90", "nop ", .starts = NULL),
    BECOMES(NOP, "\xc3", "ret ", "nop ", "", .outcomes = 1),
    BECOMES(NOP, "\x48\x89\xd8", "mov rax, rbx", "nop ", "", .outcomes = 1),
    BECOMES(NOP, "\xe8\x00\x00\x00\x00", "call 0x401005", "nop ", "", .outcomes = 1),
    /* 11 bytes: more than the longest nop without extra prefixes */
    BECOMES(NOP, "\x66\x43\xc7\x84\x8c\x78\x56\x34\x12\x01\x00",
            "mov word ptr [r12 + r9*4 + 0x12345678], 1", "nop ", "", .outcomes = 1),

    BECOMES(SOURCE, "\x48\x89\xd8", "mov rax, rbx", "mov rax, r", "", .outcomes = 7),
    BECOMES(SOURCE, "\x48\x01\xd8", "add rax, rbx", "add rax, r", "", .outcomes = 7),
    BECOMES(SOURCE, "\x89\x47\x10", "mov dword ptr [rdi + 0x10], eax",
            "mov dword ptr [rdi + 0x10], e", "", .outcomes = 7),
    BECOMES(SOURCE, "\x39\xd8", "cmp eax, ebx", "cmp e", "", .outcomes = 14),
    BECOMES(SOURCE, "\x53", "push rbx", "push r", "", .outcomes = 7),
    NEVER(SOURCE, "\x8b\x47\x10", "mov eax, dword ptr [rdi + 0x10]", .starts = NULL),
    NEVER(SOURCE, "\xb8\x01\x00\x00\x00", "mov eax, 1", .starts = NULL),

    BECOMES(DESTINATION, "\x48\x89\xd8", "mov rax, rbx", "mov r", ", rbx", .outcomes = 7),
    BECOMES(DESTINATION, "\x48\x01\xd8", "add rax, rbx", "add r", ", rbx", .outcomes = 7),
    BECOMES(DESTINATION, "\x8b\x47\x10", "mov eax, dword ptr [rdi + 0x10]", "mov e",
            ", dword ptr [rdi + 0x10]", .outcomes = 7),
    BECOMES(DESTINATION, "\xb8\x01\x00\x00\x00", "mov eax, 1", "mov e", ", 1", .outcomes = 7),
    BECOMES(DESTINATION, "\x5b", "pop rbx", "pop r", "", .outcomes = 7),
    NEVER(DESTINATION, "\x39\xd8", "cmp eax, ebx", .starts = NULL),
    NEVER(DESTINATION, "\x53", "push rbx", .starts = NULL),

    BECOMES(POINTER, "\x48\x8b\x43\x10", "mov rax, qword ptr [rbx + 0x10]", "mov rax, qword ptr [r",
            "]", .outcomes = 12),
    BECOMES(POINTER, "\x48\x8b\x44\x8b\x10", "mov rax, qword ptr [rbx + rcx*4 + 0x10]",
            "mov rax, qword ptr [r", "]", .outcomes = 19),
    BECOMES(POINTER, "\x48\x8d\x7d\xc0", "lea rdi, [rbp - 0x40]", "lea rdi, [r", "]",
            .outcomes = 10),
    BECOMES(POINTER, "\x8b\x05\x10\x00\x00\x00", "mov eax, dword ptr [rip + 0x10]",
            "mov eax, dword ptr [rip ", "]", .outcomes = 6),
    NEVER(POINTER, "\x48\x89\xd8", "mov rax, rbx", .starts = NULL),
    NEVER(POINTER, "\x0f\x1f\x40\x00", "nop dword ptr [rax]", .starts = NULL),

    BECOMES(BRANCH, "\x74\x05", "je 0x401007", "nop ", "", .outcomes = 1),
    BECOMES(BRANCH, "\x0f\x8f\x00\x01\x00\x00", "jg 0x401106", "nop ", "", .outcomes = 1),
    BECOMES(BRANCH, "\xeb\x10", "jmp 0x401012", "nop ", "", .outcomes = 1),
    NEVER(BRANCH, "\xe8\x00\x00\x00\x00", "call 0x401005", .starts = NULL),
    NEVER(BRANCH, "\xc3", "ret ", .starts = NULL),

    BECOMES(CONDITION, "\x74\x05", "je 0x401007", "jne 0x401007", "", .outcomes = 1),
    BECOMES(CONDITION, "\x7c\x05", "jl 0x401007", "jge 0x401007", "", .outcomes = 1),
    BECOMES(CONDITION, "\x0f\x86\x00\x01\x00\x00", "jbe 0x401106", "ja 0x401106", "",
            .outcomes = 1),
    BECOMES(CONDITION, "\x0f\x94\xc0", "sete al", "setne al", "", .outcomes = 1),
    BECOMES(CONDITION, "\x48\x0f\x44\xc3", "cmove rax, rbx", "cmovne rax, rbx", "", .outcomes = 1),
    NEVER(CONDITION, "\xeb\x05", "jmp 0x401007", .starts = NULL),
    NEVER(CONDITION, "\x48\x89\xd8", "mov rax, rbx", .starts = NULL),
    NEVER(CONDITION, "\x0f\xb6\xc0", "movzx eax, al", .starts = NULL),

    BECOMES(OFF_BY_ONE, "\x7c\x05", "jl 0x401007", "jle 0x401007", "", .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x7e\x05", "jle 0x401007", "jl 0x401007", "", .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x7f\x05", "jg 0x401007", "jge 0x401007", "", .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x7d\x05", "jge 0x401007", "jg 0x401007", "", .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x72\x05", "jb 0x401007", "jbe 0x401007", "", .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x76\x05", "jbe 0x401007", "jb 0x401007", "", .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x77\x05", "ja 0x401007", "jae 0x401007", "", .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x0f\x83\x00\x01\x00\x00", "jae 0x401106", "ja 0x401106", "",
            .outcomes = 1),
    BECOMES(OFF_BY_ONE, "\x0f\x9c\xc0", "setl al", "setle al", "", .outcomes = 1),
    NEVER(OFF_BY_ONE, "\x74\x05", "je 0x401007", .starts = NULL),

    BECOMES(IMMEDIATE, "\x83\xc0\x05", "add eax, 5", "add eax, ", "", .outcomes = 2),
    BECOMES(IMMEDIATE, "\x48\xc7\x45\xf8\x0a\x00\x00\x00", "mov qword ptr [rbp - 8], 0xa",
            "mov qword ptr [rbp - 8], ", "", .outcomes = 2),
    BECOMES(IMMEDIATE, "\xc1\xe2\x03", "shl edx, 3", "shl edx, ", "", .outcomes = 2),
    /* one more would be 128 less */
    BECOMES(IMMEDIATE, "\x83\xf8\x7f", "cmp eax, 0x7f", "cmp eax, 0x7e", "", .outcomes = 1),
    NEVER(IMMEDIATE, "\x74\x05", "je 0x401007", .starts = NULL),
    NEVER(IMMEDIATE, "\xe8\x00\x00\x00\x00", "call 0x401005", .starts = NULL),
    NEVER(IMMEDIATE, "\x48\x89\xd8", "mov rax, rbx", .starts = NULL),

    BECOMES(INIT, "\x48\x89\x45\xf8", "mov qword ptr [rbp - 8], rax", "nop ", "", .outcomes = 1,
            .in_function = 20),
    BECOMES(INIT, "\xc7\x44\x24\x08\x00\x00\x00\x00", "mov dword ptr [rsp + 8], 0", "nop ", "",
            .outcomes = 1),
    NEVER(INIT, "\x48\x89\x45\xf8", "mov qword ptr [rbp - 8], rax", .in_function = EARLY_BYTES),
    NEVER(INIT, "\x48\x89\x47\x08", "mov qword ptr [rdi + 8], rax", .starts = NULL),
    NEVER(INIT, "\x48\x8b\x45\xf8", "mov rax, qword ptr [rbp - 8]", .starts = NULL),

    BECOMES(ARGUMENT, "\x48\x89\xdf", "mov rdi, rbx", "nop ", "", .outcomes = 1,
            .behind = "\x31\xf6\xe8\x00\x00\x00\x00", .behind_len = 7), /* xor esi, esi; call */
    BECOMES(ARGUMENT, "\x48\x8d\x75\xc0", "lea rsi, [rbp - 0x40]", "nop ", "", .outcomes = 1,
            .behind = "\xff\xd0", .behind_len = 2), /* call rax */
    NEVER(ARGUMENT, "\x48\x89\xdf", "mov rdi, rbx", .behind = "\x31\xff\xe8\x00\x00\x00\x00",
          .behind_len = 7),
    NEVER(ARGUMENT, "\x48\x89\xdf", "mov rdi, rbx", .behind = "\xc3\xe8\x00\x00\x00\x00",
          .behind_len = 6),
    NEVER(ARGUMENT, "\x48\x89\xd8", "mov rax, rbx", .behind = "\xe8\x00\x00\x00\x00",
          .behind_len = 5),
    NEVER(ARGUMENT, "\x48\x89\xdf", "mov rdi, rbx", .starts = NULL),
};

static bool fits(const struct row *row, const char *text)
{
    const size_t n = strlen(text), end = strlen(row->ends);

    return strncmp(text, row->starts, strlen(row->starts)) == 0 && n >= end &&
           strcmp(text + n - end, row->ends) == 0 && strcmp(text, row->before) != 0;
}

static void check(struct code *code, const struct row *row)
{
    const uint8_t *bytes = (const uint8_t *)row->bytes;
    const struct code_place place = {.address = HERE,
                                     .in_function = row->in_function,
                                     .behind = (const uint8_t *)row->behind,
                                     .behind_len = row->behind_len};
    char text[CODE_TEXT], seen[OUTCOMES][CODE_TEXT];
    unsigned outcomes = 0;

    assert_int_equal(code_decode(code, bytes, row->len, HERE, text), row->len);
    assert_string_equal(text, row->before);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random r = {.state = seed};
        uint8_t after[CODE_MAX];
        unsigned k = 0;
        const bool done = mutate(code, row->class, bytes, row->len, &place, &r, after);
        assert_int_equal(done, row->starts != NULL);
        if (!done)
            return;
        assert_int_equal(code_decode(code, after, row->len, HERE, text), row->len);
        if (!fits(row, text))
            fail_msg("%s: \"%s\" became \"%s\"", crash_kind(row->class)->name, row->before, text);
        while (k < outcomes && strcmp(seen[k], text) != 0)
            k++;
        if (k == outcomes && outcomes < OUTCOMES)
            memcpy(seen[outcomes++], text, sizeof text);
    }
    if (outcomes < row->outcomes)
        fail_msg("%s of \"%s\": %u outcomes, expected %u", crash_kind(row->class)->name,
                 row->before, outcomes, row->outcomes);
}

static void mutate_each_class(void **state)
{
    struct code *code = code_open();

    (void)state;
    assert_non_null(code);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(code, &rows[i]);
    code_close(code);
}

static void mutate_flip_one_bit(void **state)
{
    static const uint8_t bytes[] = {0x48, 0x8b, 0x44, 0x8b, 0x10};
    const struct code_place place = {.address = HERE};
    struct code *code = code_open();
    bool seen[8 * sizeof bytes] = {false};

    (void)state;
    assert_non_null(code);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random r = {.state = seed};
        uint8_t after[CODE_MAX];
        unsigned changed = 0;
        assert_true(mutate(code, CRASH_FLIP, bytes, sizeof bytes, &place, &r, after));
        for (unsigned bit = 0; bit < 8 * sizeof bytes; bit++) {
            bool differs = ((bytes[bit / 8] ^ after[bit / 8]) >> (bit % 8) & 1) != 0;
            changed += differs;
            seen[bit] |= differs;
        }
        assert_int_equal(changed, 1);
    }
    for (unsigned bit = 0; bit < 8 * sizeof bytes; bit++)
        assert_true(seen[bit]);
    code_close(code);
}

/* A nop of every length is one instruction. */
static void mutate_nop_every_length(void **state)
{
    uint8_t bytes[CODE_MAX];
    const struct code_place place = {.address = HERE};
    struct code *code = code_open();
    struct random r = {0};

    (void)state;
    assert_non_null(code);
    for (unsigned len = 1; len <= CODE_MAX; len++) {
        uint8_t after[CODE_MAX];
        char text[CODE_TEXT];
        memset(bytes, 0x2e, sizeof bytes); /* a segment prefix, without effect */
        bytes[len - 1] = 0xc3;
        assert_int_equal(code_decode(code, bytes, len, HERE, NULL), len);
        assert_true(mutate(code, CRASH_NOP, bytes, len, &place, &r, after));
        assert_int_equal(code_decode(code, after, len, HERE, text), len);
        assert_memory_equal(text, "nop", 3);
    }
    code_close(code);
}

static void same_seed_same_fault(void **state)
{
    static const uint8_t bytes[] = {0x48, 0x8b, 0x44, 0x8b, 0x10};
    const struct code_place place = {.address = HERE};
    struct code *code = code_open();
    uint8_t a[CODE_MAX], b[CODE_MAX];

    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct random r = {.state = seed}, s = r;
        assert_true(mutate(code, CRASH_POINTER, bytes, sizeof bytes, &place, &r, a));
        assert_true(mutate(code, CRASH_POINTER, bytes, sizeof bytes, &place, &s, b));
        assert_memory_equal(a, b, sizeof bytes);
    }
    code_close(code);
}

static void class_by_name(void **state)
{
    enum crash_class c;

    (void)state;
    for (unsigned i = 0; i < CRASH_CLASSES; i++) {
        assert_int_equal(crash_class_parse(crash_kind((enum crash_class)i)->name, &c), 0);
        assert_int_equal(c, i);
    }
    assert_true(crash_class_parse("nothing", &c) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutate_each_class),       cmocka_unit_test(mutate_flip_one_bit),
        cmocka_unit_test(mutate_nop_every_length), cmocka_unit_test(same_seed_same_fault),
        cmocka_unit_test(class_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
