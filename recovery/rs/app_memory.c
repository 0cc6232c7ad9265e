/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What an application is made of: four regions, and all the descriptors that rs has of it, which
 * are parked together so that the next rs finds them (park.h).
 */
#include "fdstore.h"
#include "log.h"
#include "rs.h"

#include "libchan/edge/app.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Order of what is parked for an application. */
enum {
    PARKED_REGION = 0,      /* four, for writing */
    PARKED_BELL_SERVER = 4, /* tcp, udp */
    PARKED_BELL_APP = 6,
    PARKED_WAITER = 8, /* waiter 0: ends of server and application */
    PARKED_PIDFD = 10,
    PARKED_CONTROL = 11,
    PARKED_COUNT = 12,
};
enum { PARKS_AT_ONCE = 16 };

static void fill_ctl(const struct stack_config *cfg, const struct application *a,
                     struct ctl_region *c)
{
    struct app_layout l;

    app_layout(&l, cfg);
    c->version = APP_VERSION;
    c->app = a->number;
    c->app_generation = a->generation;
    c->n_tcp = l.n_tcp;
    c->n_udp = l.n_udp;
    c->uid = a->uid;
    c->pid = (uint32_t)a->pid;
    c->default_sndbuf = cfg->tcp_sndbuf;
    c->default_rcvbuf = cfg->tcp_rcvbuf;
    c->udp_sndbuf = cfg->udp_sndbuf;
    c->udp_rcvbuf = cfg->udp_rcvbuf;
    c->port_first = cfg->port_first;
    c->port_last = cfg->port_last;
    c->up_tcp_slots = l.up_tcp_slots;
    c->up_udp_slots = l.up_udp_slots;
    c->down_tcp_slots = l.down_tcp_slots;
    c->down_udp_slots = l.down_udp_slots;
    c->down_tcp_info = l.down_tcp_info;
    c->tcp_keepidle = cfg->tcp_keepalive_s;
    c->tcp_keepintvl = cfg->tcp_keepintvl_s;
    c->tcp_keepcnt = cfg->tcp_keepcnt;
    c->tcp_congestion = cfg->tcp_congestion;
    for (unsigned i = 0; i < cfg->interfaces; i++)
        c->address[c->addresses++] = cfg->interface[i].addr;
}

int app_memory_create(struct rs *rs, struct application *a)
{
    static const char *const names[4] = {"up", "down-tcp", "down-udp", "down-ctl"};
    const struct stack_config *cfg = rs->cfg;
    const uint64_t size[4] = {cfg->app_up_size, cfg->app_down_tcp_size, cfg->app_down_udp_size,
                              (sizeof(struct ctl_region) + 4095) & ~4095ull};
    const server_id owner[4] = {SERVER_RS, SERVER_ID(SERVER_TCP, 0), SERVER_ID(SERVER_UDP, 0),
                                SERVER_ID(SERVER_SYSCALL, 0)};
    char name[80];

    for (unsigned k = 0; k < 4; k++) {
        struct keep *r = &a->region[k];
        snprintf(name, sizeof name, "eft:%s:app%u-%s", cfg->name, a->number, names[k]);
        int rc = keep_create(r, name, size[k]);
        if (rc < 0)
            return rc;
        r->generation = a->generation;
        const size_t first = k == APP_DOWN_CTL ? size[k] : 4096;
        void *base = mmap(NULL, first, PROT_READ | PROT_WRITE, MAP_SHARED, r->rw, 0);
        if (base == MAP_FAILED)
            return -errno;
        region_format(base, REGION_OF_APP(a->number, k), owner[k], size[k], a->generation, 0);
        if (k == APP_DOWN_CTL)
            fill_ctl(cfg, a, base);
        munmap(base, first);
    }
    return 0;
}

