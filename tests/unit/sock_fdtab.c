/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Descriptors and references: who finds what behind a number, and when a socket ends.
 */
/* link: eft_sock */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sock_double.h"

static int setup(void **state)
{
    (void)state;
    d_begin();
    return 0;
}

static void number_names_its_socket(void **state)
{
    (void)state;
    int fd;
    struct sock *s = d_socket(&fd);
    struct sock *t = sock_enter(fd);
    assert_ptr_equal(s, t);
    sock_leave(t);
    assert_null(sock_enter(fd + 1));
    assert_null(sock_enter(-1));
    d_close(fd);
    assert_null(sock_enter(fd));
}

static void duplicate_keeps_the_description(void **state)
{
    (void)state;
    int fd, copy;
    struct sock *s = d_socket(&fd);
    uint32_t tag = s->tag;
    copy = fd_dup_word(dup(fd), sock_word(s));
    d_close(fd);
    struct sock *t = sock_enter(copy);
    assert_ptr_equal(s, t);
    assert_int_equal(t->tag, tag);
    sock_leave(t);
    d_close(copy);
    assert_null(sock_enter(copy));
}

static void thread_inside_keeps_the_object(void **state)
{
    (void)state;
    int fd, next;
    struct sock *s = d_socket(&fd);
    uint32_t index = (uint32_t)(s - lib.socks), tag = s->tag;
    struct sock *inside = sock_enter(fd);
    d_close(fd);
    assert_true(inside->closing);
    struct sock *other = d_socket(&next);
    assert_ptr_not_equal(other, inside);
    sock_leave(inside);
    /* The object is free now; the tag tells its next use from this one. */
    assert_null(sock_ref(index, tag));
    int third;
    struct sock *again = d_socket(&third);
    assert_ptr_equal(again, inside);
    assert_int_not_equal(again->tag, tag);
    assert_null(sock_ref(index, tag));
    d_close(next);
    d_close(third);
}

static void placeholders_are_real_and_own_ones_are_high(void **state)
{
    (void)state;
    int low = dup(0), fd;
    close(low);
    d_socket(&fd);
    assert_true(fd >= low);
    assert_true(fd < low + 3); /* the lowest free number, as the kernel gives it */
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_false(fd_ours(fd));
    int mine = fd_high(dup(0));
    assert_true(mine > fd + 20);
    close(mine);
    d_close(fd);
}

struct churn {
    pthread_t thread;
    unsigned found;
};

static int shared_fd;
static bool churn_stop;

static void *reader(void *arg)
{
    struct churn *c = arg;
    while (!load_acquire(&churn_stop)) {
        struct sock *s = sock_enter(shared_fd);
        if (s != NULL) {
            c->found += load_relaxed(&s->refs) != 0;
            sock_leave(s);
        }
    }
    return NULL;
}

static void readers_and_closers_agree(void **state)
{
    (void)state;
    struct churn c[2] = {{0}};
    int first;
    d_socket(&first);
    shared_fd = first;
    for (int i = 0; i < 2; i++)
        pthread_create(&c[i].thread, NULL, reader, &c[i]);
    for (int i = 0; i < 3000; i++) {
        d_close(shared_fd);
        int fd;
        d_socket(&fd);
        assert_int_equal(fd, shared_fd);
    }
    shm_store_release(&churn_stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(c[i].thread, NULL);
    d_close(first);
    /* Every reference was given back: the objects are found free, not leaked. */
    uint32_t i = 0;
    assert_null(sock_each(&i));
    assert_true(i < 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_names_its_socket),
        cmocka_unit_test(duplicate_keeps_the_description),
        cmocka_unit_test(thread_inside_keeps_the_object),
        cmocka_unit_test(placeholders_are_real_and_own_ones_are_high),
        cmocka_unit_test(readers_and_closers_agree),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
