#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A parent dies by a signal right after fork(): what it had listens and is connected on in its child.
# Without a child that wants it, a port is free again at once.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq nc openssl
stack_begin heirs
stack_up
make_data "$T/data" 300000

# heir NAME WHAT PORT: NAME is the parent, which dies. go_on NAME: its child does.
heir() {
    mkfifo "$T/$1.fifo"
    spawn "$1" stack_run "$PYTHON" "$ROOT/tests/proc/heirs.py" "$2" "$3" "$T/$1.fifo"
}
known_dead() {
    printf '{"op":"maps"}\n' | nc -N -U "/run/eft/$STACK/rs" | jq -e ".applications[] | select(.pid == $1 and .gone)"
}
# All of the data may be in the peer's buffer already, and the end behind it.
connected() { in_peer ss -Htn state established state fin-wait-1 "dport = :$1" | grep -q .; }
go_on() { echo >"$T/$1.fifo"; }

# The connection comes while nobody but a dead process listens. Then the same listener again: the port is
# not held by anybody.
for name in listener again; do
    heir $name listener 7000
    wait_for 10 "the stack knows of the parent's death" known_dead "${PIDS[$name]}"
    in_peer nc -N "$STACK_IP" 7000 <"$T/data" >"$T/got" &
    peer=$!
    wait_for 10 "the peer is connected" connected 7000
    go_on $name
    wait $peer || fail "the child does not listen ($name)"
    same_sha "$T/data" "$T/got"
done

# A connection: the peer has sent all of it before the parent reads.
heir connection connection 7001
echoed() {
    in_peer "$PYTHON" - "$STACK_IP" <<'PY'
import socket, sys
data = bytes(i * 7 & 255 for i in range(40000))
s = socket.create_connection((sys.argv[1], 7001))
s.settimeout(20)
s.sendall(data)
s.shutdown(socket.SHUT_WR)
got = b""
while len(got) < len(data):
    piece = s.recv(65536)
    if not piece:
        break
    got += piece
sys.exit(got != data)
PY
}
wait_for 10 "the parent listens" grep -q listens "$T/connection.log"
echoed &
echoing=$!
wait_for 10 "the stack knows of the parent's death" known_dead "${PIDS[connection]}"
go_on connection
wait $echoing || fail "the child does not echo the connection"
nothing_held() { [ "$(status .applications)" = 0 ]; }
wait_for 5 "nothing is held for the dead" nothing_held
stack_end
