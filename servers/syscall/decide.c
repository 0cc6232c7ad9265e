/* SPDX-License-Identifier: BSD-2-Clause
 *
 * See decide.h. Any message gets a decision, and any that is long enough to hold an id gets a reply
 * with that id.
 */
#include "decide.h"

#include <errno.h>

static bool listed(const struct stack_config *cfg, uint32_t uid)
{
    const uint32_t n = cfg->users < CONFIG_USERS ? cfg->users : CONFIG_USERS;

    for (uint32_t i = 0; i < n; i++)
        if (cfg->user[i] == uid)
            return true;
    return false;
}

bool control_may_use(const struct stack_config *cfg, uint32_t uid)
{
    return cfg->users == 0 || uid == 0 || listed(cfg, uid);
}

bool control_may_bind(const struct stack_config *cfg, uint32_t uid)
{
    return uid == 0 || listed(cfg, uid);
}

static void answer(struct control_decision *d, int result)
{
    d->action = CONTROL_DO_REPLY;
    d->reply.result = result;
}

static void garbage(struct control_decision *d, int result)
{
    d->garbage = true;
    answer(d, result);
}

static void decide_port(const struct stack_config *cfg, uint32_t uid, struct control_decision *d)
{
    const uint32_t arg = d->request.arg;

    d->port = (uint16_t)arg;
    d->udp = (arg & 0x10000) != 0;
    if (d->port == 0 || (arg & ~0x1ffffu) != 0)
        garbage(d, -EINVAL);
    else if (d->port >= 1024)
        answer(d, 0); /* nobody's privilege */
    else if (!control_may_bind(cfg, uid))
        answer(d, -EACCES);
    else
        d->action = CONTROL_DO_GRANT;
}

void control_decide(const struct stack_config *cfg, const void *message, size_t size, size_t len,
                    uint32_t uid, bool attached, struct control_decision *d)
{
    *d = (struct control_decision){.reply = {.version = CONTROL_VERSION}};
    if (size > len)
        size = len;
    memcpy(&d->request, message, size < sizeof d->request ? size : sizeof d->request);
    if (size >= offsetof(struct control_request, id)) {
        d->reply.op = d->request.op;
        if (size >= offsetof(struct control_request, arg))
            d->reply.id = d->request.id;
    }
    if (size >= sizeof d->request.version && d->request.version != CONTROL_VERSION) {
        garbage(d, -EPROTONOSUPPORT); /* whatever its size: that is the version's to say */
        return;
    }
    if (len != sizeof d->request) {
        garbage(d, -EINVAL);
        return;
    }
    switch (d->request.op) {
    case CONTROL_ATTACH:
        /* An attached client that asks again gets the same answer from rs. */
        if (control_may_use(cfg, uid))
            d->action = CONTROL_DO_ATTACH;
        else
            answer(d, -EACCES);
        return;
    case CONTROL_WAITER:
        if (!attached || d->request.arg == 0 || d->request.arg >= WAITERS_MAX) {
            garbage(d, -EINVAL);
            return;
        }
        d->waiter = (uint16_t)d->request.arg;
        d->action = CONTROL_DO_WAITER;
        return;
    case CONTROL_PORT:
        if (attached)
            decide_port(cfg, uid, d);
        else
            garbage(d, -EINVAL);
        return;
    default:
        garbage(d, -EINVAL);
        return;
    }
}
