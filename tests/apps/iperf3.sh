#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# iperf3 under libsock as server and as client, both directions, TCP and UDP.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need iperf3 jq
stack_begin iperf3
stack_up

# check WHAT MINIMUM: the report in $T/report is of a run that moved at least so many bytes.
check() {
    jq -e '.error == null' "$T/report" >/dev/null || fail "$1: $(jq -r .error "$T/report")"
    local bytes
    bytes=$(jq '.end.sum_received.bytes // .end.sum.bytes // 0' "$T/report")
    [ "$bytes" -ge "$2" ] || fail "$1: only $bytes bytes"
    say "$1: $bytes bytes, $(jq '(.end.sum_received // .end.sum).bits_per_second / 1e6 | floor' "$T/report") Mbit/s"
}
TCP=$((256 << 20)) UDP=$((8 << 20))
# The receiver stops counting when the sender says that it is done: what is then in the buffers of both
# ends, which grow to tens of megabytes each, is not counted.
LEAST=$((TCP / 2))
# iperf3 closes its listening socket after each test and opens it again: wait for the next one.
tests=0
ready() {
    tests=$((tests + 1))
    wait_for 10 "iperf3 listens for test $tests" grep -q "(test #$tests)" "$T/server.log"
}
both_ways() { # both_ways SIDE ADDRESS: SIDE runs the client
    ready
    "$1" iperf3 -J -c "$2" -n $TCP >"$T/report" || :
    ready
    check "$1 TCP send" $LEAST
    "$1" iperf3 -J -c "$2" -n $TCP -R >"$T/report" || :
    ready
    check "$1 TCP receive" $LEAST
    "$1" iperf3 -J -c "$2" -n $TCP -P 4 >"$T/report" || :
    ready
    check "$1 TCP four streams" $LEAST
    "$1" iperf3 -J -c "$2" -u -b 80M -l 1400 -n $UDP >"$T/report" || :
    ready
    check "$1 UDP send" $((UDP / 2))
    "$1" iperf3 -J -c "$2" -u -b 80M -l 1400 -n $UDP -R >"$T/report" || :
    check "$1 UDP receive" $((UDP / 2))
}

mark_bytes
spawn server stack_run iperf3 -s --forceflush
both_ways in_peer "$STACK_IP"
despawn server
tests=0
spawn server in_peer iperf3 -s --forceflush
both_ways stack_run "$PEER_IP"
assert_carried rx $((3 * LEAST))
assert_carried tx $((3 * LEAST))
stack_end
