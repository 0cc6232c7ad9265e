/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Does a process still map a certain region? An application is its mappings: after exec it has
 * none, although its pidfd says nothing. /proc/PID/maps is as long as its owner likes, so that it
 * is read in steps: whoever has a hundred thousand mappings must not keep rs from its work.
 */
#ifndef EFT_RS_MAPPED_H
#define EFT_RS_MAPPED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum mapped_answer {
    MAPPED_NO,
    MAPPED_YES, /* or it cannot be told: then the pidfd decides */
    MAPPED_MORE /* not yet known: go on with the next step */
};

/* A look under way. A mapping that is there all the time is found, whatever changes around it. */
struct mapped {
    int fd; /* of /proc/PID/maps; -1: none under way */
    dev_t dev;
    ino_t ino;
    size_t len;
    char line[128]; /* the part of the present line that matters */
};

/* Begins to look for what `region` is open on; for MAPPED_MORE go on with mapped_step(). */
enum mapped_answer mapped_begin(struct mapped *m, pid_t pid, int region);
/* Reads at most `reads` times, a page each. Any other answer than MAPPED_MORE ends the look. */
enum mapped_answer mapped_step(struct mapped *m, unsigned reads);
void mapped_end(struct mapped *m);

#endif
