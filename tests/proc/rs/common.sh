# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# For the tests of rs: a folder $T with eft, eft-rs, the real eft-syscall and doubles of the other
# servers; a network namespace $NS; the stack $STACK. All of it is removed at the end.
#
# Usage: rs_begin NAME "$@"; …; rs_end

say() { printf '%s\n' "$*"; }
fail() {
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}
skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}

rs_begin() {
    local kind
    [ "$(id -u)" = 0 ] || skip "network namespaces need root"
    [ -c /dev/net/tun ] || skip "no /dev/net/tun"
    BUILD=$2
    DOUBLES=$3
    STACK=$1-$$
    NS=$STACK
    T=$(mktemp -d "/tmp/$STACK.XXXXXX")
    chmod 755 "$T"
    APPS=()
    trap rs_cleanup EXIT
    trap 'exit 130' INT TERM HUP
    cp "$BUILD/eft" "$BUILD/eft-rs" "$BUILD/eft-keeper" "$BUILD/eft-syscall" "$T/"
    for kind in driver ip pf tcp udp; do cp "$DOUBLES/rs_double" "$T/eft-$kind"; done
    ip netns add "$NS"
    config
}

# config LINE…: lines of [stack].
config() {
    { printf '[stack]\nusers = *\n'
      printf '%s\n' "$@"
      printf '[interface eft0]\naddress = 10.9.0.2/24\n'; } >"$T/stack.conf"
}

eft() { "$T/eft" "$@"; }
in_ns() { nsenter --net="/run/netns/$NS" -- "$@"; }
up() { in_ns "$T/eft" up --name "$STACK" --config "$T/stack.conf" "$@"; }
down() { eft down --name "$STACK"; }
status() { eft status --name "$STACK" --json --interval 0 | jq -r "$1"; }
server() { status ".servers[] | select(.name == \"$1\") | .$2"; }
kill_server() { eft crash kill "$1" --name "$STACK" >/dev/null; }

# wait_for SECONDS WHAT COMMAND…
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -le $end ] || fail "waited in vain: $what"
        sleep 0.02
    done
}
all_running() { [ "$(status '[.servers[].state] | unique | join(",")' 2>/dev/null)" = running ]; }
is() { [ "$(server "$1" "$2")" = "$3" ]; }
applications() { [ "$(status .applications)" = "$1" ]; }
# A zombie that nobody has collected yet is gone.
alive() { [ -e "/proc/$1" ] && ! grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null; }
dead() { ! alive "$1"; }

# attach NAME OPTION…: an application in the background; it lives until its fifo is closed.
attach() {
    local name=$1
    shift
    mkfifo "$T/$name.in"
    "$DOUBLES/rs_attach" "$STACK" "$@" <"$T/$name.in" >"$T/$name.out" 2>"$T/$name.err" &
    ATTACHED=$!
    APPS+=($!)
    disown # its death is not worth a message
    exec {FIFO}>"$T/$name.in"
}
attached() {
    grep -qs . "$T/$1.err" && fail "$1: $(cat "$T/$1.err")"
    grep -qs "^attached" "$T/$1.out"
}
app_number() { cut -d' ' -f2 <"$T/$1.out"; }
app_generation() { cut -d' ' -f3 <"$T/$1.out"; }

rs_end() {
    local pids pid
    pids=$(status '.pid, .servers[].pid')
    down || fail "eft down"
    for pid in $pids; do wait_for 2 "process $pid is gone" dead "$pid"; done
    [ ! -e "/run/eft/$STACK" ] || fail "left: $(ls "/run/eft/$STACK")"
    ! ip -n "$NS" link show eft0 >/dev/null 2>&1 || fail "left: the device"
}

rs_cleanup() {
    local status=$? pid
    trap - EXIT
    if [ $status != 0 ] && [ $status != 77 ] && [ -e "/run/eft/$STACK/log" ]; then
        cat "/run/eft/$STACK/log" >&2
    fi
    for pid in "${APPS[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    eft down --name "$STACK" >/dev/null 2>&1
    wait
    ip netns del "$NS" 2>/dev/null
    rm -rf "$T"
    exit $status
}
