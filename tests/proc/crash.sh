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
victim_start 10
before=$(restarts)

# --- how a process ends or stands still: class, server, how it must end ---
ends() {
    crash "$1" "$2" --window 15000 # until it has ended
    says '.injected' '.activated' '.manifested' '.recovered' ".end.$3" ".last_end | test(\"$4\")" '.restarts == 1'
}
# shellcheck disable=SC2016 # of jq
{
    # first those who need work to be convicted
    ends stop tcp 'signal_name == "SIGKILL"' hang
    ends spin ip 'signal_name == "SIGKILL"' hang
    crash kill tcp --window 1000
    says '.end.signal_name == "SIGKILL"' '.last_end == "killed"'
    ends segv tcp 'signal_name == "SIGSEGV"' fault
    says '.clean' '.faults[0].activated'
    ends abort ip 'signal_name == "SIGABRT"' fault
    ends exit udp 'status == 1' 'fault|killed' # a spare that takes over at once sees no fault
}
[ "$(restarts)" = $((before + 6)) ] || fail "$(restarts) restarts, expected $((before + 6))"

# --- eft-rs itself, which its parent starts anew: the servers go on ---
before=$(restarts)
for class in segv spin; do
    crash $class rs --window 15000
    says '.manifested' '.activated' '.recovered' '.clean' '.successor != .pid'
done
[ "$(restarts)" = "$before" ] || fail "servers were restarted with eft-rs"

# --- its successor dies while it recovers, and that one's, too; two at once; no more of the machine ---
died_early() {
    crash kill tcp --again 2 --window 1000
    killed=$((killed + 3))
    says '.recovered' '.restarts == 3' '(.again | length) == 2' '.again[0].pid != .again[1].pid' \
        '.successor != .again[1].pid'
    jq -e '[.again[] | select(.ready | not)] | length > 0' "$T/line" >/dev/null
}
killed=0
wait_for 20 "a successor dies before it is ready" died_early
[ "$(server_field tcp restarts)" -ge $killed ] || fail "$killed deaths of tcp, and $(server_field tcp restarts) restarts"
crash kill ip driver --window 1000
[ "$(jq -s '[.[] | select(.recovered and .restarts == 1)] | length' "$T/line")" = 2 ] ||
    fail "two at once: $(cat "$T/line")"
for class in descriptors memory memlock; do
    crash $class udp --window 10 --after restore
    says '.injected' '.activated == null' '.cleanup == "restored"'
done
victim_end

# A wrong server may say something wrong, so that the transfer that is the load proves nothing here.
load() { { [ -n "${PIDS[victim]:-}" ] && victim_runs; } || victim_start 8; }

# --- what reaches over to others: wild stores, wrong messages, an application that keeps no rule ---
spawn ping in_peer ping -i 0.01 -q "$STACK_IP"
# a server without work: others go on, whatever is hit
for where in any shared private stack; do
    crash wildwrite udp --where $where --count 8 --window 50
    says '.injected' '.activated' '(.stores | length) == 8' '.recovered'
done
says '.stores | all(.place == "[stack]")'
# class, server, the queue that must be hit
wrong_message() {
    crash "$1" "$2" --window 200
    says '.injected' '.activated' "(.stores | length) == 1 and .stores[0].before.bytes != .stores[0].after.bytes" \
        ".stores[0].place | test(\"$3\")" '.recovered'
}
wrong_message garbage driver driver-ip
wrong_message range pf pf-ip
wrong_message opcode ip '^ip-'
wrong_message replay driver driver-ip
wrong_message tail driver driver-ip
wrong_message head driver 'ip-(driver|return)'
# the newest application is the load
application() { eft maps --name "$STACK" --json | jq -r '[.entries[].process | select(startswith("app"))] | max'; }
load
crash byzantine "$(application)" --window 100
says '.injected' '.server | startswith("app")' '.drawn' '(.stores | length) == 1'
despawn victim
load
crash kill "$(application)" --window 1000
says '.manifested' '.end.signal == 9'
despawn victim

# --- mistakes in code: whatever comes of them, the server that has none comes back ---
activated=0
mistake() {
    load
    crash "$@"
    says '.injected' '(.faults | length) >= 1' '.executed > 0' \
        '.faults | all(.before.bytes != .after.bytes and (.before.bytes | length) == (.after.bytes | length))' \
        'if .manifested or .cleanup == "killed" then .recovered and .clean else .cleanup == "restored" end'
    if jq -e .activated "$T/line" >/dev/null; then activated=$((activated + 1)); fi
}
mistake nop tcp --window 300 --seed 1
mistake condition ip --window 300 --seed 2 --after restore
mistake immediate pf --window 300 --seed 3
for class in flip source destination pointer branch off-by-one init argument mutate; do
    mistake $class ip --window 100 --seed 4
done
[ $activated -ge 4 ] || fail "of 12 mistakes in code that executes $activated were executed"
load
crash mutate ip --mode minix --count 100 --window 300 --seed 5
says '(.faults | length) == 100' '[.faults[].address] | unique | length == 100'

# --- a campaign: judged by a command, interrupted, and gone on with ---
cat >"$T/judge" <<JUDGE
#!/bin/sh
printf '%s\n' "\$EFT_CRASH_LINE" >>$T/judged
ping -c1 -W3 $STACK_IP >/dev/null && echo '{"outcome":"reachable"}'
JUDGE
campaign() {
    in_peer "$EFT_BUILD/eft" crash campaign --name "$STACK" --classes kill,segv,nop --servers udp,pf --window 100 --seed 3 \
        --output "$T/results" --judge "sh $T/judge" --json "$@"
}
# of another stack: what a server with a mistake said and stored stays
for name in ping victim; do despawn $name; done
stack_down
stack_up
campaign --runs 4 >"$T/line" || fail "campaign: $(cat "$T/line")"
says '.runs == 4' '.failed == 0'
truncate -s -3 "$T/results" # as if it had been killed while it wrote its last line
campaign --runs 8 >"$T/line" || fail "campaign: $(cat "$T/line")"
says '.runs == 8' '.injected == 8' '.failed == 0' '.rows | length == 6'
[ "$(wc -l <"$T/judged")" = 9 ] || fail "$(wc -l <"$T/judged") runs were judged: of 4 one is lost, and 5 are missing"
[ "$(jq -s '[.[1:][] | .run] == [range(8)] and (.[1:] | all(.judge.outcome == "reachable"))' "$T/results")" = true ] ||
    fail "results: $(cat "$T/results")"

# --- what it cannot do, it says ---
refuses() { if eft crash "$@" --name "$STACK" >"$T/out" 2>&1; then fail "eft crash $* was done"; fi; }
refuses nothing tcp
refuses segv nobody
refuses nop tcp --at nowhere+0x1
refuses nop tcp --mode other
refuses campaign --output "$T/results" --classes kill --servers udp --seed 3
refuses campaign --output "$T/judge" --classes kill
stack_end
say "each class of faults was put in, proven, and recovered from"
