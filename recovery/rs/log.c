/* SPDX-License-Identifier: BSD-2-Clause */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

static const char *stack_name = "";
static int ready = -1;
static int journal;
static char last_error[512];

void log_open(const char *stack, int ready_fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long dev, ino;
    struct stat st;

    stack_name = stack;
    ready = ready_fd;
    journal = stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
              fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_ready(const char *answer)
{
    if (ready < 0)
        return;
    dprintf(ready, "%s\n", answer);
    close(ready);
    ready = -1;
}

const char *log_last_error(void)
{
    return last_error;
}

void log_say(int priority, const char *server, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (priority <= LOG_ERR) {
        snprintf(last_error, sizeof last_error, "%.511s", text);
        if (ready >= 0)
            dprintf(ready, "%s%s%s\n", server, server[0] != '\0' ? ": " : "", text);
    }
    if (journal) {
        sd_journal_send("MESSAGE=%s%s%s", server, server[0] != '\0' ? ": " : "", text,
                        "PRIORITY=%d", priority, "SYSLOG_IDENTIFIER=eft-rs", "EFT_STACK=%s",
                        stack_name, "EFT_SERVER=%s", server, NULL);
        return;
    }
    dprintf(STDERR_FILENO, "<%d>eft-rs: %s%s%s\n", priority, server, server[0] != '\0' ? ": " : "",
            text);
}
