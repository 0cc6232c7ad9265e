#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# eft status: JSON that names every server, and counters that move with the traffic.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq nc
stack_begin status
stack_up
for server in driver ip pf tcp udp syscall; do
    state=$(server_field "$server" state)
    [ "$state" = running ] || fail "$server is '$state'"
    pid=$(server_field "$server" pid)
    [ -d "/proc/$pid" ] || fail "$server has pid '$pid', which is no process"
done
eft status --name "$STACK" >"$T/text"
for server in driver ip pf tcp udp syscall; do
    grep -q "$server" "$T/text" || fail "$server is missing in the text: $(cat "$T/text")"
done

# A restart is counted, and nobody else restarts with it.
before=$(server_field ip restarts) other=$(server_field udp restarts)
kill_server ip
restarted() { [ "$(server_field ip restarts)" = $((before + 1)) ]; }
wait_for 5 "the restart of ip is counted" restarted
[ "$(server_field udp restarts)" = "$other" ] || fail "udp restarted as well"
in_peer ping -c1 -W1 "$STACK_IP" >/dev/null || fail "no ping after the restart of ip"

if eft status --name "no-such-$$" --json >/dev/null 2>&1; then fail "a status of nothing"; fi
if eft crash kill nobody --name "$STACK" >/dev/null 2>&1; then fail "killed a server that is not there"; fi
stack_end
