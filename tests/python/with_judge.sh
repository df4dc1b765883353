#!/usr/bin/env bash
# Runs a Python test of this folder in the judge's environment; exit code 77 (skipped) without one.
if [ -z "${TCOMPRESS_PYTHON:-}" ]; then
    echo "skipped: TCOMPRESS_PYTHON is not set"
    exit 77
fi
script=$1
shift
exec "$TCOMPRESS_PYTHON" "$(dirname "$0")/$script" "$@"
