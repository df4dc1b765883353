#!/usr/bin/env bash
# An installed tree runs after it was moved, with the libraries it brings and without the build folder's.
#
#   moved_tree.sh BUILD-FOLDER
set -euo pipefail
model=$(realpath "$(dirname "$0")/../data/models/vit_digits.onnx")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$1" --prefix "$work/before" >/dev/null
mv "$work/before" "$work/after"
test -s "$work/after/share/man/man1/tcompress.1"
test -s "$work/after/share/bash-completion/completions/tcompress"
cd /
env -i PATH=/usr/bin:/bin "$work/after/bin/tcompress" --version
# A pass that solves equations: it loads OpenBLAS, which is not there before.
env -i PATH=/usr/bin:/bin LD_DEBUG=files LD_DEBUG_OUTPUT="$work/loaded" "$work/after/bin/tcompress" run "$model" \
    -p low-rank:rank_ratio=0.5 --no-latency --quiet -o "$work/small.onnx"
for library in libdnnl libscipy_openblas libgfortran-; do
    if ! grep -q "calling init: $work/after/.*/$library" "$work"/loaded.*; then
        echo "$library is not taken from the installed tree:" >&2
        grep "calling init" "$work"/loaded.* >&2
        exit 1
    fi
done
