# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Network namespaces for scripts to source: unique names, the sysctl settings that a peer needs, and
# removal on every way out.
#
#   netns_begin NAME            a prefix for this run; installs the trap
#   netns_add VAR [peer]        makes a namespace, its name in $VAR; "peer": with the settings below
#   netns_veth NS1 DEV1 NS2 DEV2
#   netns_run NS COMMAND…
#   netns_atexit COMMAND        runs at the end, last come first
#   netns_keep PID              a process of ours that is to be ended
#   wait_for SECONDS WHAT COMMAND…
#
# A script that has its own EXIT trap calls netns_cleanup from it.

NETNS_RUN=
NETNS_LIST=()
NETNS_PIDS=()
NETNS_EXIT=()

netns_begin() {
    if [ "$(id -u)" != 0 ]; then
        printf 'SKIP: network namespaces need root\n'
        exit 77
    fi
    NETNS_RUN=$1-$$
    trap netns_cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

netns_cleanup() {
    local i
    trap '' HUP INT TERM
    for ((i = ${#NETNS_EXIT[@]} - 1; i >= 0; i--)); do
        eval "${NETNS_EXIT[i]}" || :
    done
    for i in "${NETNS_PIDS[@]}"; do
        kill -TERM "$i" 2>/dev/null || :
    done
    for i in "${NETNS_PIDS[@]}"; do
        netns_gone "$i" || kill -KILL "$i" 2>/dev/null || :
        wait "$i" 2>/dev/null || :
    done
    for i in "${NETNS_LIST[@]}"; do
        ip netns del "$i" 2>/dev/null || :
    done
    NETNS_EXIT=() NETNS_PIDS=() NETNS_LIST=()
}

# Up to two seconds for a process to end after SIGTERM.
netns_gone() {
    local n
    for ((n = 0; n < 100; n++)); do
        kill -0 "$1" 2>/dev/null || return 0
        # A zombie of ours has ended.
        [ "$(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null)" = Z ] && return 0
        sleep 0.02
    done
    return 1
}

netns_atexit() { NETNS_EXIT+=("$1"); }
netns_keep() { NETNS_PIDS+=("$1"); }

netns_run() {
    local ns=$1
    shift
    ${EXEC:-} nsenter --net="/run/netns/$ns" -- "$@"
}

netns_add() {
    local ns=$NETNS_RUN-${1,,}
    ip netns add "$ns"
    NETNS_LIST+=("$ns")
    printf -v "$1" %s "$ns"
    netns_run "$ns" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
        echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6' 2>/dev/null || :
    [ "${2:-}" != peer ] || netns_peer "$ns"
}

# A peer's settings: bbr, the default of some hosts, is slow against user space; a namespace may use
# only what the host allows. Many short connections need ports that TIME-WAIT does not hold.
netns_peer() {
    ip -n "$1" link set lo up
    netns_run "$1" sh -c 'cd /proc/sys/net/ipv4
        echo cubic >tcp_congestion_control || echo reno >tcp_congestion_control
        echo 1 >tcp_tw_reuse
        echo 1024 65535 >ip_local_port_range' 2>/dev/null || :
}

netns_veth() {
    ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}

# Until the command succeeds; ends the script when it does not within SECONDS.
wait_for() {
    local limit=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "${EPOCHREALTIME/[.,]/}" -ge "$limit" ]; then
            printf 'FAIL: waited in vain: %s\n' "$what" >&2
            exit 1
        fi
        sleep 0.02
    done
}
