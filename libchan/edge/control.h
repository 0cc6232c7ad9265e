/* SPDX-License-Identifier: BSD-2-Clause
 *
 * application <-> syscall server: a unix seqpacket socket at /run/eft/NAME/control. One message is
 * one struct. Version CONTROL_VERSION. The caller is known by SO_PEERCRED at the start and by the
 * kernel's credentials on each message (SO_PASSCRED), never by what it says.
 *
 * Replies that carry memory come from rs itself, on the same socket (rs keeps the server's end of
 * each application's socket, so that nothing is lost while syscall is dead): syscall never holds an
 * application's writable memory. Requests are idempotent and may be repeated with the same id.
 */
#ifndef EFT_EDGE_CONTROL_H
#define EFT_EDGE_CONTROL_H

#include <stdint.h>

enum { CONTROL_VERSION = 1 };

enum control_op {
    CONTROL_ATTACH =
        1, /* -> reply with CONTROL_FDS descriptors: up (rw), down-tcp, down-udp, down-ctl,
              public page of tcp, of udp, bell to tcp, bell to udp, waiter 0 */
    CONTROL_WAITER = 2, /* arg: waiter number 1..63 -> reply with one descriptor */
    CONTROL_PORT = 3,   /* arg: port | 0x10000 for udp: may I bind this privileged port? */
};
enum { CONTROL_FDS = 9 };

struct control_request {
    uint32_t version, op;
    uint64_t id;
    uint32_t arg, reserved;
};
struct control_reply {
    uint32_t version, op;
    uint64_t id;
    int32_t
        result; /* 0 or -errno: -EACCES, -EPROTONOSUPPORT (version), -EUSERS (too many), -EINVAL */
    uint32_t app, app_generation, reserved;
};

#endif
