#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Up, down, what goes wrong on the way, what the servers may do, and the death of rs itself.
set -u
. "$(dirname "$0")/common.sh"
rs_begin eftlife "$@"

# expect STATUS TEXT COMMAND…
expect() {
    local want=$1 text=$2 out got
    shift 2
    out=$("$@" 2>&1)
    got=$?
    [ $got = "$want" ] || fail "$*: status $got, expected $want: $out"
    case $out in *"$text"*) ;; *) fail "$*: said \"$out\", expected \"$text\"" ;; esac
}

# --- what cannot start starts nothing
printf '[stack]\nshape = round\n' >"$T/bad.conf"
expect 3 'bad.conf:2: shape: found "round", expected split or fused' \
    in_ns "$T/eft" up --name "$STACK" --config "$T/bad.conf"
expect 2 'cannot be the name' in_ns "$T/eft" up --name ../x
printf '[interface a]\naddress=10.0.0.1/24\nnetns=no-such-namespace\n' >"$T/bad.conf"
expect 1 'no-such-namespace' in_ns "$T/eft" up --name "$STACK" --config "$T/bad.conf"
expect 4 'CAP_NET_ADMIN is missing' \
    in_ns setpriv --bounding-set -net_admin --inh-caps -net_admin "$T/eft" up --name "$STACK" 2>&1 ||
    fail "a missing capability is not reported"
mv "$T/eft-tcp" "$T/away"
expect 7 'tcp0: cannot open its program' up
printf '#!/bin/sh\nexit 3\n' >"$T/eft-tcp"
cp /bin/false "$T/eft-tcp"
expect 7 'exited with status 1' up
mv "$T/away" "$T/eft-tcp"
[ ! -e "/run/eft/$STACK" ] || fail "left after failures: $(ls "/run/eft/$STACK")"
expect 1 'is not up' eft status --name "$STACK"
expect 1 'is not up' eft down --name "$STACK"

# --- memory that cannot be locked is said, once, and the stack runs
in_ns prlimit --memlock=65536:65536 setpriv --bounding-set -sys_resource --inh-caps -sys_resource \
    "$T/eft" up --name "$STACK" --config "$T/stack.conf" || fail "eft up with little memory to lock"
[ "$(grep -c 'cannot lift the limit of locked memory' "/run/eft/$STACK/log")" = 1 ] ||
    fail "nothing is said of memory that cannot be locked: $(cat "/run/eft/$STACK/log")"
all_running || fail "not all are running"
down || fail "eft down"

# --- up
up || fail "eft up"
all_running || fail "not all are running"
expect 6 'already up' up
[ "$(stat -c %a "/run/eft/$STACK/control")" = 666 ] || fail "mode of control"
[ "$(stat -c %a "/run/eft/$STACK/rs")" = 600 ] || fail "mode of rs"
eft maps --name "$STACK" >"$T/maps" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps")"
expect 1 'no such server' eft crash kill tcp7 --name "$STACK"
# nonsense at the operator socket gets answers, and does no harm
answers=$(printf '%s\n' nonsense '{' '[1]' '"x"' '{"op":5}' '{"op":null}' '{"op":"kill"}' \
    '{"op":"kill","servers":null}' '{"op":"kill","servers":[{}]}' '{"op":"kill","servers":[null]}' \
    '{"op":"kill","servers":["tcp0",5]}' '{"op":"none"}' |
    timeout 5 nc -N -U "/run/eft/$STACK/rs" | grep -c '"ok":false')
[ "$answers" = 12 ] || fail "the operator socket gave $answers answers to 12 wrong requests"
head -c 100000 /dev/zero | timeout 5 nc -N -U "/run/eft/$STACK/rs" >/dev/null
all_running || fail "nonsense did harm"
filter=2
grep -qa __asan_init "$T/eft-rs" && filter=0 # with sanitizers there is no sandbox
uids=
for pid in $(status '.servers[].pid'); do
    s=/proc/$pid/status
    grep -q '^CapEff:.0000000000000000$' $s && grep -q '^CapPrm:.0000000000000000$' $s &&
        grep -q '^CapBnd:.0000000000000000$' $s && grep -q '^CapAmb:.0000000000000000$' $s ||
        fail "process $pid has capabilities"
    grep -q '^NoNewPrivs:.1$' $s || fail "process $pid may gain privileges"
    grep -q "^Seccomp:.$filter\$" $s || fail "process $pid is not sandboxed"
    grep -q '^Groups:.*[0-9]' $s && fail "process $pid has groups"
    grep -q 'Max core file size *0 ' "/proc/$pid/limits" || fail "process $pid may dump core"
    uids="$uids $(stat -c %u "/proc/$pid/task")$(awk '/^Uid/{print $2}' $s)"
