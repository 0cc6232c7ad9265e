/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Where our own files are: relative to this program, so that the build tree and any prefix work
 * without being configured.
 */
#include "cli.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool path_find(const char *file, char *path, size_t size)
{
    static const char *const places[] = {"", "../libexec/eft/", "../lib/eft/", "../lib64/eft/",
                                         "../lib/*/eft/"};
    char self[PATH_MAX], pattern[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n <= 0)
        return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL)
        slash[1] = '\0';
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
        char real[PATH_MAX];
        glob_t g;
        int len = snprintf(pattern, sizeof pattern, "%s%s%s", self, places[i], file);
        if (len < 0 || (size_t)len >= sizeof pattern || glob(pattern, 0, NULL, &g) != 0)
            continue;
        bool found = g.gl_pathc > 0 && realpath(g.gl_pathv[0], real) != NULL && strlen(real) < size;
        globfree(&g);
        if (found) {
            strcpy(path, real);
            return true;
        }
    }
    return false;
}
