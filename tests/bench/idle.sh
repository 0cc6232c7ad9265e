#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# idle.sh CONNECTIONS WINDOWS [KILLS [receive|send|pingpong]]: a fresh stack with so many established connections
# that are idle, and one that receives or sends at full rate in packets of 1500 bytes, or answers 64 bytes with 64. Prints one line of JSON: bytes of memory by part, cycles
# per segment, and the silence of the stack at the peer (ms) around each of KILLS kills of tcp.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
n=$1 windows=$2 kills=${3:-0} direction=${4:-receive}
# A process may have 20,000 descriptors on many machines, and 16,384 sockets by default.
most=12500
processes=$(((n + most - 1) / most))
each=$(((n + processes - 1) / processes))
ports() { seq 7100 $((7100 + processes - 1)); }
bench=$EFT_BUILD/tests/bench/bench_idle
need jq
export STACK_LIMIT=$((120 + n / 250)) STACK_OFFLOAD=no
stack_begin idle
# Rings of the default size for all of them: address space, not memory.
stack_up app_up_size=$((16 << 30)) app_down_tcp_size=$((16 << 30))

# Private memory and page tables of processes, whose numbers come on standard input; bytes.
private() { sed 's|.*|/proc/&/status|' | xargs cat | awk '/^RssAnon|^VmPTE/ { n += $2 } END { print n * 1024 }'; }
programs() { for i in $(ports); do say "${PIDS[serve-$i]}"; done; }
memory() {
    "$bench" memory "$rs" | jq -c ". + {
        tcp_private: $(server_field tcp pid | private), servers_private: $(status '.servers[].pid' | private),
        rs_private: $(say "$rs" | private), libsock: $(programs | private)}"
}

# A pump without a listener ends at once.
pump_up() {
    pumping() {
        { [ -n "${PIDS[pump]:-}" ] && kill -0 "${PIDS[pump]}"; } || spawn pump "${pump[@]}"
        [ "$("$bench" cycles "$rs" 1 2>/dev/null | jq .segments)" -gt 100 ]
    }
    wait_for 10 "the pump runs" pumping
}

rs=$(status .pid)
case $direction in
receive) spawn sink stack_run "$bench" sink 7000 && pump=(in_peer "$bench" pump "$STACK_IP" 7000) ;;
send) spawn sink in_peer "$bench" sink 7000 && pump=(stack_run "$bench" pump "$PEER_IP" 7000) ;;
pingpong)
    spawn sink stack_run "${bench%idle}rr" echo tcp 7000
    pump=(in_peer "${bench%idle}rr" load tcp "$STACK_IP" 7000 1 "$STACK_LIMIT")
    ;;
*) fail "no such direction" ;;
esac
for i in $(ports); do spawn "serve-$i" stack_run "$bench" serve "$i" "$each"; done
for i in $(ports); do wait_for 10 "the server listens" grep -q listening "$T/serve-$i.log"; done
# Once round all queues and pools, which belong to no connection.
pump_up
"$bench" cycles "$rs" 2 >"$T/alone"
despawn pump
memory >"$T/before"
start=$(now_ms)
for i in $(ports); do spawn "open-$i" in_peer "$bench" open "$STACK_IP" "$i" "$each"; done
all_open() { [ "$(cat "$T"/serve-*.log "$T"/open-*.log | grep -c ready)" = $((2 * processes)) ]; }
wait_for "$STACK_LIMIT" "all connections are open" all_open
opened=$(now_ms)
memory >"$T/after"
pump_up
"$bench" cycles "$rs" "$windows" >"$T/cycles"
printf '[]' >"$T/gaps"
if [ "$kills" != 0 ]; then
    spawn record "$EFT_BUILD/tests/tools/gaps" record --dev "$DEVICE" --netns "$PEER" --direction in --output "$T/recording"
    wait_for 10 "the recording runs" grep -q recording "$T/record.log"
    for ((k = 0; k < kills; k++)); do
        before=$(server_field tcp restarts)
        eft crash kill tcp --name "$STACK" | cut -d' ' -f2 >>"$T/moments"
        back() { [ "$(server_field tcp restarts)" -gt "$before" ] && [ "$(server_field tcp state)" = running ]; }
        wait_for 10 "tcp is back" back
        "$bench" cycles "$rs" 2 >>"$T/between" # a second of traffic in between
    done
    despawn record
    "$EFT_BUILD/tests/tools/gaps" report "$T/recording" --after-ms 800 <"$T/moments" | jq -c '[.kills[].gap_ms]' >"$T/gaps"
    for i in $(ports); do kill -0 "${PIDS[open-$i]}" "${PIDS[serve-$i]}" || fail "an idle program ended"; done
    [ "$(status '.servers[] | select(.name == "tcp0") | .counters.connections_failed_check // 0')" = 0 ] ||
        fail "a connection did not survive"
fi
jq -nc --argjson n $((each * processes)) --argjson ms $((opened - start)) --slurpfile b "$T/before" --slurpfile a "$T/after" \
    --slurpfile c "$T/cycles" --slurpfile g "$T/gaps" \
    '{connections: $n, open_ms: $ms, cycles: $c[0], gaps_ms: $g[0], grown: ($a[0] | with_entries(.value -= $b[0][.key]))}'
stack_end
