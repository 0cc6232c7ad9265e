#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# python3 -m http.server under libsock, fetched by curl on the kernel.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need curl jq openssl
SIZE=$((32 << 20))
stack_begin python
stack_up
mkdir "$T/www"
make_data "$T/www/big" $SIZE
spawn python stack_run "$PYTHON" -m http.server --directory "$T/www" 8000
wait_for 10 "python listens" port_open "$STACK_IP" 8000
mark_bytes
in_peer curl -sSf -o "$T/got" "http://$STACK_IP:8000/big"
same_sha "$T/www/big" "$T/got"
assert_carried rx $SIZE
in_peer curl -sSf "http://$STACK_IP:8000/" | grep -q 'href="big"' || fail "directory listing"
in_peer curl -sSf --no-progress-meter -Z --parallel-immediate --parallel-max 4 "http://$STACK_IP:8000/big?[1-4]" -o "$T/par#1"
for i in 1 2 3 4; do same_sha "$T/www/big" "$T/par$i"; done
code=$(in_peer curl -s -o /dev/null -w '%{http_code}' "http://$STACK_IP:8000/none")
[ "$code" = 404 ] || fail "expected 404, got $code"
stack_end
