#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# eft crash: each class of faults, put into a server of a stack that carries data. What it says of each is
# checked against what eft-rs says; the transfer must end with the right bytes.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
stack_begin crash
stack_up

# crash CLASS SERVER [option…]: one experiment, in $T/line
crash() { eft crash "$@" --name "$STACK" --json >"$T/line" || fail "eft crash $*: $(cat "$T/line")"; }
# says FILTER…: of the last experiment
says() {
    local filter
    for filter; do
        jq -e "$filter" "$T/line" >/dev/null || fail "not so: $filter: $(cat "$T/line")"
    done
}

victim_prepare
victim_start 8
before=$(restarts)

# --- how a process ends or stands still: class, server, how it must end ---
ends() {
    crash "$1" "$2"
    says '.injected' '.activated' '.manifested' '.recovered' ".end.$3" ".last_end == \"$4\"" '.restarts == 1'
}
# shellcheck disable=SC2016 # of jq
{
    crash kill tcp --window 1000
    says '.end.signal_name == "SIGKILL"' '.last_end == "killed"'
    ends segv tcp 'signal_name == "SIGSEGV"' fault
    says '.clean' '.faults[0].activated'
    ends abort ip 'signal_name == "SIGABRT"' fault
    ends exit udp 'status == 1' fault
    ends stop tcp 'signal_name == "SIGKILL"' hang
    ends spin ip 'signal_name == "SIGKILL"' hang
}
[ "$(restarts)" = $((before + 6)) ] || fail "$(restarts) restarts, expected $((before + 6))"
victim_end
stack_end
say "each class of faults was put in, proven, and recovered from"
