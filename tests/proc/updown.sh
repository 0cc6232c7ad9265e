#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A stack comes up and goes down twice under the same name, and leaves nothing.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
stack_begin updown
for _ in 1 2; do
    stack_up
    in_peer ping -c3 -i0.1 -W1 "$STACK_IP" >/dev/null || fail "ping"
    stack_run "$PYTHON" -c 'import socket; socket.socket().close()' || fail "no program runs under libsock"
    # A second one of the same name is refused, and does not disturb the first.
    if in_stack "$EFT_BUILD/eft" up --name "$STACK" --config "$T/stack.conf" >"$T/second" 2>&1; then
        fail "a second stack of the same name came up"
    fi
    in_peer ping -c1 -W1 "$STACK_IP" >/dev/null || fail "the refused second stack broke the first"
    stack_end
done
# There is nothing to take down any more.
if eft down --name "$STACK" >/dev/null 2>&1; then fail "eft down of nothing succeeded"; fi
