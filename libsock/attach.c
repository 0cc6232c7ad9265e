/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Attaching this process to a stack: control socket, regions, bells, waiters. See edge/control.h.
 *
 * Keeps: nothing but the mappings. A server's restart is invisible here: regions and the other ends
 * of bells are rs's. Lost with a fork: everything; the child attaches anew at first use.
 *
 * Until rs has taken note of a newcomer, its connection is syscall's alone and dies with it. So
 * whoever attaches connects again as long as there is a stack: only one that is down for good is an
 * error.
 */
#include "libchan/edge/control.h"
#include "sock.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    REPLY_MS = 10000,    /* an answer that takes longer is not on its way any more */
    STARTING_MS = 10000, /* a stack that was asked for by name may be just starting */
    REFUSED_MS = 1000,   /* nobody listens, but the socket is there: its keeper is being replaced */
    RETRY_MS = 10,
};
static uint64_t control_id;
static struct lock control_lock;

void trace(const char *fmt, ...)
{
    static const char *file;
    static int looked;
    if (!looked) {
        file = secure_getenv("EFT_DEBUG");
        looked = 1;
    }
    if (file == NULL)
        return;
    char line[512];
    int saved = errno;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int n = snprintf(line, sizeof line, "%ld.%06ld %d ", (long)ts.tv_sec, ts.tv_nsec / 1000,
                     (int)syscall(SYS_gettid));
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (m > 0) {
        n = m < (int)sizeof line - n - 1 ? n + m : (int)sizeof line - 2;
        line[n++] = '\n';
        int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd >= 0) {
            if (real()->write(fd, line, (size_t)n) < 0)
                m = 0;
            real()->close(fd);
        }
    }
    errno = saved;
}

/* Waits for a message. False: none came in time. */
static bool await_reply(void)
{
    struct pollfd p = {.fd = lib.control, .events = POLLIN};
    int64_t until = now_ns() + REPLY_MS * 1000000ll;
    for (;;) {
        int64_t left = (until - now_ns()) / 1000000;
        int n = left > 0 ? real()->poll(&p, 1, (int)left) : 0;
        if (n >= 0 || errno != EINTR)
            return n > 0;
    }
}

/* One message out, its reply in. Descriptors of the reply go to fds (up to max), the rest is
 * closed. Interrupted by nothing: EINTR is tried again. -ECONNRESET, and this alone: whoever was at
 * the other end is there no longer; the request may be made again on a new connection. */
static int exchange(uint32_t op, uint32_t arg, struct control_reply *reply, int *fds, int max)
{
    struct control_request q = {
        .version = CONTROL_VERSION, .op = op, .id = ++control_id, .arg = arg};
    ssize_t n;
    do
        n = real()->send(lib.control, &q, sizeof q, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EPIPE || errno == ENOTCONN ? -ECONNRESET : -errno;
    for (;;) {
        /* Once we are attached, rs keeps the other end, and an answer comes however late. */
        if (op == CONTROL_ATTACH && !await_reply())
            return -ECONNRESET;
        union {
            struct cmsghdr align;
            char space[CMSG_SPACE(16 * sizeof(int))];
        } c;
        struct iovec iov = {reply, sizeof *reply};
        struct msghdr m = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
        n = real()->recvmsg(lib.control, &m, MSG_CMSG_CLOEXEC);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return -ECONNRESET;
        int got = 0;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h != NULL; h = CMSG_NXTHDR(&m, h)) {
            if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
                continue;
            int count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            for (int i = 0; i < count; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(h) + (size_t)i * sizeof fd, sizeof fd);
                if (got < max && (size_t)n == sizeof *reply && reply->id == q.id)
                    fds[got++] = fd;
                else
                    real()->close(fd);
            }
        }
        /* Replies to requests of a predecessor of ours (a repeated id) are passed over. */
        if ((size_t)n != sizeof *reply || reply->id != q.id)
            continue;
        return reply->result < 0 ? reply->result : got;
    }
}

