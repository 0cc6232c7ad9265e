#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Every byte checked: echo servers and clients under libsock, streams and datagrams, and a server
# that forks for each connection.
set -eu
. "$(dirname "$0")/../../tools/stack.sh"
PROGRAMS=$EFT_BUILD/tests/apps/programs
stack_begin echo
stack_up
mark_bytes
spawn server stack_run "$PROGRAMS/echo_server" 7000
spawn forking stack_run "$PROGRAMS/echo_server" -f 7001
spawn udp stack_run "$PROGRAMS/echo_server" -u 7002
spawn peer in_peer "$PROGRAMS/echo_server" 7000
spawn peer_udp in_peer "$PROGRAMS/echo_server" -u 7002
wait_for 10 "the server listens" port_open "$STACK_IP" 7000
wait_for 10 "the forking server listens" port_open "$STACK_IP" 7001
wait_for 10 "the peer listens" in_peer nc -z "$PEER_IP" 7000
in_peer "$PROGRAMS/echo_client" -n 50 "$STACK_IP" 7000 1000000 || fail "server, 50 connections"
in_peer "$PROGRAMS/echo_client" -n 1 "$STACK_IP" 7000 33333333 || fail "server, one connection"
in_peer "$PROGRAMS/echo_client" -n 5 "$STACK_IP" 7001 1000000 || fail "forking server"
in_peer "$PROGRAMS/echo_client" -u "$STACK_IP" 7002 2000000 || fail "datagram server"
stack_run "$PROGRAMS/echo_client" -n 50 "$PEER_IP" 7000 1000000 || fail "client, 50 connections"
stack_run "$PROGRAMS/echo_client" -n 1 "$PEER_IP" 7000 33333333 || fail "client, one connection"
stack_run "$PROGRAMS/echo_client" -u "$PEER_IP" 7002 2000000 || fail "datagram client"
assert_carried rx 50000000
assert_carried tx 50000000
for name in server forking udp peer peer_udp; do despawn $name; done
stack_end
