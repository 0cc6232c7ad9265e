/* SPDX-License-Identifier: BSD-2-Clause
 *
 * eft run: an unmodified program under libsock.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

int command_run(int argc, char **argv)
{
    char library[PATH_MAX], preload[2 * PATH_MAX];
    struct options o;
    int rc = options_parse(&o, argc, argv, OPT_PROGRAM);

    if (rc >= 0)
        return rc;
    if (o.first == argc)
        return usage_error("which program?");
    if (!path_find("libsock.so", library, sizeof library))
        return complain("libsock.so is neither beside this program nor in ../lib/eft");
    const char *others = getenv("LD_PRELOAD");
    if (others != NULL && others[0] != '\0')
        snprintf(preload, sizeof preload, "%s:%.*s", library, PATH_MAX - 1, others);
    else
        snprintf(preload, sizeof preload, "%s", library);
    if (setenv("LD_PRELOAD", preload, 1) < 0 || setenv("EFT_STACK", o.name, 1) < 0)
        return complain("cannot set the environment: %s", strerror(errno));
    execvp(argv[o.first], argv + o.first);
    complain("%s: %s", argv[o.first], strerror(errno));
    return errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
}
