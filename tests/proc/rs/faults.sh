#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Restarts: kills at once, faults with a growing delay, in both shapes; the gap in numbers.
set -u
. "$(dirname "$0")/common.sh"
rs_begin eftfault "$@"
cp "$DOUBLES/rs_double" "$T/eft-fused"

restarted() { [ "$(server "$1" restarts)" = "$2" ] && is "$1" state running; }

up || fail "eft up"
for i in $(seq 20); do
    kill_server tcp0
    wait_for 5 "restart $i" restarted tcp0 "$i"
    [ "$(server tcp0 last_end)" = killed ] || fail "its end was $(server tcp0 last_end)"
    say "gap $i: $(($(server tcp0 last_gap_ns) / 1000)) us"
done
[ "$(server tcp0 epoch)" = 21 ] || fail "epoch $(server tcp0 epoch) after 20 restarts"

# faults of one server: it comes back every time; the others do not notice. (When that takes longer and
# longer depends on how long each one lives: unit/rs_policy, proc/ladder.)
for i in $(seq 8); do
    kill -SEGV "$(server pf0 pid)"
    wait_for 5 "restart after fault $i" restarted pf0 "$i"
    [ "$(server pf0 last_end)" = fault ] || fail "its end was $(server pf0 last_end)"
done
[ "$(server ip0 restarts)" = 0 ] || fail "ip0 was restarted as well"

# an endless loop is found by its processor time, and nobody else is blamed
attach spinner --spin
replaced() {
    attached spinner && grep -q replaced "$T/spinner.out" # fails at once if it could not attach
}
wait_for 10 "the looping tcp is replaced" replaced
wait_for 5 "tcp0 runs" is tcp0 state running
[ "$(server tcp0 hangs)" -ge 1 ] || fail "tcp0 was not taken for hung"
[ "$(status '[.servers[] | select(.name != "tcp0") | .hangs] | add')" = 0 ] || fail "others hung too"
kill -KILL "$ATTACHED"
wait_for 5 "the spinner is gone" applications 0

# one that leaves its channel and lives on would hear of no application any more
restarts=$(server tcp0 restarts)
attach deserter --mute
replaced_too() { attached deserter && grep -q replaced "$T/deserter.out"; }
wait_for 5 "the tcp that left is replaced" replaced_too
wait_for 5 "tcp0 runs" is tcp0 state running
[ "$(server tcp0 restarts)" -gt "$restarts" ] || fail "tcp0 was not restarted"
kill -KILL "$ATTACHED"
wait_for 5 "the deserter is gone" applications 0

# all at once
pids=$(status '.servers[].pid')
kill -KILL $pids
wait_for 5 "all are back" all_running
for pid in $pids; do dead "$pid" || fail "process $pid lives"; done
rs_end

up --shape fused || fail "eft up --shape fused"
[ "$(status '.servers | length')" = 1 ] || fail "more than one process"
[ "$(status '.servers[0].components | length')" = 6 ] || fail "not six components"
kill_server udp0
wait_for 5 "the fused process is back" restarted fused 1
eft maps --name "$STACK" >"$T/maps" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps")"
rs_end
say ok
