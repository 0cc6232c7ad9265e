#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# nginx under libsock while every server is killed: downloads and uploads arrive whole.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need curl nginx jq openssl
SIZE=$((512 << 20))
stack_begin nginx-kills
stack_up
make_data "$T/big" $SIZE
nginx_config "$T/nginx"
ln "$T/big" "$T/nginx/www/big"
mapfile -t nginx < <(nginx_command "$T/nginx")
spawn nginx stack_run "${nginx[@]}"
wait_for 10 "nginx listens" port_open "$STACK_IP" 80
survive download "$T/got" $SIZE --kills 2 || fail "$(cat "$T/download.json")"
survive upload "$T/nginx/www/up/put" $SIZE --kills 2 || fail "$(cat "$T/upload.json")"
jq -r '"\(.label): \(.transfers) transfers, longest gap \([.components[].gap_ms] | max) ms"' "$T"/*load.json
stack_end
