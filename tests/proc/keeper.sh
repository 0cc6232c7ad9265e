#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# eft-keeper with a toy (keeper.py): what it keeps over deaths, whom it hears, when it starts the
# program again and when it ends.
set -u
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
KEEPER=${EFT_BUILD:-$ROOT/build/release}/eft-keeper
T=$(mktemp -d /tmp/eft-keeper.XXXXXX)
PID=
cleanup() {
    local status=$?
    trap - EXIT
    # shellcheck disable=SC2046 # a list of processes
    [ -z "$PID" ] || kill -KILL "$PID" $(cat "/proc/$PID/task/$PID/children") 2>/dev/null
    rm -rf "$T"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
fail() {
    printf 'FAIL: %s\n' "$*" >&2
    cat "$T/log" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || { echo "SKIP: /run/eft needs root"; exit 77; }
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -le $end ] || fail "waited in vain: $what"
        sleep 0.02
    done
}
: >"$T/log"

exec 3>"$T/ready"
"$KEEPER" --ready-fd 3 /usr/bin/python3 "$ROOT/tests/proc/keeper.py" "$T/log" &
PID=$!
exec 3>&-
wait_for 20 "the fifth life" grep -q '^life 5' "$T/log"
[ "$(cat "$T/ready")" = READY ] || fail "ready-fd got: $(cat "$T/ready")"
kill -TERM $PID
status=0
wait $PID || status=$?
orphaned=$PID
PID=
[ $status = 0 ] || fail "exit status $status"
cat >"$T/expected" <<LOG
life 1: ; ready-fd yes
life 2: count more; ready-fd yes
life 3: count; ready-fd no
orphan of $orphaned
life 4: count; ready-fd no
life 5: count; ready-fd no
SIGTERM
life 6: count; ready-fd no
SIGTERM
LOG
# the orphan and the life after it speak in any order
diff <(sort "$T/expected") <(sort "$T/log") >&2 || fail "its lives were others"

# before it was ready once, its exit status is ours; a crash is tried again some times only
status=0
"$KEEPER" /bin/sh -c 'exit 6' || status=$?
[ $status = 6 ] || fail "exit status $status instead of 6"
status=0
"$KEEPER" /bin/sh -c 'kill -SEGV $$' || status=$?
[ $status = 1 ] || fail "exit status $status after crashes"
status=0
"$KEEPER" /no/such/program 2>/dev/null || status=$?
[ $status = 1 ] || fail "exit status $status without a program"
[ ! -e "/run/eft/.keeper.$orphaned" ] || fail "left a socket"
echo ok
