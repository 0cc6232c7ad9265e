#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# An idle stack sleeps: all its processes together use less than 1 % of a processor.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
stack_begin idle
stack_up
spawn listener stack_run nc -l 7000
wait_for 10 "nc is attached" test -d "/proc/$SPAWNED"

# ticks: user and system time of all processes, in clock ticks (proc(5), stat fields 14 and 15).
ticks() {
    local pid sum=0 line
    for pid in $(stack_pids); do
        read -r line <"/proc/$pid/stat" || continue
        # shellcheck disable=SC2086
        set -- ${line##*) }
        sum=$((sum + ${12} + ${13}))
    done
    printf '%s' $sum
}
# Bring-up and the spares' start are not idling.
last=-1
rests() {
    local now
    now=$(ticks)
    [ "$now" = "$last" ] || { last=$now && return 1; }
}
wait_for 10 "the stack has come to rest" rests
before=$(ticks) start=$(now_ms)
sleep 3 # what is measured is what happens during a time without events
used=$((($(ticks) - before) * 1000 / $(getconf CLK_TCK))) wall=$(($(now_ms) - start))
say "$used ms of processor time in $wall ms"
[ $((used * 100)) -lt $wall ] || fail "an idle stack used $used ms in $wall ms"
stack_end
