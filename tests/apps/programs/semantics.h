/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The parts of the program semantics.
 */
#ifndef EFT_TESTS_APPS_SEMANTICS_H
#define EFT_TESTS_APPS_SEMANTICS_H

/* What a call answered: a number, or the name of its error. */
void say(const char *what, long r);
/* A connection to the peer; a line to it. */
int dial(void);
void tell(int fd, const char *line);

/* semantics_options.c */
void options(void);
void tcp_info(void);
void congestion(void);

#endif
