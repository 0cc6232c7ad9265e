#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The tools that other tests judge by: linkem does what it is told and counts it, gaps finds a
# silence that was made on purpose, and a quiet link is not mistaken for one that was cut.
set -eu
cd "$(dirname "$0")/../../.."
BUILD=${EFT_BUILD:-build/release}
# shellcheck source=tests/tools/netns.sh
. tests/tools/netns.sh
netns_begin tools
T=$(mktemp -d)
# shellcheck disable=SC2016
netns_atexit 'rm -rf "$T"'
netns_add A peer
netns_add B peer

fail() {
    echo "FAIL: $*" >&2
    exit 1
}
link_up() {
    "$BUILD/tests/tools/linkem" --a "tap:t0@$A" --b "tap:t0@$B" "$@" >"$T/link" &
    LINK=$!
    netns_keep $LINK
    wait_for 5 "linkem is ready" grep -q ready "$T/link"
    ip -n "$A" addr add 10.7.0.1/24 dev t0
    ip -n "$B" addr add 10.7.0.2/24 dev t0
}
link_down() {
    kill -TERM $LINK
    wait $LINK
}
counter() { tail -n 1 "$T/link" | jq "$1"; }

link_up
netns_run "$A" ping -q -c 20 -i 0.01 10.7.0.2 >/dev/null || fail "a clean link loses"
link_down
[ "$(counter '.ab.received == .ab.delivered and .ab.received >= 20')" = true ] || fail "clean: $(cat "$T/link")"

link_up --ab-loss 100
netns_run "$A" ping -q -c 2 -W 1 -i 0.1 10.7.0.2 >/dev/null && fail "a cut link carries"
link_down
[ "$(counter '.ab.lost > 0 and .ab.lost == .ab.received and .ba.lost == 0')" = true ] || fail "loss: $(cat "$T/link")"

link_up --corrupt 100
netns_run "$A" ping -q -c 3 -W 1 -i 0.1 10.7.0.2 >/dev/null && fail "corruption goes unnoticed"
link_down
[ "$(counter '.ab.corrupted > 0 and .ba.corrupted == 0')" = true ] || fail "corrupt: $(cat "$T/link")"

link_up --delay-us 20000 --dup 100
ms=$(netns_run "$A" ping -q -c 5 -i 0.01 10.7.0.2 | sed -n 's,.*= \([0-9]*\)\..*/.*/.*,\1,p')
[ "$ms" -ge 40 ] || fail "20 ms each way make $ms ms"

"$BUILD/tests/tools/gaps" record --dev t0 --netns "$B" --output "$T/gaps" >"$T/out" &
GAPS=$!
netns_keep $GAPS
wait_for 5 "gaps records" grep -q recording "$T/out"
# A packet every 10 ms, a hole of 300 ms, and again.
netns_run "$A" ping -q -c 30 -i 0.01 10.7.0.2 >/dev/null
kill -STOP $LINK
hole=$(date +%s%N)
sleep 0.3
kill -CONT $LINK
netns_run "$A" ping -q -c 80 -i 0.01 10.7.0.2 >/dev/null
kill -TERM $GAPS
wait $GAPS
link_down
[ "$(counter '.ab.duplicated == .ab.received and .ab.received >= 100')" = true ] || fail "dup: $(cat "$T/link")"
"$BUILD/tests/tools/gaps" report "$T/gaps" "$hole" $((hole + 800000000)) --after-ms 200 >"$T/report"
jq -e '.kills[0].gap_ms >= 300 and (.kills[0].open | not) and .kills[1].gap_ms < 250' "$T/report" >/dev/null ||
    fail "gaps: $(cat "$T/report")"
echo "tools: rtt $ms ms, hole $(jq '.kills[0].gap_ms' "$T/report") ms, next to it $(jq '.kills[1].gap_ms' "$T/report") ms"
