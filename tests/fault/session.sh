#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# session.sh PLAN OUTPUT: one stack, the applications of the mixed workload on it, and session.py at the peer, which
# injects the faults that PLAN (JSON, of plan.py) lists and appends what it saw to OUTPUT (JSON lines). Then
# everything is taken down. `run` calls it again and again.
#
# The path of the plan: "tap", with all offloads; "checked", a TAP device without any, so that either end computes and
# verifies real checksums; "fused", as tap with all components in one process; "lossy", as checked
# through a link that loses and reorders.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
here=$ROOT/tests/fault
PLAN=$1 OUTPUT=$2
STACK_LIMIT=$(jq .limit "$PLAN")
need jq nginx dnsmasq dropbear ssh
stack_begin fault

# A port that the packet filter closes, and behind which somebody listens all the same.
STACK_LINES=('[filter]' 'rule=block in proto tcp to any port 7099' 'rule=block in proto udp to any port 7099')
case $(jq -r .path "$PLAN") in
tap) stack_up "" "" "[recovery]" "trial_s=1" ;;
checked) STACK_OFFLOAD=no stack_up "" "" "[recovery]" "trial_s=1" ;;
fused) STACK_SHAPE=fused stack_up "" "" "[recovery]" "trial_s=1" ;;
lossy) link_up --seed "$(jq .seed "$PLAN")" --loss 0.5 --reorder 1 ;;
*) fail "unknown path" ;;
esac

# The servers share the first processor, as is the default with two; applications and peer get the others, so that a silence
# is the stack's and not theirs.
if [ "$(nproc)" -gt 1 ]; then taskset -pc "1-$(($(nproc) - 1))" $$ >/dev/null; fi

spawn echo stack_run "$PYTHON" "$here/server.py" 7000
spawn stream stack_run "$PYTHON" "$here/stream.py" serve 7001
spawn ticker stack_run "$EFT_BUILD/tests/fault/ticker" 7002
spawn forbidden stack_run "$PYTHON" "$here/server.py" 7099 forbidden
nginx_config "$T/nginx"
head -c 1048576 /dev/urandom >"$T/nginx/www/data"
mapfile -t nginx < <(nginx_command "$T/nginx")
spawn nginx stack_run "${nginx[@]}"
dns_config "$STACK_IP" '' >"$T/dnsmasq.conf"
spawn dnsmasq stack_run dnsmasq -C "$T/dnsmasq.conf"

# dropbear hands the connection over by exec() when it can open its own program by the name it was called by; sockets
# of the stack do not survive that, so it is called by another. (OpenSSH's sshd insists on it, or
# confines a child that must use the connection by seccomp.) The keys are where the home is.
mkdir -p "$T/home/.ssh"
ssh-keygen -q -t ed25519 -N '' -f "$T/key"
cp "$T/key.pub" "$T/home/.ssh/authorized_keys"
dropbearkey -t ed25519 -f "$T/host" >"$T/dropbearkey.out" 2>&1
# shellcheck disable=SC2016
spawn dropbear stack_run unshare -m bash -c 'mount --bind "$1" ~ && exec -a dropbear /usr/sbin/dropbear -F -E -s -r "$2" -p 2222' \
    sh "$T/home" "$T/host"
# The machine may be busy, and these be niced.
for port in 7000 7001 7002 80 2222; do wait_for 60 "port $port is open" port_open "$STACK_IP" $port; done
wait_for 60 "the name server answers" in_peer dig +short +time=1 +tries=1 "@$STACK_IP" host1.example.test
wait_for 60 "the forbidden one listens" grep -q listening "$T/forbidden.log"

pids=$(for name in echo stream ticker forbidden nginx dnsmasq dropbear; do printf '%s=%s ' $name "${PIDS[$name]}"; done)
rc=0
# In the background, because a shell that waits for a program in front is deaf to signals.
spawn session in_peer "$PYTHON" "$here/session.py" --plan "$PLAN" --output "$OUTPUT" --folder "$T" --applications "$pids" \
    --eft "$EFT_BUILD/eft" --tools "$EFT_BUILD/tests/tools" --stack "$STACK" --address "$STACK_IP" --device "$DEVICE"
tail -f --pid "$SPAWNED" -n +1 "$T/session.log" &
netns_keep $!
wait "${PIDS[session]}" || rc=$?
unset 'PIDS[session]'
[ $rc = 0 ] || exit $rc
stack_end
