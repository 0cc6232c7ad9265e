#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Malformed and random frames from the peer do not disturb a running transfer, and are counted.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl
stack_begin frames
stack_up
victim_prepare
[ "$STACK_SIDE" = kernel ] || before=$(restarts)
for seed in 1 2 3; do
    victim_start 2
    in_peer "$PYTHON" "$ROOT/tests/proc/frames.py" "$DEVICE" "$STACK_IP" "$PEER_IP" 20000 "$seed"
    victim_end
done
in_peer ping -c1 -W1 "$STACK_IP" >/dev/null || fail "no ping afterwards"
[ "$STACK_SIDE" = kernel ] || [ "$(restarts)" = "$before" ] || fail "a server restarted: $(status .servers)"
stack_end
