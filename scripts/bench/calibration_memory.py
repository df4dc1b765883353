#!/usr/bin/env python3
"""Memory of calibration: percentile calibration of every MatMul input of a BERT-base (12 layers, 768 wide, random weights) at
64 and at 512 samples of 128 tokens, each in a process of its own.

    calibration_memory.py [--samples 64,512] [--length 128] [--threads N] [--binary FILE]

The binary is calibration_bench (cmake --build build/release --target calibration_bench). Exits 1 when a peak passes 1.5 times
the model's size + 300 MB, or grows with the number of samples by more than the samples themselves.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import bench_models

root = Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--samples", default="64,512")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--binary", default=root / "build/release/bin/calibration_bench")
    options = parser.parse_args()
    failed, peaks = False, []
    with tempfile.TemporaryDirectory() as folder:
        model = bench_models.bert(folder, layers=12, width=768, heads=12, inner=3072, vocabulary=30522)
        for samples in map(int, options.samples.split(",")):
            command = [options.binary, model, samples, options.length, options.threads]
            found = json.loads(subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout)
            limit = 1.5 * found["model_bytes"] + 300e6
            peaks.append((samples, found["peak_bytes"]))
            verdict = "" if found["peak_bytes"] <= limit else "  TOO MUCH"
            failed |= bool(verdict)
            print(f"{samples} samples × {options.length} tokens, {found['values']} values of a model of "
                  f"{found['model_bytes'] / 1e6:.0f} MB: {found['seconds']:.1f} s, peak {found['peak_bytes'] / 1e6:.0f} MB "
                  f"(limit {limit / 1e6:.0f} MB){verdict}", flush=True)
    (few, small), (many, large) = peaks[0], peaks[-1]
    data_bytes = 8 * options.length * (many - few)
    if large - small > data_bytes + 20e6:
        print(f"the peak grew by {(large - small) / 1e6:.0f} MB from {few} to {many} samples")
        failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