done
[ "$(printf '%s\n' $uids | sort -u | wc -l)" = 6 ] || fail "users are shared:$uids"
printf '%s\n' $uids | grep -qx 00 && fail "a server runs as root"

# --- several at once: all within a millisecond, or none
expect 1 'no such server' eft crash kill tcp0 tcp7 udp0 --name "$STACK"
[ "$(status '[.servers[].restarts] | add')" = 0 ] || fail "killed some of those to be killed together"
read -r -a old <<<"$(server tcp0 pid) $(server udp0 pid) $(server driver0 pid)"
eft crash kill tcp udp0 driver0 --name "$STACK" >"$T/killed" || fail "kill three"
[ "$(cut -d' ' -f1 "$T/killed" | xargs)" = "${old[*]}" ] || fail "killed $(cat "$T/killed"), not ${old[*]}"
apart=$(awk 'NR == 1 { t = $2 } END { print $2 - t }' "$T/killed")
[ "$apart" -ge 0 ] && [ "$apart" -lt 1000000 ] || fail "$apart ns between the first kill and the last"
for s in tcp0 udp0 driver0; do wait_for 5 "$s is back" is $s restarts 1; done
wait_for 5 "all are running" all_running
[ "$(status '[.servers[].restarts] | add')" = 3 ] || fail "others died as well"
pids=$(status '.servers[].pid')

# --- rs dies: the next one takes the servers over; only together with its keeper it leaves them
rs=$(status .pid)
killed=$(eft crash kill rs ip0 --name "$STACK" --json | jq -r '[.killed[].server] | join(",")')
[ "$killed" = ip0,rs ] || fail "killed $killed, not ip0 and rs"
wait_for 2 "rs is gone" dead "$rs"
wait_for 5 "ip0 is back" is ip0 restarts 1
wait_for 5 "all are running" all_running
[ "$(status .rs_restarts)" = 1 ] || fail "eft-rs was restarted $(status .rs_restarts) times"
[ "$(status '[.servers[].restarts] | add')" = 4 ] || fail "others died as well"
pids=$(status '.servers[].pid')

# --- what it left cannot be used: the stack starts afresh by itself, and nothing of the old one stays
attach lost
wait_for 5 "one attaches" attached lost
keeper=$(status .keeper_pid)
rs=$(status .pid)
for fd in "/proc/$keeper/fd/"*; do
    case $(readlink "$fd") in /memfd:eft:rs-state*) dd if=/dev/zero of="$fd" bs=4096 count=1 conv=notrunc status=none ;; esac
done
kill -KILL "$rs"
for pid in $pids; do wait_for 5 "process $pid is gone" dead "$pid"; done
wait_for 5 "all are running" all_running
[ "$(status '.keeper_pid, .rs_restarts, .applications' | xargs)" = "$keeper 0 0" ] ||
    fail "it did not start afresh: $(status '.keeper_pid, .rs_restarts, .applications')"
attach found
wait_for 5 "one attaches to the new stack" attached found
kill -KILL "${APPS[@]}" 2>/dev/null
pids=$(status '.servers[].pid')

end_both() {
    local both
    both=$(status '.keeper_pid, .pid')
    # shellcheck disable=SC2086 # a list
    kill -KILL $both
    for pid in $both; do wait_for 2 "process $pid is gone" dead "$pid"; done
}
end_both
for pid in $pids; do wait_for 2 "process $pid is gone" dead "$pid"; done
[ -e "/run/eft/$STACK/lock" ] || fail "nothing was left to clean up"
up || fail "eft up after the death of both"
end_both
expect 0 'removed what it had left' eft down --name "$STACK"
[ ! -e "/run/eft/$STACK" ] || fail "left: $(ls "/run/eft/$STACK")"

up || fail "eft up"
rs_end
say ok
