/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Spares: what they decide, and that two of them with a dead, a living and a damaged owner do it.
 */
/* link: eft_run */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "servers/run/standby.c"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

enum { SELF = 77, DIED = 0xC0000000u /* FUTEX_WAITERS | FUTEX_OWNER_DIED */, EPOCH = 5 };

/* --- decisions --- */

static struct standby with(const struct fellow *fellow)
{
    struct standby s = {.self = SELF};

    if (fellow != NULL)
        s.fellow[3] = *fellow;
    return s;
}

static void decides(void **state)
{
    static const struct fellow running = {.pid = 10, .running = true, .epoch = EPOCH},
                               spare = {.pid = 11};
    static const struct {
        const char *what;
        const struct fellow *fellow;
        uint32_t lock;
        uint64_t epoch;
        bool take;
        enum standby_verdict verdict;
    } table[] = {
        {"it lives", &running, 10 | FUTEX_WAITERS, EPOCH, false, STANDBY_SLEEP},
        {"another id, damaged", &running, 999, EPOCH, false, STANDBY_SLEEP},
        {"nobody, without the mark", &running, 0, EPOCH, false, STANDBY_SLEEP},
        {"it died", &running, DIED, EPOCH, false, STANDBY_TAKE},
        {"the mark, and an id: damaged", &running, 10 | DIED, EPOCH, false, STANDBY_TAKE},
        {"somebody else has run since", &running, DIED, EPOCH + 1, false, STANDBY_TAKE_ALL},
        {"its epoch was damaged", &running, DIED, 12345, false, STANDBY_TAKE_ALL},
        {"we know of nobody that runs", &spare, DIED, EPOCH, false, STANDBY_TAKE_ALL},
        {"we know nobody", NULL, DIED, EPOCH, false, STANDBY_TAKE_ALL},
        {"rs says so", &running, 10 | FUTEX_WAITERS, EPOCH, true, STANDBY_TAKE_ALL},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct standby s = with(table[i].fellow);
        s.take = table[i].take;
        if (standby_decide(&s, table[i].lock, table[i].epoch) != table[i].verdict)
            fail_msg("%s", table[i].what);
    }
}

static void goes_on_only_if_nothing_changed(void **state)
{
    const struct standby s = with(NULL);
    const uint32_t ours = SELF | FUTEX_WAITERS;

    (void)state;
    assert_true(standby_confirm(&s, ours, EPOCH, EPOCH));
    assert_false(standby_confirm(&s, DIED, EPOCH, EPOCH));               /* stored over */
    assert_false(standby_confirm(&s, 78 | FUTEX_WAITERS, EPOCH, EPOCH)); /* another one's */
    assert_false(standby_confirm(&s, ours, EPOCH + 1, EPOCH));           /* another one ran */
}

static void reads_the_kernels_word(void **state)
{
    (void)state;
    assert_false(exiting("12 (eft-tcp) S 1 12 12 0 -1 4194560 100 0"));
    assert_true(exiting("12 (eft-tcp) Z 1 12 12 0 -1 4194564 100 0"));
    assert_true(exiting("12 (a) 4 ) b) R 1 12 12 0 -1 4 100 0"));
    assert_false(exiting("12 (4 4 4 4 4 4 4 4 4 4) S 1 12 12 0 -1 0 4 4"));
    assert_false(exiting(""));
    assert_false(exiting("12 (eft-tcp) S 1"));
}

/* --- fellows --- */

static struct rs_message about(pid_t pid, bool running, uint64_t epoch)
{
    return (struct rs_message){
        .op = RS_FELLOW, .pid = (uint32_t)pid, .arg = running, .request_id = epoch};
}

static void introduce(struct standby *s, pid_t pid, bool running, uint64_t epoch)
{
    const struct rs_message m = about(pid, running, epoch);
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), stat = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(pidfd >= 0 && stat >= 0);
    standby_fellow(s, &m, pidfd, stat);
}

static unsigned fellows(const struct standby *s, bool running)
{
    unsigned n = 0;

    for (unsigned i = 0; i < FELLOWS; i++)
        n += s->fellow[i].pid != 0 && s->fellow[i].running == running;
    return n;
}

