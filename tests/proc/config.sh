#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A wrong configuration is refused with file, line, and what was expected; nothing is half started.
set -eu
. "$(dirname "$0")/../tools/stack.sh"
need jq
stack_begin config
IFACE="[interface eft0]
driver=tap
address=10.9.0.2/24
netns=$PEER"

# refused LINE EXPECTATION TEXT: where the error is (0: no line is checked), what its message names.
refused() {
    printf '%s\n' "$3" >"$T/bad.conf"
    if in_stack "$EFT_BUILD/eft" up --name "$STACK" --config "$T/bad.conf" >"$T/refused" 2>&1; then
        in_stack "$EFT_BUILD/eft" down --name "$STACK"
        fail "accepted: $3"
    fi
    [ "$1" = 0 ] || grep -q "bad.conf:$1:" "$T/refused" || fail "no bad.conf:$1 in: $(cat "$T/refused")"
    grep -q "$2" "$T/refused" || fail "no '$2' in: $(cat "$T/refused")"
    local left
    left=$(stack_leftovers '')
    [ -z "$left" ] || fail "half started: $left"
}
refused 2 'split or fused' $'[stack]\nshape=round'
refused 2 'shap' $'[stack]\nshap=split'
refused 1 'section' $'[stak]\nshape=split'
refused 2 'user' $'[stack]\nusers=nobody-of-this-name'
refused 3 'address as' $'[interface eft0]\ndriver=tap\naddress=10.9.0.300/24'
refused 3 'number from' $'[interface eft0]\ndriver=tap\nmtu=20'
refused 2 'driver' $'[interface eft0]\ndriver=carrier-pigeon'
refused 0 'address' $'[interface eft0]\ndriver=tap'
refused 0 'interface' $'[stack]\nshape=split'
refused 6 'pass or block' "$IFACE"$'\n[filter]\nrule = maybe tcp'
refused 6 'interface' "$IFACE"$'\n[route]\n10.1.0.0/16 = via 172.16.0.1'
# Right to the last letter, and yet it cannot work: there is no such namespace.
refused 0 "none-$$" $'[interface eft0]\ndriver=tap\naddress=10.9.0.2/24\nnetns=none-'$$
if in_stack "$EFT_BUILD/eft" up --name "$STACK" --config "$T/missing.conf" >"$T/refused" 2>&1; then
    fail "came up with a configuration that does not exist"
fi
grep -q missing.conf "$T/refused" || fail "the missing file is not named: $(cat "$T/refused")"
# What README.md shows is right, but for the name of the namespace.
sed -n '/^    \[stack\]/,/^    rule/s/^    //p' "$ROOT/README.md" | sed "s/^netns.*/netns=$PEER/" >"$T/readme.conf"
in_stack "$EFT_BUILD/eft" up --name "$STACK" --config "$T/readme.conf" >"$T/up.log" 2>&1 ||
    fail "README's example: $(cat "$T/up.log")"
in_stack "$EFT_BUILD/eft" down --name "$STACK"
# The same name still works with a good one.
stack_up
stack_end
