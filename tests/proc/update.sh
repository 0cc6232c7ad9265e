#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# eft update: every server gets another program while data flows; the peer sees no retransmission timeout. Programs that
# end, or want another layout of the memory, are refused; one that fails on trial is rolled back; an update
# and a kill at the same time lose nothing. Of the gaps it prints what it sees.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
stack_begin update
stack_up "" "" "[recovery]" "trial_s=2"
victim_prepare
SERVERS='driver ip pf tcp udp syscall'

pid_of() { server_field "$1" pid; }
program_of() { readlink "/proc/$(pid_of "$1")/exe"; }
update() { eft update "$@" --name "$STACK" --json >"$T/answer" 2>"$T/complaint.log"; }
update_state() { server_field "$1" update.state; }
is_state() { [ "$(update_state "$1")" = "$2" ]; }
running_is() { [ "$(server_field "$1" state)" = running ]; }
# another file, the same program
for server in $SERVERS; do
    cp "$EFT_BUILD/eft-$server" "$T/$server.1"
    cp "$EFT_BUILD/eft-$server" "$T/$server.2"
done
# tcp_counter NAME: of the peer
tcp_counter() { in_peer nstat -asz "$1" | awk 'END { print $2 }'; }

# --- all of them, one after the other, under a transfer ---
victim_start 8
again=$(tcp_counter TcpRetransSegs) timeouts=$(tcp_counter TcpExtTCPTimeouts) restarts=$(restarts)
for server in $SERVERS; do
    before=$(pid_of "$server")
    update "$server" "$T/$server.1" || fail "$server: $(cat "$T/answer" "$T/complaint.log")"
    [ "$(pid_of "$server")" != "$before" ] || fail "$server: the same process"
    [ "$(program_of "$server")" = "$T/$server.1" ] || fail "$server runs $(program_of "$server")"
    say "$server: gap $(jq .gap_ms "$T/answer") ms"
done
victim_runs || fail "the transfer was over too early"
say "the peer sent $(($(tcp_counter TcpRetransSegs) - again)) segments again"
[ "$(tcp_counter TcpExtTCPTimeouts)" = "$timeouts" ] || fail "a retransmission timeout at the peer"
[ "$(restarts)" = "$restarts" ] || fail "an update is no restart"
victim_end

# --- once it is done all spares are of the new program ---
all_of() { # all_of SERVER PROGRAM
    local pid
    is_state "$1" "done" && [ "$(server_field "$1" spares)" -gt 0 ] || return 1
    for pid in $(eft maps --name "$STACK" --json | jq ".processes[] | select(.name == \"${1}0\") | .pid"); do
        [ "$(readlink "/proc/$pid/exe")" = "$2" ] || return 1
    done
}
for server in $SERVERS; do wait_for 10 "all of $server is new" all_of "$server" "$T/$server.1"; done

# --- what is refused: the old one goes on, the same process ---
refused() { # refused PROGRAM WHAT
    local before
    before=$(pid_of pf)
    if update pf "$1"; then fail "took $2"; fi
    [ "$(pid_of pf)" = "$before" ] || fail "$2 ended the running server"
    grep -q . "$T/answer" "$T/complaint.log" || fail "$2: no reason given"
}
refused /bin/true "a program that ends"
refused "$T/none" "no file"
refused /etc/passwd "a text"
refused "$EFT_BUILD/tests/proc/other_layout" "another layout"
[ "$(update_state pf)" = refused ] || fail "refused is called $(update_state pf)"

# --- on trial it fails: the old one is back by itself ---
victim_start 8
for server in tcp ip driver; do
    update "$server" "$T/$server.2" || fail "$server: $(cat "$T/answer" "$T/complaint.log")"
    eft crash segv "$server" --window 2000 --name "$STACK" --json >"$T/crash" || fail "$(cat "$T/crash")"
    wait_for 5 "$server was rolled back" is_state "$server" rolled-back
    wait_for 5 "$server runs" running_is "$server"
    [ "$(program_of "$server")" = "$T/$server.1" ] || fail "$server runs $(program_of "$server")"
done
victim_runs || fail "the transfer was over too early"
victim_end

# --- an update and a kill at once: one of the two programs runs, and nothing is lost ---
victim_start 8
for round in {1..20}; do
    server=$(echo "$SERVERS" | cut -d' ' -f$((round % 6 + 1)))
    spawn kill eft crash kill "$server" --name "$STACK"
    # it may be refused: the heir is the one that was killed
    update "$server" "$T/$server.2" || true
    # at this very moment nobody may run
    wait "${PIDS[kill]}" || grep -q "not running" "$T/kill.log" || fail "eft crash kill: $(cat "$T/kill.log")"
    unset 'PIDS[kill]'
    wait_for 5 "$server runs" running_is "$server"
    case $(program_of "$server") in "$T/$server".[12]) ;; *) fail "$server runs $(program_of "$server")" ;; esac
    over() { ! is_state "$server" trial && ! is_state "$server" preparing && ! is_state "$server" handing; }
    [ "$round" -lt 15 ] || wait_for 10 "the update of $server is over" over
done
victim_end
stack_end
