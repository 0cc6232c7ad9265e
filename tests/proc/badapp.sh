#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A misbehaving application disturbs nobody: it scribbles over its half of the shared memory, fills its
# bells, closes in the middle of everything, dies. Another one's transfer goes on, no server restarts,
# and new applications are served.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl
stack_begin badapp
stack_up
victim_prepare
before=$(restarts)
for mode in counters slots queue page bell close die; do
    victim_start 1
    for seed in 1 2 3; do
        stack_run "$PYTHON" "$ROOT/tests/proc/badapp.py" "$mode" "$seed" "$PEER_IP" 8099 \
            >"$T/badapp.log" 2>&1 || [ $? = 137 ] || fail "$mode: $(cat "$T/badapp.log")"
    done
    victim_end
    say "$mode: undisturbed"
done
[ "$(restarts)" = "$before" ] || fail "a server restarted: $(status '.servers')"
eft maps --name "$STACK" >"$T/maps.log" 2>&1 || fail "eft maps afterwards"
stack_end
