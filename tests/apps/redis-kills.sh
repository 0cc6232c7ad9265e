#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# redis and fifty clients while every server is killed: no client sees an error, and all that was
# acknowledged is there.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need redis-server redis-cli redis-benchmark jq
stack_begin redis-kills
stack_up
spawn redis stack_run redis-server --protected-mode no --save '' --loglevel warning --dir "$T"
wait_for 10 "redis listens" port_open "$STACK_IP" 6379
# Counts upwards until it is told to stop: with -l the benchmark has no end of its own.
spawn load in_peer redis-benchmark -h "$STACK_IP" -c 50 -l -q incr counter
counted() { [ "$(in_peer redis-cli -h "$STACK_IP" get counter)" -gt "${1:-0}" ] 2>/dev/null; }
wait_for 10 "the load runs" counted
kill_while load 2
reached=$(in_peer redis-cli -h "$STACK_IP" get counter)
wait_for 10 "the load goes on" counted "$reached"
despawn load
if grep -iE 'error|reset|refused|closed' "$T/load.log"; then fail "a client saw an error"; fi
rejected=$(in_peer redis-cli -h "$STACK_IP" info stats | tr -d '\r' | sed -n 's/^rejected_connections://p')
[ "$rejected" = 0 ] || fail "$rejected connections were rejected"
stack_end
