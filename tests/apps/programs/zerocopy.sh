#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# One program with the calls of eft.h, under libsock and without: by reference on the stack, where all
# servers are killed meanwhile, and by copies over the kernel's sockets. With the argument "lossy" over a link
# that loses and reorders: then what comes out of order is written into the ring around what is held.
set -eu
. "$(dirname "$0")/../../tools/stack.sh"
need jq openssl
ZEROCOPY=$EFT_BUILD/tests/apps/programs/zerocopy
stack_begin zerocopy
if [ "${1:-}" = lossy ]; then lossy_link_up 1 "${SEED:-42}"; else stack_up; fi
make_data "$T/data" $((16 << 20))
mkfifo "$T/pipe"
if [ "$STACK_SIDE" = eft ]; then expected='available'; else expected='not available'; fi

# carry RECEIVER SENDER ADDRESS PORT: from stack_run or in_peer to the other.
carry() {
    local receiver=$1 sender=$2 times
    openssl dgst -sha256 -r <"$T/pipe" >"$T/got" &
    local digest=$!
    spawn receiver "$receiver" "$ZEROCOPY" receive "$4" "$T/pipe"
    spawn sender "$sender" "$ZEROCOPY" send "$3" "$4" "$T/data"
    wait_for 10 "the sender is connected" grep -q available "$T/sender.log"
    [ "$STACK_SIDE" = kernel ] || kill_while sender 2
    kill -TERM "${PIDS[sender]}"
    wait "${PIDS[sender]}" || fail "the sender: $(cat "$T/sender.log")"
    wait "${PIDS[receiver]}" || fail "the receiver: $(cat "$T/receiver.log")"
    wait $digest
    unset 'PIDS[sender]' 'PIDS[receiver]'
    times=$(sed -n 's/ times$//p' "$T/sender.log")
    for ((i = 0; i < times; i++)); do cat "$T/data"; done | openssl dgst -sha256 -r |
        cmp - "$T/got" || fail "other bytes arrived than $times times the file"
    say "$sender to $receiver: $times times $(stat -c %s "$T/data") bytes"
}
carry stack_run in_peer "$STACK_IP" 7100
[ "$(head -n 1 "$T/receiver.log")" = "$expected" ] || fail "receiver: $(cat "$T/receiver.log")"
[ "$(head -n 1 "$T/sender.log")" = 'not available' ] || fail "the peer's kernel has the calls?"
carry in_peer stack_run "$PEER_IP" 7101
[ "$(head -n 1 "$T/sender.log")" = "$expected" ] || fail "sender: $(cat "$T/sender.log")"
stack_end
