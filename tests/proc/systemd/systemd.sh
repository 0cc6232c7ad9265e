#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The units, in a throw-away systemd: they are free of mistakes, sandboxed, start the stack, keep it
# through the deaths of its servers and of rs itself, and stop it without leaving anything.
#
#   systemd.sh BUILD
set -u
BUILD=$1
HERE=$(cd "$(dirname "$0")" && pwd)
say() { printf '%s\n' "$*"; }
fail() {
    printf 'FAIL: %s\n' "$*" >&2
    in_box journalctl --no-pager -n 40 -o short-monotonic >&2 2>/dev/null
    exit 1
}
skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}
[ "$(id -u)" = 0 ] || skip "needs root"
[ -x /lib/systemd/systemd ] || skip "systemd is not installed"
[ -c /dev/net/tun ] || skip "no /dev/net/tun"
grep -qw overlay /proc/filesystems || skip "the kernel has no overlayfs"
grep -q ' cgroup2 ' /proc/mounts || skip "no cgroup2 hierarchy"

T=$(mktemp -d /tmp/eft-systemd.XXXXXX)
cleanup() {
    local status=$?
    trap - EXIT
    [ ! -d "$T/box" ] || bash "$HERE/box" stop "$T/box" || status=1
    rm -rf --one-file-system "$T"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
in_box() { bash "$HERE/box" run "$T/box" "$@"; }
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -le $end ] || fail "waited in vain: $what"
        sleep 0.05
    done
}

# What the install rules make of the build is what runs in the box.
DESTDIR=$T/tree cmake --install "$BUILD" >"$T/install" 2>&1 || fail "install: $(tail -n 3 "$T/install")"
mkdir -p "$T/tree/etc/eft" "$T/tree/etc/systemd/system/eft@.service.d"
printf '[Service]\nWatchdogSec=1s\n' >"$T/tree/etc/systemd/system/eft@.service.d/test.conf"
head -c 20000000 /dev/urandom >"$T/tree/etc/eft/big"
cat >"$T/tree/etc/eft/test.conf" <<CONFIG
[stack]
users = *
[interface eft0]
address = 10.9.0.2/24
gateway = 10.9.0.1
CONFIG
bash "$HERE/box" start "$T/box" "$T/tree" || fail "the box does not boot"

# --- the units themselves
in_box systemd-sysusers || fail "sysusers"
in_box getent passwd eft-tcp >/dev/null || fail "no user eft-tcp"
in_box systemd-tmpfiles --create eft.conf || fail "tmpfiles"
for unit in eft@test.service eft@test.socket eft.target; do
    out=$(in_box systemd-analyze verify --man=no "$unit" 2>&1)
    [ -z "$out" ] || fail "verify $unit: $out"
done
in_box systemd-analyze security --threshold=41 --no-pager eft@test.service >"$T/security" 2>&1 ||
    fail "sandbox: $(tail -n 1 "$T/security")"
say "$(tail -n 1 "$T/security")"

# --- it starts, ready when all servers are
eft() { in_box eft "$@"; }
status() { eft status --name test --json --interval 0 | jq -r "$1"; }
field() { status ".servers[] | select(.name == \"$1\") | .$2"; }
in_box systemctl start eft@test.socket || fail "start the socket"
in_box systemctl start eft@test.service || fail "start"
[ "$(in_box systemctl is-active eft@test.service)" = active ] || fail "not active"
[ "$(status '[.servers[].state] | unique | join(",")')" = running ] || fail "not all are running"
[ "$(in_box id -u eft-tcp)" = "$(in_box stat -c %u "/proc/$(in_box pgrep -x eft-tcp)" 2>/dev/null ||
    in_box id -u eft-tcp)" ] || fail "tcp does not run under its user"
in_box systemctl show -P StatusText eft@test.service | grep -q 'servers are running' || fail "status text"
in_box ip addr add 10.9.0.1/24 dev eft0 || fail "address of the peer"
in_box ping -c1 -W2 10.9.0.2 >/dev/null || fail "no ping"

# --- a program over the stack; the peer is the kernel in the box
in_box systemd-run --quiet --unit=peer --working-directory=/etc/eft /usr/bin/python3 -m http.server 8000 ||
    fail "the peer"
