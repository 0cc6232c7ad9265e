#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# nginx under libsock, as packaged: master and one worker, served to curl on the kernel.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need curl nginx jq openssl
SIZE=$((64 << 20))
stack_begin nginx
stack_up
nginx_config "$T/nginx"
make_data "$T/big" $SIZE
cp "$T/big" "$T/nginx/www/"
mapfile -t nginx < <(nginx_command "$T/nginx")
spawn nginx stack_run "${nginx[@]}"
wait_for 10 "nginx listens" port_open "$STACK_IP" 80

# counted: nginx moved, over the stack, what curl says on the other side to the byte.
counted() {
    curl_counted "$T/counts"
    assert_payload received "$CURL_sent"
    assert_payload sent "$CURL_received"
}

mark_bytes
mark_payload
in_peer curl -sSf -w "$CURL_COUNTS" -o "$T/got" "http://$STACK_IP/big" >"$T/counts"
counted
same_sha "$T/big" "$T/got"
assert_carried rx $SIZE
mark_payload
in_peer curl -sSf -w "$CURL_COUNTS" -o "$T/put.out" -T "$T/big" "http://$STACK_IP/up/put" >"$T/counts"
counted
same_sha "$T/big" "$T/nginx/www/up/put"
assert_carried tx $SIZE

in_peer curl -sSf -w '%{num_connects}\n' "http://$STACK_IP/hello?[1-200]" -o "$T/hello#1" >"$T/connects"
[ "$(awk "{ n += \$1 } END { print n }" "$T/connects")" = 1 ] || fail "200 requests took more than one connection"
cat "$T"/hello[0-9]* | sort | uniq -c | grep -qE '^ *200 hello, hello, hello$' || fail "wrong answers"
in_peer curl -sSf -H 'Connection: close' "http://$STACK_IP/hello?[1-200]" -o "$T/close#1"
cat "$T"/close[0-9]* | sort | uniq -c | grep -qE '^ *200 hello, hello, hello$' || fail "wrong answers"
in_peer curl -sSf --no-progress-meter -Z --parallel-immediate --parallel-max 8 "http://$STACK_IP/big?[1-8]" -o "$T/par#1"
for i in 1 2 3 4 5 6 7 8; do same_sha "$T/big" "$T/par$i"; done

# A reload starts a new worker; the old one finishes what it serves.
in_peer curl -sSf --limit-rate 64M -o "$T/got" "http://$STACK_IP/big" &
download=$!
kill -HUP "$(cat "$T/nginx/nginx.pid")"
in_peer curl -sSf "http://$STACK_IP/hello" >/dev/null
wait $download || fail "the download did not outlive nginx's reload"
same_sha "$T/big" "$T/got"
stack_end
