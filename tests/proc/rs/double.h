/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EFT_TESTS_RS_DOUBLE_H
#define EFT_TESTS_RS_DOUBLE_H

/* up_region.version by which rs_attach makes the double of tcp hang. */
#define DOUBLE_SPIN 0xdeadu
/* … and by which it makes it close its channel to rs, and live on. */
#define DOUBLE_MUTE 0xdeafu

#endif
