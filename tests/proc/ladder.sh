#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A TCP server that faults at every start, up to the step of the ladder that helps: without optional state, which costs
# nobody anything; cold, which costs the connections and nothing else.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq nc
stack_begin ladder
poison_programs tcp
# Spares that were made before the fault do not have it.
stack_up "" "[recovery]" "spares=0"
spawn echo stack_run "$EFT_BUILD/tests/apps/programs/echo_server" 7000
wait_for 10 "the echo server listens" port_open "$STACK_IP" 7000

tcp() { server_field tcp "$1"; }
recovered() { [ "$(tcp state)" = running ] && [ "$(tcp restarts)" -gt "$before" ]; }
log() { cat "/run/eft/$STACK/log"; }
# connection: a peer that asks once a line comes on its standard input, and says what came of it.
cat >"$T/peer.py" <<'PYTHON'
import socket, sys
c = socket.create_connection((sys.argv[1], 7000), timeout=30)
for line in sys.stdin:
    try:
        c.sendall(line.encode())
        print("answer" if c.recv(100) == line.encode() else "end", flush=True)
    except ConnectionResetError:
        print("reset", flush=True)
PYTHON
mkfifo "$T/questions"
EXEC=exec in_peer "$PYTHON" "$T/peer.py" "$STACK_IP" <"$T/questions" >"$T/peer.log" 2>&1 &
PIDS[peer]=$!
exec 8>"$T/questions"
asks() { wc -l <"$T/peer.log"; }
ask() {
    local n
    n=$(asks)
    say "question $n" >&8
    answered() { [ "$(asks)" -gt "$n" ]; }
    wait_for 20 "an answer" answered
    [ "$(tail -n1 "$T/peer.log")" = "$1" ] || fail "the connection says $(tail -n1 "$T/peer.log"), expected $1"
}
# climb STEP TEXT: faults at every start until rs takes that step, and says so in its log.
climb() {
    say "$1" >"$EFT_BUILD/fault-at-start"
    before=$(tcp restarts)
    kill -SEGV "$(tcp pid)"
    wait_for 30 "tcp lives again" recovered
    rm "$EFT_BUILD/fault-at-start"
    say "$1: after $(($(tcp restarts) - before)) faults"
    log | grep -q "tcp0: cannot live; from now on it is started $2" || fail "rs did not take the step: $(log | tail -n 20)"
}

ask answer
climb frugal "without optional state"
log | grep -q "started cold" && fail "it went further than it had to"
ask answer
climb cold "cold"
ask reset
in_peer "$EFT_BUILD/tests/apps/programs/echo_client" -c -n 3 "$STACK_IP" 7000 10000 || fail "the listener does not listen any more"
[ "$(tcp restarts)" = "$(restarts)" ] || fail "others restarted as well"
exec 8>&-
despawn peer
despawn echo
stack_end
