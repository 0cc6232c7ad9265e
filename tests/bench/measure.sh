#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# measure.sh WORKLOAD SECONDS: one measurement on a fresh stack (or, with STACK_SIDE=kernel, between two
# kernels over veth). The program under test is always on our side, and whatever loads it is a program
# of the peer. Prints one line of JSON:
#
#   value, p99_us       as the load saw it, in the unit that run names
#   ops                 requests, or 64 KiB of a stream
#   cpu_us_per_op       processor time of all programs and servers of both sides while the load ran (a
#                       control group), with what the kernel did for the network in their name: on veth and
#                       TAP that is all of it but for ksoftirqd, which is added
#   background_percent  what of a processor others used meanwhile: when it is much, believe nothing
#   polling             processes of our side that used more than half a processor with nothing to do
#   processes           processor time of each program and server of our side, µs per operation
#   syscalls_per_op     system calls of our side, with BENCH_COUNT=yes: in a run of its own, because
#                       counting slows every call of the machine down; null: perf cannot count them
#   program_syscalls_per_op    of these, those of the program under test
#
# The workload idle is no load at all, for SECONDS: its operation is a second.
#
# STACK_DRIVER, STACK_SHAPE: tests/tools/stack.sh. BENCH_OURS, BENCH_PEER: processors, as for taskset; all
# of our side, servers included, runs on the one, and all of the peer on the other.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
workload=$1 seconds=$2
need redis-benchmark wrk nginx memcached dnsmasq nc ethtool jq taskset findmnt pgrep dig
all=0-$(($(nproc) - 1))
in_stack() { netns_run "$STACK" taskset -c "${BENCH_OURS:-$all}" "$@"; }
in_peer() { netns_run "$PEER" taskset -c "${BENCH_PEER:-$all}" "$@"; }
RR=$EFT_BUILD/tests/bench/bench_rr
BULK=$EFT_BUILD/tests/bench/bench_bulk
DRIVER=${STACK_DRIVER:-tap}
stack_begin bench

# This script, and so all that it starts, in a control group of its own.
group_root=$(findmnt -t cgroup2 -no TARGET | head -n 1)
group=$group_root/eft-bench-$$
mkdir "$group" || fail "cannot make a control group (cgroup v2) in '$group_root'"
group_end() { echo $$ >"$group_root/cgroup.procs" && rmdir "$group"; }
netns_atexit group_end
echo $$ >"$group/cgroup.procs"

# used: microseconds that this measurement and ksoftirqd have run. busy: that the processors did not idle,
# whoever it was for; counted in ticks.
used() {
    local soft
    soft=$(pgrep -x 'ksoftirqd/[0-9]*' | sed 's|.*|/proc/&/schedstat|' | xargs cat | awk '{ n += $1 } END { printf "%.0f", n / 1e3 }')
    say $(($(awk '$1 == "usage_usec" { print $2 }' "$group/cpu.stat") + soft))
}
busy() { awk -v hz="$(getconf CLK_TCK)" '/^cpu / { printf "%.0f", ($2 + $3 + $4 + $7 + $8) * 1e6 / hz }' /proc/stat; }
# servers, programs: the processes of our side.
servers() { if [ "$STACK_SIDE" = eft ]; then stack_pids; fi; }
programs() { ip netns pids "$STACK" | sort -n | grep -vxF "$(servers)" || :; }
# ran PID…: what each of them has run, all threads, ns.
ran() { for pid; do say "$pid $(cat "/proc/$pid/task"/*/schedstat 2>/dev/null | awk '{ n += $1 } END { printf "%.0f", n }')"; done; }
# grown FILE: by how much more since ran wrote FILE; for the same processes.
grown() {
    local pids
    mapfile -t pids < <(cut -d' ' -f1 "$1")
    ran "${pids[@]}" | awk 'NR == FNR { was[$1] = $2; next } { printf "%s %.0f\n", $1, $2 - was[$1] }' "$1" -
}
# named: with the name of the process in place of its number.
named() { while read -r pid ns; do say "$(cat "/proc/$pid/comm") $ns"; done; }

# who_polls: with everything in place and no load, who uses a processor? A window of 0.3 s.
who_polls() {
    ran "$@" >"$T/ran"
    sleep 0.3
    grown "$T/ran" | named | awk '$2 > 150e6 { print $1 }'
}

# What of the load's report counts.
as_json() {
    case $workload in
    idle) jq -cn --argjson seconds "$seconds" '{value: 0, ops: $seconds}' ;;
    bulk-*) jq -c '{value, ops: (.bytes / 65536)}' ;;
    rtt-*) jq -c '{value: .p50_us, p99_us, ops, lost}' ;;
    redis*) awk -F'"' -v n="$requests" '/^"GET"/ { printf "{\"value\": %s, \"p99_us\": %s, \"ops\": %d}\n", $4, $14 * 1000, n }' ;;
    nginx*) # Connections that were refused or cut would make the figure a lie.
        awk '/Non-2xx|connect [1-9]|read [1-9]|write [1-9]/ { bad = 1 }
            / requests in / { ops = $1 } /^Requests\/sec/ { value = $2 }
            END { if (!bad) printf "{\"value\": %s, \"ops\": %s}\n", value, ops }'
        ;;
    *) jq -c '{value, p99_us, ops, lost}' ;;
    esac
}

