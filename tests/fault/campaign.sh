#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# campaign.sh [--seed N] [--kills N] [--spacing S] [--settle S]: kills servers in random order under all kinds
# of traffic at once. campaign.py says what is judged.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
case " $* " in *' --help '*) exec "$PYTHON" "$ROOT/tests/fault/campaign.py" --help ;; esac
stack_begin fault
stack_up
spawn server stack_run "$PYTHON" "$ROOT/tests/fault/server.py" 7000
wait_for 10 "the server listens" port_open "$STACK_IP" 7000
in_peer "$PYTHON" "$ROOT/tests/fault/campaign.py" --eft "$EFT_BUILD/eft" --stack "$STACK" \
    --address "$STACK_IP" --port 7000 "$@"
kill -0 "${PIDS[server]}" 2>/dev/null || fail "the application died: $(cat "$T/server.log")"
if [ -s "$T/server.log" ]; then fail "the application saw errors: $(cat "$T/server.log")"; fi
stack_end