fetch() { in_box eft run --name test -- curl -sf -m5 http://10.9.0.1:8000/test.conf; }
wait_for 5 "the peer listens" in_box curl -sf http://10.9.0.1:8000/
carried() { in_box ip -s -j link show eft0 | jq '.[0].stats64.rx.bytes + .[0].stats64.tx.bytes'; }
before=$(carried)
fetch | cmp -s - "$T/tree/etc/eft/test.conf" || fail "curl over the stack"
[ $(($(carried) - before)) -ge 500 ] || fail "curl did not go over the stack"

# --- servers die, rs keeps them
for s in driver0 ip0 pf0 tcp0 udp0 syscall0; do
    eft crash kill $s --name test >/dev/null || fail "crash kill $s"
    back() { [ "$(field $s restarts)" = 1 ] && [ "$(field $s state)" = running ]; }
    wait_for 5 "$s is back" back
    in_box ping -c1 -W2 10.9.0.2 >/dev/null || fail "no ping after the death of $s"
done
fetch | cmp -s - "$T/tree/etc/eft/test.conf" || fail "curl after six crashes"
in_box eft maps --name test >"$T/maps" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps")"
in_box journalctl -o cat EFT_SERVER=tcp0 | grep -q 'is back' || fail "the journal has no fields"

# --- rs dies, again and again, beside a transfer and attaches: systemd starts it again, and it takes over
restarts() { in_box systemctl show -P NRestarts eft@test.service; }
again() { [ "$(restarts)" = "$1" ] && [ "$(in_box systemctl is-active eft@test.service)" = active ]; }
servers=$(status '[.servers[] | "\(.pid) \(.restarts)"] | join(" ")')
stored() { in_box systemctl show -P NFileDescriptorStore eft@test.service; }
in_box systemd-run --quiet --unit=transfer --property=Type=oneshot --no-block \
    eft run --name test -- curl -sSf --limit-rate 2M -o /run/got http://10.9.0.1:8000/big || fail "transfer"
wait_for 5 "the transfer runs" in_box test -s /run/got
kept=$(stored)
for i in $(seq 10); do
    old=$(status .pid)
    eft crash kill rs --name test >/dev/null || fail "crash kill rs"
    fetch | cmp -s - "$T/tree/etc/eft/test.conf" || fail "curl while rs is away"
    wait_for 10 "systemd starts rs again" again "$i"
    [ "$(status .pid)" != "$old" ] || fail "rs is the same"
done
in_box ping -c1 -W2 10.9.0.2 >/dev/null || fail "no ping after the deaths of rs"
[ "$(stored)" = "$kept" ] || fail "systemd keeps $(stored) descriptors, and kept $kept"
[ "$(status .rs_restarts)" = 10 ] || fail "rs was restarted $(status .rs_restarts) times"

# --- a hung rs is found by the watchdog; restart on purpose is the same
in_box systemctl kill --kill-whom=main --signal=STOP eft@test.service
wait_for 25 "the watchdog finds a stopped rs" again 11
in_box eft update rs --name test || fail "update rs"
wait_for 5 "systemd starts the new rs" again 12
transferred() { [ "$(in_box systemctl is-active transfer.service)" != activating ]; }
wait_for 30 "the transfer ends" transferred
in_box cmp /run/got /etc/eft/big || fail "the transfer"
[ "$(status '[.servers[] | "\(.pid) \(.restarts)"] | join(" ")')" = "$servers" ] || fail "servers were restarted"
in_box eft maps --name test >"$T/maps" || fail "maps: $(grep 'NOT ALLOWED' "$T/maps")"

# --- a wrong configuration is not tried again and again
in_box systemctl stop eft@test.service 2>/dev/null || fail "stop"
in_box ip link show eft0 >/dev/null 2>&1 && fail "the device is left"
in_box sh -c 'echo nonsense >/etc/eft/bad.conf'
in_box systemctl start eft@bad.service 2>/dev/null && fail "started with a wrong configuration"
[ "$(in_box systemctl show -P ExecMainStatus eft@bad.service)" = 3 ] || fail "exit status"
[ "$(in_box systemctl show -P NRestarts eft@bad.service)" = 0 ] || fail "tried again"
in_box systemctl show -P StatusText eft@bad.service | grep -q 'bad.conf:1' || fail "why is not said"

# --- stop leaves nothing
in_box systemctl stop eft@test.socket || fail "stop the socket"
left=$(in_box sh -c 'pgrep -l "^eft-"; ls -A /run/eft/test 2>/dev/null')
[ -z "$left" ] || fail "left: $left"
say ok
