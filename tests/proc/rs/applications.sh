#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Applications: what they get, whose death is noticed, and what crashes of servers do to them.
set -u
. "$(dirname "$0")/common.sh"
rs_begin eftapps "$@"
up || fail "eft up"

# --- root, somebody, waiters
attach one --waiters 5
wait_for 5 "the first attaches" attached one
attach two --user 65534 --waiters 63
wait_for 5 "the second attaches" attached two
applications 2 || fail "expected 2 applications"
[ "$(app_number one)" != "$(app_number two)" ] || fail "the same number twice"
eft maps --name "$STACK" >"$T/maps" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps")"
for who in "driver0.*app0-up .*read" "tcp0.*app0-down-tcp .*write" "udp0.*app0-down-udp .*write" \
    "syscall0.*app0-down-ctl .*write" "app0.*app0-up .*write"; do
    grep -q "$who" "$T/maps" || fail "maps: no line $who"
done
grep -qE '(ip0|pf0) .*app[01]-' "$T/maps" && fail "ip or pf maps an application's memory"
grep -qE 'tcp0.*app0-down-udp' "$T/maps" && fail "tcp maps udp's memory"

# --- death, and the number's next life
generation=$(app_generation one)
kill -KILL "${APPS[0]}"
wait_for 5 "the death of the first is noticed" applications 1
sleep_until_free() { ! eft maps --name "$STACK" | grep -q 'app0-'; }
wait_for 5 "its memory is unmapped" sleep_until_free

# --- every server dies; those who are attached stay, new ones come
for s in driver0 ip0 pf0 tcp0 udp0 syscall0; do
    before=$(server $s pid)
    kill_server $s
    attach "after-$s" --waiters 2
    wait_for 5 "attach while $s restarts" attached "after-$s"
    wait_for 5 "$s is back" is $s state running
    [ "$(server $s pid)" != "$before" ] || fail "$s was not restarted"
    [ "$(server $s restarts)" = 1 ] || fail "$s: restarts"
done
applications 7 || fail "expected 7 applications, not $(status .applications)"
eft maps --name "$STACK" >"$T/maps" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps")"

# --- an attach waits for a reader that cannot answer, and goes on with its successor
stopped=$(server driver0 pid)
kill -STOP "$stopped"
attach waits
wait_for 5 "the stopped driver is taken for hung" is driver0 hangs 1
wait_for 5 "attach goes on with its successor" attached waits
[ "$(server driver0 pid)" != "$stopped" ] || fail "driver0 was not replaced"
[ "$(server driver0 last_end)" = hang ] || fail "its end was $(server driver0 last_end)"

# --- a death while the one who must let go is dead itself
applications 8 || fail "expected 8 applications"
kill_server tcp0
kill -KILL "$ATTACHED"
wait_for 5 "the death of the last is noticed" applications 7

# --- another program in the same process is not the application
attach changes --exec
changes=$ATTACHED
wait_for 5 "it attaches" attached changes
wait_for 5 "exec ends the application" applications 7
alive "$changes" || fail "the process died"
kill -KILL "$changes"

# --- numbers are used again with a new generation
for i in $(seq 3); do
    attach "reuse$i"
    wait_for 5 "reuse $i" attached "reuse$i"
    kill -KILL "$ATTACHED"
    wait_for 5 "reuse $i ends" applications 7
done
[ "$generation" = 1 ] || fail "first generation is $generation"
for pid in "${APPS[@]}"; do kill -KILL "$pid" 2>/dev/null; done
wait_for 5 "all applications are gone" applications 0
rs_end

# --- who is not on the list is not let in
config
sed -i 's/^users = .*/users = root, 1234/' "$T/stack.conf"
up || fail "eft up"
attach stranger --user 65534 --refused 13
wait_for 5 "the stranger is refused" grep -q refused "$T/stranger.out"
attach known --user 1234
wait_for 5 "the known one attaches" attached known
rs_end
say ok
