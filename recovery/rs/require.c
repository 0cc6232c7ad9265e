/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What must be there before anything is started.
 */
#include "require.h"

#include "log.h"

#include <cap-ng.h>
#include <errno.h>
#include <linux/capability.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static bool uses(const struct stack_config *cfg, enum config_driver driver)
{
    for (unsigned i = 0; i < cfg->interfaces; i++)
        if (cfg->interface[i].driver == driver)
            return true;
    return false;
}

static bool uses_netns(const struct stack_config *cfg)
{
    for (unsigned i = 0; i < cfg->interfaces; i++)
        if (cfg->interface[i].netns[0] != '\0')
            return true;
    return false;
}

static int require_capabilities(const struct stack_config *cfg)
{
    const struct {
        int capability;
        bool needed;
        const char *name, *why;
    } list[] = {
        {CAP_SETUID, true, "CAP_SETUID", "run each server under its own user"},
        {CAP_SETGID, true, "CAP_SETGID", "run each server under its own group"},
        {CAP_KILL, true, "CAP_KILL", "end a server that hangs"},
        {CAP_NET_ADMIN, true, "CAP_NET_ADMIN", "open network devices"},
        {CAP_SYS_ADMIN, uses_netns(cfg), "CAP_SYS_ADMIN",
         "enter the network namespace named by netns"},
        {CAP_NET_RAW, uses(cfg, DRIVER_XDP), "CAP_NET_RAW", "open an AF_XDP socket"},
        {CAP_BPF, uses(cfg, DRIVER_XDP), "CAP_BPF", "load the AF_XDP program"},
    };

    if (capng_get_caps_process() != 0) {
        log_say(LOG_ERR, "", "cannot read the capabilities of this process");
        return EXIT_PRIVILEGE;
    }
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        unsigned cap = (unsigned)list[i].capability;
        if (!list[i].needed || capng_have_capability(CAPNG_EFFECTIVE, cap))
            continue;
        log_say(LOG_ERR, "",
                "the capability %s is missing, which is needed to %s; start it as root, or give it "
                "to the service (AmbientCapabilities=, CapabilityBoundingSet=)",
                list[i].name, list[i].why);
        return EXIT_PRIVILEGE;
    }
    return 0;
}

static int missing(const char *what, const char *since)
{
    log_say(LOG_ERR, "", "this kernel has no %s (%s); use Linux %s or later", what, strerror(errno),
            since);
    return EXIT_KERNEL;
}

static int require_kernel(const struct stack_config *cfg)
{
    struct timespec zero = {0};
    struct epoll_event e;

    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0)
        return missing("pidfd_open()", "5.4");
    close(fd);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0 || epoll_pwait2(ep, &e, 1, &zero, NULL) < 0)
        return missing("epoll_pwait2()", "5.11");
    close(ep);
    /* of no futexes: EINVAL where it is known */
    if (cfg->spares != 0 && syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 && errno != EINVAL)
        return missing("futex_waitv(), which spares need", "5.16");
    int rw = region_create("eft:probe", 4096);
    if (rw < 0) {
        errno = -rw;
        return missing("sealed memfd", "5.4");
    }
    int ro = region_open_readonly(rw);
    close(rw);
    if (ro < 0) {
        log_say(LOG_ERR, "", "cannot reopen a memfd in /proc/self/fd (%s); mount /proc",
                strerror(-ro));
        return EXIT_KERNEL;
    }
    close(ro);
    if (uses(cfg, DRIVER_TAP) && access("/dev/net/tun", R_OK | W_OK) < 0) {
        log_say(LOG_ERR, "",
                "/dev/net/tun: %s; the tap driver needs it: load the module tun, or allow the "
                "device to the service (DeviceAllow=/dev/net/tun)",
                strerror(errno));
        return EXIT_KERNEL;
    }
    return 0;
}

int require_all(const struct stack_config *cfg)
{
    int rc = require_capabilities(cfg);

    return rc != 0 ? rc : require_kernel(cfg);
}

void require_limits(bool told)
{
    struct rlimit r = {.rlim_cur = 1048576, .rlim_max = 1048576};

    if (setrlimit(RLIMIT_NOFILE, &r) < 0 && getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
    /* The servers inherit it. They lock whole regions, as pages are touched. */
    r = (struct rlimit){.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &r) < 0) {
        int error = errno;
        if (getrlimit(RLIMIT_MEMLOCK, &r) == 0) {
            r.rlim_cur = r.rlim_max;
            setrlimit(RLIMIT_MEMLOCK, &r);
        }
        if (!told)
            log_say(
                LOG_NOTICE, "",
                "cannot lift the limit of locked memory (%s): on a machine that swaps, servers may "
                "have to wait for it; give eft-rs CAP_SYS_RESOURCE, or set LimitMEMLOCK=infinity",
                strerror(error));
    }
    /* The bounding set limits what comes by exec only: rs keeps what it has, and no server has to
     * do this in its short time between the death of its predecessor and its own first turn.
     * Without CAP_SETPCAP the servers' empty sets and no_new_privs must do. */
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EPERM)
            break;
}
