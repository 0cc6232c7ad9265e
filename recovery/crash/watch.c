/* SPDX-License-Identifier: BSD-2-Clause */
#include "watch.h"

#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint64_t watch_realtime(void)
{
    return clock_ns(CLOCK_REALTIME);
}

int watch_point_set(struct watch_point *w, pid_t tid, uint64_t address)
{
    /* The kernel takes for its clock only those that can be read from anywhere. */
    struct perf_event_attr a = {.type = PERF_TYPE_BREAKPOINT,
                                .size = sizeof a,
                                .bp_type = HW_BREAKPOINT_X,
                                .bp_addr = address,
                                .bp_len = sizeof(long),
                                .sample_period = 1,
                                .sample_type = PERF_SAMPLE_TIME,
                                .use_clockid = 1,
                                .clockid = CLOCK_MONOTONIC,
                                .disabled = 1,
                                .exclude_kernel = 1,
                                .exclude_hv = 1};

    *w = (struct watch_point){.fd = -1};
    int fd = (int)syscall(SYS_perf_event_open, &a, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return -errno;
    w->bytes = 2 * (size_t)sysconf(_SC_PAGESIZE); /* one for the ring's state, one for samples */
    w->ring = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (w->ring == MAP_FAILED || ioctl(fd, PERF_EVENT_IOC_REFRESH, 1) < 0) {
        int rc = -errno;
        if (w->ring != MAP_FAILED)
            munmap(w->ring, w->bytes);
        close(fd);
        return rc;
    }
    w->fd = fd;
    return 0;
}

bool watch_point_hit(const struct watch_point *w, uint64_t *at_ns)
{
    struct {
        struct perf_event_header header;
        uint64_t time;
    } sample;
    const struct perf_event_mmap_page *page = w->ring;
    uint64_t count = 0;

    if (w->fd < 0 || read(w->fd, &count, sizeof count) != sizeof count || count == 0)
        return false;
    *at_ns = 0;
    if (__atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE) < sizeof sample)
        return true;
    __builtin_memcpy(&sample, (const uint8_t *)w->ring + page->data_offset, sizeof sample);
    if (sample.header.type == PERF_RECORD_SAMPLE)
        *at_ns = sample.time + (clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC));
    return true;
}

void watch_point_close(struct watch_point *w)
{
    if (w->fd < 0)
        return;
    munmap(w->ring, w->bytes);
    close(w->fd);
    w->fd = -1;
}

/* Linux's struct pidfd_info, which the headers of Debian 12 lack. */
struct info {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
    uint32_t coredump[2];
};
_Static_assert(sizeof(struct info) == 72, "struct pidfd_info");
enum { INFO_EXIT = 1 << 3, REAPED_LIMIT_MS = 200 };

void watch_how(int pidfd, struct watch_end *end)
{
    *end = (struct watch_end){0};
    for (int i = 0; i < REAPED_LIMIT_MS; i++) {
        struct info info = {.mask = INFO_EXIT};
        if (ioctl(pidfd, _IOWR(0xff, 11, struct info), &info) < 0 && errno != ESRCH)
            return; /* this kernel does not say */
        if (info.mask & INFO_EXIT) {
            end->known = true;
            end->signalled = WIFSIGNALED(info.exit_code);
            end->number = end->signalled ? WTERMSIG(info.exit_code) : WEXITSTATUS(info.exit_code);
            return;
        }
        poll(NULL, 0, 1);
    }
}
