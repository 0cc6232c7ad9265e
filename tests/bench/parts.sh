#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# parts.sh: what calls cost that find nothing, on a connected socket of our side; one line of JSON.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq nc
stack_begin parts
stack_up
spawn peer in_peer "$EFT_BUILD/tests/bench/bench_rr" serve 7000
wait_for 10 "the peer listens" in_peer nc -z "$PEER_IP" 7000
stack_run "$EFT_BUILD/tests/bench/bench_parts" calls "$PEER_IP" 7000
stack_end
