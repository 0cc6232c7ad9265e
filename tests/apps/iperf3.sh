#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# iperf3 under libsock as server and as client, both directions, TCP and UDP. What iperf3 says that it
# moved is compared with what the stack has counted.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need iperf3 jq nstat
stack_begin iperf3
stack_up

TCP=$((256 << 20)) UDP=$((8 << 20))
BLOCK=$((128 << 10)) DATAGRAM=1400 # what iperf3 writes at once
COOKIE=37 HELLO=4                  # what it sends before the data, on each stream
SOCKET=$((208 << 10))              # of UDP, holds so much
CONTROL=$((32 << 10))              # its connection for parameters and results carries less

# counted tcp|udp sent|received: payload, on the stack's side. mark_counted: for since().
counted() { status "[.servers[].counters.${1}0.bytes_$2 // empty] | add"; }
mark_counted() {
    [ "$STACK_SIDE" = eft ] || return 0
    MARKED=$(counted "$1" "$2")
}
since() { echo $(($(counted "$1" "$2") - MARKED)); }
between() { [ "$(since "$1" "$2")" -ge "$3" ] && [ "$(since "$1" "$2")" -le "$4" ]; }
# between_soon tcp|udp sent|received LEAST MOST: counters show at the end of a turn, which a program may
# overtake.
between_soon() {
    [ "$STACK_SIDE" = eft ] || return 0
    wait_for 2 "the stack has counted $3 to $4 bytes of $1 $2, not $(since "$1" "$2")" between "$@"
}

# report FILTER: of what iperf3 found; whole numbers.
report() { jq "$1 | floor" "$T/report"; }
said() {
    jq -e '.error == null' "$T/report" >/dev/null || fail "$1: $(jq -r .error "$T/report")"
    say "$1: $(report .end.sum_received.bytes) bytes, $(report '.end.sum_received.bits_per_second / 1e6') Mbit/s"
}

# limit NAMESPACE r|w: the most that a socket holds there.
limit() {
    if [ "$1" = "$STACK" ] && [ "$STACK_SIDE" = eft ]; then
        case $2 in r) echo $((8 << 20)) ;; w) echo $((4 << 20)) ;; esac # rmem_max, wmem_max, as blocks
    else
        ip netns exec "$1" sysctl -n "net.ipv4.tcp_${2}mem" | cut -f3
    fi
}

# tcp WHAT sent|received STREAMS: all was written. The receiver stops counting when the sender says that
# it is done: what is then in the buffers of both ends is not counted.
tcp() {
    said "$1"
    local got sent from=$STACK to=$PEER
    [ "$2" = sent ] || from=$PEER to=$STACK
    got=$(report .end.sum_received.bytes) sent=$(report .end.sum_sent.bytes)
    [ "$sent" -ge $TCP ] && [ "$sent" -le $((TCP + $3 * BLOCK)) ] || fail "$1: $sent bytes were written"
    [ "$got" -le "$sent" ] && [ "$got" -ge $((sent - $3 * ($(limit "$from" w) + $(limit "$to" r)))) ] ||
        fail "$1: $sent bytes were written, $got read"
    between_soon tcp "$2" $((got + $3 * COOKIE)) $((sent + $3 * COOKIE + CONTROL))
}

# Datagrams that were dropped on the way, and counted: by the device that nobody emptied, by the socket
# that nobody read. drops received|sent.
drops() {
    if [ "$1" = received ]; then
        local device ring
        device=$(ip -n "$PEER" -s -j link show "$DEVICE" | jq '.[0].stats64.tx.dropped')
        ring=$([ "$STACK_SIDE" = kernel ] && in_stack nstat -asz UdpRcvbufErrors | awk 'END { print $2 }' ||
            status '[.servers[].counters.udp0.drop_ring_full // empty] | add')
        echo $((device + ring))
    else
        in_peer nstat -asz UdpRcvbufErrors | awk 'END { print $2 }'
    fi
}

# udp WHAT sent|received DROPS-BEFORE: what was sent and not dropped has arrived. The receiver stops
# counting as with TCP; what is missing in between it knows.
udp() {
    said "$1"
    local sent lost holes
    sent=$(report .end.sum_sent.bytes)
    lost=$((($(drops "$2") - $3) * DATAGRAM)) holes=$(($(report .end.sum.lost_packets) * DATAGRAM))
    [ "$sent" -ge $UDP ] || fail "$1: $sent bytes were sent"
    [ "$holes" -le "$lost" ] || fail "$1: $holes bytes are missing, $lost were dropped"
    [ "$lost" -le $((UDP / 4)) ] || fail "$1: $lost bytes of $sent were dropped"
    [ "$(report .end.sum_received.bytes)" -ge $((UDP - lost - SOCKET)) ] ||
        fail "$1: $(report .end.sum_received.bytes) of $sent arrived, $lost were dropped"
    # A datagram of four bytes each way opens the stream.
    if [ "$2" = sent ]; then
        between_soon udp sent $((sent + HELLO)) $((sent + HELLO))
    else
        between_soon udp received $((sent + HELLO - lost)) $((sent + HELLO))
    fi
}

# iperf3 closes its listening socket after each test and opens it again: wait for the next one.
tests=0
ready() {
    tests=$((tests + 1))
    wait_for 10 "iperf3 listens for test $tests" grep -q "(test #$tests)" "$T/server.log"
}
both_ways() { # both_ways SIDE ADDRESS OUT BACK: SIDE runs the client; what the stack does, then with -R
    local side=$1 address=$2 before
    run() {
        ready
        mark_counted "$1" "$2"
        shift 2
        "$side" iperf3 -J -c "$address" "$@" >"$T/report" || :
    }
    run tcp "$3" -n $TCP
    tcp "$side TCP send" "$3" 1
    run tcp "$4" -n $TCP -R
    tcp "$side TCP receive" "$4" 1
    run tcp "$3" -n $TCP -P 4
    tcp "$side TCP four streams" "$3" 4
    before=$(drops "$3")
    run udp "$3" -u -b 80M -l $DATAGRAM -n $UDP
    udp "$side UDP send" "$3" "$before"
    before=$(drops "$4")
    run udp "$4" -u -b 80M -l $DATAGRAM -n $UDP -R
    udp "$side UDP receive" "$4" "$before"
}

spawn server stack_run iperf3 -s --forceflush
both_ways in_peer "$STACK_IP" received sent
despawn server
tests=0
spawn server in_peer iperf3 -s --forceflush
both_ways stack_run "$PEER_IP" sent received
stack_end
