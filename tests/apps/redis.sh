#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# redis-server and redis-benchmark, each under libsock against the other one on the kernel.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need redis-server redis-cli redis-benchmark jq openssl
stack_begin redis
stack_up
mkdir -p "$T/server" "$T/peer"
redis=(redis-server --port 6379 --protected-mode no --save '' --loglevel warning)
spawn redis stack_run "${redis[@]}" --dir "$T/server"
wait_for 10 "redis listens" port_open "$STACK_IP" 6379
mark_bytes
benchmark=(redis-benchmark -q -t set,get -c 50 -d 100)
in_peer "${benchmark[@]}" -h "$STACK_IP" -n 20000 >"$T/in.log" 2>&1 || fail "$(cat "$T/in.log")"
grep -q 'GET:.*requests per second' "$T/in.log" || fail "no result: $(cat "$T/in.log")"
in_peer "${benchmark[@]}" -P 16 -h "$STACK_IP" -n 100000 >"$T/pipe.log" 2>&1 || fail "$(cat "$T/pipe.log")"
assert_carried rx $((120000 * 100))

# A value of 8 MiB comes back as it went in, also from the file that a forked child has written.
make_data "$T/value" $((8 << 20))
in_peer redis-cli -h "$STACK_IP" -x set big <"$T/value" >/dev/null
in_peer redis-cli -h "$STACK_IP" bgsave >/dev/null
in_peer redis-cli -h "$STACK_IP" --raw get big | head -c $((8 << 20)) >"$T/got"
same_sha "$T/value" "$T/got"
saved() { in_peer redis-cli -h "$STACK_IP" info persistence | grep -q 'rdb_bgsave_in_progress:0'; }
wait_for 10 "the background save ends" saved
in_peer redis-cli -h "$STACK_IP" info persistence | grep -q 'rdb_last_bgsave_status:ok' || fail "bgsave"
in_peer redis-cli -h "$STACK_IP" ping | grep -q PONG || fail "no answer after the save"
despawn redis

spawn peer-redis in_peer "${redis[@]}" --dir "$T/peer"
wait_for 10 "the peer's redis listens" in_peer nc -z "$PEER_IP" 6379
mark_bytes
stack_run "${benchmark[@]}" -h "$PEER_IP" -n 20000 >"$T/out.log" 2>&1 || fail "$(cat "$T/out.log")"
grep -q 'GET:.*requests per second' "$T/out.log" || fail "no result: $(cat "$T/out.log")"
assert_carried rx $((20000 * 100))
stack_end
