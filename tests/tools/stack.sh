# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# One stack and one stock Linux peer, in two network namespaces, for scripts to source.
#
# What it makes: namespace $STACK (no address, no route: what a program sends from there goes
# through libsock or nowhere), namespace $PEER (the kernel's end of the TAP device, 10.9.0.1), the
# folder $T, and what spawn() starts. It removes all of it, also after a signal; stack_end()
# besides checks that the stack itself had left nothing.
#
# With STACK_SIDE=kernel the stack's side is the kernel too, behind a veth pair of the same names.
# That is the baseline of the benchmarks, and shows that a script works before it is pointed at us.
#
# STACK_DRIVER is the driver of the stack's device: tap, or packet or xdp at the end of a veth pair that
# the kernel would have in its place.
#
# Usage: stack_begin NAME; stack_up [extra configuration lines]; …; stack_end

# shellcheck source=tests/tools/netns.sh
. "$(dirname "${BASH_SOURCE[0]}")/netns.sh"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
EFT_BUILD=${EFT_BUILD:-$ROOT/build/release}
STACK_SIDE=${STACK_SIDE:-eft}
STACK_IP=10.9.0.2
PEER_IP=10.9.0.1
DEVICE=eft0
export PYTHON=/usr/bin/python3
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*"; }
fail() {
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}
# Exit status 77 is what ctest counts as skipped; the reason is what ./check prints.
skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}
need() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

# now_ms: milliseconds of the wall clock, without starting a process.
now_ms() {
    local us=${EPOCHREALTIME/[.,]/}
    printf '%s' $((us / 1000))
}

eft() { "$EFT_BUILD/eft" "$@"; }

# Our end: as an unmodified program under libsock. in_stack: in the namespace, without libsock.
# spawn() sets EXEC, so that the pid it knows is the program's and not a shell's.
in_stack() { netns_run "$STACK" "$@"; }
in_peer() { netns_run "$PEER" "$@"; }
stack_run() {
    if [ "$STACK_SIDE" = kernel ]; then
        in_stack "$@"
    else
        in_stack "$EFT_BUILD/eft" run --name "$STACK" -- "$@"
    fi
}

# spawn NAME COMMAND…: in the background, output in $T/NAME.log; the pid in $SPAWNED and PIDS[NAME].
declare -A PIDS=()
spawn() {
    local name=$1
    shift
    EXEC='exec' "$@" >"$T/$name.log" 2>&1 </dev/null &
    SPAWNED=$!
    PIDS[$name]=$SPAWNED
}
# despawn NAME: ends it, and waits until it is gone.
despawn() {
    local pid=${PIDS[$1]:-}
    [ -n "$pid" ] || return 0
    unset "PIDS[$1]"
    kill -TERM "$pid" 2>/dev/null || return 0
    local limit=$(($(now_ms) + 5000))
    while kill -0 "$pid" 2>/dev/null; do
        if [ "$(now_ms)" -ge "$limit" ]; then
            kill -KILL "$pid" 2>/dev/null
            say "note: $1 had to be killed"
        fi
        sleep 0.02
    done
    wait "$pid" 2>/dev/null || :
}

stack_begin() {
    netns_begin "$1"
    [ -e /dev/net/tun ] || skip "no /dev/net/tun"
    [ "$STACK_SIDE" = kernel ] || [ -x "$EFT_BUILD/eft" ] || fail "$EFT_BUILD/eft is not built"
    T=$(mktemp -d "${STACK_TMP:-/tmp}/eft-$1.XXXXXX")
    chmod 755 "$T"
    STACK_IS_UP='' WATCHDOG=''
    trap stack_cleanup EXIT
    netns_add STACK
    netns_add PEER peer
    stack_watchdog &
    WATCHDOG=$!
}

