/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the servers' counters are called.
 */
#ifndef EFT_RS_COUNTERS_H
#define EFT_RS_COUNTERS_H

#include "libchan/region.h"

/* Names of the first counters in the server_block of a server of this kind, and how many. */
unsigned counter_names(enum server_kind kind, const char *const **names);

#endif