serve() { # serve PORT COMMAND…: under test; the load may come when it listens
    local port=$1
    shift
    spawn "server-$port" stack_run "$@"
    wait_for 10 "$1 listens" port_open "$STACK_IP" "$port"
}
redis() { # redis REQUESTS-PER-SECOND-TO-EXPECT [options]
    serve 6379 redis-server --protected-mode no --save '' --loglevel warning --dir "$T"
    requests=$(($1 * seconds))
    load=(redis-benchmark --csv -h "$STACK_IP" -t get -c 50 -n "$requests" "${@:2}")
}
wrk_nginx() { # [options]
    nginx_config "$T/nginx"
    mapfile -t command < <(nginx_command "$T/nginx")
    serve 80 "${command[@]}"
    load=(wrk -t1 -c64 "-d${seconds}s" "$@" "http://$STACK_IP/hello")
}
bulk() { # bulk send|receive send|receive [options]: what we do, and what the peer
    serve 5001 "$BULK" serve 5001 "$1" "${@:3}"
    load=("$BULK" connect "$STACK_IP" 5001 "$2" "$seconds")
}
rr() { load=("$RR" load "$1" "$STACK_IP" "$2" "$3" "$seconds" "${@:4}"); }
udp_echo() {
    spawn server stack_run "$RR" echo udp 7000
    wait_for 10 "the echo listens" grep -q ready "$T/server.log"
}
name_server() {
    printf '%s\n' no-resolv no-hosts no-daemon no-dhcp-interface=lo bind-interfaces "listen-address=$STACK_IP" \
        user=root pid-file= address=/host1.example.test/192.0.2.1 >"$T/dnsmasq.conf"
    spawn server stack_run dnsmasq -C "$T/dnsmasq.conf"
    wait_for 10 "the name server answers" in_peer dig +short +time=1 +tries=1 "@$STACK_IP" host1.example.test
}

# A kernel with offloads at hand is no match for one packet at a time, nor are AF_XDP's frames.
[ "$DRIVER" != xdp ] || [ "$STACK_SIDE" = eft ] || export STACK_OFFLOAD=no
stack_up
[ "$DRIVER" != xdp ] || in_peer ethtool -K "$DEVICE" tx off tso off gso off gro off >/dev/null
requests=0
case $workload in
bulk-send) bulk send receive ;;
bulk-recv) bulk receive send ;;
bulk-send-zc) bulk send receive -z -u ;;
bulk-recv-zc) bulk receive send -z -u ;;
redis) redis 100000 ;;
redis-p16) redis 1000000 -P 16 ;;
nginx-keepalive) wrk_nginx ;;
nginx-close) wrk_nginx -H 'Connection: close' ;;
memcached)
    serve 11211 memcached -u root -t 1 -U 0 -p 11211
    printf 'set k 0 0 64\r\n%064d\r\nquit\r\n' 0 | in_peer nc "$STACK_IP" 11211 | grep -q STORED || fail "memcached"
    rr memcached 11211 64
    ;;
rtt-tcp) serve 7000 "$RR" echo tcp 7000 && rr tcp 7000 1 ;;
rtt-udp) udp_echo && rr udp 7000 1 ;;
udp-rr) udp_echo && rr udp 7000 64 ;;
dns) name_server && rr dns 53 64 ;;
multi-4)
    for port in 7001 7002 7003 7004; do serve $port "$RR" serve $port; done
    rr tcp 7001 64 4
    ;;
idle)
    serve 7000 "$RR" serve 7000
    load=(sleep "$seconds")
    ;;
*) fail "unknown workload $workload" ;;
esac

mapfile -t pids < <(servers && programs)
polling=$(who_polls "${pids[@]}" | jq -cRn '[inputs]')
ran "${pids[@]}" >"$T/ran"
busy_start=$(busy) used_start=$(used) at=$(now_ms)
in_peer "${load[@]}" >"$T/report" 2>"$T/load.log" || fail "$(cat "$T/report" "$T/load.log")"
used=$(($(used) - used_start)) busy=$(($(busy) - busy_start)) elapsed=$(($(now_ms) - at))
result=$(as_json <"$T/report")
processes=$(grown "$T/ran" | named | jq -cRn --argjson ops "$(jq .ops <<<"$result")" 'reduce (inputs / " ") as [$name, $ns] ({}; .[$name] += ($ns | tonumber) / 1e3 / $ops)')
[ -n "$result" ] || fail "no result: $(cat "$T/report")"

counted() { awk -F, -v ops="$ops" '/raw_syscalls/ && $1 ~ /^[0-9]+$/ { n = $1 } END { printf "%.4f", n / ops }' "$1"; }
calls=null program_calls=null
if [ "${BENCH_COUNT:-}" = yes ] && perf stat -e raw_syscalls:sys_enter true 2>/dev/null; then
    count=(perf stat -x ',' -e raw_syscalls:sys_enter)
    "${count[@]}" -o "$T/perf-all" -p "$(IFS=, && say "${pids[*]}")" -- \
        "${count[@]}" -o "$T/perf-programs" -p "$(programs | paste -sd, -)" -- \
        nsenter --net="/run/netns/$PEER" -- "${load[@]}" >"$T/counted" 2>"$T/load.log" || fail "$(cat "$T/load.log")"
    ops=$(as_json <"$T/counted" | jq .ops)
    calls=$(counted "$T/perf-all") program_calls=$(counted "$T/perf-programs")
fi
jq -c --argjson used $used --argjson others $((busy > used ? (busy - used) / 10 / elapsed : 0)) --argjson calls "$calls" \
    --argjson program "$program_calls" --argjson polling "$polling" --argjson processes "$processes" '. + {cpu_us_per_op: ($used / .ops), processes: $processes,
    syscalls_per_op: $calls, program_syscalls_per_op: $program, background_percent: $others, polling: $polling}' <<<"$result"
stack_end
