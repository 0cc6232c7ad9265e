#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# step_kill.sh [--samples N] [--seed S] | --all [--stride D]
#
# The TCP server of a running stack, killed between two instructions of a turn that handles segments, then of
# one that handles requests of an application; each time the stack recovers, and connections that were made before
# go on as new ones do, every byte in its place. The instructions are so many behind the top of a turn, or behind
# one of the functions in which it does its work; both are drawn by the seed, or are all of them.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
SAMPLES=12 SEED=1 ALL='' STRIDE=1
SPAN=4000 # instructions; more in one piece would look like a hang
declare -A BEGIN=(
    [segment]="component_turn tcp_input tcp_ack_process tcp_rx_copy tcp_rx_commit tcp_output tcp_emit tcp_news_flush
        chan_tx_publish bell_flush"
    [request]="component_turn tcp_app_work tcp_request_slot tcp_record_commit tcp_output tcp_emit
        chan_tx_publish bell_flush"
)
while [ $# -gt 0 ]; do
    case $1 in
    --samples) SAMPLES=$2 && shift 2 ;;
    --seed) SEED=$2 && shift 2 ;;
    --all) ALL=1 STACK_LIMIT=1000000 && shift ;;
    --stride) STRIDE=$2 && shift 2 ;;
    *) fail "step_kill.sh [--samples N] [--seed S] | --all [--stride D]" ;;
    esac
done
need jq nm nstat
stack_begin step-kill
stack_up

address() {
    local at
    at=$(nm "$EFT_BUILD/eft-tcp" | sed -n "s/ [tT] $1\$//p")
    [ -n "$at" ] || fail "eft-tcp has no function $1"
    say "$at"
}
ECHO=$EFT_BUILD/tests/apps/programs
spawn echo stack_run "$ECHO/echo_server" 7001
wait_for 10 "the echo server listens" port_open "$STACK_IP" 7001

# Long streams, each over many deaths; and many short connections. Each client sees that all of it comes back.
flow() { # flow NAME CONNECTIONS BYTES
    local EXEC=
    while [ ! -e "$T/stop" ]; do
        in_peer "$ECHO/echo_client" -n "$2" "$STACK_IP" 7001 "$3" || return 1
        echo done
    done
}
spawn long flow long 3 30000000
spawn short flow short 10 3000

failed() { status '[.servers[].counters.tcp0.connections_failed_check // empty] | add'; }
back() { [ "$(server_field tcp restarts)" -gt "$before" ] && [ "$(server_field tcp state)" = running ]; }
declare -A killed=([segment]=0 [request]=0)
hangs=0
kill_at() { # kill_at KIND FUNCTION K
    local rc=0 what="$2 with a $1, instruction $3"
    before=$(server_field tcp restarts)
    "$EFT_BUILD/tests/crashpoint/step_kill" "$(server_field tcp pid)" "$(address component_turn)" "$1" \
        "$(address "$2")" "$3" >"$T/step_kill.log" 2>&1 || rc=$?
    [ $rc != 77 ] || skip "$(cat "$T/step_kill.log")"
    [ $rc = 0 ] || [ $rc = 4 ] || fail "$what: $(cat "$T/step_kill.log")"
    wait_for 10 "tcp is back ($what)" back
    # On a busy machine the steps take so long that rs ends it before we do: a death like any other.
    if [ $rc = 4 ]; then
        hangs=$((hangs + 1))
        [ "$(server_field tcp hangs)" = $hangs ] || fail "$what: it ended by itself"
        say "$what: rs was faster"
    else
        killed[$1]=$((killed[$1] + 1))
    fi
    for name in long short; do
        kill -0 "${PIDS[$name]}" 2>/dev/null || fail "$what: $(cat "$T/$name.log")"
    done
}

if [ -n "$ALL" ]; then
    for kind in segment request; do
        for from in ${BEGIN[$kind]}; do
            for ((k = 1; k <= SPAN; k += STRIDE)); do kill_at $kind "$from" $k; done
        done
    done
else
    say "seed $SEED"
    RANDOM=$SEED
    for ((i = 0; i < SAMPLES; i++)); do
        kind=segment
        [ $((i % 2)) = 0 ] || kind=request
        read -ra from -d '' <<<"${BEGIN[$kind]}" || :
        kill_at $kind "${from[RANDOM % ${#from[@]}]}" $((1 + (RANDOM << 15 | RANDOM) % SPAN))
    done
fi

touch "$T/stop"
for name in long short; do
    wait "${PIDS[$name]}" || fail "the $name streams: $(cat "$T/$name.log")"
    unset "PIDS[$name]"
    say "$name streams: $(grep -c done "$T/$name.log") times"
done
resets=$(in_peer nstat -asz TcpEstabResets | awk 'END { print $2 }')
[ "$resets" = 0 ] || fail "$resets connections of the peer were reset"
[ "$(failed)" = 0 ] || fail "$(failed) records failed their check"
kills=$((killed[segment] + killed[request]))
[ $kills -gt $hangs ] || fail "rs was faster $hangs times of $((kills + hangs))"
[ "$(server_field tcp restarts)" = $((kills + hangs)) ] || fail "$(server_field tcp restarts) restarts for $kills kills"
say "killed ${killed[segment]} times with segments, ${killed[request]} times with requests: nothing lost"
despawn echo
stack_end
