/* SPDX-License-Identifier: BSD-2-Clause
 *
 * syscall -> tcp, udp: control requests, and the replies. Every request is idempotent, so that it
 * may be repeated after any crash; the reply names the request by its index (head.src_index).
 * When full: the request waits with its caller.
 */
#ifndef EFT_EDGE_SYSCALL_CTL_H
#define EFT_EDGE_SYSCALL_CTL_H

#include "../chan.h"

enum syscall_op {
    SYSCALL_GRANT_PORT = 1, /* application `app` may bind privileged port `port` */
};

struct syscall_request {
    struct slot_head head;
    uint32_t op; /* enum syscall_op */
    uint16_t app;
    uint16_t port; /* host order */
    uint32_t app_generation;
    uint8_t reserved[20];
    uint64_t client; /* the syscall server's own reference; echoed */
    uint64_t id;     /* the client's request number; echoed */
};
_Static_assert(sizeof(struct syscall_request) == 64, "syscall_request");

struct syscall_reply {
    struct slot_head head;
    int32_t result; /* 0 or -errno */
    uint32_t reserved;
    uint64_t client, id;
    uint8_t reserved1[24];
};
_Static_assert(sizeof(struct syscall_reply) == 64, "syscall_reply");

#endif