void attach_reset(void)
{
    memset(&control_lock, 0, sizeof control_lock);
}

int control_call(uint32_t op, uint32_t arg, int *fd)
{
    struct control_reply reply;
    if (!lock_take(&control_lock))
        return -EAGAIN;
    int r = lib.control < 0 ? -ENOTCONN : exchange(op, arg, &reply, fd, fd != NULL ? 1 : 0);
    lock_give(&control_lock);
    trace("control op %u arg %u: %d", op, arg, r);
    return r;
}

static void *map(int fd, bool writable, region_id id, uint64_t least, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < (off_t)least)
        return NULL;
    void *p =
        mmap(NULL, (size_t)st.st_size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return NULL;
    const struct region_header *h = p;
    if (h->magic != REGION_MAGIC || h->layout != REGION_LAYOUT_VERSION ||
        h->size > (uint64_t)st.st_size || (id != REGION_NONE && h->id != id)) {
        munmap(p, (size_t)st.st_size);
        return NULL;
    }
    /* A child after fork must never write to the parent's region, nor wait on its replies. */
    madvise(p, (size_t)st.st_size, MADV_DONTFORK);
    if (size != NULL)
        *size = (uint64_t)st.st_size;
    return p;
}

static bool fits(uint64_t off, uint64_t count, uint64_t each, uint64_t size)
{
    return off <= size && count <= (size - off) / each;
}

int lib_adopt_regions(void)
{
    const struct ctl_region *c = lib.ctl;
    if (c->version != APP_VERSION || c->n_tcp == 0 ||
        !fits(c->up_tcp_slots, c->n_tcp, sizeof(struct up_slot), lib.up_size) ||
        !fits(c->up_udp_slots, c->n_udp, sizeof(struct up_slot), lib.up_size) ||
        !fits(c->down_tcp_slots, c->n_tcp, sizeof(struct down_slot), lib.down_tcp_size) ||
        !fits(c->down_tcp_info, c->n_tcp, sizeof(struct sock_info), lib.down_tcp_size) ||
        !fits(c->down_udp_slots, c->n_udp, sizeof(struct down_slot), lib.down_udp_size))
        return -EPROTO;
    lib.app = c->app;
    lib.app_generation = c->app_generation;
    lib.n_tcp = c->n_tcp;
    lib.n_udp = c->n_udp;
    lib.up_tcp = (struct up_slot *)((uint8_t *)lib.up + c->up_tcp_slots);
    lib.up_udp = (struct up_slot *)((uint8_t *)lib.up + c->up_udp_slots);
    lib.slots_tcp = (const struct down_slot *)((const uint8_t *)lib.down_tcp + c->down_tcp_slots);
    lib.info_tcp = (const struct sock_info *)((const uint8_t *)lib.down_tcp + c->down_tcp_info);
    lib.slots_udp = (const struct down_slot *)((const uint8_t *)lib.down_udp + c->down_udp_slots);
    shm_store(&lib.up->pid, (uint32_t)lib.pid);
    /* The version is stored last: who finds it knows the rest to be there. */
    shm_store_release(&lib.up->version, APP_VERSION);
    __atomic_store_n(&lib.attached, true, __ATOMIC_RELEASE);
    return 0;
}

/* `known`: the stack was there a moment ago. */
static int connect_control(bool known)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    memcpy(sa.sun_path, lib.path, sizeof sa.sun_path);
    int64_t start = now_ns();
    for (;;) {
        int fd = real()->socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -errno;
        if (real()->connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
            return fd_high(fd);
        int err = errno;
        real()->close(fd);
        if (err == EINTR)
            continue;
        int64_t wait = -1;
        if (err == ECONNREFUSED || err == EAGAIN)
            wait = known || lib.explicit_name ? STARTING_MS : REFUSED_MS;
        else if (err == ENOENT && lib.explicit_name && !known)
            wait = STARTING_MS;
        else if (err == ENOENT && known)
            wait = REFUSED_MS; /* rs removes the socket when it stops for good */
        if (now_ns() - start >= wait * 1000000)
            return -err;
        real()->poll(NULL, 0, RETRY_MS);
    }
}

