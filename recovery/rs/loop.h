/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EFT_RS_LOOP_H
#define EFT_RS_LOOP_H

#include "rs.h"

/* Epoll and signals. 0 or -errno. */
int loop_open(struct rs *rs);
/* Until rs_stop() was called and every server has ended. */
void loop_run(struct rs *rs);

#endif
