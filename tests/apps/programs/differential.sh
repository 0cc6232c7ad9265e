#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What Linux answers and what we answer must be the same: `semantics` on the kernel's sockets and
# under libsock, compared line by line.
set -eu
. "$(dirname "$0")/../../tools/stack.sh"
PROGRAMS=$EFT_BUILD/tests/apps/programs
LOG=$(mktemp -d "${STACK_TMP:-/tmp}/eft-differential.XXXXXX")
# run SIDE: in a subshell, because a script may begin only one stack.
run() (
    STACK_SIDE=$1
    stack_begin "differential-$1"
    stack_up
    ip -n "$STACK" link set lo up
    spawn peer in_peer "$PROGRAMS/semantics_peer" 7320
    wait_for 10 "the peer listens" in_peer nc -z "$PEER_IP" 7320
    stack_run timeout 60 "$PROGRAMS/semantics" "$PEER_IP" 7320 >"$LOG/$1" || fail "$1: status $?"
    despawn peer
    [ "$1" = kernel ] || stack_end
)
run kernel
run eft
diff -u "$LOG/kernel" "$LOG/eft" || fail "we answer otherwise than Linux does"
say "$(wc -l <"$LOG/eft") answers are the same"
rm -rf "$LOG"