# A program that hangs in front keeps the shell deaf to signals, and ctest's own limit leaves no time
# to clean up. So the script has a limit of its own (STACK_LIMIT, seconds): everything in the two
# namespaces is killed, and then the script goes its way of an interrupted one.
stack_watchdog() {
    trap - EXIT
    trap 'kill $! 2>/dev/null; exit' TERM
    sleep "${STACK_LIMIT:-100}" &
    wait $!
    printf 'FAIL: not done after %s seconds\n' "${STACK_LIMIT:-100}" >&2
    kill -TERM $$
    kill_inside
}
# All processes of the two namespaces, which are ours.
kill_inside() {
    local pid
    for pid in $(ip netns pids "$STACK") $(ip netns pids "$PEER"); do
        [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null
    done
}

# poison_programs SERVER…: from here on a copy of the programs in which these servers have faults
# (tests/proc/poison).
poison_programs() {
    local server build=$EFT_BUILD
    mkdir "$T/programs"
    cp "$build"/eft "$build"/eft-* "$build"/libsock.so "$T/programs/"
    ln -s "$build/tests" "$T/programs/tests"
    for server; do cp "$build/tests/proc/poison/poison_$server" "$T/programs/eft-$server"; done
    EFT_BUILD=$T/programs
}

on_veth() { [ "${STACK_DRIVER:-tap}" != tap ]; }

# stack_config [line…]: the configuration on standard output. Lines before a section go to [stack]. Those in
# STACK_LINES are always in it.
STACK_LINES=()
stack_config() {
    cat <<CONFIG
[stack]
shape=${STACK_SHAPE:-split}
users=*
$(printf '%s\n' "$@" "${STACK_LINES[@]}")

[interface $DEVICE]
driver=${STACK_DRIVER:-tap}
address=$STACK_IP/24
gateway=$PEER_IP
netns=$(if on_veth; then say "$STACK"; else say "${STACK_LINK_NS:-$PEER}"; fi)
offload=${STACK_OFFLOAD:-yes}
CONFIG
}

stack_up() {
    if [ "$STACK_SIDE" = kernel ]; then
        kernel_up
    else
        stack_config "$@" >"$T/stack.conf"
        ! on_veth || netns_veth "${STACK_LINK_NS:-$PEER}" "$DEVICE" "$STACK" "$DEVICE"
        in_stack "$EFT_BUILD/eft" up --name "$STACK" --config "$T/stack.conf" >"$T/up.log" 2>&1 ||
            fail "eft up: $(cat "$T/up.log")"
    fi
    STACK_IS_UP=1
    # With a link emulator between the two, it owns the peer's interface (STACK_LINK_NS).
    if [ -z "${STACK_LINK_NS:-}" ]; then
        peer_address "$DEVICE"
        wait_for 10 "the peer reaches the stack" in_peer ping -c1 -W1 "$STACK_IP"
    fi
}

# lossy_link_up PERCENT SEED: as stack_up, with a link in between that loses and reorders so many
# packets in each direction. The link needs complete checksums: no offload at either end.
lossy_link_up() { link_up --seed "$2" --loss "$1" --reorder "$1"; }

# link_up [options of linkem]
link_up() {
    netns_add LINK
    STACK_LINK_NS=$LINK STACK_OFFLOAD=no stack_up
    ip -n "$LINK" link set "$DEVICE" up
    spawn linkem "$EFT_BUILD/tests/tools/linkem" --a "packet:$DEVICE@$LINK" --b "tap:$DEVICE@$PEER" "$@"
    wait_for 10 "the link is ready" grep -q ready "$T/linkem.log"
    peer_address "$DEVICE"
    wait_for 10 "the peer reaches the stack through the link" in_peer ping -c1 -W1 "$STACK_IP"
}

peer_address() {
    ip -n "$PEER" addr add "$PEER_IP/24" dev "$1"
    ip -n "$PEER" link set "$1" up
}

kernel_up() {
    netns_veth "${STACK_LINK_NS:-$PEER}" "$DEVICE" "$STACK" "$DEVICE"
    [ "${STACK_OFFLOAD:-yes}" = yes ] || in_stack ethtool -K "$DEVICE" tx off tso off gso off gro off >/dev/null
    ip -n "$STACK" addr add "$STACK_IP/24" dev "$DEVICE"
    netns_peer "$STACK"
}

stack_down() {
    [ -n "$STACK_IS_UP" ] || return 0
    STACK_IS_UP=
    if [ "$STACK_SIDE" = kernel ]; then
        ip -n "$STACK" link del "$DEVICE"
    else
        in_stack "$EFT_BUILD/eft" down --name "$STACK" >"$T/down.log" 2>&1 ||
            fail "eft down: $(cat "$T/down.log")"
        ! on_veth || ip -n "$STACK" link del "$DEVICE"
    fi
}

# Bytes that the peer's device has carried: rx is what the stack sent.
peer_bytes() {
    ip -n "$PEER" -s -j link show "$DEVICE" | jq ".[0].stats64.$1.bytes"
}
# What shows that a test's bytes went over the stack: mark_bytes before, assert_carried rx|tx N after.
# shellcheck disable=SC2034 # read by assert_carried, by name
mark_bytes() {
    MARK_rx=$(peer_bytes rx)
    MARK_tx=$(peer_bytes tx)
}
assert_carried() {
    local mark=MARK_$1 carried
    carried=$(($(peer_bytes "$1") - ${!mark}))
    [ "$carried" -ge "$2" ] || fail "the device carried $carried bytes ($1), expected at least $2"
}

# The same to the byte, where a test knows what its programs moved: mark_payload before, then
# assert_payload sent|received N. Payload of TCP as the stack counts it, each byte once, on the
# stack's side; what went by way of the kernel would be missing, what went twice would be too much.
payload() { status "[.servers[].counters.tcp0.bytes_$1 // empty] | add"; }
# shellcheck disable=SC2034 # read by assert_payload, by name
mark_payload() {
    [ "$STACK_SIDE" = eft ] || return 0
    PAYLOAD_sent=$(payload sent)
    PAYLOAD_received=$(payload received)
}
assert_payload() {
    [ "$STACK_SIDE" = eft ] || return 0
    local mark=PAYLOAD_$1 expected=$2 counted limit=$(($(now_ms) + 2000))
    # TCP shows its counters at the end of a turn, which a program may overtake.
    until counted=$(($(payload "$1") - ${!mark})) && [ "$counted" = "$expected" ]; do
        [ "$(now_ms)" -lt $limit ] || fail "the stack counted $counted bytes $1, expected $expected"
        sleep 0.02
    done
}
# What curl says that it moved, headers included: CURL_COUNTS as its -w, the file with its output as $1;
# sets CURL_sent and CURL_received.
# shellcheck disable=SC2034 # read by the tests
CURL_COUNTS='%{size_request} %{size_upload} %{size_header} %{size_download}\n'
# shellcheck disable=SC2034 # read by the tests
curl_counted() {
    CURL_sent=$(awk '{ n += $1 + $2 } END { printf "%d", n }' "$1")
    CURL_received=$(awk '{ n += $3 + $4 } END { printf "%d", n }' "$1")
}

# status JQ-FILTER: of `eft status --json`.
status() { eft status --name "$STACK" --interval 0 --json | jq -r "$1"; }

# stack_pids: all processes of the stack, spares and rs included.
stack_pids() {
    local pid
    {
        status '.pid, .servers[].pid' 2>/dev/null
        for pid in $(ip netns pids "$STACK"); do
            case $(readlink "/proc/$pid/exe") in "$EFT_BUILD"/eft*) say "$pid" ;; esac
        done
    } | sort -un | grep -vx 0
}

