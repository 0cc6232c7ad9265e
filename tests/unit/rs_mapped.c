/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who still maps a region (recovery/rs/mapped.h), with ourselves as the process looked at.
 */
/* link: eft_rs */
#include "recovery/rs/mapped.h"

#include <sys/mman.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { PAGE = 4096, MANY = 4000 };

static enum mapped_answer look(pid_t pid, int fd, unsigned reads, unsigned *steps)
{
    struct mapped m;
    enum mapped_answer answer = mapped_begin(&m, pid, fd);

    for (*steps = 0; answer == MAPPED_MORE; ++*steps)
        answer = mapped_step(&m, reads);
    assert_int_equal(m.fd, -1);
    return answer;
}

static void finds_what_is_mapped(void **state)
{
    const int fd = memfd_create("mapped", MFD_CLOEXEC), other = memfd_create("other", MFD_CLOEXEC);
    unsigned steps;

    (void)state;
    assert_int_equal(ftruncate(fd, PAGE), 0);
    assert_int_equal(look(getpid(), fd, 1000, &steps), MAPPED_NO);
    void *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(look(getpid(), fd, 1000, &steps), MAPPED_YES);
    assert_int_equal(look(getpid(), other, 1000, &steps), MAPPED_NO);
    munmap(p, PAGE);
    assert_int_equal(look(getpid(), fd, 1000, &steps), MAPPED_NO);
    close(fd);
    close(other);
}

/* However long the list is, a step ends, and the answer is the same. */
static void long_lists_are_read_in_steps(void **state)
{
    const int fd = memfd_create("mapped", MFD_CLOEXEC);
    unsigned steps;

    (void)state;
    assert_int_equal(ftruncate(fd, PAGE), 0);
    void *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    uint8_t *many =
        mmap(NULL, (size_t)2 * MANY * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(many, MAP_FAILED);
    for (unsigned i = 0; i < MANY; i++)
        mprotect(many + (size_t)2 * i * PAGE, PAGE, PROT_NONE);
    assert_int_equal(look(getpid(), fd, 2, &steps), MAPPED_YES);
    munmap(p, PAGE);
    assert_int_equal(look(getpid(), fd, 2, &steps), MAPPED_NO);
    assert_true(steps > 10);
    munmap(many, (size_t)2 * MANY * PAGE);
    close(fd);
}

static void nobody_maps_nothing(void **state)
{
    const int fd = memfd_create("mapped", MFD_CLOEXEC);
    unsigned steps;

    (void)state;
    /* A number beyond all process numbers: nobody. Number 0: somebody whom we cannot see. */
    assert_int_equal(look(1 << 30, fd, 1, &steps), MAPPED_NO);
    assert_int_equal(look(0, fd, 1, &steps), MAPPED_YES);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_is_mapped),
        cmocka_unit_test(long_lists_are_read_in_steps),
        cmocka_unit_test(nobody_maps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
