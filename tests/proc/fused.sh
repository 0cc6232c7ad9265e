#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The fused shape: one process hosts all components; its death is survived, too.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl
export STACK_SHAPE=fused
stack_begin fused
stack_up
[ "$(for s in driver ip pf tcp udp syscall; do server_field $s pid; done | sort -u | wc -l)" = 1 ] ||
    fail "the servers of a fused stack are several processes"
victim_prepare
victim_start 4
kills=0
while victim_runs && [ $kills -lt 5 ]; do
    before=$(restarts)
    kill_server tcp
    kills=$((kills + 1))
    restarted() { [ "$(restarts)" -gt "$before" ]; }
    wait_for 5 "the fused process starts again" restarted
done
victim_runs || fail "the transfer was over before the kills were"
victim_end
say "$kills kills survived"
stack_end