kill_server() { eft crash kill "$1" --name "$STACK" >>"$T/kills.log" 2>&1; }

# stack_end: takes everything down in good order and fails if something of the stack is left.
stack_end() {
    local name pids='' left
    for name in "${!PIDS[@]}"; do despawn "$name"; done
    if [ "$STACK_SIDE" != kernel ] && [ -n "$STACK_IS_UP" ]; then pids=$(stack_pids); fi
    stack_down
    # Dead processes are gone when init has taken note of them, a device when its last user has.
    nothing_left() {
        left=$(stack_leftovers "$pids")
        [ -z "$left" ]
    }
    local limit=$(($(now_ms) + 3000))
    until nothing_left; do
        [ "$(now_ms)" -lt $limit ] || fail "left behind: $left"
        sleep 0.02
    done
}

stack_leftovers() {
    local pid
    for pid in $1 $(ip netns pids "$STACK") $(ip netns pids "$PEER"); do
        # A zombie has ended; when its new parent collects it is not the stack's business.
        grep -qs '^State:.[^ZX]' "/proc/$pid/status" &&
            say "process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline"))"
    done
    [ -e "/run/eft/$STACK" ] && say "/run/eft/$STACK"
    ip -n "$PEER" -br link show "$DEVICE" 2>/dev/null | grep -q . && say "device $DEVICE"
    find /sys/fs/cgroup -maxdepth 3 -type d -name "*$STACK*" 2>/dev/null
    find /dev/shm -maxdepth 1 -name "*$STACK*" 2>/dev/null
}

