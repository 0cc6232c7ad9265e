/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a control message asks for and whether its sender may have it. Pure: bytes and the kernel's
 * word about the sender in, a decision out.
 */
#ifndef EFT_SYSCALL_DECIDE_H
#define EFT_SYSCALL_DECIDE_H

#include "libchan/config.h"
#include "libchan/edge/control.h"
#include <stddef.h>

enum control_action {
    CONTROL_DO_REPLY = 1, /* .reply is the answer */
    CONTROL_DO_ATTACH,    /* ask rs; .request.id */
    CONTROL_DO_WAITER,    /* ask rs; .waiter */
    CONTROL_DO_GRANT,     /* ask tcp or udp; .port, .udp */
};

struct control_decision {
    enum control_action action;
    bool garbage; /* counts against the client */
    struct control_request request;
    struct control_reply reply;
    uint16_t waiter, port;
    bool udp;
};

/* `len` is the message's true length, of which `size` bytes are at `message`. `uid` is the kernel's
 * word, never the client's. */
void control_decide(const struct stack_config *cfg, const void *message, size_t size, size_t len,
                    uint32_t uid, bool attached, struct control_decision *d);

/* May this user attach at all? */
bool control_may_use(const struct stack_config *cfg, uint32_t uid);
/* May this user bind ports below 1024? CAP_NET_BIND_SERVICE cannot be seen from here: the kernel
 * passes user and group, not capabilities. So it is root, and the users whom the configuration
 * names. */
bool control_may_bind(const struct stack_config *cfg, uint32_t uid);

#endif
