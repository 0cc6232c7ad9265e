#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The syscall server is killed again and again while programs attach: every socket() and bind() waits
# for its successor, and none fails.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
KILLS=8
stack_begin attach
stack_up
spawn attach stack_run "$PYTHON" "$ROOT/tests/proc/attach.py" "$STACK_IP" "$T/stop"
attached() { [ "$(status "[.servers[] | select(.components | index(\"syscall0\")) | .counters.syscall0.attached] | add")" -gt "$1" ]; }
for ((i = 1; i <= KILLS; i++)); do
    before=$(server_field syscall counters.syscall0.attached)
    wait_for 20 "programs attach" attached "$before"
    kill_server syscall || fail "cannot kill syscall"
    back() { [ "$(server_field syscall restarts)" -ge "$i" ] && [ "$(server_field syscall state)" = running ]; }
    wait_for 20 "syscall is back" back
done
touch "$T/stop"
rc=0
wait "${PIDS[attach]}" || rc=$?
unset 'PIDS[attach]'
cat "$T/attach.log"
[ $rc = 0 ] || fail "a program could not attach"
stack_end