# At every exit. What it kills are processes of the two namespaces made here, and spawn()'s.
stack_cleanup() {
    local status=$? pid
    trap '' HUP INT TERM
    trap - EXIT
    set +e
    if [ $status != 0 ] && [ $status != 77 ] && [ -d "$T" ]; then
        for log in "$T"/*.log; do
            [ -s "$log" ] && printf -- '--- %s\n%s\n' "${log##*/}" "$(tail -n 20 "$log")" >&2
        done
    fi
    for pid in "$WATCHDOG" "${PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null; done
    if [ -n "$STACK_IS_UP" ] && [ "$STACK_SIDE" != kernel ]; then
        in_stack "$EFT_BUILD/eft" down --name "$STACK" >/dev/null 2>&1
    fi
    kill_inside
    wait
    netns_cleanup
    # Of an eft-rs that was killed above, because it hung or the script did.
    rm -rf "$T" "/run/eft/${STACK:?}"
    exit $status
}

# --- what several tests serve and fetch ---

# make_data FILE BYTES: random bytes, and FILE.sha256.
make_data() {
    head -c "$2" /dev/urandom >"$1"
    sha256 "$1" >"$1.sha256"
}
sha256() { openssl dgst -sha256 -r "$1" | cut -d' ' -f1; }
same_sha() { [ "$(sha256 "$1")" = "$(sha256 "$2")" ] || fail "$2 differs from $1"; }

# nginx_config FOLDER: as packaged, but in a folder of its own: master and one worker under
# www-data, serving FOLDER/www and taking uploads to /up/.
nginx_config() {
    mkdir -p "$1/www/up" "$1/tmp"
    chown -R www-data: "$1/www/up" "$1/tmp"
    cat >"$1/nginx.conf" <<NGINX
user www-data;
worker_processes 1;
daemon off;
pid $1/nginx.pid;
error_log $1/error.log;
events { worker_connections 768; }
http {
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    access_log off;
    default_type application/octet-stream;
    client_max_body_size 0;
    client_body_temp_path $1/tmp/body;
    proxy_temp_path $1/tmp/proxy;
    fastcgi_temp_path $1/tmp/fastcgi;
    uwsgi_temp_path $1/tmp/uwsgi;
    scgi_temp_path $1/tmp/scgi;
    server {
        listen 80;
        root $1/www;
        location = /hello { return 200 "hello, hello, hello\n"; }
        location /up/ { dav_methods PUT; }
    }
}
NGINX
}
nginx_command() { printf '%s\n' nginx -e "$1/error.log" -c "$1/nginx.conf"; }

# port_open ADDRESS PORT: from the peer's side; stack_port_open: from ours.
port_open() { in_peer nc -z -w1 "$1" "$2"; }
stack_port_open() { stack_run nc -z -w1 "$1" "$2"; }