static int attach_exchange(struct control_reply *reply, int *fds)
{
    for (bool known = false;; known = true) {
        lib.control = connect_control(known);
        if (lib.control < 0)
            return lib.control;
        int n = exchange(CONTROL_ATTACH, 0, reply, fds, CONTROL_FDS);
        if (n != -ECONNRESET)
            return n;
        trace("attach %s: again", lib.path);
        real()->close(lib.control);
        lib.control = -1;
        real()->poll(NULL, 0, RETRY_MS);
    }
}

static int attach_locked(void)
{
    int fds[CONTROL_FDS];
    struct control_reply reply;
    int n = attach_exchange(&reply, fds);
    int err = n < 0 ? n : n != CONTROL_FDS ? -EPROTO : 0;
    if (err == 0) {
        uint32_t app = reply.app;
        lib.up =
            map(fds[0], true, REGION_OF_APP(app, APP_UP), sizeof(struct up_region), &lib.up_size);
        lib.down_tcp = map(fds[1], false, REGION_OF_APP(app, APP_DOWN_TCP),
                           sizeof(struct down_region), &lib.down_tcp_size);
        lib.down_udp = map(fds[2], false, REGION_OF_APP(app, APP_DOWN_UDP),
                           sizeof(struct down_region), &lib.down_udp_size);
        lib.ctl =
            map(fds[3], false, REGION_OF_APP(app, APP_DOWN_CTL), sizeof(struct ctl_region), NULL);
        lib.pub_tcp = map(fds[4], false, REGION_NONE, sizeof(struct public_page), NULL);
        lib.pub_udp = map(fds[5], false, REGION_NONE, sizeof(struct public_page), NULL);
        if (lib.up == NULL || lib.down_tcp == NULL || lib.down_udp == NULL || lib.ctl == NULL ||
            lib.pub_tcp == NULL || lib.pub_udp == NULL)
            err = -EPROTO;
        for (int i = 0; i < 6; i++)
            real()->close(fds[i]);
        for (int i = 6; i < CONTROL_FDS; i++)
            fds[i] = fd_high(fds[i]);
        lib.bell_tcp = fds[6];
        lib.bell_udp = fds[7];
        lib.waiter_fd[0] = fds[8];
        /* We ring with write(): a sandbox set up later may allow nothing else. */
        real()->fcntl64(lib.bell_tcp, F_SETFL, O_RDWR | O_NONBLOCK);
        real()->fcntl64(lib.bell_udp, F_SETFL, O_RDWR | O_NONBLOCK);
        int flags = real()->fcntl64(lib.waiter_fd[0], F_GETFL);
        real()->fcntl64(lib.waiter_fd[0], F_SETFL, flags & ~O_NONBLOCK);
    } else {
        for (int i = 0; i < n; i++)
            real()->close(fds[i]);
    }
    if (err == 0)
        err = lib_adopt_regions();
    if (err != 0 && lib.control >= 0) {
        real()->close(lib.control);
        lib.control = -1;
    }
    return err;
}

int lib_attach(void)
{
    if (unlikely(lib.alive != NULL && load_relaxed(lib.alive) != 1))
        fork_child();
    if (likely(load_acquire(&lib.attached)))
        return 0;
    if (!lib_enabled())
        return -ENODEV;
    if (!lock_take(&lib.attach))
        return -EAGAIN;
    int err = lib.attached ? 0 : attach_locked();
    if (err != 0 && !lib.explicit_name) {
        /* The default stack is not there, or not for us: this process uses the kernel. */
        __atomic_store_n(&lib.passive, true, __ATOMIC_RELAXED);
        err = -ENODEV;
    }
    lock_give(&lib.attach);
    trace("attach %s: %d, application %u", lib.path, err, lib.app);
    return err == -ENODEV || err == 0 || err == -EAGAIN ? err : -ENETDOWN;
}
