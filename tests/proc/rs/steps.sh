#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# rs is killed before each of its system calls, one after the other, while an application attaches and
# gets a waiter, and while one dies. Whatever it was at: the one gets in, the other is let go of, no
# server is restarted, and no descriptor is left over.
#   steps.sh BUILD DOUBLES [STRIDE [FIRST]]     by default a sample, one in five; 1: all of them
set -u
. "$(dirname "$0")/common.sh"
rs_begin eftstep "$@"
up || fail "eft up"
STRIDE=${3:-5}
FIRST=${4:-$((RANDOM % STRIDE + 1))}
say "before system call $FIRST and each $STRIDE-th after it"

# step_begin N: rs dies before its N-th system call from now on; step_end: did it?
step_begin() {
    : >"$T/step"
    "$DOUBLES/rs_step" "$(status .pid)" "$1" >"$T/step" 2>&1 &
    STEP=$!
    wait_for 5 "it is traced" grep -q ready "$T/step"
}
step_end() {
    kill -TERM $STEP 2>/dev/null
    wait $STEP
    grep -q killed "$T/step"
}
# What tcp maps of applications says that rs has let go of one, without a word to rs.
noticed_or_killed() { grep -q killed "$T/step" || ! grep -q "eft:$STACK:app" "/proc/$tcp/maps"; }
fds() { find "/proc/$(status "$1")/fd" -mindepth 1 | wc -l; }

attach first --waiters 2
wait_for 5 "the first one attaches" attached first
kill -KILL "$ATTACHED"
wait_for 5 "it goes" applications 0
servers=$(status '[.servers[].pid] | join(" ")')
tcp=$(server tcp0 pid)
before="$(fds .pid) $(fds .keeper_pid)"
deaths=0

# attaches
for ((n = FIRST; ; n += STRIDE)); do
    step_begin $n
    attach "come$n" --waiters 2
    wait_for 10 "one attaches though rs dies before its system call $n" attached "come$n"
    step_end || break
    deaths=$((deaths + 1))
    kill -KILL "$ATTACHED"
    wait_for 10 "it goes" applications 0
done
say "attach: fewer than $n system calls"
[ $n -gt 20 ] || fail "so few system calls: $n"

# dies
for ((n = FIRST; ; n += STRIDE)); do
    applications 1 || fail "expected one application"
    step_begin $n
    kill -KILL "$ATTACHED"
    wait "$ATTACHED" 2>/dev/null
    wait_for 10 "a death is noticed though rs dies before its system call $n" noticed_or_killed
    step_end || break
    deaths=$((deaths + 1))
    wait_for 10 "a death is noticed though rs died before its system call $n" applications 0
    attach "go$n"
    wait_for 10 "the next one attaches" attached "go$n"
done
say "death: fewer than $n system calls"
wait_for 5 "the last one goes" applications 0
[ "$(status .rs_restarts)" = $deaths ] || fail "rs was restarted $(status .rs_restarts) times, not $deaths"
[ "$(status '[.servers[].pid] | join(" ")')" = "$servers" ] || fail "servers were restarted"
[ "$(fds .pid) $(fds .keeper_pid)" = "$before" ] || fail "descriptors: $before, now $(fds .pid) $(fds .keeper_pid)"
eft maps --name "$STACK" >"$T/maps" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps")"
rs_end
say ok
