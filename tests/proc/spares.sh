#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Spares: they cost no processor time, take over from whom was killed two hundred times beside a
# transfer, and whatever happens to them, or to the lock word, costs no connection.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl
STACK_LIMIT=115 # a busy machine takes most of it for two hundred kills
stack_begin spares
stack_up
servers=(driver ip pf tcp udp syscall)
declare -A WANTED=([driver]=2 [ip]=2 [tcp]=2 [pf]=1 [udp]=1 [syscall]=1)

all_stand() {
    local s
    for s in "${servers[@]}"; do
        [ "$(server_field "$s" state)" = running ] && [ "$(server_field "$s" spares)" = "${WANTED[$s]}" ] || return 1
    done
}
spares_of() { server_field "$1" 'spare_pids[]'; }
back() {
    [ "$(status ".servers[] | select(.name == \"${1}0\") | .restarts > $2 and .state == \"running\"")" = true ]
}
# Data flow: what has come is right, and the next transfer runs.
flows() { victim_runs || { victim_end && victim_start 16; }; }
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

wait_for 10 "spares stand by" all_stand
for s in "${servers[@]}"; do for pid in $(spares_of "$s"); do say "$pid $(ticks "$pid")"; done; done >"$T/before"
victim_prepare
victim_start 16
some_data() { [ "$(stat -c %s "$T/victim/got")" -gt $((3 << 20)) ]; }
wait_for 10 "three megabytes have come" some_data
while read -r pid used; do # a new application is worth a tick
    [ $(($(ticks "$pid") - used)) -le 1 ] || fail "spare $pid used processor time"
done <"$T/before"

# --- two hundred kills, in turn ---
KILLS=200
for ((i = 0; i < KILLS; i++)); do
    s=${servers[$((i % 6))]}
    before=$(server_field "$s" restarts)
    kill_server "$s" || fail "cannot kill $s"
    wait_for 5 "$s is back" back "$s" "$before"
    flows
done

# --- what may happen to spares ---
again() {
    flows
    wait_for 10 "spares stand by: $1" all_stand
    restarts=$(server_field tcp restarts)
    pid=$(server_field tcp pid)
}
again "a spare is killed"
mapfile -t spares < <(spares_of tcp)
kill -KILL "${spares[0]}"
replaced() { ! spares_of tcp | grep -qx "$1" && all_stand; }
wait_for 10 "it is replaced" replaced "${spares[0]}"
[ "$(server_field tcp restarts)" = "$restarts" ] || fail "tcp was restarted for it"
[ "$(server_field tcp pid)" = "$pid" ] || fail "another one runs"

again "the owner and both spares are killed"
mapfile -t spares < <(spares_of tcp)
kill -KILL "$pid" "${spares[@]}"
wait_for 5 "tcp is back" back tcp "$restarts"

again "a spare and the owner are killed"
kill -KILL "$(spares_of tcp | head -1)" "$pid"
wait_for 5 "tcp is back" back tcp "$restarts"

again "one spare stands still"
kill -STOP "$(spares_of tcp | head -1)"
kill -KILL "$pid"
wait_for 5 "tcp is back" back tcp "$restarts"

again "both spares stand still"
mapfile -t spares < <(spares_of tcp)
kill -STOP "${spares[@]}"
kill -KILL "$pid"
wait_for 5 "tcp is back" back tcp "$restarts"

again "the owner stands still, and is killed"
kill -STOP "$pid"
kill_server tcp
wait_for 5 "tcp is back" back tcp "$restarts"

# --- wild stores to the lock word: without the mark (rs has to find out), and with it ---
lock() { "$PYTHON" "$ROOT/tests/proc/spares.py" "$pid" "eft:$STACK:tcp0" "$@"; }
for value in 12345 0 0xffffffff; do
    again "the lock word is $value"
    [ $(($(lock) & 0x3fffffff)) = "$pid" ] || fail "the lock word is $(lock), its owner is $pid"
    lock $value
    kill -KILL "$pid"
    wait_for 5 "tcp is back" back tcp "$restarts"
done
again "the lock word says that its owner has died"
lock 0xc0000000
stack_run curl -s -o /dev/null "http://$PEER_IP:8099/" # something to tell spares, which so wake
wait_for 5 "a spare has taken over" back tcp "$restarts"
dead() { [ ! -e "/proc/$1" ]; }
wait_for 5 "the owner was ended" dead "$pid"

wait_for 10 "spares stand by in the end" all_stand
victim_end
say "$KILLS kills, longest $(status '[.servers[].last_gap_ns] | max / 1e6') ms of the last ones"
stack_end
