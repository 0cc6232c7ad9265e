#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# curl under libsock: downloads and uploads against nginx on the kernel.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need curl nginx jq openssl
SIZE=$((64 << 20))
stack_begin curl
stack_up
make_data "$T/big" $SIZE
make_data "$T/small" 4097
nginx_config "$T/nginx"
cp "$T/big" "$T/small" "$T/nginx/www/"
mapfile -t nginx < <(nginx_command "$T/nginx")
spawn nginx in_peer "${nginx[@]}"
wait_for 10 "nginx listens" in_peer nc -z "$PEER_IP" 80

# counted: the last transfer moved, over the stack, what curl says to the byte.
counted() {
    curl_counted "$T/counts"
    assert_payload sent "$CURL_sent"
    assert_payload received "$CURL_received"
}

mark_bytes
mark_payload
stack_run curl -sSf -w "$CURL_COUNTS" -o "$T/got" "http://$PEER_IP/big" >"$T/counts"
counted
same_sha "$T/big" "$T/got"
assert_carried tx $SIZE

mark_payload
stack_run curl -sSf -w "$CURL_COUNTS" -o "$T/put.out" -T "$T/big" "http://$PEER_IP/up/put" >"$T/counts"
counted
same_sha "$T/big" "$T/nginx/www/up/put"
assert_carried rx $SIZE

# Fifty requests on one connection, then eight connections at once.
stack_run curl -sSf -w '%{num_connects}\n' "http://$PEER_IP/small?[1-50]" -o "$T/keep#1" >"$T/connects"
[ "$(awk "{ n += \$1 } END { print n }" "$T/connects")" = 1 ] || fail "fifty requests took more than one connection"
for i in 1 25 50; do same_sha "$T/small" "$T/keep$i"; done
stack_run curl -sSf --no-progress-meter -Z --parallel-immediate --parallel-max 8 "http://$PEER_IP/big?[1-8]" -o "$T/par#1"
for i in 1 2 3 4 5 6 7 8; do same_sha "$T/big" "$T/par$i"; done

# Nobody listens on port 81: an error, and at once.
code=0
stack_run curl -sS --connect-timeout 5 "http://$PEER_IP:81/" >"$T/refused.out" 2>&1 || code=$?
[ $code = 7 ] || fail "curl to a closed port ended with $code: $(cat "$T/refused.out")"
stack_end
