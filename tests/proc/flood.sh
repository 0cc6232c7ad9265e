#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# 300,000 SYNs from as many strangers, 100,000 a second, at a port where somebody listens: a running
# transfer goes on, new connections come through, also while the TCP server dies, and no SYN costs memory.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl nc
stack_begin flood
stack_up
victim_prepare
mkdir "$T/www"
make_data "$T/www/data" 100000
spawn server stack_run "$PYTHON" -m http.server --directory "$T/www" 8080
wait_for 10 "the server listens" port_open "$STACK_IP" 8080

resident() { awk '/^VmRSS/ {print $2}' "/proc/$(server_field tcp pid)/status"; }
cookies() { status '[.servers[].counters.tcp0.syn_cookies_sent // empty] | add'; }
cookies_flow() { [ "$(cookies)" -gt 1000 ]; }
get() {
    in_peer curl -sSf --max-time 60 -o "$T/got$1" "http://$STACK_IP:8080/data" ||
        fail "no new connection during the flood"
    same_sha "$T/www/data" "$T/got$1"
}
# flood SEED: returns while it runs.
flood() { spawn "flood$1" in_peer "$EFT_BUILD/tests/tools/flood" "$DEVICE" "$STACK_IP" 8080 300000 100000 "$1"; }
flood_end() {
    wait "${PIDS[flood$1]}" || fail "flood: $(cat "$T/flood$1.log")"
    unset "PIDS[flood$1]"
    say "seed $1: $(cat "$T/flood$1.log"), $(cookies) cookies"
}

get 0
victim_start 2
flood 1
wait_for 20 "cookies are sent" cookies_flow
get 1
flood_end 1
victim_end

# By now every slot of every queue was in use once: what comes now is no more than noise.
before=$(resident)
flood 2
get 2
flood_end 2
after=$(resident)
say "resident memory of tcp: $before KiB before the second flood, $after KiB after"
[ $((after - before)) -le 1024 ] || fail "the flood cost $((after - before)) KiB"
[ "$(restarts)" = 0 ] || fail "a server restarted: $(status .servers)"

# A handshake that began before the death of the TCP server ends after it.
flood 3
kill_server tcp
get 3
flood_end 3
despawn server
stack_end
