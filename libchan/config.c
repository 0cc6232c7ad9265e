/* SPDX-License-Identifier: BSD-2-Clause */
#include "config.h"

void config_tcp_defaults(struct stack_config *cfg)
{
#define X(name, value, least, most) cfg->name = value;
    CONFIG_TCP_RINGS(X)
    CONFIG_TCP_NUMBERS(X)
#undef X
#define X(name, value) cfg->name = value;
    CONFIG_TCP_SWITCHES(X)
#undef X
    cfg->tcp_congestion = 1; /* cubic */
    cfg->tcp_ecn = CONFIG_ECN_PASSIVE;
    cfg->tcp_syncookies = CONFIG_COOKIES_ON;
    cfg->tcp_mtu_probing = CONFIG_MTU_BLACKHOLE;
}
