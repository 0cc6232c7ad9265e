#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Least privilege: servers run under users of their own, without capabilities, behind seccomp; and
# neither they nor an application can reopen a region for writing.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
stack_begin privilege
stack_up
# Four regions of its own, and the public pages.
regions_of_app() { [ "$(grep -c /memfd: "/proc/${PIDS[app]}/maps")" -ge 4 ]; }
# Users may be unable to reach the build, as in /root.
cp "$EFT_BUILD/eft" "$EFT_BUILD/libsock.so" "$T/"
spawn app in_stack "$T/eft" run --name "$STACK" -- setpriv --reuid=65534 --regid=65534 --clear-groups \
    "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 8000)); s.listen(); s.accept()'
wait_for 10 "the application is attached" regions_of_app
servers=$(for server in driver ip pf tcp udp syscall; do
    printf '%s:%s ' "$server" "$(server_field "$server" pid)"
done)
# shellcheck disable=SC2086
"$PYTHON" "$ROOT/tests/proc/privilege.py" $servers "app:${PIDS[app]}" || fail "privileges"
stack_end
