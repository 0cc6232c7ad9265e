#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# nc under libsock: a file through TCP both ways, and datagrams through UDP.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need nc jq openssl
SIZE=$((16 << 20))
stack_begin nc
stack_up
make_data "$T/data" $SIZE
mark_bytes
mark_payload
listens() { in_peer ss -Htln "sport = :$1" | grep -q .; }

# From the peer to a listener of ours. A probe would use up the only accept, so the sender tries again.
stack_run nc -l -N 7000 >"$T/got" </dev/null &
reader=$!
send() { in_peer nc -N "$STACK_IP" 7000 <"$T/data"; }
wait_for 10 "nc takes a connection" send
wait $reader || fail "nc -l"
same_sha "$T/data" "$T/got"
assert_carried tx $SIZE
assert_payload received $SIZE
assert_payload sent 0

# From ours to a listener of the peer.
in_peer nc -l 7001 >"$T/got" </dev/null &
reader=$!
wait_for 10 "the peer's nc listens" listens 7001
stack_run nc -N "$PEER_IP" 7001 <"$T/data"
wait $reader || fail "the peer's nc -l"
same_sha "$T/data" "$T/got"
assert_carried rx $SIZE
assert_payload received $SIZE
assert_payload sent $SIZE

# An echo through half-close: what we send comes back after our FIN.
in_peer nc -l -N 7002 < <(head -c 100000 "$T/data") >/dev/null &
reader=$!
wait_for 10 "the peer's nc listens" listens 7002
stack_run nc "$PEER_IP" 7002 </dev/null >"$T/got"
wait $reader || fail "the peer's nc -l -N"
cmp -n 100000 "$T/data" "$T/got" || fail "half-closed connection lost data"

# The counters go on where they were when TCP has a successor.
if [ "$STACK_SIDE" = eft ]; then
    kill_server tcp || fail "cannot kill tcp"
    back() { [ "$(server_field tcp restarts)" -gt 0 ] && [ "$(server_field tcp state)" = running ]; }
    wait_for 10 "tcp is back" back
fi
stack_run nc -l -N 7004 >"$T/got" </dev/null &
reader=$!
send() { in_peer nc -N "$STACK_IP" 7004 <"$T/data"; }
wait_for 10 "nc takes a connection" send
wait $reader || fail "nc -l"
assert_payload received $((2 * SIZE + 100000))
assert_payload sent $SIZE

# Datagrams: each side in turn listens.
asks() { # asks SIDE ADDRESS: until an answer shows that the listener has it
    printf 'over and out\n' | "$1" nc -u -w1 "$2" 7003 >/dev/null
    grep -q 'over and out' "$T/udp-listener.log"
}
spawn udp-listener stack_run nc -u -l 7003
wait_for 10 "a datagram reaches nc under libsock" asks in_peer "$STACK_IP"
despawn udp-listener
spawn udp-listener in_peer nc -u -l 7003
wait_for 10 "a datagram of ours reaches the peer" asks stack_run "$PEER_IP"
stack_end
