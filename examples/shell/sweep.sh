#!/usr/bin/env bash
# How much can go before accuracy does? One line of shell per question: sweeps the share of removed FFN neurons on a small
# vision Transformer and prints sparsity, bytes and accuracy, tab-separated, for sort, awk or gnuplot to take on.
#
#   sweep.sh [SPARSITY…] | sort -k3 -rn | head -1
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
tcompress=${TCOMPRESS:-$root/build/release/bin/tcompress}
data=$root/tests/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for sparsity in "${@:-0.25}"; do
    "$tcompress" run "$data/models/vit_digits.onnx" -p "prune:structure=neuron,sparsity=$sparsity" --quiet \
        --evaluation "$data/zoo/digits_validation.npz" -o "$work/out.onnx" --report "$work/report.json"
    python3 -c 'import json, sys
report = json.load(open(sys.argv[2]))
accuracy = report["evaluation"]["compressed_task"]["metrics"]["accuracy"]["value"]
print(sys.argv[1], report["compressed"]["file"]["bytes"], accuracy, sep="\t")' "$sparsity" "$work/report.json"
done
