#!/usr/bin/env bash
# From a fresh checkout to a compressed real model and its report: installs the dependencies, builds tcompress, fetches a
# sentence-sentiment Transformer (MiniLM-L3, 17 million parameters) and compresses it with configs/quickstart.json.
# What is already there is not made again.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$repo"
out=build/quickstart
binary=build/release/bin/tcompress
recipe=configs/quickstart.json
calibration=tests/data/zoo/sentiment3_calibration.npz
evaluation=tests/data/zoo/sentiment3_test.npz

scripts/setup.sh
if [ ! -e build/release/build.ninja ]; then
    logged "configuring tcompress" build/quickstart-configure.log cmake --preset release
fi
logged "building tcompress (several minutes the first time)" build/quickstart-build.log \
    cmake --build --preset release --target tcompress -j "$(nproc)"
model=$(scripts/fetch_zoo.sh sentiment)/sentiment_minilm_l3.onnx

inputs=("$binary" "$model" "$recipe" "$calibration" "$evaluation")
made_from=$(sha256sum "${inputs[@]}")
mkdir -p "$out"
if [ "$(cat "$out/made_from" 2>/dev/null)" != "$made_from" ]; then
    rm -f "$out/made_from"
    say "compressing $(basename "$model")"
    "$binary" run "$model" -c "$recipe" --calibration "$calibration" --evaluation "$evaluation" \
        -o "$out/sentiment.small.onnx" --report "$out/report.json" --report "$out/report.md"
    echo "$made_from" >"$out/made_from"
else
    say "nothing has changed since the last run"
fi
cat "$out/report.md"
say "compressed model: $out/sentiment.small.onnx, report: $out/report.md and $out/report.json"
