#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# iperf3 over a path of 20 ms. The first rings allow 128 KiB in a round trip one way and 64 KiB the
# other, 52 and 26 Mbit/s: whoever is faster by far has grown them.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need iperf3 jq
stack_begin long-path
link_up --delay-us 10000 --queue 10000

# run WHAT MBITS iperf3-options…
run() {
    local what=$1 least=$2 rate
    shift 2
    stack_run iperf3 -J -c "$PEER_IP" -t 4 "$@" >"$T/report" || fail "$what: $(jq -r .error "$T/report")"
    # The fastest interval: what the window allowed once it was open.
    rate=$(jq '[.intervals[].sum.bits_per_second] | max / 1e6 | floor' "$T/report")
    say "$what: $rate Mbit/s"
    [ "$rate" -ge "$least" ] || fail "$what: only $rate Mbit/s, expected $least"
}
spawn server in_peer iperf3 -s
wait_for 10 "iperf3 listens" in_peer nc -z "$PEER_IP" 5201
mark_bytes
run "send" 60
run "receive" 110 -R
# A program that sets the sizes itself has what it asked for: 64 KiB, twice what it says.
stack_run iperf3 -J -c "$PEER_IP" -t 2 -w 32K >"$T/report" || fail "-w: $(jq -r .error "$T/report")"
rate=$(jq '[.intervals[].sum.bits_per_second] | max / 1e6 | floor' "$T/report")
say "send with a ring of 64 KiB: $rate Mbit/s"
[ "$rate" -le 30 ] || fail "$rate Mbit/s with 64 KiB in 20 ms"
grown=$(in_stack "$EFT_BUILD/eft" status --name "$STACK" --json | jq '[.. | .rings_grown? // empty] | add')
[ "$grown" -ge 2 ] || fail "rings have grown $grown times"
stack_end
