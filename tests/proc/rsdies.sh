#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# rs dies, hangs, dies together with a server and while another one recovers, beside connections and
# beside programs that come and go: nothing breaks, no server is restarted by it, nothing leaks.
#   rsdies.sh [KILLS [SEED]]
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl nc
KILLS=${1:-50}
RANDOM=${2:-$((BASHPID % 32768))}
printf 'seed %s\n' "${2:-$((BASHPID % 32768))}"
KIT=$ROOT/tests/proc/rsdies.py
SERVERS=(driver0 ip0 pf0 tcp0 udp0 syscall0)
stack_begin rsdies
stack_up
victim_prepare
spawn echo in_peer "$PYTHON" "$KIT" serve 7007
wait_for 10 "the peer listens" port_open "$PEER_IP" 7007

rs_pid() { status .pid; }
fds() { find "/proc/$1/fd" -mindepth 1 | wc -l; }
# of rs and of its keeper, when all is quiet
all_fds() { printf '%s %s' "$(fds "$(rs_pid)")" "$(fds "$(status .keeper_pid)")"; }
pids() { status '[.servers[].pid] | join(" ")'; }
all_running() { [ "$(status '[.servers[].state] | unique | join(",")')" = running ]; }
kill_rs() {
    local pid
    pid=$(rs_pid)
    kill -KILL "$pid"
}
applications() { [ "$(status .applications)" = "$1" ]; }
# talk_start NAME; talk_end NAME: a connection that must live through what is done in between
talk_start() {
    spawn "$1" stack_run "$PYTHON" "$KIT" talk "$PEER_IP" 7007
    wait_for 10 "$1 attaches" applications "$2"
}
talk_end() {
    kill -TERM "${PIDS[$1]}"
    wait "${PIDS[$1]}" || fail "$1 broke: $(cat "$T/$1.log")"
    unset "PIDS[$1]"
    say "$1: $(cat "$T/$1.log") (echoes, the longest in ms)"
}
come_start() { spawn come stack_run "$PYTHON" "$KIT" come "$PEER_IP" 7007 "$1"; }
come_end() {
    wait "${PIDS[come]}" || fail "who came while rs was away got an error: $(cat "$T/come.log")"
    unset 'PIDS[come]'
    say "came: $(cat "$T/come.log") (programs, the longest in ms)"
}

# the first use of things, so that what is counted below is what stays
stack_run "$PYTHON" "$KIT" come "$PEER_IP" 7007 3 >/dev/null
wait_for 5 "they are gone" applications 0
before=$(all_fds)
servers=$(pids)

# --- it dies, beside a transfer, a connection, and programs that come
talk_start talk 1
victim_start 10
come_start 60
for _ in $(seq "$KILLS"); do
    kill_rs
    # anywhere in its life: while it adopts, or later
    sleep "0.$(printf '%03d' $((RANDOM % 100)))"
done
come_end
victim_end
talk_end talk
[ "$(status .rs_restarts)" = "$KILLS" ] || fail "rs was restarted $(status .rs_restarts) times, not $KILLS"
[ "$(pids)" = "$servers" ] || fail "servers were restarted: $servers, now $(pids)"
[ "$(restarts)" = 0 ] || fail "$(restarts) restarts of servers"
wait_for 5 "all applications are gone" applications 0
[ "$(all_fds)" = "$before" ] || fail "descriptors of rs and keeper: $before, now $(all_fds)"
eft maps --name "$STACK" >"$T/maps.log" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps.log")"

# --- it stops: found by the watchdog, while a program waits for it and another one dies
talk_start talk 1
talk_start dies 2
kill -STOP "$(rs_pid)"
come_start 1
kill -KILL "${PIDS[dies]}"
come_end
unset 'PIDS[dies]'
wait_for 5 "the death of the one is noticed" applications 1
[ "$(status .rs_restarts)" = $((KILLS + 1)) ] || fail "rs was not restarted when it hung"

# --- restart on purpose
eft update rs --name "$STACK" >"$T/update.log" || fail "update: $(cat "$T/update.log")"
[ "$(status .rs_restarts)" = $((KILLS + 2)) ] || fail "rs was not restarted on purpose"
[ "$(pids)" = "$servers" ] || fail "servers were restarted: $servers, now $(pids)"

# --- together with a server, and at any moment of the recovery of one
come_start 40
# On a busy machine a spare may be told to take over from one that has just done so: one restart more.
n=0
again() { # WHAT
    wait_for 10 "all run after the death of $1" all_running
    [ "$(restarts)" -gt "$n" ] || fail "no restart after the death of $1: $(cat "/run/eft/$STACK/log")"
    n=$(restarts)
}
for s in "${SERVERS[@]}" "${SERVERS[@]}"; do
    eft crash kill "$s" rs --name "$STACK" >>"$T/kills.log" || fail "kill $s and rs"
    again "$s and rs"
    rs=$(rs_pid)
    kill_server "$s"
    sleep "0.0$(printf '%02d' $((RANDOM % 20)))"
    kill -KILL "$rs"
    again "$s, and of rs after it"
done
come_end
talk_end talk
wait_for 5 "all applications are gone" applications 0
[ "$(all_fds)" = "$before" ] || fail "descriptors of rs and keeper: $before, now $(all_fds)"
eft maps --name "$STACK" >"$T/maps.log" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps.log")"
cp "/run/eft/$STACK/log" "$T/rs.log"
say "adoption, ms: $(sed -n 's/.* in \([0-9.]*\) ms$/\1/p' "$T/rs.log" | sort -n |
    awk '{ t[NR] = $1 } END { print "median", t[int((NR + 1) / 2)], "most", t[NR], "of", NR }')"

# --- down, though it dies on the way
(eft down --name "$STACK" || :) &
down=$!
kill_rs 2>/dev/null || :
wait $down
ended() { [ ! -e "/run/eft/$STACK" ]; }
wait_for 5 "the stack is down" ended || fail "left: $(ls "/run/eft/$STACK")"
# shellcheck disable=SC2034 # of stack.sh
STACK_IS_UP=
stack_end
say ok
