#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Every source is as clang-format writes it, and every script is one for its shell.
set -u
cd "$(dirname "$0")/../.." || exit 1
for program in clang-format shellcheck; do
    command -v $program >/dev/null || { echo "SKIP: $program is not installed" && exit 77; }
done
bad=0
find . \( -path ./build -o -path ./.git \) -prune -o -name '*.[ch]' -print0 |
    xargs -0 clang-format --dry-run -Werror || bad=1
find . \( -path ./build -o -path ./.git \) -prune -o -type f -print0 |
    xargs -0 grep -lZE -m1 '^#!.*[/ ](ba)?sh$|^# shellcheck shell=' | xargs -0 shellcheck -x -S error || bad=1
exit $bad
