#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# lab.sh eft|kernel: one of our stacks, or a kernel in its place, and a stock kernel as the peer,
# with the link emulator in between; for goodput. Each line on standard input is a transfer over a
# new link:
#
#   send|receive BYTES LIMIT [options of linkem…]     LIMIT: seconds that it may take
#
# and is answered by one line of JSON. "send" is from the stack to the peer; end a of the link is
# the stack's. The peer measures. No device here has any offload, and the peer forgets what it
# learned about the path from one connection to the next, as our stack does.
set -eu
export STACK_SIDE=$1
. "$(dirname "$0")/../tools/stack.sh"
need jq ethtool
PORT=5001
FLOW=$EFT_BUILD/tests/bench/bench_flow
PEER_MAC=02:00:00:00:09:01

stack_begin goodput
netns_add LINK
STACK_LINK_NS=$LINK STACK_OFFLOAD=no stack_up
ip -n "$LINK" link set "$DEVICE" up
# What Linux comes with, whatever this host has made of it.
defaults() {
    netns_run "$1" sh -c 'cd /proc/sys/net/ipv4
        echo 1 >tcp_no_metrics_save
        echo 4096 131072 6291456 >tcp_rmem
        echo 4096 16384 4194304 >tcp_wmem'
}
defaults "$PEER"
[ "$STACK_SIDE" = eft ] || defaults "$STACK"

transfer() { # transfer send|receive BYTES LIMIT [options of linkem…]
    local dir=$1 bytes=$2 limit=$3 theirs=receive rc=0
    shift 3
    [ "$dir" = send ] || theirs=send
    rm -f "$T"/*.log # "ready" is to be said by the new ones
    spawn linkem "$EFT_BUILD/tests/tools/linkem" --a "packet:$DEVICE@$LINK" --b "tap:$DEVICE@$PEER" "$@"
    wait_for 10 "the link is ready" grep -q ready "$T/linkem.log"
    # Every link makes a new device, which the stack is to know again.
    ip -n "$PEER" link set "$DEVICE" address $PEER_MAC
    peer_address "$DEVICE"
    # A link that loses may lose these, too; TCP's packets are numbered apart from them.
    wait_for 30 "the peer reaches the stack" in_peer ping -c1 -W1 "$STACK_IP"
    spawn server in_peer "$FLOW" serve $PORT $theirs "$bytes"
    wait_for 10 "the peer listens" grep -q ready "$T/server.log"
    stack_run timeout "$limit" "$FLOW" connect "$PEER_IP" $PORT "$dir" "$bytes" >"$T/client.log" 2>&1 || rc=$?
    [ $rc = 0 ] || fail "$dir $bytes $limit $*: status $rc: $(cat "$T/client.log" "$T/server.log")"
    wait "${PIDS[server]}" || fail "$dir $bytes $*: $(cat "$T/server.log")"
    unset 'PIDS[server]'
    despawn linkem
    jq -cn --argjson peer "$(tail -n 1 "$T/server.log")" --argjson client "$(tail -n 1 "$T/client.log")" \
        --argjson link "$(tail -n 1 "$T/linkem.log")" \
        '{mbit: ($peer.bytes * 8e-6 / $peer.seconds), peer: $peer, client: $client, link: $link}'
}

while read -r line; do
    # shellcheck disable=SC2086 # words
    transfer $line
done
stack_end
