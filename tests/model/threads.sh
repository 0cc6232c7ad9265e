#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Compiles threads.c with libchan: under ThreadSanitizer, spinning; the same with the release stores
# weakened, which must be found wrong; and plain, sleeping, on the bare processors.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
flags=(-std=gnu17 -O1 -g -D_GNU_SOURCE -fno-strict-aliasing -pthread)
# gcc expands memcpy() in place without telling ThreadSanitizer.
tsan=(-fsanitize=thread -Wno-tsan -fno-builtin -DSPIN)
export TSAN_OPTIONS="halt_on_error=1 exitcode=66"

build() { # NAME ROOT FLAGS...
    local name=$1 from=$2
    shift 2
    gcc "${flags[@]}" "$@" -I"$from" -o "$dir/$name" "$from/tests/model/threads.c" \
        "$from"/libchan/*.c
}

echo 'int main(void){return 0;}' >"$dir/probe.c"
if gcc -fsanitize=thread -o "$dir/probe" "$dir/probe.c" 2>/dev/null && "$dir/probe" 2>/dev/null; then
    build tsan "$root" "${tsan[@]}"
    "$dir/tsan"
    mkdir -p "$dir/weak/tests/model"
    cp -r "$root/libchan" "$root/servers" "$root/drivers" "$dir/weak/"
    cp "$root/tests/model/threads.c" "$dir/weak/tests/model/"
    sed -i 's/__ATOMIC_RELEASE/__ATOMIC_RELAXED/' "$dir/weak/libchan/atomic.h"
    build control "$dir/weak" "${tsan[@]}"
    rc=0
    "$dir/control" >"$dir/control.out" 2>&1 || rc=$?
    if [ $rc != 66 ]; then
        echo "FAIL: the control without release stores was not found wrong ($rc)"
        exit 1
    fi
    echo "the control without release stores is found wrong"
else
    echo "ThreadSanitizer does not run here"
fi
build plain "$root" -O2
"$dir/plain"
