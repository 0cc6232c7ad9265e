#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# run.sh MODEL: checks MODEL.pml exhaustively, then each of its controls (the words behind "Controls"
# in its head), which must fail. Exit status: 0 all as it should be, 77 no spin.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
model=$1
command -v spin >/dev/null || { echo "skipped: no spin"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# check NAME DEFINES...: prints what pan found: "errors states".
check() {
    local name=$1
    shift
    mkdir "$name"
    (
        cd "$name"
        cp "$here/$model.pml" .
        spin "$@" -a "$model.pml" >spin.out || { cat spin.out >&2; exit 1; }
        gcc -O1 -w -DSAFETY -DNOCLAIM -DCOLLAPSE -o pan pan.c
        ./pan -m200000 >pan.out 2>&1
        grep -q "max search depth too small\|out of memory" pan.out && { cat pan.out >&2; exit 1; }
        sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out | tail -1
        sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out | head -1
        cp pan.out "../$name.out"
    )
}

mapfile -t found < <(check positive)
if [ "${found[0]:-}" != 0 ]; then
    cat "$dir/positive.out"
    echo "FAIL $model: the protocol is wrong"
    exit 1
fi
echo "ok   $model: holds in all ${found[1]} states"

controls=$(sed -n '/must fail:/,/\*\//s/^ \*   \([A-Z_]*\) .*/\1/p' "$here/$model.pml")
[ -n "$controls" ] || { echo "FAIL $model: no controls"; exit 1; }
for c in $controls; do
    mapfile -t found < <(check "$c" "-D$c")
    if [ "${found[0]:-0}" = 0 ]; then
        echo "FAIL $model: the control $c was not found wrong"
        exit 1
    fi
    echo "ok   $model: $c is found wrong"
done
