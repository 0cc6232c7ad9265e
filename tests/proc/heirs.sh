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

# The connection comes while nobody but a dead process listens.
spawn listener stack_run "$PYTHON" "$ROOT/tests/proc/heirs.py" listener 7000
gone() { ! kill -0 "$1" 2>/dev/null; }
wait_for 10 "the parent is dead" gone "$SPAWNED"
in_peer nc -N "$STACK_IP" 7000 <"$T/data" >"$T/got" || fail "the child does not listen"
same_sha "$T/data" "$T/got"

# The same listener again: the port is not held by anybody.
spawn again stack_run "$PYTHON" "$ROOT/tests/proc/heirs.py" listener 7000
wait_for 10 "the parent is dead" gone "$SPAWNED"
in_peer nc -N "$STACK_IP" 7000 <"$T/data" >"$T/got" || fail "the second child does not listen"
same_sha "$T/data" "$T/got"

# A connection: the peer has sent all of it before the parent reads.
spawn connection stack_run "$PYTHON" "$ROOT/tests/proc/heirs.py" connection 7001
echoed() { in_peer "$PYTHON" - "$STACK_IP" <<'PY'
import socket, sys, time
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
wait_for 20 "the child echoes the connection" echoed
nothing_held() { [ "$(status .applications)" = 0 ]; }
wait_for 5 "nothing is held for the dead" nothing_held
stack_end
