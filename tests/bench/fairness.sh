#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# fairness.sh WARM SECONDS [options of linkem…]: two flows of ours and two of a Linux kernel into one
# bottleneck, all to the same Linux peer. Prints what each brought in SECONDS, after WARM seconds, and
# what the link counted, as one line of JSON.
#
#     stack 10.9.0.2 --- eft0 |
#                             | bridge --- up0 [linkem] eft0 --- peer 10.9.0.1
#      host 10.9.0.3 --- veth |
set -eu
export STACK_LIMIT=${STACK_LIMIT:-170}
. "$(dirname "$0")/../tools/stack.sh"
need jq ethtool
warm=$1 seconds=$2
shift 2
PORT=5001 HOST_IP=10.9.0.3
FLOW=$EFT_BUILD/tests/bench/bench_flow

stack_begin fairness
netns_add LINK
netns_add HOST peer
ip -n "$LINK" link add br0 type bridge forward_delay 0 2>/dev/null || skip "the kernel has no bridge"
ip -n "$LINK" link set br0 up
netns_veth "$LINK" host0 "$HOST" up0
in_host() { netns_run "$HOST" "$@"; }
in_host ethtool -K up0 tx off tso off gso off gro off >/dev/null
ip -n "$HOST" addr add $HOST_IP/24 dev up0
STACK_LINK_NS=$LINK STACK_OFFLOAD=no stack_up
spawn linkem "$EFT_BUILD/tests/tools/linkem" --a "tap:up0@$LINK" --b "tap:$DEVICE@$PEER" "$@"
wait_for 10 "the link is ready" grep -q ready "$T/linkem.log"
for port in "$DEVICE" host0 up0; do ip -n "$LINK" link set "$port" up master br0; done
peer_address "$DEVICE"
wait_for 10 "the peer reaches the stack" in_peer ping -c1 -W1 "$STACK_IP"
wait_for 10 "the peer reaches the host" in_peer ping -c1 -W1 $HOST_IP

spawn share in_peer "$FLOW" share $PORT 4 "$warm" "$seconds"
wait_for 10 "the peer listens" grep -q ready "$T/share.log"
for n in 1 2; do
    spawn ours$n stack_run "$FLOW" connect "$PEER_IP" $PORT send 0
    spawn linux$n in_host "$FLOW" connect "$PEER_IP" $PORT send 0
done
wait "${PIDS[share]}" || fail "$(cat "$T/share.log")"
unset 'PIDS[share]'
despawn linkem
jq -cn --argjson flows "$(tail -n 1 "$T/share.log")" --argjson link "$(tail -n 1 "$T/linkem.log")" \
    --arg ours "$STACK_IP" '{ours: [$flows[] | select(.from == $ours).mbit],
        linux: [$flows[] | select(.from != $ours).mbit], link: $link}'
stack_end
