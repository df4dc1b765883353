#!/usr/bin/env bash
# Rewrites the expected outputs of the golden cases (tests/golden). Read the difference before you commit it.
#
#   update_golden.sh [BUILD_FOLDER]    default: build/release
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/release}
cmake --build "$build" --target test_golden
TCOMPRESS_UPDATE_GOLDEN=1 "$build/bin/test_golden"
git -C "$root" --no-pager diff --stat -- tests/golden
