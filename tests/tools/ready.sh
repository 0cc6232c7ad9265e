# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# For the commands under tests/ that people call by hand: sets EFT_BUILD. Whoever has set it (ctest does) has
# built; for anybody else this installs what is missing and builds, so that they work in a fresh checkout.

if [ -z "${EFT_BUILD:-}" ]; then
    ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    # shellcheck source=tests/tools/setup.sh
    . "$ROOT/tests/tools/setup.sh"
    { install_missing "${BUILD_PACKAGES[@]}" "${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}" && build_release "$ROOT"; } || exit 1
    export EFT_BUILD=$ROOT/build/release
fi
