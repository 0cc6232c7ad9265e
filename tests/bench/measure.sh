#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# measure.sh WORKLOAD SECONDS: one measurement on a fresh stack (or, with STACK_SIDE=kernel, between two
# kernels over veth). Prints {"value": n, …} in the unit that run names.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
workload=$1 seconds=$2
need iperf3 redis-benchmark wrk nginx jq
stack_begin bench

# busy: processor time that the machine has spent on anything but idling, in clock ticks.
busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }

bulk() { # bulk [-R]
    spawn server in_peer iperf3 -s
    wait_for 10 "iperf3 listens" in_peer nc -z "$PEER_IP" 5201
    stack_run iperf3 -J -t "$seconds" -O 1 -c "$PEER_IP" "$@" >"$T/report" || fail "$(cat "$T/report")"
    jq '{value: (.end.sum_received.bits_per_second / 1e9), retransmits: .end.sum_sent.retransmits}' "$T/report"
}
redis() { # redis REQUESTS-PER-SECOND-TO-EXPECT [options]
    local requests=$(($1 * seconds))
    shift
    spawn redis stack_run redis-server --protected-mode no --save '' --loglevel warning --dir "$T"
    wait_for 10 "redis listens" port_open "$STACK_IP" 6379
    in_peer redis-benchmark --csv -h "$STACK_IP" -t get -c 50 -n $requests "$@" >"$T/report" 2>&1 ||
        fail "$(cat "$T/report")"
    awk -F'"' '/^"GET"/ { printf "{\"value\": %s, \"p50_ms\": %s, \"p99_ms\": %s}\n", $4, $10, $14 }' "$T/report"
}
nginx_load() { # nginx_load [wrk options]
    nginx_config "$T/nginx"
    mapfile -t command < <(nginx_command "$T/nginx")
    spawn nginx stack_run "${command[@]}"
    wait_for 10 "nginx listens" port_open "$STACK_IP" 80
    in_peer wrk -t1 -c64 -d"${seconds}s" "$@" "http://$STACK_IP/hello" >"$T/report" || fail "$(cat "$T/report")"
    # Connections that were refused or cut would make the figure a lie.
    if grep -qE 'Non-2xx|connect [1-9]|read [1-9]|write [1-9]' "$T/report"; then fail "$(cat "$T/report")"; fi
    awk '/^Requests\/sec/ { printf "{\"value\": %s}\n", $2 }' "$T/report"
}
pingpong() {
    spawn echo stack_run "$EFT_BUILD/tests/bench/bench_pingpong" serve 7000
    wait_for 10 "the echo listens" port_open "$STACK_IP" 7000
    in_peer "$EFT_BUILD/tests/bench/bench_pingpong" ask "$STACK_IP" 7000 "$seconds"
}

stack_up
before=$(busy) start=$(now_ms)
case $workload in
bulk-send) bulk >"$T/result" ;;
bulk-receive) bulk -R >"$T/result" ;;
redis) redis 100000 >"$T/result" ;;
redis-pipelined) redis 1000000 -P 16 >"$T/result" ;;
nginx) nginx_load >"$T/result" ;;
nginx-close) nginx_load -H 'Connection: close' >"$T/result" ;;
pingpong) pingpong >"$T/result" ;;
*) fail "unknown workload $workload" ;;
esac
[ -s "$T/result" ] || fail "no result: $(cat "$T/report")"
# Both processors at work are 200 %; clock ticks are 10 ms.
jq -c ". + {cpu_percent: $((($(busy) - before) * 1000 / ($(now_ms) - start)))}" "$T/result"
stack_end
