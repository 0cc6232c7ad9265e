/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Control messages of any bytes and length: every one gets a decision, no decision gives a user
 * what is not his, and what leaves towards rs, tcp and udp is in range.
 */
#include "fuzz.h"
#include "libchan/edge/control.h"
#include "servers/syscall/decide.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void must(bool v)
{
    if (!v)
        abort();
}

size_t fuzz_seed(unsigned n, uint8_t *buf)
{
    static const struct {
        uint32_t op, arg;
    } seeds[] = {{CONTROL_ATTACH, 0},
                 {CONTROL_WAITER, 5},
                 {CONTROL_PORT, 80},
                 {CONTROL_PORT, 0x10035},
                 {CONTROL_PORT, 8080}};

    if (n >= 2 * sizeof seeds / sizeof seeds[0])
        return 0;
    const struct control_request q = {
        .version = CONTROL_VERSION, .op = seeds[n / 2].op, .id = n, .arg = seeds[n / 2].arg};
    buf[0] = (uint8_t)((n & 1) * 5); /* root, not attached; a listed user, attached */
    buf[1] = 0;
    memcpy(buf + 2, &q, sizeof q);
    return 2 + sizeof q;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct stack_config cfg = {.users = 2, .user = {1000, 1001}};
    static const uint32_t users[4] = {0, 1000, 1002, 65534};
    struct control_decision d;

    if (size < 2)
        return 0;
    const uint32_t uid = users[data[0] & 3];
    const bool attached = (data[0] & 4) != 0;
    /* A message may be longer than what was looked at. */
    const size_t have = size - 2, len = have + ((data[0] & 8) != 0 ? data[1] : 0u);
    control_decide(&cfg, data + 2, have, len, uid, attached, &d);
    must(d.reply.version == CONTROL_VERSION);
    switch (d.action) {
    case CONTROL_DO_REPLY:
        must(d.reply.result <= 0 && d.reply.result > -4096);
        must(d.reply.result == 0 || d.garbage || d.reply.result == -EACCES);
        return 0;
    case CONTROL_DO_ATTACH:
        must(!d.garbage && uid <= 1001);
        return 0;
    case CONTROL_DO_WAITER:
        must(attached && d.waiter > 0 && d.waiter < WAITERS_MAX);
        return 0;
    case CONTROL_DO_GRANT:
        must(attached && d.port > 0 && d.port < 1024 && uid <= 1001);
        return 0;
    }
    abort();
}
