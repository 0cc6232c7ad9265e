#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A peer that has found a segment which brings TCP down, and a connection that brings it down whenever it
# sends: each is dropped alone, within so many restarts; a running transfer and new connections go on.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl nc
stack_begin quarantine
poison_programs tcp
stack_up
victim_prepare
spawn echo stack_run "$EFT_BUILD/tests/apps/programs/echo_server" 7000
spawn sick stack_run "$EFT_BUILD/tests/apps/programs/echo_server" 6667
wait_for 10 "the echo server listens" port_open "$STACK_IP" 7000
wait_for 10 "the sick server listens" port_open "$STACK_IP" 6667

tcp() { server_field tcp "$1"; }
counter() { status "[.servers[].counters.tcp0.$1 // empty] | add"; }
# provoke PORT TEXT: connects, says it, and waits for the reset, which must come.
provoke() {
    in_peer "$PYTHON" - "$STACK_IP" "$1" "$2" <<'PYTHON' || fail "port $1: the connection was not reset"
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
c.sendall(sys.argv[3].encode())
try:
    sys.exit(f"an answer: {c.recv(100)!r}")
except ConnectionResetError:
    pass
PYTHON
}

victim_start 16
[ "$(tcp restarts)" = 0 ] || fail "tcp restarted before anything was done to it"

# Three faults for the segment, three when the peer sends it again; then the connection goes.
provoke 7000 EFT-POISON
say "segment: $(tcp restarts) restarts, $(counter quarantined) dropped"
[ "$(tcp restarts)" = 6 ] || fail "$(tcp restarts) restarts"
[ "$(counter quarantined)" -ge 3 ] || fail "only $(counter quarantined) segments were dropped"
victim_runs || fail "the transfer ended"
in_peer "$EFT_BUILD/tests/apps/programs/echo_client" -c -n 3 "$STACK_IP" 7000 10000 || fail "new connections do not work"

# The connection itself: reset where it is taken over, after three faults.
provoke 6667 hello
say "connection: $(tcp restarts) restarts, $(counter quarantined) dropped"
[ "$(tcp restarts)" = 9 ] || fail "$(tcp restarts) restarts"
[ "$(tcp last_end)" = fault ] || fail "its end was $(tcp last_end)"
in_peer "$EFT_BUILD/tests/apps/programs/echo_client" -c -n 3 "$STACK_IP" 7000 10000 || fail "new connections do not work"
victim_end
[ "$(tcp restarts)" = "$(restarts)" ] || fail "others restarted as well: $(status .servers)"
[ "$(tcp hangs)" = 0 ] || fail "tcp was taken for hung"
despawn echo
despawn sick
stack_end
