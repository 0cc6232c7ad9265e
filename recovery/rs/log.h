/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Where rs says things: the journal with fields when systemd started us, else standard error. Until
 * the stack is up, errors also go to the one who waits for it (`eft up`, by --ready-fd).
 */
#ifndef EFT_RS_LOG_H
#define EFT_RS_LOG_H

#include <syslog.h>

/* `ready_fd`: -1 none. Detects the journal by $JOURNAL_STREAM. */
void log_open(const char *stack, int ready_fd);
/* The one who waits has been answered: closes the descriptor. */
void log_ready(const char *answer);
/* `server`: "" or the name of the server concerned. */
void log_say(int priority, const char *server, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The last text of an error (for exit messages and sd_notify). */
const char *log_last_error(void);

#endif
