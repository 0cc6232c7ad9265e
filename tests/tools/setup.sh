# shellcheck shell=bash
# shellcheck disable=SC2034 # the lists are for those who source this
# SPDX-License-Identifier: BSD-2-Clause
#
# What ./try and ./check do first: install the Debian packages that are missing, and build. The only
# place that lists packages. For scripts to source; messages go to standard error.

BUILD_PACKAGES=(gcc libc6-dev cmake ninja-build pkg-config libseccomp-dev libsystemd-dev libinih-dev
    libjson-c-dev libxdp-dev libbpf-dev libcap-ng-dev libcapstone-dev libdw-dev libcmocka-dev linux-libc-dev)
RUN_PACKAGES=(iproute2 iputils-ping util-linux bsdextrautils jq openssl curl nginx
    redis-server redis-tools dnsmasq-base bind9-dnsutils netcat-openbsd python3-minimal python3)
TEST_PACKAGES=(clang libclang-rt-14-dev llvm clang-format shellcheck memcached iperf3 wrk
    dropbear-bin openssh-client gnuplot-nox linux-perf
    ethtool spin systemd procps tcpdump netbase)

# install_missing PACKAGE…: with apt, and only what is not there. Debian would start the daemons of
# nginx, redis and memcached; a policy script forbids that while we install, and goes away after.
install_missing() {
    local missing=() package policy=/usr/sbin/policy-rc.d ours='' log=${TMPDIR:-/tmp}/eft-apt.$$
    for package; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages, and only root can install them: ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}" >&2
    [ -e $policy ] || ours=1
    (
        # shellcheck disable=SC2064 # the values of now
        trap "rm -f '$log' ${ours:+$policy}" EXIT
        trap 'exit 1' HUP INT TERM
        [ -z "$ours" ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy; }
        apt_install "${missing[@]}" </dev/null >"$log" 2>&1 ||
            { apt-get update -q && apt_install "${missing[@]}"; } </dev/null >>"$log" 2>&1 ||
            { echo "apt-get failed:" && tail -n 20 "$log" && exit 1; } >&2
    )
}
apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; }

# build_release ROOT [cmake options…]: the release preset, into build/release. Quiet when all is well.
build_release() {
    local root=$1 log=$1/build/build.log
    shift
    mkdir -p "$root/build"
    if (cd "$root" && cmake --preset release "$@" && cmake --build build/release) >"$log" 2>&1; then
        return 0
    fi
    tail -n 40 "$log" >&2
    return 1
}
