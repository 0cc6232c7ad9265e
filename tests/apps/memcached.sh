#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# memcached with four threads under libsock; clients on the kernel speak its text protocol.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need memcached jq
stack_begin memcached
stack_up
spawn memcached stack_run memcached -u root -t 4 -U 0 -p 11211
wait_for 10 "memcached listens" port_open "$STACK_IP" 11211
mark_bytes
in_peer "$PYTHON" "$ROOT/tests/apps/memcached_client.py" "$STACK_IP" 11211 16 400
assert_carried tx $((16 * 400 * 1000))
stack_end
