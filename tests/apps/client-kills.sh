#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# curl and dig under libsock, as clients, while every server is killed.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need curl dig dnsmasq jq openssl
stack_begin client-kills
stack_up
dns_server
victim_prepare
victim_start 8
kill_while victim 2
victim_end
# A lookup for each kill: a datagram may fall into the gap, the second try must not.
for server in driver ip tcp udp pf syscall; do
    stack_run dig +short +tries=4 +time=1 "@$PEER_IP" host5.example.test >"$T/answer" &
    lookup=$!
    kill_server "$server"
    wait $lookup || fail "no answer while $server was killed"
    [ "$(cat "$T/answer")" = 192.0.2.5 ] || fail "wrong answer while $server was killed: $(cat "$T/answer")"
done
stack_end
