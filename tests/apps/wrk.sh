#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# wrk under libsock against nginx on the kernel, and the other way round.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need wrk nginx jq
stack_begin wrk
stack_up
nginx_config "$T/nginx"
mapfile -t nginx < <(nginx_command "$T/nginx")

# load SIDE ADDRESS: two seconds of requests without an error. wrk names errors only if there are any.
load() {
    "$1" wrk -t1 -c64 -d2s "http://$2/hello" >"$T/wrk.out" 2>&1 || fail "$(cat "$T/wrk.out")"
    if grep -qE 'Socket errors|Non-2xx' "$T/wrk.out"; then fail "$(cat "$T/wrk.out")"; fi
    local requests
    requests=$(awk '/requests in/ { print $1 }' "$T/wrk.out")
    [ "${requests:-0}" -ge 1000 ] || fail "only ${requests:-no} requests"
    say "$1: $requests requests in 2 s"
}
mark_bytes
spawn nginx in_peer "${nginx[@]}"
wait_for 10 "the peer's nginx listens" in_peer nc -z "$PEER_IP" 80
load stack_run "$PEER_IP"
assert_carried rx 40000
despawn nginx
spawn nginx stack_run "${nginx[@]}"
wait_for 10 "nginx listens" port_open "$STACK_IP" 80
load in_peer "$STACK_IP"
assert_carried tx 40000
stack_end
