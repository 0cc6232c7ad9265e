#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# eft maps: /proc agrees with the table of who may map what; also with applications attached and
# after every server was replaced.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl
stack_begin maps
stack_up
eft maps --name "$STACK" >"$T/maps.log" 2>&1 || fail "eft maps on a fresh stack"
spawn server stack_run "$PYTHON" -m http.server --directory "$T" 8000
wait_for 10 "python listens" port_open "$STACK_IP" 8000
eft maps --name "$STACK" >"$T/maps.log" 2>&1 || fail "eft maps with an application"
for server in driver ip pf tcp udp syscall; do
    kill_server "$server"
    wait_for 5 "the stack answers" in_peer curl -sf -m2 -o /dev/null "http://$STACK_IP:8000/"
done
eft maps --name "$STACK" >"$T/maps.log" 2>&1 || fail "eft maps after restarts"
stack_end
