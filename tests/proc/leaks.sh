#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# After three hundred kills in rotation and as many applications that come and go meanwhile, and then more
# of them in quiet, the stack holds what it held before: descriptors, mappings, memory, frames, sockets.
# Every application is served.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl nc
ROUNDS=300 QUIET=100
stack_begin leaks
stack_up
printf 'hello' >"$T/hello"
spawn http in_peer "$PYTHON" -m http.server 8000 --bind "$PEER_IP" --directory "$T"
wait_for 5 "the peer serves" in_peer nc -z "$PEER_IP" 8000

held() { "$PYTHON" "$ROOT/tests/proc/leaks.py" "$EFT_BUILD/eft" "$STACK"; }
number() { jq -r ".\"$1\"" "$T/$2.json"; }
client() {
    if [ $(($1 % 3)) = 0 ]; then
        stack_run nc -z -w5 "$PEER_IP" 8000
    else
        [ "$(stack_run curl -s -m 10 "http://$PEER_IP:8000/hello")" = hello ]
    fi
}
servers=(driver0 ip0 pf0 tcp0 udp0 syscall0)
killed() { kill_server "$1"; } # refused while it is being restarted
round() {
    client "$1" || fail "client $1 was not served"
    wait_for 5 "${servers[$(($1 % 6))]} can be killed" killed "${servers[$(($1 % 6))]}"
}
quiet() {
    held >"$T/now.json" && [ "$(number applications now)" = 0 ] && [ "$(number "control clients" now)" = 0 ] &&
        [ "$(status '[.servers[].state] | unique | join(",")')" = running ]
}

# What is made once, and stays, is made in the first rounds.
for i in $(seq 12); do round "$i"; done
wait_for 10 "all is quiet" quiet
cp "$T/now.json" "$T/before.json"
for i in $(seq $ROUNDS); do round "$i"; done
# A server that was not killed since shows what it keeps of the dead.
for i in $(seq $QUIET); do client "$i" || fail "client $i was not served"; done
wait_for 10 "all is quiet again" quiet
same() {
    held >"$T/now.json" || return 1
    jq -r --slurpfile before "$T/before.json" 'to_entries[] |
        (.value - $before[0][.key]) as $more | select(
            if .key == "rs KiB" then $more > 512 + 24 * '$((ROUNDS + QUIET))' # one record for each number of an application
            elif .key | endswith("KiB") then $more > 512
            else $more != 0 end) |
        "\(.key): \($before[0][.key]) before, \(.value) now"' "$T/now.json" >"$T/more"
    [ ! -s "$T/more" ]
}
trap 'cat "$T/more" >&2 2>/dev/null; stack_cleanup' EXIT
wait_for 5 "the stack holds what it held before" same
trap stack_cleanup EXIT
say "$ROUNDS kills, $((ROUNDS + QUIET)) applications: $(jq -c . "$T/now.json")"
stack_end
