#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# run.sh PRESET TARGETS [ctest options…]: builds TARGETS of a preset in build/PRESET, and with options runs
# those tests of it.
set -eu
cd "$(dirname "$0")/../.."
preset=$1 targets=$2
shift 2
log=build/$preset.log
mkdir -p build
# shellcheck disable=SC2086 # the targets are words
if ! { cmake --preset "$preset" && cmake --build "build/$preset" --target $targets; } >"$log" 2>&1; then
    grep -m 20 -E 'error|Error|FAILED|undefined reference' "$log" || tail -n 20 "$log"
    echo "FAIL: preset $preset does not build; all of it is in $log"
    exit 1
fi
[ $# -gt 0 ] || exit 0
ctest --test-dir "build/$preset" -j2 --output-on-failure --no-tests=error "$@"
