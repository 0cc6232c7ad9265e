#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Garbage on the control socket, from root and from nobody, disturbs no one; the operators' socket is
# closed to users.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl
stack_begin control
stack_up
victim_prepare
before=$(restarts)
# Users may be unable to reach this tree, as in /root.
cp "$ROOT/tests/proc/control.py" "$T/"
for user in 0 65534; do
    victim_start 1
    setpriv --reuid=$user --regid=$user --clear-groups \
        "$PYTHON" "$T/control.py" "/run/eft/$STACK/control" $user || fail "control.py"
    victim_end
done
[ "$(restarts)" = "$before" ] || fail "a server restarted: $(status .servers)"
code=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$PYTHON" -c '
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print(0)
except OSError as error:
    print(error.errno)' "/run/eft/$STACK/rs")
[ "$code" = 13 ] || fail "connect to the operators' socket as nobody: errno $code, expected EACCES"
stack_run "$PYTHON" -c 'import socket; socket.socket().bind(("", 0))' || fail "no new application"
stack_end
