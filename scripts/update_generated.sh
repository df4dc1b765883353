#!/usr/bin/env bash
# Rewrites the files that the program writes about itself: schemas and reference documents. A test compares them with the
# program.
#
#   update_generated.sh [BINARY]    default: build/release/bin/tcompress
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tcompress=${1:-$root/build/release/bin/tcompress}

write() {
    "$tcompress" "${@:2}" >"$root/$1.new"
    mv "$root/$1.new" "$root/$1"
}

mkdir -p "$root/configs/schema" "$root/docs"
write configs/schema/pipeline.schema.json schema pipeline
write configs/schema/report.schema.json schema report
write docs/passes.md passes --markdown
write docs/cli.md man --markdown
