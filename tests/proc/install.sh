#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# `cmake --install --prefix` anywhere gives a tree that works by itself: from there come eft, the
# servers and libsock of a stack that an unmodified curl fetches over.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq curl cmake cc
stack_begin install
prefix=$T/prefix
cmake --install "$EFT_BUILD" --prefix "$prefix" >"$T/install.log" 2>&1 || fail "cmake --install"
outside=$(sed -n 's/^-- \(Installing\|Up-to-date\): //p' "$T/install.log" | grep -v "^$prefix/" || :)
[ -z "$outside" ] || fail "installed outside of the prefix: $outside"
for page in man8/eft.8 man5/eft.conf.5 man7/libsock.7 man3/eft.h.3; do
    [ -s "$prefix/share/man/$page" ] || fail "$page is not installed"
done
printf '#include <eft.h>\nint main(void) { return eft_available(0); }\n' >"$T/program.c"
cc -std=c99 -Wall -Wextra -Werror -pedantic -I"$prefix/include" -o "$T/program" "$T/program.c" && "$T/program" ||
    fail "eft.h is of no use as it is installed"
grep -qx "ExecStart=$prefix/libexec/eft/eft-rs --name %i" "$prefix/lib/systemd/system/eft@.service" ||
    fail "the unit does not start the eft-rs of its prefix"

EFT_BUILD=$prefix/sbin
stack_up
for pid in $(status '.pid, .servers[].pid'); do
    case $(readlink "/proc/$pid/exe") in
    "$prefix/libexec/eft/eft-"*) ;;
    *) fail "runs from elsewhere: $(readlink "/proc/$pid/exe")" ;;
    esac
done
victim_prepare
mark_bytes
victim_start 1
grep -q "$prefix/lib.*/eft/libsock.so" "/proc/${PIDS[victim]}/maps" || fail "curl has another libsock"
victim_end
assert_carried tx $((64 << 20))
kill_server tcp || fail "cannot kill tcp"
eft maps --name "$STACK" >"$T/maps.log" || fail "eft maps"
stack_end
