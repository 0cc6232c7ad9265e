#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# dig under libsock asks a name server on the kernel, over UDP and over TCP.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need dig dnsmasq jq
stack_begin dig
stack_up
dns_server
mark_bytes
for i in $(seq 1 20); do
    answer=$(stack_run dig +short +tries=2 +time=2 "@$PEER_IP" "host$i.example.test")
    [ "$answer" = "192.0.2.$i" ] || fail "host$i: '$answer'"
done
answer=$(stack_run dig +short +tcp +tries=1 +time=5 "@$PEER_IP" host7.example.test)
[ "$answer" = 192.0.2.7 ] || fail "over TCP: '$answer'"
# Nobody answers at port 54: an error, not a hang.
if stack_run dig +tries=1 +time=1 -p 54 "@$PEER_IP" host1.example.test >"$T/none"; then
    fail "an answer from nowhere: $(cat "$T/none")"
fi
assert_carried rx $((20 * 40))
stack_end
