#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# 10,000 connections that we have closed and the peer has not: some are held, for as long as
# FIN-WAIT-2 may last, and more are reset; a running transfer and new connections notice nothing.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl nc
stack_begin halfclosed
stack_up "app_tcp_slots=2048" "" "[tcp]" "orphans_max=4096" "fin_timeout_s=600"
victim_prepare
spawn server stack_run "$PYTHON" "$ROOT/tests/proc/halfclosed.py" serve 7000
wait_for 10 "the server listens" port_open "$STACK_IP" 7000

spawn echo stack_run "$EFT_BUILD/tests/apps/programs/echo_server" 7001
wait_for 10 "the echo server listens" port_open "$STACK_IP" 7001

counter() { status "[.servers[].counters.tcp0.$1 // empty] | add"; }
victim_start 4
spawn client in_peer "$PYTHON" "$ROOT/tests/proc/halfclosed.py" keep "$STACK_IP" 7000 10000
wait_for 80 "10,000 connections are half closed" test -s "$T/client.log"
read -r fins resets <"$T/client.log"
say "$fins ended by FIN, $resets by RST; $(counter orphans_reset) orphans were reset"
[ $((fins + resets)) = 10000 ] || fail "some connections are missing"
[ "$resets" -gt 0 ] || fail "more are held than may be"
[ "$(counter orphans_reset)" -ge "$resets" ] || fail "resets that nobody counted"
victim_end
# There is no room for one more orphan: a server that closes before its client, or is still waiting for
# the ACK of its FIN, is reset at once. So these clients close first, after they have seen every byte.
in_peer "$EFT_BUILD/tests/apps/programs/echo_client" -c -n 10 "$STACK_IP" 7001 100000 || fail "new connections do not work"
[ "$(restarts)" = 0 ] || fail "a server restarted: $(status .servers)"
despawn client
despawn echo
despawn server
stack_end
