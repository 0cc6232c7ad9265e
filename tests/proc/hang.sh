#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Servers that hang: stopped, in an endless loop, in a loop that takes turns, with a bell that nobody rang. A program
# at the peer asks an echo server all the while; what counts is how long it gets no answer. HANG_ROUNDS=N: so many of each.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
rounds=${HANG_ROUNDS:-3}
STACK_LIMIT=$((100 + 10 * rounds)) stack_begin hang
poison_programs tcp
stack_up
spawn echo stack_run "$EFT_BUILD/tests/apps/programs/echo_server" 7000
wait_for 10 "the echo server listens" port_open "$STACK_IP" 7000

pid_of() { server_field "$1" pid; }
# The pid is asked for at the time: a command of the list is a line for sh.
stop() { say "kill -STOP \$($EFT_BUILD/eft status --name $STACK --interval 0 --json | jq '.servers[] | select(.name == \"${1}0\") | .pid') #/stop $1"; }
spin() { say "$EFT_BUILD/eft crash spin $1 --name $STACK --window 300 #/spin $1"; }
commands=$(for ((i = 0; i < rounds; i++)); do
    for server in driver ip pf tcp; do stop $server; done
    for server in ip tcp; do spin $server; done
    say "say EFT-LIVELOCK"
    say "say EFT-SILENCE"
done)
hung=$((rounds * 7))
in_peer "$PYTHON" "$ROOT/tests/proc/hang.py" "$STACK_IP" 7000 "$commands" >"$T/gaps.json" || fail "$(cat "$T/gaps.json" "/run/eft/$STACK/log")"
jq -rs 'group_by(.what)[] | "\(.[0].what): \(map(.gap_ms) | sort | "median \(.[length / 2 | floor]) ms, longest \(last) ms")"' "$T/gaps.json"

hangs=$(status '[.servers[].hangs] | add')
[ "$hangs" = "$hung" ] || fail "$hangs servers were taken for hung, expected $hung"
[ "$(restarts)" = "$hung" ] || fail "$(restarts) restarts, expected $hung"
# The machine is shared by other tests and may be slow at any time: the median of each kind is judged.
worst=$(jq -s 'group_by(.what) | map(map(.gap_ms) | sort | .[length / 2 | floor]) | max | floor' "$T/gaps.json")
[ "$worst" -le 150 ] || fail "one kind of hang lasts $worst ms"

# --- the next rs is nobody's parent: it finds the stopped all the same, also who has nothing to do ---
eft crash kill rs --name "$STACK" >"$T/killed" || fail "eft crash kill rs"
for server in syscall udp; do
    stopped=$(pid_of "$server")
    kill -STOP "$stopped"
    replaced() { [ "$(pid_of "$server")" != "$stopped" ] && [ "$(server_field "$server" state)" = running ]; }
    wait_for 5 "$server was replaced" replaced
done
despawn echo
stack_end