/* Several numbers at once, as the store has to be waited for. */
int app_park_open(struct rs *rs, unsigned number)
{
    const unsigned first = number / PARKS_AT_ONCE * PARKS_AT_ONCE;
    char name[32];
    int rc = 0;

    if (rs->app_park[number].out >= 0)
        return 0;
    for (unsigned n = first; n < first + PARKS_AT_ONCE && rc == 0; n++) {
        snprintf(name, sizeof name, "app%u", n);
        rc = park_open(&rs->app_park[n], name);
    }
    /* without an answer: not kept, perhaps, but no reason to turn anybody away */
    fdstore_sync();
    return rc;
}

int app_park(const struct rs *rs, const struct application *a)
{
    const struct parked what = {.kind = PARK_APP, .generation = a->generation, .pid = a->pid};
    int fds[PARKED_COUNT];

    for (unsigned k = 0; k < 4; k++)
        fds[PARKED_REGION + k] = a->region[k].rw;
    for (unsigned i = 0; i < 2; i++) {
        fds[PARKED_BELL_SERVER + i] = a->bell_server[i];
        fds[PARKED_BELL_APP + i] = a->bell_app[i];
    }
    fds[PARKED_WAITER] = a->waiter[0].server;
    fds[PARKED_WAITER + 1] = a->waiter[0].app;
    fds[PARKED_PIDFD] = a->pidfd.fd;
    fds[PARKED_CONTROL] = a->control.fd;
    return park_put(&rs->app_park[a->number], &what, fds, PARKED_COUNT);
}

int app_park_waiter(const struct rs *rs, const struct application *a, unsigned n)
{
    const struct waiter *w = &a->waiter[n];
    const struct parked what = {
        .kind = PARK_WAITER, .generation = a->generation, .number = n, .request = w->request_id};

    return park_put(&rs->app_park[a->number], &what, (const int[2]){w->server, w->app}, 2);
}

static int take_regions(struct application *a, const int *fds)
{
    struct stat st;

    for (unsigned k = 0; k < 4; k++) {
        struct keep *r = &a->region[k];
        if (fstat(fds[PARKED_REGION + k], &st) < 0)
            return -errno;
        *r = (struct keep){.rw = fds[PARKED_REGION + k],
                           .ro = region_open_readonly(fds[PARKED_REGION + k]),
                           .generation = a->generation,
                           .size = (uint64_t)st.st_size};
        if (r->ro < 0)
            return r->ro;
    }
    return 0;
}

static int take_app(struct application *a, const struct parked *what, const int *fds)
{
    struct ucred who;
    struct stat st;
    socklen_t len = sizeof who;

    a->generation = what->generation;
    a->pid = (pid_t)what->pid;
    for (unsigned i = 0; i < 2; i++) {
        a->bell_server[i] = fds[PARKED_BELL_SERVER + i];
        a->bell_app[i] = fds[PARKED_BELL_APP + i];
    }
    a->waiter[0].server = fds[PARKED_WAITER];
    a->waiter[0].app = fds[PARKED_WAITER + 1];
    a->pidfd.fd = fds[PARKED_PIDFD];
    a->control.fd = fds[PARKED_CONTROL];
    /* who it is and by what it is recognised, the kernel knows */
    if (getsockopt(a->control.fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
        fstat(a->control.fd, &st) < 0)
        return -errno;
    a->uid = who.uid;
    a->cookie = st.st_ino;
    return take_regions(a, fds);
}

int app_unpark(struct rs *rs, struct application *a)
{
    const struct park *p = &rs->app_park[a->number];
    struct parked what;
    int fds[PARK_FDS], n, rc = -ENOENT;

    park_rewind(p);
    while ((n = park_next(p, &what, fds)) > 0) {
        const bool ours = a->generation == 0 || what.generation == a->generation;
        if (ours && what.kind == PARK_APP && n == PARKED_COUNT && rc == -ENOENT) {
            rc = take_app(a, &what, fds);
            n = 0;
        } else if (ours && what.kind == PARK_WAITER && n == 2 && what.number < WAITERS_MAX &&
                   a->waiter[what.number].server < 0) {
            a->waiter[what.number] =
                (struct waiter){.server = fds[0], .app = fds[1], .request_id = what.request};
            n = 0;
        }
        while (n > 0)
            close(fds[--n]);
    }
    return n < 0 ? n : rc;
}