/* A child that does not outlive the test, whatever becomes of that. */
static pid_t child(void)
{
    pid_t pid = fork();

    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

/* A process that sleeps until it is killed. */
static pid_t sleeper(void)
{
    pid_t pid = child();

    if (pid == 0)
        for (;;)
            pause();
    assert_true(pid > 0);
    return pid;
}

static void kill_and_reap(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void fellows_come_and_go(void **state)
{
    struct standby s = {0};
    pid_t a = sleeper(), b = sleeper();

    (void)state;
    introduce(&s, a, true, 1);
    introduce(&s, a, true, 2); /* told again: the newer word holds */
    assert_int_equal(fellows(&s, true), 1);
    introduce(&s, b, false, 0);
    assert_int_equal(fellows(&s, false), 1);
    introduce(&s, b, true, 3); /* one at a time */
    assert_int_equal(fellows(&s, true), 1);
    assert_int_equal(fellows(&s, false), 1);
    kill_and_reap(a); /* makes room */
    for (unsigned i = 0; i < 3 * FELLOWS; i++) {
        pid_t c = sleeper();
        introduce(&s, c, false, 0);
        kill_and_reap(c);
    }
    introduce(&s, b, true, 4);
    assert_int_equal(fellows(&s, true), 1);
    standby_end(&s);
    assert_int_equal(fellows(&s, true) + fellows(&s, false), 0);
    kill_and_reap(b);
}

/* --- processes --- */

struct shared {
    struct server_block block;
    struct rs_role role;
};
static struct shared *shared;

static int begin(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED;
}

static int end(void **state)
{
    (void)state;
    return munmap(shared, sizeof *shared);
}

/* Fails, and so ends the children, if it takes long. */
static void wait_until(const uint64_t *word, uint64_t value)
{
    const time_t end = time(NULL) + 20;

    while (load_acquire(word) < value) {
        if (time(NULL) > end)
            fail_msg("waited in vain for %llu", (unsigned long long)value);
        sched_yield();
    }
}

/* Owns the lock and says so by epoch EPOCH; then `lives` for ever, or dies when it is told to. */
static pid_t owner(void)
{
    pid_t pid = child();

    if (pid == 0) {
        struct standby s = {.block = &shared->block};
        standby_register(&s);
        standby_own(&s);
        shm_store_release(&shared->block.epoch, EPOCH);
        for (;;)
            pause();
    }
    wait_until(&shared->block.epoch, EPOCH);
    return pid;
}

/* A spare that raises the epoch when it has taken over from `running`, and lives on. */
static pid_t spare(pid_t running, bool told_to)
{
    pid_t pid = child();

    if (pid == 0) {
        struct standby s = {.block = &shared->block, .role = &shared->role};
        introduce(&s, running, true, EPOCH);
        standby_register(&s);
        s.take = told_to;
        for (;;) {
            const uint32_t generation = load_acquire(&s.role->generation);
            const uint32_t lock = load_acquire(&s.block->lock);
            __atomic_fetch_add(&shared->block.turns, 1, __ATOMIC_ACQ_REL);
            if (standby_try(&s))
                break;
            standby_sleep(&s, lock, generation);
        }
        shm_store_release(&shared->block.epoch, shared->block.epoch + 1);
        __atomic_fetch_add(&shared->block.started, 1, __ATOMIC_ACQ_REL);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    return pid;
}

static bool gone(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static void at_a_death_one_takes_over(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        memset(shared, 0, sizeof *shared);
        pid_t o = owner(), a = spare(o, false), b = spare(o, false);
        wait_until(&shared->block.turns, 2); /* both are about to sleep */
        kill(o, SIGKILL);
        wait_until(&shared->block.started, 1);
        assert_true(shared->block.epoch == EPOCH + 1);
        kill_and_reap(o);
        /* the one that sleeps, or the one that runs: then the other takes over */
        kill_and_reap(a);
        kill_and_reap(b);
    }
}

/* The mark by a wild store, while the owner lives and is not even running: it is ended first. */
static void a_living_owner_is_ended_first(void **state)
{
    pid_t o = owner();

    (void)state;
    kill(o, SIGSTOP);
    shm_store(&shared->block.lock, DIED);
    pid_t a = spare(o, false);
    wait_until(&shared->block.started, 1);
    /* exiting, which comes before it can be waited for */
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", o);
    struct fellow f = {.pid = o, .stat = open(path, O_RDONLY | O_CLOEXEC)};
    assert_true(f.stat >= 0 && has_ended(&f));
    close(f.stat);
    kill_and_reap(o);
    kill_and_reap(a);
}

/* A value without the mark wakes nobody; rs finds out by the pidfd, and says so. */
static void a_lock_without_the_mark_is_for_rs(void **state)
{
    pid_t o = owner();

    (void)state;
    shm_store(&shared->block.lock, 12345u);
    pid_t a = spare(o, false);
    wait_until(&shared->block.turns, 1);
    kill(o, SIGKILL);
    while (!gone(o))
        sched_yield();
    shm_store(&shared->role.generation, 1u);
    syscall(SYS_futex, &shared->role.generation, FUTEX_WAKE, 1, NULL, NULL, 0);
    wait_until(&shared->block.turns, 2); /* it looked, and sleeps again */
    assert_int_equal(shared->block.epoch, EPOCH);
    pid_t b = spare(o, true);
    wait_until(&shared->block.started, 1);
    kill_and_reap(o);
    kill_and_reap(a);
    kill_and_reap(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decides),
        cmocka_unit_test(goes_on_only_if_nothing_changed),
        cmocka_unit_test(reads_the_kernels_word),
        cmocka_unit_test(fellows_come_and_go),
        cmocka_unit_test_setup_teardown(at_a_death_one_takes_over, begin, end),
        cmocka_unit_test_setup_teardown(a_living_owner_is_ended_first, begin, end),
        cmocka_unit_test_setup_teardown(a_lock_without_the_mark_is_for_rs, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
