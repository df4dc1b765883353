#!/usr/bin/env bash
# The Makefile experiment: makes everything, does nothing the second time, and remakes only what a changed recipe needs.
#
#   makefile.sh SOURCE-FOLDER TCOMPRESS
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A copy, so that touching a recipe touches nothing in the source folder. The Makefile finds its data two folders up.
mkdir -p "$work/examples" "$work/tests"
cp -r "$1/examples/makefile" "$work/examples/"
ln -s "$1/tests/data" "$work/tests/data"
cd "$work/examples/makefile"
run() { make -j2 --no-print-directory TCOMPRESS="$2" OUT="$work/out" "${@:3}" >"$work/$1.log" 2>&1 || { cat "$work/$1.log" >&2; exit 1; }; }
expect() { grep -q -- "$2" "$work/$1.log" || { echo "expected '$2' in:" >&2; cat "$work/$1.log" >&2; exit 1; }; }
refuse() { ! grep -q -- "$2" "$work/$1.log" || { echo "did not expect '$2' in:" >&2; cat "$work/$1.log" >&2; exit 1; }; }

run first "$2"
expect first "vit_digits.onnx -c .*int8.json"
test -s "$work/out/summary.md"
cat "$work/out/summary.md"
run second "$2"
expect second "Nothing to be done"
sleep 1
touch recipes/int8.json
run third "$2"
expect third "int8.json"
refuse third "half_ffn.json --"
run fourth "$2"
expect fourth "Nothing to be done"
