#!/usr/bin/env bash
# An installed tree runs after it was moved, with the libraries it brings and without the build folder's.
#
#   moved_tree.sh BUILD-FOLDER
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$1" --prefix "$work/before" >/dev/null
mv "$work/before" "$work/after"
test -s "$work/after/share/man/man1/tcompress.1"
test -s "$work/after/share/bash-completion/completions/tcompress"
cd /
env -i PATH=/usr/bin:/bin "$work/after/bin/tcompress" --version
# Read once: with pipefail, grep -q closing the pipe early would count as ldd's failure.
loaded=$(ldd "$work/after/bin/tcompress")
for library in libdnnl libscipy_openblas libgfortran-; do
    if ! grep -q "$library.* => $work/after/" <<<"$loaded"; then
        echo "$library is not taken from the installed tree:" >&2
        echo "$loaded" >&2
        exit 1
    fi
done