# dns_config ADDRESS DEVICE: for dnsmasq, with 192.0.2.1 … 192.0.2.20 for host1 … host20.example.test.
dns_config() {
    local i
    printf 'no-resolv\nno-hosts\nno-daemon\nbind-interfaces\n'
    [ -z "$2" ] || printf 'no-dhcp-interface=%s\n' "$2"
    printf 'listen-address=%s\nuser=root\npid-file=\n' "$1"
    for i in {1..20}; do printf 'address=/host%d.example.test/192.0.2.%d\n' "$i" "$i"; done
}
# dns_server: dnsmasq on the peer.
dns_server() {
    dns_config "$PEER_IP" "$DEVICE" >"$T/dnsmasq.conf"
    spawn dnsmasq in_peer dnsmasq -C "$T/dnsmasq.conf"
    wait_for 10 "the name server answers" in_peer dig +short +time=1 +tries=1 "@$PEER_IP" host1.example.test
}

# server_field NAME FIELD: of the process that hosts a server, in `eft status --json`.
server_field() {
    status ".servers[] | select(.name == \"$1\" or (.components | index(\"${1}0\"))) | .$2"
}

# --- a transfer that something else is done to ---

# victim_start: a download over the stack that takes about $1 seconds, by an application of its own.
# victim_end: fails unless it ended well, with the right bytes.
victim_prepare() {
    mkdir "$T/victim"
    make_data "$T/victim/data" $((64 << 20))
    spawn victim-server in_peer "$PYTHON" -m http.server --directory "$T/victim" 8099
    wait_for 10 "the peer's http server listens" in_peer nc -z "$PEER_IP" 8099
}
victim_start() {
    rm -f "$T/victim/got"
    spawn victim stack_run curl -sSf --limit-rate $((64 / $1))M -o "$T/victim/got" \
        "http://$PEER_IP:8099/data"
    wait_for 10 "the transfer runs" test -s "$T/victim/got"
}
victim_runs() { kill -0 "${PIDS[victim]}" 2>/dev/null; }
victim_end() {
    wait "${PIDS[victim]}" || fail "the transfer broke: $(cat "$T/victim.log")"
    unset 'PIDS[victim]'
    same_sha "$T/victim/data" "$T/victim/got"
}
# restarts: of all servers together.
restarts() { status '[.servers[].restarts] | add'; }

# survive LABEL RESULT BYTES [options of survive.py…]: a curl of the peer transfers $T/big (BYTES) while
# servers are killed: a download from /big into RESULT, or, with LABEL upload…, an upload to /up/put
# that appears as RESULT. The findings are in $T/LABEL.json; the status says whether all is good.
survive() {
    local label=$1 result=$2 bytes=$3
    local curl=(curl -sSf --speed-time 20 --speed-limit 1)
    shift 3
    case $label in
    upload*) curl+=(-o /dev/null -T "$T/big" "http://$STACK_IP/up/put") ;;
    *) curl+=(-o "$result" "http://$STACK_IP/big") ;;
    esac
    # In the background, because a shell that waits for a program in front is deaf to signals.
    "$PYTHON" "$ROOT/tests/tools/survive.py" --eft "$EFT_BUILD/eft" --stack "$STACK" \
        --gaps "$EFT_BUILD/tests/tools/gaps" --peer-ns "$PEER" --device "$DEVICE" --label "$label" \
        --result "$result" --sha256 "$(cat "$T/big.sha256")" --bytes "$bytes" "$@" -- \
        nsenter --net="/run/netns/$PEER" "${curl[@]}" >"$T/$label.json" &
    PIDS[survive]=$!
    local rc=0
    wait "${PIDS[survive]}" || rc=$?
    unset 'PIDS[survive]'
    return $rc
}

# kill_while NAME ROUNDS: kills every server in turn, ROUNDS times, while the spawned NAME runs; fails
# when it ended before all were killed. Each kill waits until the server before is back.
kill_while() {
    local round server before
    for ((round = 0; round < $2; round++)); do
        for server in driver ip tcp udp pf syscall; do
            before=$(server_field "$server" restarts)
            kill_server "$server" || fail "cannot kill $server"
            back() {
                [ "$(server_field "$server" restarts)" -gt "$before" ] &&
                    [ "$(server_field "$server" state)" = running ]
            }
            wait_for 10 "$server is back" back
            kill -0 "${PIDS[$1]}" 2>/dev/null || fail "$1 ended before the kills: $(tail -n 5 "$T/$1.log")"
        done
    done
}
